"""The double's `decode`, for invoices of other nodes and networks, and of BOLT12."""

import time
from typing import Any

import pytest

from tests.double.bolt11 import print_features
from tests.double.node import Node
from tests.double.params import RpcError


async def refused(node: Node, string: Any) -> str:
    with pytest.raises(RpcError) as caught:
        await node.call("decode", {"string": string})
    assert caught.value.code == -32602
    return str(caught.value)


@pytest.mark.parametrize(
    ("network", "prefix"),
    [(None, "bcrt"), ("bitcoin", "bc"), ("bc", "bc"), ("testnet", "tb"), ("signet", "tbs")],
)
async def test_decode_shows_a_foreign_invoice_as_it_was_made(
    lightningd: Node, network: str | None, prefix: str
) -> None:
    hash_ = "ab" * 32
    given = {"amount_msat": 7, "expiry": 60, "created_at": 1_600_000_000, "description_hash": hash_}
    made = await lightningd.call("dev-foreign-invoice", {**given, "network": network})
    shown = await lightningd.call("decode", {"string": made["bolt11"]})
    assert {shown[name] == made[name] for name in ("payment_hash", "payee")} == {True}
    assert {shown[name] == value for name, value in given.items()} == {True}
    assert (shown["currency"], shown["type"]) == (prefix, "bolt11 invoice")
    assert shown["payee"] != lightningd.id


async def test_a_foreign_invoice_has_defaults(lightningd: Node) -> None:
    made = await lightningd.call("dev-foreign-invoice", {})
    shown = await lightningd.call("decode", {"string": made["bolt11"]})
    assert "amount_msat" not in shown
    assert (shown["description"], shown["expiry"]) == ("of another", 3600)
    assert shown["created_at"] == pytest.approx(time.time(), abs=60)
    with pytest.raises(RpcError):
        await lightningd.call("dev-foreign-invoice", {"network": "nonsense"})


async def test_decode_shows_a_bolt12_invoice(lightningd: Node) -> None:
    made = await lightningd.call("dev-bolt12", {"description": "tea", "amount_msat": 5})
    shown = await lightningd.call("decode", {"string": made["bolt12"]})
    assert (shown["type"], shown["valid"]) == ("bolt12 invoice", True)
    assert (shown["offer_description"], shown["invoice_amount_msat"]) == ("tea", 5)
    assert shown["invoice_payment_hash"] == made["payment_hash"]


@pytest.mark.parametrize(
    ("string", "rule"),
    [
        ("lno1xxb", "invalid bech32 string"),
        ("lni1", "invalid bech32 string"),
        ("lni1q", "invalid bech32 string"),
        ("lni1qrqq", "invalid TLV stream"),
        ("lnbcrt1nonsense", "Bad bech32 string"),
        ("garbage", "Unparsable string"),
        (5, "Unparsable string"),
        ("", "Unparsable string"),
    ],
)
async def test_decode_refuses_garbage(lightningd: Node, string: Any, rule: str) -> None:
    assert await refused(lightningd, string) == f"string: {rule}: invalid token (see logs for details)"


@pytest.mark.parametrize(
    ("features", "printed"), [(0, ""), (0x024100, "024100"), (0x02024100, "02024100")]
)
def test_features_are_printed_as_whole_bytes(features: int, printed: str) -> None:
    assert print_features(features) == printed
