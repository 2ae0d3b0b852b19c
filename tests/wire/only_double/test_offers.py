"""Offers of hostile issuers, and of nodes that make no proofs, which the double plays."""

from typing import Any

import pytest

from tests.support.channel import Json
from tests.wire.double_node import DoubleNode
from tests.wire.double_payee import DoublePayee
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.test_spending import books

AMOUNT_MSAT = 100_000
NODE_ID = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
BITCOIN = "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"


@pytest.fixture
def app(connect: Connect) -> ConnectedApp:
    return connect(budget="1000sat")


def offer(node: DoubleNode, **given: Any) -> str:
    made = node.rpc.call("dev-offer", {"amount_msat": AMOUNT_MSAT, "description": "tea", **given})
    return str(made["bolt12"])


def paths(count: int = 1, hops: int = 1, **payinfo: Any) -> list[Json]:
    given = {
        "fee_base_msat": 0,
        "fee_proportional_millionths": 0,
        "cltv_expiry_delta": 10,
        "htlc_minimum_msat": 0,
        "htlc_maximum_msat": 10**15,
        "features": "",
    }
    hop = {"blinded_node_id": NODE_ID, "encrypted_recipient_data": "00" * 50}
    path = {
        "first_node_id": NODE_ID,
        "first_path_key": NODE_ID,
        "payinfo": {**given, **payinfo},
        "path": [hop] * hops,
    }
    return [path] * count


@pytest.mark.parametrize(
    ("invoice", "code"),
    [
        ({"invoice_amount_msat": AMOUNT_MSAT - 1}, "NOT_FOUND"),
        ({"invoice_amount_msat": 10 * AMOUNT_MSAT}, "NOT_FOUND"),
        ({"invoice_created_at": 1_700_000_000}, "NOT_FOUND"),
        ({"padding": "00" * 6000}, "NOT_FOUND"),
        ({"invoice_paths": paths(count=21)}, "NOT_FOUND"),
        ({"invoice_paths": paths(hops=10)}, "NOT_FOUND"),
        ({"invoice_paths": paths(cltv_expiry_delta=2017)}, "NOT_FOUND"),
        ({"invoice_paths": paths(fee_base_msat=5001)}, "FEE_LIMIT_EXCEEDED"),
        ({"invoice_paths": paths(fee_proportional_millionths=2**32 - 1)}, "FEE_LIMIT_EXCEEDED"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hostile_invoice_is_not_paid(
    node: DoubleNode, payee: DoublePayee, app: ConnectedApp, invoice: Json, code: str
) -> None:
    assert app.ask("pay", {"payment": offer(node, invoice=invoice)}).code == code
    assert books(node, app) == (0, 0)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"offer_currency": "USD"}, "UNSUPPORTED_PAYMENT_INSTRUCTION"),
        ({"offer_quantity_max": 0}, "UNSUPPORTED_PAYMENT_INSTRUCTION"),
        ({"offer_chains": [BITCOIN]}, "UNSUPPORTED_NETWORK"),
        ({"offer_absolute_expiry": 1_700_000_000}, "BAD_REQUEST"),
        ({"offer_description": "x" * 5000}, "BAD_REQUEST"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_offer_that_cannot_be_paid_is_refused(
    node: DoubleNode, app: ConnectedApp, fields: Json, code: str
) -> None:
    assert app.ask("pay", {"payment": offer(node, offer=fields)}).code == code


@pytest.mark.parametrize(
    ("issuer", "code"), [("gone", "NOT_FOUND"), ("refuses", "NOT_FOUND"), ("dies", "PAYMENT_FAILED")]
)
def test_an_issuer_that_does_not_cooperate_is_not_paid(
    node: DoubleNode, payee: DoublePayee, app: ConnectedApp, issuer: str, code: str
) -> None:
    assert app.ask("pay", {"payment": offer(node, issuer=issuer)}).code == code
    assert books(node, app) == (0, 0)


def test_an_issuer_that_never_answers_is_not_waited_for_too_long(
    node: DoubleNode, payee: DoublePayee, app: ConnectedApp
) -> None:
    """The app has given up after a minute."""
    assert app.ask("pay", {"payment": offer(node, issuer="silent")}).code == "NOT_FOUND"
    assert books(node, app) == (0, 0)


def test_a_slow_proof_delays_no_booking(node: DoubleNode, payee: DoublePayee, app: ConnectedApp) -> None:
    node.rpc.call("dev-delay", {"method": "createproof", "seconds": 50})
    result = app.ask("pay", {"payment": offer(node)}).result
    node.rpc.call("dev-delay", {"method": "createproof", "seconds": 0})
    assert (result["state"], "payer_proof" in result) == ("settled", False)
    assert books(node, app) == (AMOUNT_MSAT + result["fees_paid"], 0)
