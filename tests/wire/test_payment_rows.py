"""Payments in list_transactions of an app that pays: their payment hashes and their order."""

import hashlib

from tests.support.channel import Json
from tests.support.waiting import wait_until
from tests.wire.fixtures import ConnectedApp, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.test_receiving import listed
from tests.wire.test_spending import pay
from tests.wire.three_nodes import *  # noqa: F403

AMOUNT_MSAT = 1000
# Not more than one page holds.
MAX_ROWS = 40


def rows(app: ConnectedApp) -> list[Json]:
    """Return all payments that an app is shown; each must have a payment hash of its own."""
    answer = listed(app, unpaid=True, type="outgoing", limit=MAX_ROWS)
    found: list[Json] = answer["transactions"]
    hashes = {row["payment_hash"] for row in found}
    assert all(len(bytes.fromhex(payment_hash)) == 32 for payment_hash in hashes)
    assert len(hashes) == len(found) == answer["total_count"]
    return found


def restart(node: NodeUnderTest, app: ConnectedApp) -> None:
    node.kill_plugin()
    node.start_plugin()
    wait_until_announced(node, app.name)


def send_held_keysends(payee: Payee, app: ConnectedApp, count: int) -> list[Json]:
    """Send keysends that stay in flight, and return their requests."""
    requests = []
    for number in range(1, count + 1):
        payee.hold()
        requests.append(app.request("pay_keysend", {"amount": AMOUNT_MSAT, "pubkey": payee.id}))
        app.send(requests[-1])
        wait_until(lambda number=number: payee.held() == number, "a held keysend")  # type: ignore[misc]
    return requests


def test_keysends_have_payment_hashes_in_flight_and_when_failed(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    requests = send_held_keysends(payee, spender, 2)
    in_flight = rows(spender)
    assert [row["state"] for row in in_flight] == ["pending"] * 2
    for row in in_flight:
        found = spender.ask("lookup_invoice", {"payment_hash": row["payment_hash"]}).result
        assert found == row
    payee.release(fail=True)
    for request in requests:
        assert spender.answer_to(request).code == "PAYMENT_FAILED"
    for _ in range(2):
        assert rows(spender) == [{**row, "state": "failed"} for row in in_flight]
        restart(node, spender)


def test_a_keysend_in_flight_keeps_its_payment_hash_after_a_restart(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    [request] = send_held_keysends(payee, spender, 1)
    restart(node, spender)
    [in_flight] = rows(spender)
    assert in_flight["state"] == "pending"
    payee.release()
    preimage = spender.answer_to(request).result["preimage"]
    assert hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == in_flight["payment_hash"]
    [settled] = rows(spender)
    assert (settled["state"], settled["payment_hash"]) == ("settled", in_flight["payment_hash"])


def test_a_failed_keysend_without_a_hash_is_not_shown(payee: Payee, spender: ConnectedApp) -> None:
    """No part of it was sent, since there is no route without a fee."""
    params = {"amount": AMOUNT_MSAT, "pubkey": payee.id, "max_fee": 0}
    for _ in range(2):
        assert spender.ask("pay_keysend", params).code == "FEE_LIMIT_EXCEEDED"
    assert rows(spender) == []


def test_payments_made_in_one_second_are_listed_newest_first(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    """Enough payments are made within one second that their ids are not in order by chance.

    They need not end within that second: on v25.02 a payment takes seconds.
    """
    invoices: list[Json] = []
    requests: list[Json] = []
    while len(invoices) - len({row["created_at"] for row in rows(spender)}) < 6:
        assert len(invoices) < MAX_ROWS, "the payments are too slow to be made within one second"
        invoices.append(payee.invoice(AMOUNT_MSAT))
        requests.append(spender.request("pay_invoice", {"invoice": invoices[-1]["bolt11"]}))
        spender.send(requests[-1])
        wait_until(lambda: len(rows(spender)) == len(invoices), "the payment to be listed")
    for request in requests:
        assert spender.answer_to(request).result
    newest_first = [invoice["payment_hash"] for invoice in reversed(invoices)]
    for _ in range(2):
        assert [row["payment_hash"] for row in rows(spender)] == newest_first
        restart(node, spender)


def test_a_retried_payment_is_one_row(payee: Payee, spender: ConnectedApp) -> None:
    invoice = payee.invoice(AMOUNT_MSAT)
    for _ in range(2):
        assert pay(spender, invoice, max_fee=0).code == "FEE_LIMIT_EXCEEDED"
    assert [row["state"] for row in rows(spender)] == ["failed"]
    pay(spender, invoice).result  # noqa: B018
    [row] = rows(spender)
    assert row["state"] == "settled"
    assert spender.ask("lookup_invoice", {"payment_hash": row["payment_hash"]}).result == row
