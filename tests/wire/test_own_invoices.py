"""Paying invoices of the own node: between connections, to oneself, and those that the owner made.

The real node has no channel here, since nothing leaves it.
"""

import hashlib
import secrets
from typing import Any

import pytest

from tests.support.channel import Json
from tests.wire.fixtures import Connect, ConnectedApp, budget_of
from tests.wire.node import MakeNode, NodeUnderTest
from tests.wire.test_receiving import (
    listed,
    lookup,
    make,
    make_foreign,
    make_paid,
    wait_until_recorded,
)

AMOUNT_MSAT = 21_000


def pay(app: ConnectedApp, invoice: str, **params: Any) -> Json:
    """Pay an invoice, check that there was no fee and that the preimage is right; return the result."""
    result: Json = app.ask("pay_invoice", {"invoice": invoice, **params}).result
    assert result["fees_paid"] == 0
    return result


def books(node: NodeUnderTest, app: ConnectedApp) -> tuple[int, int, int]:
    """Return the sums that a connection has spent, reserved and been granted, in msat."""
    budget = budget_of(node, app.name)
    return budget["spent_msat"], budget["reserved_msat"], budget["granted_msat"]


def received(node: NodeUnderTest, app: ConnectedApp, made: Json) -> Json:
    """Wait until a connection is credited for an invoice, and return its transaction."""
    wait_until_recorded(node, made)
    return lookup(app, made)


def sends(node: NodeUnderTest, made: Json) -> list[Json]:
    """Return the parts that lightningd lists for the payment of an invoice."""
    hash_ = {"payment_hash": made["payment_hash"]}
    parts: list[Json] = node.rpc.call("listsendpays", hash_)["payments"]
    return parts


@pytest.fixture
def child(connect: Connect) -> ConnectedApp:
    """An app that may spend what it has received."""
    return connect(budget="received")


@pytest.mark.parametrize("method", ["pay_invoice", "pay"])
def test_one_connection_pays_another(
    node: NodeUnderTest, spender: ConnectedApp, child: ConnectedApp, method: str
) -> None:
    """Both books move once, both apps are notified, and each sees its own side."""
    made = make(child)
    field = "payment" if method == "pay" else "invoice"
    result = spender.ask(method, {field: made["invoice"]}).result
    assert result["fees_paid"] == 0
    assert hashlib.sha256(bytes.fromhex(result["preimage"])).hexdigest() == made["payment_hash"]
    incoming = received(node, child, made)
    assert books(node, spender) == (AMOUNT_MSAT, 0, 1_000_000)
    assert books(node, child) == (0, 0, AMOUNT_MSAT)
    outgoing = lookup(spender, made)
    for shown, type_ in ((incoming, "incoming"), (outgoing, "outgoing")):
        assert (shown["type"], shown["state"], shown["amount"]) == (type_, "settled", AMOUNT_MSAT)
        assert shown["preimage"] == result["preimage"]
    for app, shown, event in (
        (child, incoming, "payment_received"),
        (spender, outgoing, "payment_sent"),
    ):
        assert listed(app) == {"transactions": [shown], "total_count": 1}
        notifications = app.wait_for_notifications(made["payment_hash"])
        assert [(n.type, n.transaction) for n in notifications] == [(event, shown)] * 2
    [part] = sends(node, made)
    assert (part["status"], part["amount_sent_msat"]) == ("complete", AMOUNT_MSAT)


def test_what_was_received_from_another_connection_can_be_spent(
    node: NodeUnderTest, spender: ConnectedApp, child: ConnectedApp, connect: Connect
) -> None:
    """Down to the last msat, since no fee is reserved."""
    made = make(child)
    pay(spender, made["invoice"])
    received(node, child, made)
    brother = connect(budget="received")
    too_much = child.ask("pay_invoice", {"invoice": make(brother, amount=AMOUNT_MSAT + 1)["invoice"]})
    assert too_much.code == "INSUFFICIENT_BALANCE"
    passed_on = make(brother)
    pay(child, passed_on["invoice"])
    received(node, brother, passed_on)
    assert books(node, child) == (AMOUNT_MSAT, 0, AMOUNT_MSAT)
    assert books(node, brother) == (0, 0, AMOUNT_MSAT)


@pytest.mark.parametrize("asked_msat", [AMOUNT_MSAT, 0])
def test_a_connection_that_pays_itself_gains_nothing(
    node: NodeUnderTest, child: ConnectedApp, asked_msat: int
) -> None:
    """It sees both sides in its list. A look-up finds the incoming one."""
    wait_until_recorded(node, make_paid(node, child))
    made = make(child, amount=asked_msat)
    result = pay(child, made["invoice"], **({} if asked_msat else {"amount": AMOUNT_MSAT}))
    incoming = received(node, child, made)
    assert (incoming["type"], incoming["amount"]) == ("incoming", AMOUNT_MSAT)
    assert books(node, child) == (AMOUNT_MSAT, 0, 2 * AMOUNT_MSAT)
    rows = listed(child)
    assert rows["total_count"] == 3
    own = [row for row in rows["transactions"] if row["payment_hash"] == made["payment_hash"]]
    assert {row["type"]: row["preimage"] for row in own} == {
        "incoming": result["preimage"],
        "outgoing": result["preimage"],
    }
    # Nor by a second request.
    assert pay(child, made["invoice"], amount=AMOUNT_MSAT) == result
    assert books(node, child) == (AMOUNT_MSAT, 0, 2 * AMOUNT_MSAT)
    assert len(sends(node, made)) == 1


