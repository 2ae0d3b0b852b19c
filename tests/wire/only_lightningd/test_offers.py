"""`pay` on a line of real nodes: BOLT12 offers and BOLT11 invoices of the last node."""

from typing import Any

import pytest

from tests.support.channel import Json
from tests.support.lightningd_version import runs_since
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, fresh_name
from tests.wire.real_node import RealNode
from tests.wire.real_payee import RealPayee
from tests.wire.test_spending import books
from tests.wire.three_nodes import *  # noqa: F403

AMOUNT_MSAT = 100_000
FEE_MSAT = 2
NOTE = "Danke für den Kaffee ☕, it's great!"


def make_offer(payee: RealPayee, amount: str = f"{AMOUNT_MSAT}msat", **fields: Any) -> str:
    offer: Json = payee.rpc.call(
        "offer", {"amount": amount, "description": "tea", "label": fresh_name(), **fields}
    )
    return str(offer["bolt12"])


@pytest.fixture
def app(connect: Connect) -> ConnectedApp:
    return connect(budget="1000sat")


def received_notes(payee: RealPayee) -> list[str]:
    return [paid.get("invreq_payer_note", "") for paid in payee.rpc.listinvoices()["invoices"]]


def test_an_offer_is_paid(node: RealNode, app: ConnectedApp, payee: RealPayee) -> None:
    answer = app.ask("pay", {"payment": f"bitcoin:?lno={make_offer(payee)}", "metadata": {"a": 1}})
    result = answer.result
    assert result["instruction_type"] == "bolt12"
    assert (result["state"], result["amount"], result["fees_paid"]) == ("settled", AMOUNT_MSAT, FEE_MSAT)
    assert result["transaction_id"] == result["payment_hash"]
    assert books(node, app) == (AMOUNT_MSAT + FEE_MSAT, 0)
    [paid] = [one for one in payee.rpc.listinvoices()["invoices"] if one["status"] == "paid"]
    assert paid["payment_preimage"] == result["preimage"]
    found = app.ask("lookup_invoice", {"payment_hash": result["payment_hash"]}).result
    assert found["invoice"] == paid["bolt12"]
    assert (found["description"], found["metadata"]) == ("tea", {"a": 1})
    assert [n.type for n in app.wait_for_notifications(result["payment_hash"])][:1] == ["payment_sent"]
    assert ("payer_proof" in result) == runs_since("26.06")
    if "payer_proof" in result:
        decoded = node.rpc.call("decode", {"string": result["payer_proof"]})
        assert (decoded["type"], decoded["valid"]) == ("bolt12 payer_proof", True)
        assert decoded["offer_description"] == "tea"


def test_the_payee_gets_the_note_byte_for_byte(app: ConnectedApp, payee: RealPayee) -> None:
    result = app.ask(
        "pay", {"payment": make_offer(payee, "any"), "amount": AMOUNT_MSAT, "payer_note": NOTE}
    ).result
    assert result["state"] == "settled"
    assert NOTE in received_notes(payee)


def test_an_invoice_in_a_uri_is_paid(app: ConnectedApp, payee: RealPayee) -> None:
    invoice = payee.invoice(AMOUNT_MSAT)["bolt11"].upper()
    offer = make_offer(payee)
    result = app.ask("pay", {"payment": f"BITCOIN:?LIGHTNING={invoice}&lno={offer}"}).result
    assert (result["state"], result["instruction_type"]) == ("settled", "bolt11")
    assert "payer_proof" not in result


def test_an_offer_that_its_issuer_has_ended_is_not_found(
    node: RealNode, app: ConnectedApp, payee: RealPayee
) -> None:
    offer = make_offer(payee)
    offer_id = node.rpc.call("decode", {"string": offer})["offer_id"]
    payee.rpc.call("disableoffer", {"offer_id": offer_id})
    answer = app.ask("pay", {"payment": offer})
    assert (answer.code, "nothing was paid" in answer.message) == ("NOT_FOUND", True)
    assert books(node, app) == (0, 0)


def test_an_offer_that_cannot_be_paid_is_refused(app: ConnectedApp, payee: RealPayee) -> None:
    quantity = make_offer(payee, quantity_max=5)
    assert app.ask("pay", {"payment": quantity}).code == "UNSUPPORTED_PAYMENT_INSTRUCTION"
    assert app.ask("pay", {"payment": make_offer(payee, "any")}).code == "BAD_REQUEST"
    other = app.ask("pay", {"payment": make_offer(payee), "amount": AMOUNT_MSAT + 1})
    assert other.code == "BAD_REQUEST"
    expired = make_offer(payee, absolute_expiry=1_700_000_000)
    assert app.ask("pay", {"payment": expired}).code == "BAD_REQUEST"


def test_a_held_payment_of_an_offer_is_answered_as_pending(
    node: RealNode, app: ConnectedApp, payee: RealPayee
) -> None:
    payee.hold()
    request = app.request("pay", {"payment": make_offer(payee)})
    answer = app.ask_with(request)
    assert answer.result["state"] == "pending"
    payment_hash = answer.result["payment_hash"]
    found = app.ask("lookup_invoice", {"payment_hash": payment_hash}).result
    assert found["state"] == "pending"
    payee.release()
    app.wait_for_notifications(payment_hash)
    wait_until(lambda: books(node, app) == (AMOUNT_MSAT + FEE_MSAT, 0), "the payment to be booked")
    assert app.ask("lookup_invoice", {"payment_hash": payment_hash}).result["state"] == "settled"
