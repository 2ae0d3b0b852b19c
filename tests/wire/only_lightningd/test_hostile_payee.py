"""Payees that refuse, hold or take HTLCs as no honest node does.

lightningd stays alive, and what was sent is booked.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.faults import FAULTY_PLUGIN
from tests.support.onion_error import error_of_a_missing_hop
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.only_lightningd.hostile_line import *  # noqa: F403
from tests.wire.only_lightningd.hostile_line import (
    PAYER_OPTIONS,
    SLOW_PLUGIN,
    ask_patiently,
    is_alive,
    parts,
    patient_answer,
    sent_or_pending_msat,
    two_part_amount,
    wait_until_free,
)
from tests.wire.real_node import RealNode
from tests.wire.real_payee import RealPayee
from tests.wire.test_spending import books, really_sent

# Codes that BOLT4 does not assign: one with the flag PERM, one with NODE and UPDATE, and 0.
UNKNOWN_CODES = ["4010", "3fff", "0000"]
# BOLT4: temporary_node_failure, required_node_feature_missing, mpp_timeout, and a message cut short.
KNOWN_CODES = ["2002", "6003", "0017", "400f"]
DELAY_S = 6


@pytest.fixture(scope="module")  # type: ignore[no-redef]
def payer_options() -> dict[str, Any]:
    """Options with faulty_plugin.py, whose short timeouts end a failed payment earlier."""
    return {**PAYER_OPTIONS, "plugin": str(FAULTY_PLUGIN)}


@pytest.mark.parametrize("method", ["pay_invoice", "pay_keysend"])
@pytest.mark.parametrize("failure", UNKNOWN_CODES + KNOWN_CODES)
def test_a_payment_refused_with_any_code_fails_and_leaves_the_budget_whole(
    node: RealNode, payee: RealPayee, connect: Connect, method: str, failure: str
) -> None:
    app = connect(budget="10sat")
    payee.refuse(failure)
    for _ in range(3):
        paying = {"invoice": payee.invoice(1000)["bolt11"]}
        sending = {"amount": 1000, "pubkey": payee.id}
        answer = ask_patiently(node, app, method, paying if method == "pay_invoice" else sending)
        assert answer.code == "PAYMENT_FAILED"
        assert is_alive(node)
        wait_until_free(node, app)
        assert books(node, app) == (0, 0)


@pytest.mark.parametrize("failure", [*UNKNOWN_CODES, *KNOWN_CODES, "4016"])
def test_an_error_in_the_name_of_a_hop_behind_the_payee_is_survived(
    node: RealNode, payee: RealPayee, connect: Connect, failure: str
) -> None:
    """`xpay` and `keysend` do not survive it, since v26.06."""
    app = connect(budget="10sat")
    payee.refuse_with_onion(error_of_a_missing_hop(bytes.fromhex(failure)))
    answer = ask_patiently(node, app, "pay_invoice", {"invoice": payee.invoice(1000)["bolt11"]})
    assert answer.code == "PAYMENT_FAILED"
    assert is_alive(node)
    wait_until_free(node, app)
    assert books(node, app) == (0, 0)


def test_a_keysend_that_needs_two_parts_is_booked_as_received(
    node: RealNode, neighbour: RealPayee, connect: Connect
) -> None:
    app = connect(budget="unlimited")
    before_msat = neighbour.received_msat()
    amount_msat = two_part_amount(node)
    answer = ask_patiently(node, app, "pay_keysend", {"amount": amount_msat, "pubkey": neighbour.id})
    assert is_alive(node)
    if answer.body["error"] is not None:
        assert answer.code in ("PAYMENT_FAILED", "INSUFFICIENT_BALANCE")
    wait_until_free(node, app)
    received_msat = neighbour.received_msat() - before_msat
    assert received_msat == (0 if answer.body["error"] else amount_msat)
    assert books(node, app) == (received_msat, 0)


@dataclass(frozen=True)
class PartlyTaken:
    """A payment whose payee took the first part and refused the others."""

    app: ConnectedApp
    payment_hash: str
    sent_msat: int


@pytest.fixture
def partly_taken(node: RealNode, neighbour: RealPayee, connect: Connect) -> PartlyTaken:
    app = connect(budget="unlimited")
    preimage = secrets.token_hex(32)
    neighbour.hold()
    invoice = neighbour.invoice(two_part_amount(node), preimage=preimage)
    request = app.request("pay_invoice", {"invoice": invoice["bolt11"]})
    app.send(request)
    wait_until(lambda: neighbour.held() >= 2, "several parts to be held")
    neighbour.take_one(preimage)
    wait_until(lambda: really_sent(node, invoice["payment_hash"]), "the first part to be complete")
    neighbour.release(fail=True)
    assert patient_answer(node, app, request).result["preimage"] == preimage
    wait_until_free(node, app)
    return PartlyTaken(app, invoice["payment_hash"], really_sent(node, invoice["payment_hash"]))


def test_of_a_partly_taken_payment_only_what_was_sent_is_booked(
    node: RealNode, partly_taken: PartlyTaken
) -> None:
    """The payee gave its preimage for less than it asked for."""
    statuses = {part["status"] for part in parts(node, partly_taken.payment_hash)}
    assert statuses == {"complete", "failed"}
    assert books(node, partly_taken.app) == (partly_taken.sent_msat, 0)


def test_the_notification_of_a_partly_taken_payment_shows_what_was_sent(
    partly_taken: PartlyTaken,
) -> None:
    notifications = partly_taken.app.wait_for_notifications(partly_taken.payment_hash)
    amounts = {n.transaction["amount"] + n.transaction["fees_paid"] for n in notifications}
    assert amounts == {partly_taken.sent_msat}


def test_parts_sent_after_a_success_are_booked(
    node: RealNode, neighbour: RealPayee, connect: Connect
) -> None:
    """The payee takes the first part while the other parts are delayed."""
    node.rpc.plugin_start(str(SLOW_PLUGIN))
    node.rpc.call("delay-command", {"command": "sendonion", "seconds": DELAY_S, "passing": 1})
    app = connect(budget="unlimited")
    preimage = "9e" * 32
    neighbour.hold()
    invoice = neighbour.invoice(two_part_amount(node), preimage=preimage)
    request = app.request("pay_invoice", {"invoice": invoice["bolt11"]})
    app.send(request)
    wait_until(lambda: neighbour.held() == 1, "the first part to be held")
    neighbour.take(preimage)
    wait_until(lambda: really_sent(node, invoice["payment_hash"]), "the first part to be complete")
    delayed = node.rpc.call("delayed-commands", {"command": "sendonion"})
    assert delayed["delayed"] > 0
    assert patient_answer(node, app, request).result["preimage"] == preimage
    wait_until(lambda: passed(node) == delayed["delayed"], "the other parts to reach lightningd")
    wait_until_free(node, app)
    assert books(node, app) == (sent_or_pending_msat(node, invoice["payment_hash"]), 0)
    node.rpc.plugin_stop(str(SLOW_PLUGIN))


def passed(node: RealNode) -> int:
    """Return how many delayed commands have reached lightningd."""
    return int(node.rpc.call("delayed-commands", {"command": "sendonion"})["passed"])


def test_a_part_taken_after_another_was_refused_is_booked(
    node: RealNode, neighbour: RealPayee, connect: Connect
) -> None:
    """lightningd has answered with an error by then. While a part is held, its amount is reserved."""
    app = connect(budget="unlimited")
    preimage = "7c" * 32
    neighbour.hold()
    amount_msat = two_part_amount(node)
    invoice = neighbour.invoice(amount_msat, preimage=preimage)
    request = app.request("pay_invoice", {"invoice": invoice["bolt11"]})
    app.send(request)
    wait_until(lambda: neighbour.held() >= 2, "several parts to be held")
    neighbour.fail_one()
    failed = {"failed", "pending"}
    wait_until(
        lambda: {p["status"] for p in parts(node, invoice["payment_hash"])} == failed, "a failure"
    )
    assert books(node, app)[1] >= amount_msat
    assert app.answers_to(request["id"]) == []
    neighbour.release(preimage=preimage)
    assert patient_answer(node, app, request).result["preimage"] == preimage
    wait_until_free(node, app)
    sent_msat = sent_or_pending_msat(node, invoice["payment_hash"])
    assert books(node, app) == (sent_msat, 0)
    assert 0 < sent_msat < amount_msat
