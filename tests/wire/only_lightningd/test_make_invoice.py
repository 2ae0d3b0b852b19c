"""make_invoice: every parameter with good and bad values."""

import hashlib
import json
from typing import Any

import pytest

from tests.support.channel import Json
from tests.wire.fixtures import ConnectedApp
from tests.wire.invoices import ABSENT, check_refused, make_and_check, params_of
from tests.wire.node import NodeUnderTest

DEFAULT_EXPIRY = 86_400
MAX_AMOUNT_MSAT = (2**64 - 1) // 10
MAX_EXPIRY = 31_536_000
HASH = "5a" * 32
LONG = "a long story " * 50 + "…"

# Refused in every field that takes a number. Some of them would crash lightningd v26.06.6.
NO_NUMBERS = [
    pytest.param(-1, id="negative"),
    pytest.param(1.5, id="fraction"),
    pytest.param("1000", id="string"),
    pytest.param("", id="empty"),
    pytest.param(True, id="true"),
    pytest.param(False, id="false"),
    pytest.param([1], id="array"),
    pytest.param({"msat": 1}, id="object"),
    pytest.param(2**63, id="2^63"),
    pytest.param(2**64, id="2^64"),
    pytest.param(-(2**63), id="-2^63"),
    pytest.param(10**40, id="10^40"),
]


@pytest.fixture(autouse=True)
def node_stays_alive(node: NodeUnderTest) -> Any:
    """Check that the node and the plugin are still running after each case."""
    before = node.rpc.getinfo()["id"], node.plugin_pid
    yield
    assert (node.rpc.getinfo()["id"], node.plugin_pid) == before
    assert node.rpc.call("nwc-status")["version"]


# amount


@pytest.mark.parametrize("amount", [1, 999, 1000, 123_456_789, 2**53, 2**60, MAX_AMOUNT_MSAT])
def test_an_amount_is_in_the_invoice(node: NodeUnderTest, app: ConnectedApp, amount: int) -> None:
    made = make_and_check(node, app, {"amount": amount, "description": "coffee"})
    assert made["amount"] == made["decoded"]["amount_msat"] == amount
    assert made["description"] == made["decoded"]["description"] == "coffee"


def test_zero_is_any_amount(node: NodeUnderTest, app: ConnectedApp) -> None:
    made = make_and_check(node, app, {"amount": 0})
    assert made["amount"] == 0
    assert "amount_msat" not in made["decoded"]


def test_an_integral_number_with_a_point_is_an_amount(node: NodeUnderTest, app: ConnectedApp) -> None:
    assert make_and_check(node, app, {"amount": 2000.0})["amount"] == 2000


@pytest.mark.parametrize("amount", [*NO_NUMBERS, pytest.param(MAX_AMOUNT_MSAT + 1, id="too much")])
def test_a_bad_amount_is_refused(node: NodeUnderTest, app: ConnectedApp, amount: Any) -> None:
    message = check_refused(node, app, {"amount": amount, "description": "coffee"})
    assert message.startswith("amount: must be an integer number of msat from 0 to 18446")
    assert "; got " in message


@pytest.mark.parametrize("params", [{}, {"amount": None}, {"description": "coffee"}], ids=str)
def test_amount_is_required(node: NodeUnderTest, app: ConnectedApp, params: Json) -> None:
    assert check_refused(node, app, params).startswith("amount: must be an integer")


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "1e18", "9" * 5000])
def test_an_amount_that_is_barely_json_is_refused(
    node: NodeUnderTest, app: ConnectedApp, number: str
) -> None:
    body = '{"method":"make_invoice","params":{"amount":' + number + "}}"
    assert app.ask("make_invoice", body=body).code == "OTHER"


# description


@pytest.mark.parametrize(
    "description",
    [
        pytest.param("", id="empty"),
        pytest.param('1 coffee, ☕ 🧡 "quoted" \\ \n new line', id="unicode"),
        pytest.param("x" * 639, id="639 bytes"),
        pytest.param("ü" * 319 + "x", id="639 bytes of UTF-8"),
    ],
)
def test_a_description_is_in_the_invoice(
    node: NodeUnderTest, app: ConnectedApp, description: str
) -> None:
    made = make_and_check(node, app, params_of(description=description))
    assert made["description"] == made["decoded"]["description"] == description
    assert made["listed"]["description"] == description
    assert "description_hash" not in made