def test_a_connection_cannot_pay_itself_what_it_does_not_have(
    node: NodeUnderTest, child: ConnectedApp, connect: Connect
) -> None:
    made = make(child)
    refused = child.ask("pay_invoice", {"invoice": made["invoice"]})
    assert refused.code == "INSUFFICIENT_BALANCE"
    capped = connect(budget="1000sat", max_payment="20sat")
    refused = capped.ask("pay_invoice", {"invoice": make(capped)["invoice"]})
    assert refused.code == "QUOTA_EXCEEDED"
    assert sends(node, made) == []
    assert lookup(child, made)["state"] == "pending"


def test_an_invoice_of_the_owner_is_paid(
    node: NodeUnderTest, spender: ConnectedApp, connect: Connect
) -> None:
    observer = connect(view="node")
    made = make_foreign(node, "of the shop")
    pay(spender, made["bolt11"])
    wait_until_recorded(node, made)
    assert books(node, spender) == (5000, 0, 1_000_000)
    assert lookup(spender, made)["type"] == "outgoing"
    # A connection with view=node sees both sides.
    assert lookup(observer, made)["type"] == "incoming"
    rows = [
        row
        for row in listed(observer, limit=10)["transactions"]
        if row["payment_hash"] == made["payment_hash"]
    ]
    assert {row["type"]: row["amount"] for row in rows} == {"incoming": 5000, "outgoing": 5000}


@pytest.mark.parametrize(
    "params",
    [
        {"description": None, "description_hash": "ab" * 32},
        {"description": "x" * 600},
        {"metadata": {"note": "ü"}},
    ],
    ids=["hash", "long", "metadata"],
)
def test_invoices_of_every_form_are_paid(
    node: NodeUnderTest, spender: ConnectedApp, child: ConnectedApp, params: Json
) -> None:
    made = make(child, **params)
    pay(spender, made["invoice"])
    assert received(node, child, made)["state"] == "settled"


def test_an_invoice_that_is_paid_or_deleted_is_refused_at_once(
    node: NodeUnderTest, spender: ConnectedApp, child: ConnectedApp, connect: Connect
) -> None:
    """Nothing is followed: an app gets the answer while it waits."""
    made = make(child)
    pay(connect(budget="1000sat"), made["invoice"])
    deleted = make_foreign(node, "deleted")
    [invoice] = node.rpc.call("listinvoices", {"payment_hash": deleted["payment_hash"]})["invoices"]
    node.rpc.call("delinvoice", {"label": invoice["label"], "status": "unpaid"})
    for bolt11, words in ((made["invoice"], "is paid already"), (deleted["bolt11"], "no longer takes")):
        refused = spender.ask("pay_invoice", {"invoice": bolt11})
        assert refused.code == "PAYMENT_FAILED"
        assert words in refused.message
    assert books(node, spender) == (0, 0, 1_000_000)


def test_an_amount_that_no_channel_could_carry_is_paid(node: NodeUnderTest, connect: Connect) -> None:
    rich, other = connect(budget="unlimited"), connect()
    made = make(other, amount=10**12, description=secrets.token_hex(4))
    pay(rich, made["invoice"])
    assert received(node, other, made)["amount"] == 10**12


def test_of_two_connections_that_pay_at_once_one_pays(
    node: NodeUnderTest, child: ConnectedApp, connect: Connect
) -> None:
    payers = [connect(budget="1000sat") for _ in range(2)]
    made = make(child)
    requests = [app.request("pay_invoice", {"invoice": made["invoice"]}) for app in payers]
    for app, request in zip(payers, requests, strict=True):
        app.send(request)
    answers = [app.answer_to(request).body for app, request in zip(payers, requests, strict=True)]
    [refused] = [answer["error"]["message"] for answer in answers if answer["error"]]
    assert "paid already, or is being paid" in refused
    assert received(node, child, made)["state"] == "settled"
    assert sorted(books(node, app) for app in payers) == [(0, 0, 10**6), (AMOUNT_MSAT, 0, 10**6)]
    assert books(node, child) == (0, 0, AMOUNT_MSAT)


def test_xpay_pays_own_invoices_too(make_node: MakeNode, connect: Connect) -> None:
    """The owner chose it, or lightningd has no `pay`."""
    node = make_node({"nwc-pay-command": "xpay"})
    payer, child = connect(node=node, budget="1000sat"), connect(node=node, budget="received")
    made = make(child)
    pay(payer, made["invoice"])
    received(node, child, made)
    assert books(node, payer) == (AMOUNT_MSAT, 0, 10**6)
    assert books(node, child) == (0, 0, AMOUNT_MSAT)
