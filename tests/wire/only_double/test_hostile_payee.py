"""Attacks of payees and apps on the node's money, on the double. only_lightningd/ has real nodes."""

import secrets
from typing import Any

import pytest

from tests.support.channel import Json
from tests.support.waiting import wait_until
from tests.wire.double_node import DoubleNode
from tests.wire.double_payee import REFUSED, SPENDABLE_MSAT, DoublePayee
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.node import MakeNode
from tests.wire.only_double.paying_commands import check_paying_commands
from tests.wire.test_spending import (
    AMOUNT_MSAT,
    books,
    check_paid,
    check_preimage,
    pay,
    really_sent,
)

FEE_LIMIT_MSAT = 5000
RESERVED_MSAT = AMOUNT_MSAT + FEE_LIMIT_MSAT


@pytest.fixture
def spender(connect: Connect) -> ConnectedApp:
    """An app that may spend 1,000 sat."""
    return connect(budget="1000sat")


def plan(node: DoubleNode, invoice: Json, **what: Any) -> None:
    node.rpc.call("dev-payment-plan", {"payment_hash": invoice["payment_hash"], **what})


# The end of a payment


def test_a_part_that_waits_for_a_route_keeps_its_reservation(
    node: DoubleNode, payee: DoublePayee, spender: ConnectedApp
) -> None:
    """The command fails while a part waits to be sent, and lightningd lists no part."""
    invoice = payee.invoice(AMOUNT_MSAT)
    plan(node, invoice, error_in_route={"code": 210, "message": "no"})
    request = spender.request("pay_invoice", {"invoice": invoice["bolt11"]})
    mark = node.mark()
    spender.send(request)
    node.wait_for_log("held in the route search", since=mark)
    spender.ask("get_info")
    assert books(node, spender) == (0, RESERVED_MSAT)
    assert spender.answers_to(request["id"]) == []
    payee.release()
    check_paid(spender.answer_to(request), invoice, payee.fee_msat(AMOUNT_MSAT))
    assert books(node, spender) == (really_sent(node, invoice["payment_hash"]), 0)


def test_a_part_pending_after_an_error_is_reserved_and_then_booked(
    node: DoubleNode, payee: DoublePayee, spender: ConnectedApp
) -> None:
    invoice = payee.invoice(AMOUNT_MSAT)
    plan(node, invoice, parts=3, error_while_pending=REFUSED)
    request = spender.request("pay_invoice", {"invoice": invoice["bolt11"]})
    mark = node.mark()
    spender.send(request)
    node.wait_for_log("held pending after the answer", since=mark)
    assert books(node, spender) == (0, RESERVED_MSAT)
    payee.release()
    check_preimage(spender.answer_to(request).result["preimage"], invoice)
    sent_msat = really_sent(node, invoice["payment_hash"])
    assert 0 < sent_msat < AMOUNT_MSAT
    assert books(node, spender) == (sent_msat, 0)


@pytest.mark.parametrize("fail", [True, False])
def test_parts_pending_after_a_success_are_booked_when_they_end(
    node: DoubleNode, payee: DoublePayee, spender: ConnectedApp, fail: bool
) -> None:
    """The answer does not wait for the parts."""
    invoice = payee.invoice(AMOUNT_MSAT)
    plan(node, invoice, parts=3, answer_early=True)
    answer = pay(spender, invoice)
    check_preimage(answer.result["preimage"], invoice)
    assert books(node, spender) == (0, RESERVED_MSAT)
    payee.release(fail=fail)
    notifications = spender.wait_for_notifications(invoice["payment_hash"])
    sent_msat = really_sent(node, invoice["payment_hash"])
    assert (sent_msat < AMOUNT_MSAT) == fail
    shown = [n.transaction for n in notifications]
    assert {one["amount"] + one["fees_paid"] for one in shown} == {sent_msat}
    assert books(node, spender) == (sent_msat, 0)


def test_a_failed_payment_that_turns_out_complete_is_booked_at_the_next_start(
    node: DoubleNode, payee: DoublePayee, spender: ConnectedApp
) -> None:
    """The log reports it to the owner."""
    invoice = payee.invoice(AMOUNT_MSAT)
    plan(node, invoice, fail=REFUSED)
    assert pay(spender, invoice).code == "PAYMENT_FAILED"
    assert books(node, spender) == (0, 0)
    [part] = node.rpc.call("listsendpays", {"payment_hash": invoice["payment_hash"]})["payments"]
    given = {"groupid": part["groupid"], "partid": part.get("partid", 0), "status": "complete"}
    node.rpc.call(
        "dev-payment",
        {"bolt11": invoice["bolt11"], "preimage": invoice["payment_preimage"], "parts": [given]},
    )
    mark = node.mark()
    node.kill_plugin()
    node.start_plugin()
    wait_until_announced(node, spender.name)
    node.wait_for_log("was not booked as paid, but lightningd has paid it", since=mark)
    assert len(spender.wait_for_notifications(invoice["payment_hash"])) == 2
    assert books(node, spender) == (really_sent(node, invoice["payment_hash"]), 0)


# Requests that are refused before lightningd is asked


LARGE_TYPES = [{"type": 2**63 + number, "value": "00" * 18} for number in range(50)]