@pytest.mark.parametrize("description", [ABSENT, None], ids=["absent", "null"])
def test_an_absent_description_is_empty(
    node: NodeUnderTest, app: ConnectedApp, description: Any
) -> None:
    made = make_and_check(node, app, params_of(description=description))
    assert made["description"] == made["decoded"]["description"] == ""


@pytest.mark.parametrize("description", ["x" * 640, "ü" * 320, LONG, "☕" * 10_922], ids=len)
def test_a_long_description_is_in_the_invoice_by_its_hash(
    node: NodeUnderTest, app: ConnectedApp, description: str
) -> None:
    made = make_and_check(node, app, params_of(description=description))
    assert made["description"] == description
    assert made["decoded"]["description_hash"] == hashlib.sha256(description.encode()).hexdigest()
    assert "description" not in made["decoded"]


@pytest.mark.parametrize(
    "description",
    [
        pytest.param(7, id="number"),
        pytest.param(True, id="bool"),
        pytest.param(["x"], id="array"),
        pytest.param({}, id="object"),
        pytest.param("a\0b", id="NUL"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param("x" * 32_769, id="too long"),
    ],
)
def test_a_bad_description_is_refused(node: NodeUnderTest, app: ConnectedApp, description: Any) -> None:
    message = check_refused(node, app, params_of(description=description))
    assert message.startswith("description: must be a string of at most 32768 bytes")


# description_hash


def test_a_bare_hash_is_in_the_invoice(node: NodeUnderTest, app: ConnectedApp) -> None:
    made = make_and_check(node, app, params_of(description_hash=HASH))
    assert made["description_hash"] == made["decoded"]["description_hash"] == HASH
    assert "description" not in made["decoded"]


def test_a_bare_hash_can_go_with_any_amount(node: NodeUnderTest, app: ConnectedApp) -> None:
    made = make_and_check(node, app, {"amount": 0, "description_hash": HASH, "expiry": 600})
    assert made["decoded"]["description_hash"] == HASH
    assert made["decoded"]["expiry"] == 600


def test_a_hash_in_capitals_is_accepted(node: NodeUnderTest, app: ConnectedApp) -> None:
    made = make_and_check(node, app, params_of(description_hash=HASH.upper()))
    assert made["decoded"]["description_hash"] == HASH


@pytest.mark.parametrize(
    "description", ["not the preimage", "x" * 639, LONG], ids=["short", "639", "long"]
)
def test_a_hash_need_not_be_of_the_description(
    node: NodeUnderTest, app: ConnectedApp, description: str
) -> None:
    made = make_and_check(node, app, params_of(description=description, description_hash=HASH))
    assert made["description"] == description
    assert made["decoded"]["description_hash"] == HASH
    assert "description" not in made["decoded"]


def test_a_hash_can_be_of_the_description(node: NodeUnderTest, app: ConnectedApp) -> None:
    digest = hashlib.sha256(b"coffee").hexdigest()
    made = make_and_check(node, app, params_of(description="coffee", description_hash=digest))
    assert made["description"] == "coffee"
    assert made["decoded"]["description_hash"] == digest


def test_a_hash_can_be_of_the_empty_description(node: NodeUnderTest, app: ConnectedApp) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    made = make_and_check(node, app, params_of(description_hash=digest))
    assert made["decoded"]["description_hash"] == digest


def test_a_bare_hash_leaves_one_invoice_in_lightningd(node: NodeUnderTest, app: ConnectedApp) -> None:
    before = {invoice["label"] for invoice in node.rpc.listinvoices()["invoices"]}
    made = make_and_check(node, app, params_of(description_hash=HASH))
    after = {invoice["label"] for invoice in node.rpc.listinvoices()["invoices"]}
    assert after - before == {made["listed"]["label"]}


@pytest.mark.parametrize("empty", [None, ""], ids=["null", "empty"])
def test_an_empty_hash_is_ignored(node: NodeUnderTest, app: ConnectedApp, empty: str | None) -> None:
    made = make_and_check(node, app, params_of(description="coffee", description_hash=empty))
    assert made["decoded"]["description"] == "coffee"


@pytest.mark.parametrize(
    "digest",
    [
        pytest.param("5a" * 31, id="short"),
        pytest.param("5a" * 33, id="long"),
        pytest.param("5g" * 32, id="not hex"),
        pytest.param("5a " * 21 + "5", id="spaces"),
        pytest.param("\u0665" * 64, id="other digits"),
        pytest.param(5, id="number"),
        pytest.param([HASH], id="array"),
    ],
)
def test_a_bad_hash_is_refused(node: NodeUnderTest, app: ConnectedApp, digest: Any) -> None:
    message = check_refused(node, app, params_of(description_hash=digest))
    assert message.startswith("description_hash: must be 64 hex digits; got ")


# expiry


@pytest.mark.parametrize("expiry", [1, 60, 3600, MAX_EXPIRY])
def test_an_expiry_is_in_the_invoice(node: NodeUnderTest, app: ConnectedApp, expiry: int) -> None:
    answer = app.ask("make_invoice", {"amount": 1, "expiry": expiry}).result
    decoded = node.rpc.call("decode", {"string": answer["invoice"]})
    assert decoded["expiry"] == expiry
    assert abs(answer["expires_at"] - decoded["created_at"] - expiry) <= 1


@pytest.mark.parametrize("expiry", [ABSENT, None, 0], ids=["absent", "null", "zero"])
def test_an_absent_expiry_is_the_default(node: NodeUnderTest, app: ConnectedApp, expiry: Any) -> None:
    assert make_and_check(node, app, params_of(expiry=expiry))["decoded"]["expiry"] == DEFAULT_EXPIRY


@pytest.mark.parametrize(
    "expiry",
    [
        *NO_NUMBERS,
        pytest.param(MAX_EXPIRY + 1, id="over a year"),
        pytest.param(2**53, id="2^53"),
        pytest.param(2**60, id="2^60"),
    ],
)
def test_a_bad_expiry_is_refused(node: NodeUnderTest, app: ConnectedApp, expiry: Any) -> None:
    message = check_refused(node, app, params_of(expiry=expiry))
    assert message.startswith("expiry: must be an integer number of seconds from 0 to 31536000; got ")


# metadata and unknown fields


def stored_metadata(node: NodeUnderTest, app: ConnectedApp) -> list[Json]:
    """Return the plugin's records of this app's invoices."""
    key = ["nwc", "invoices", app.pubkey[:16]]
    requests = [entry["key"] for entry in node.rpc.call("listdatastore", {"key": key})["datastore"]]
    listed = [node.rpc.call("listdatastore", {"key": key})["datastore"] for key in requests]
    return [json.loads(entry["string"]) for entries in listed for entry in entries]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"order": 7, "tags": ["a", None, True], "deep": {"ü": "☕"}}, id="nested"),
        pytest.param({"x": "x" * 4088}, id="4096 characters"),
        pytest.param({"x": "ü" * 4088}, id="4096 characters of two bytes"),
    ],
)
def test_metadata_is_stored(node: NodeUnderTest, app: ConnectedApp, metadata: Json) -> None:
    assert make_and_check(node, app, params_of(metadata=metadata))["metadata"] == metadata
    assert [record["metadata"] for record in stored_metadata(node, app)] == [metadata]


