"""make_invoice: a good and a bad value of each parameter. only_lightningd/ and unit/ have all rows."""

from typing import Any

import pytest

from tests.support.channel import Json
from tests.wire.fixtures import ConnectedApp
from tests.wire.invoices import check_refused, make_and_check, params_of
from tests.wire.node import NodeUnderTest

HASH = "5a" * 32
NAMES = ["amount", "description", "description_hash", "expiry", "metadata"]


@pytest.mark.parametrize(
    ("name", "value", "decoded"),
    [
        ("amount", (2**64 - 1) // 10, {"amount_msat": (2**64 - 1) // 10}),
        ("description", "☕ \n", {"description": "☕ \n"}),
        ("description_hash", HASH, {"description_hash": HASH}),
        ("expiry", 60, {"expiry": 60}),
        ("metadata", {"order": [7, "ü"]}, {}),
    ],
    ids=NAMES,
)
def test_each_parameter_is_in_the_invoice(
    node: NodeUnderTest, app: ConnectedApp, name: str, value: Any, decoded: Json
) -> None:
    made = make_and_check(node, app, params_of(**{name: value}))
    assert made["decoded"].items() >= decoded.items()
    assert made["metadata"] == (value if name == "metadata" else {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", -1),
        ("description", "a\0b"),
        ("description_hash", "5g" * 32),
        ("expiry", 31_536_001),
        ("metadata", "text"),
    ],
    ids=NAMES,
)
def test_a_bad_value_of_each_parameter_is_refused(
    node: NodeUnderTest, app: ConnectedApp, name: str, value: Any
) -> None:
    assert check_refused(node, app, params_of(**{name: value})).startswith(f"{name}: must be ")
