"""`pay`: BOLT12 offers and BOLT11 invoices of another node."""

import pytest

from nwc.cln.versions import parse_version
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.node import NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.test_spending import books, check_replay
from tests.wire.three_nodes import *  # noqa: F403

AMOUNT_MSAT = 100_000
FEE_MSAT = 2
NOTE = "Danke für den Kaffee ☕, it's great!"


@pytest.fixture
def app(connect: Connect) -> ConnectedApp:
    return connect(budget="1000sat")


def test_an_offer_is_paid(node: NodeUnderTest, app: ConnectedApp, payee: Payee) -> None:
    answer = app.ask(
        "pay", {"payment": f"bitcoin:?lno={payee.offer(AMOUNT_MSAT)}", "metadata": {"a": 1}}
    )
    result = answer.result
    assert result["instruction_type"] == "bolt12"
    assert (result["state"], result["amount"], result["fees_paid"]) == ("settled", AMOUNT_MSAT, FEE_MSAT)
    assert result["transaction_id"] == result["payment_hash"]
    assert books(node, app) == (AMOUNT_MSAT + FEE_MSAT, 0)
    [paid] = node.rpc.listsendpays(payment_hash=result["payment_hash"])["payments"]
    assert paid["payment_preimage"] == result["preimage"]
    found = app.ask("lookup_invoice", {"invoice": paid["bolt12"]}).result
    assert found["invoice"] == paid["bolt12"]
    assert (found["description"], found["metadata"]) == ("tea", {"a": 1})
    assert [n.type for n in app.wait_for_notifications(result["payment_hash"])][:1] == ["payment_sent"]
    assert ("payer_proof" in result) == makes_proofs(node)


def makes_proofs(node: NodeUnderTest) -> bool:
    """Return True if lightningd has `createproof`."""
    return parse_version(node.rpc.getinfo()["version"]) >= parse_version("26.06")


def test_the_payee_gets_the_note_byte_for_byte(app: ConnectedApp, payee: Payee) -> None:
    result = app.ask(
        "pay", {"payment": payee.offer(0), "amount": AMOUNT_MSAT, "payer_note": NOTE}
    ).result
    assert result["state"] == "settled"
    assert NOTE in payee.received_notes()


def test_an_invoice_in_a_uri_is_paid(app: ConnectedApp, payee: Payee) -> None:
    invoice = payee.invoice(AMOUNT_MSAT)["bolt11"].upper()
    offer = payee.offer(AMOUNT_MSAT)
    result = app.ask("pay", {"payment": f"BITCOIN:?LIGHTNING={invoice}&lno={offer}"}).result
    assert (result["state"], result["instruction_type"]) == ("settled", "bolt11")
    assert "payer_proof" not in result


def test_an_offer_that_its_issuer_has_ended_is_not_found(
    node: NodeUnderTest, app: ConnectedApp, payee: Payee
) -> None:
    answer = app.ask("pay", {"payment": payee.ended_offer()})
    assert (answer.code, "nothing was paid" in answer.message) == ("NOT_FOUND", True)
    assert books(node, app) == (0, 0)


def test_an_offer_that_cannot_be_paid_is_refused(app: ConnectedApp, payee: Payee) -> None:
    quantity = payee.offer(AMOUNT_MSAT, quantity_max=5)
    assert app.ask("pay", {"payment": quantity}).code == "UNSUPPORTED_PAYMENT_INSTRUCTION"
    assert app.ask("pay", {"payment": payee.offer(0)}).code == "BAD_REQUEST"
    other = app.ask("pay", {"payment": payee.offer(AMOUNT_MSAT), "amount": AMOUNT_MSAT + 1})
    assert other.code == "BAD_REQUEST"
    expired = payee.offer(AMOUNT_MSAT, absolute_expiry=1_700_000_000)
    assert app.ask("pay", {"payment": expired}).code == "BAD_REQUEST"


def test_a_held_payment_of_an_offer_is_answered_as_pending(
    node: NodeUnderTest, app: ConnectedApp, payee: Payee
) -> None:
    payee.hold()
    request = app.request("pay", {"payment": payee.offer(AMOUNT_MSAT)})
    answer = app.ask_with(request)
    assert answer.result["state"] == "pending"
    payment_hash = answer.result["payment_hash"]
    found = app.ask("lookup_invoice", {"payment_hash": payment_hash}).result
    assert found["state"] == "pending"
    payee.release()
    app.wait_for_notifications(payment_hash)
    wait_until(lambda: books(node, app) == (AMOUNT_MSAT + FEE_MSAT, 0), "the payment to be booked")
    assert app.ask("lookup_invoice", {"payment_hash": payment_hash}).result["state"] == "settled"


def test_a_proof_shows_the_payment(node: NodeUnderTest, app: ConnectedApp, payee: Payee) -> None:
    """Before v26.06 lightningd makes none."""
    offer = payee.offer(AMOUNT_MSAT)
    result = app.ask("pay", {"payment": offer, "payer_note": NOTE}).result
    if not makes_proofs(node):
        assert "payer_proof" not in result
        return
    [paid] = node.rpc.listsendpays(payment_hash=result["payment_hash"])["payments"]
    invoice = node.rpc.call("decode", {"string": paid["bolt12"]})
    proof = node.rpc.call("decode", {"string": result["payer_proof"]})
    assert (proof["type"], proof["valid"]) == ("bolt12 payer_proof", True)
    assert proof["invoice_payment_hash"] == result["payment_hash"]
    assert proof["proof_preimage"] == result["preimage"]
    assert proof["invreq_payer_note"] == NOTE
    for name in ("offer_description", "offer_issuer_id", "invoice_created_at", "invoice_amount_msat"):
        assert proof[name] == invoice[name]


def test_a_repeated_request_gets_the_same_proof(
    node: NodeUnderTest, app: ConnectedApp, payee: Payee
) -> None:
    request = app.request("pay", {"payment": payee.offer(AMOUNT_MSAT)})
    first = app.ask_with(request)
    assert ("payer_proof" in first.result) == makes_proofs(node)
    check_replay(node, app, request, first)
    assert books(node, app) == (AMOUNT_MSAT + FEE_MSAT, 0)


def test_an_offer_of_the_own_node_is_paid_without_a_fee(
    node: NodeUnderTest, node_kind: str, app: ConnectedApp
) -> None:
    """It carries no label of a connection, so no connection is credited."""
    given = {"description": "tea", "amount": f"{AMOUNT_MSAT}msat"}
    if node_kind == "double":
        made = node.rpc.call("dev-offer", {"amount_msat": AMOUNT_MSAT, "own": True})
    else:
        made = node.rpc.call("offer", given)
    result = app.ask("pay", {"payment": made["bolt12"]}).result
    assert (result["state"], result["amount"], result["fees_paid"]) == ("settled", AMOUNT_MSAT, 0)
    assert books(node, app) == (AMOUNT_MSAT, 0)
    [incoming] = node.rpc.call("listinvoices", {"payment_hash": result["payment_hash"]})["invoices"]
    assert incoming["status"] == "paid"