@pytest.mark.parametrize(
    "metadata",
    [ABSENT, None, {}, [], {"x": "x" * 4089}, {"x": "x" * 20_000}],
    ids=["absent", "null", "empty", "empty array", "4097 characters", "far too long"],
)
def test_empty_or_too_long_metadata_is_not_stored(
    node: NodeUnderTest, app: ConnectedApp, metadata: Any
) -> None:
    assert make_and_check(node, app, params_of(metadata=metadata))["metadata"] == {}
    assert stored_metadata(node, app) == []


def test_metadata_nested_too_deeply_is_dropped(node: NodeUnderTest, app: ConnectedApp) -> None:
    metadata: Json = {}
    for _ in range(100):
        metadata = {"x": metadata}
    assert make_and_check(node, app, params_of(metadata=metadata))["metadata"] == {}


@pytest.mark.parametrize("metadata", ["text", 7, True, ["a"]], ids=str)
def test_bad_metadata_is_refused(node: NodeUnderTest, app: ConnectedApp, metadata: Any) -> None:
    message = check_refused(node, app, params_of(metadata=metadata))
    assert message.startswith("metadata: must be an object; got ")


def test_metadata_can_go_with_a_hash_and_a_long_description(
    node: NodeUnderTest, app: ConnectedApp
) -> None:
    params = params_of(description=LONG, description_hash=HASH, metadata={"order": 7})
    made = make_and_check(node, app, params)
    assert (made["description"], made["metadata"]) == (LONG, {"order": 7})


def test_unknown_fields_are_ignored(node: NodeUnderTest, app: ConnectedApp) -> None:
    made = make_and_check(
        node, app, params_of(description="coffee", preimage="00" * 32, label="x", a=[{}])
    )
    assert made["description"] == "coffee"