def test_records_that_leave_no_room_for_a_route_are_refused(
    node: DoubleNode, payee: DoublePayee, spender: ConnectedApp
) -> None:
    params = {"amount": 1000, "pubkey": payee.id, "tlv_records": LARGE_TYPES}
    refused = spender.ask("pay_keysend", params)
    assert refused.code == "OTHER"
    assert "tlv_records: must have at most 617 bytes together" in refused.message
    assert node.rpc.call("dev-keysends")["keysends"] == []


def test_more_than_the_node_can_send_is_refused(
    node: DoubleNode, payee: DoublePayee, connect: Connect
) -> None:
    app = connect(budget="unlimited")
    for amount_msat in (SPENDABLE_MSAT + 1, 10**14):
        invoice = payee.invoice(amount_msat)
        assert pay(app, invoice).code == "INSUFFICIENT_BALANCE"
        assert really_sent(node, invoice["payment_hash"]) == 0


def test_an_app_cannot_probe_how_much_the_node_has(
    node: DoubleNode, payee: DoublePayee, spender: ConnectedApp
) -> None:
    assert pay(spender, payee.invoice(SPENDABLE_MSAT + 1)).code == "QUOTA_EXCEEDED"
    params = {"amount": SPENDABLE_MSAT + 1, "pubkey": payee.id}
    assert spender.ask("pay_keysend", params).code == "QUOTA_EXCEEDED"


def test_an_app_cannot_raise_the_limit_on_the_fee(
    node: DoubleNode, payee: DoublePayee, connect: Connect
) -> None:
    """If single payments are capped, an app can lower the usual limit on the fee, but not raise it."""
    app = connect(budget="unlimited", max_payment="10sat")
    expensive = payee.invoice(1000)
    plan(node, expensive, fee_msat=FEE_LIMIT_MSAT + 1)
    refused = pay(app, expensive, max_fee=2_032_128_000)
    assert refused.code == "FEE_LIMIT_EXCEEDED"
    assert f"a fee of at most {FEE_LIMIT_MSAT} msat" in refused.message
    fair = payee.invoice(1000)
    plan(node, fair, fee_msat=FEE_LIMIT_MSAT)
    check_paid(pay(app, fair, max_fee=2_032_128_000), fair, FEE_LIMIT_MSAT)


# The circuit breaker


def stop_the_node(node: DoubleNode, payee: DoublePayee, app: ConnectedApp) -> None:
    """Kill lightningd while a payment is in flight, start it again, and fail the payment."""
    payee.hold()
    app.send(app.request("pay_invoice", {"invoice": payee.invoice(AMOUNT_MSAT)["bolt11"]}))
    wait_until(lambda: payee.held() == 1, "the payment to be held")
    node.double.kill()
    node.double.start()
    payee.release(fail=True)
    wait_until_announced(node, app.name)


def test_an_app_that_stops_the_node_twice_is_suspended(
    node: DoubleNode, payee: DoublePayee, spender: ConnectedApp, connect: Connect
) -> None:
    other = connect(budget="1000sat")
    stop_the_node(node, payee, spender)
    check_paid(pay(spender, first := payee.invoice(1000)), first, 1)
    mark = node.mark()
    stop_the_node(node, payee, spender)
    node.wait_for_log(f"(WARN|UNUSUAL).*payments of '{spender.name}' are suspended", since=mark)
    refused = pay(spender, payee.invoice(1000))
    assert refused.code == "RESTRICTED"
    assert "suspended, since the node stopped during them" in refused.message
    [shown] = node.rpc.call("nwc-list", {"name": spender.name})["connections"]
    assert shown["payments_suspended_at"] > 0
    assert "nwc-update with resume=true" in shown["warning"]
    assert spender.ask("make_invoice", {"amount": 1000}).result["amount"] == 1000
    check_paid(pay(other, invoice := payee.invoice(1000)), invoice, 1)
    node.rpc.call("nwc-update", {"name": spender.name, "resume": True})
    check_paid(pay(spender, again := payee.invoice(1000)), again, 1)


# The command that pays


PAYING_COMMANDS = [
    ({}, "pay", "keysend"),
    ({"nwc-pay-command": "auto"}, "pay", "keysend"),
    ({"nwc-pay-command": "pay"}, "pay", "keysend"),
    ({"allow-deprecated-apis": "false"}, "xpay", "xkeysend"),
]


@pytest.mark.parametrize(("options", "invoice_command", "keysend_command"), PAYING_COMMANDS)
def test_the_options_decide_which_command_pays(
    make_node: MakeNode,
    connect: Connect,
    options: Any,
    invoice_command: str,
    keysend_command: str,
) -> None:
    node, app = check_paying_commands(make_node, connect, options, invoice_command, keysend_command)
    parts = node.rpc.call("listsendpays")["payments"]
    labels = {part["label"].rsplit(":", 1)[0] for part in parts}
    assert labels == {f"nwc:{app.shown['client_pubkey'][:16]}"}


@pytest.mark.parametrize("value", ["", "XPAY", "renepay", secrets.token_hex(4)])
def test_an_unknown_pay_command_is_refused(make_node: MakeNode, value: str) -> None:
    node = make_node({"nwc-pay-command": value})
    wait_until(lambda: "nwc-pay-command: must be auto, pay or xpay" in node.log_text(), "the reason")
