"""The plugin or lightningd is killed at each step of a payment of a connection to itself.

It may spend what it has received, so its books show everything that is counted twice or not at all.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.channel import Json
from tests.support.faults import FAULTY_PLUGIN, Faults
from tests.wire.fixtures import Connect, budget_of, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.paying import *  # noqa: F403
from tests.wire.paying import Case, Kind
from tests.wire.test_payment_crash import (
    has_state_of_its_own,
    is_payment,
    kill_at,
    named,
    points_of,
)
from tests.wire.test_receiving import lookup, make, make_paid, wait_until_recorded
from tests.wire.three_nodes import *  # noqa: F403

AMOUNT_MSAT = 21_000
OWN = Kind("pay_invoice", lambda _: {})

NewOwnCase = Callable[[], tuple[Case, Json]]


@pytest.fixture(scope="module")
def plugin_file() -> Path:
    return FAULTY_PLUGIN


@pytest.fixture
def new_own_case(node: NodeUnderTest, payee: Payee, connect: Connect) -> NewOwnCase:
    """Return what makes a request to pay an own invoice with all that was received, and the invoice."""

    def new() -> tuple[Case, Json]:
        app = connect(budget="received")
        wait_until_recorded(node, make_paid(node, app, amount=AMOUNT_MSAT))
        made = make(app, amount=AMOUNT_MSAT)
        request = app.request("pay_invoice", {"invoice": made["invoice"]})
        return Case(node, payee, app, OWN, request, 0), made

    return new


def test_a_kill_of_the_plugin_at_any_step_moves_both_sides_once(
    node: NodeUnderTest, new_own_case: NewOwnCase, faults: Faults
) -> None:
    for point in filter(has_state_of_its_own, points_of(new_own_case()[0], faults)):
        with named(point):
            case, made = new_own_case()
            kill_at(case, faults, point)
            check_not_richer(case)
            node.start_plugin()
            check_both_ends(case, made)


def test_a_kill_of_lightningd_while_it_pays_moves_both_sides_once(
    node: NodeUnderTest, new_own_case: NewOwnCase, faults: Faults
) -> None:
    for point in filter(is_payment, points_of(new_own_case()[0], faults)):
        with named(point):
            case, made = new_own_case()
            kill_at(case, faults, point)
            node.kill_node()
            node.start_node()
            check_not_richer(case)
            check_both_ends(case, made)


def check_not_richer(case: Case) -> None:
    """Check that nothing is credited before the reservation or the debit counts."""
    ledger = case.ledger()
    reserved = sum(payment["amount_msat"] for payment in ledger["reservations"].values())
    assert ledger["received_msat"] - ledger["total_spent_msat"] - reserved <= AMOUNT_MSAT


def check_both_ends(case: Case, made: Json) -> None:
    """Check books, invoice and notifications after the next start, and again after a replay."""
    wait_until_announced(case.node, case.app.name)
    case.wait_until_quiet()
    was_paid = case.is_paid()
    check_both_books(case, made)
    answer = case.ask_again()
    case.wait_until_quiet()
    check_both_books(case, made)
    # A payment that was reserved, but never sent, has failed. One that was not reserved is made now.
    assert case.is_paid() or answer.code == "PAYMENT_FAILED"
    assert not was_paid or case.is_paid()
    if case.is_paid():
        assert answer.result["preimage"] == lookup(case.app, made)["preimage"]
        assert answer.result["fees_paid"] == 0
        assert set(notified(case, made)) == {"payment_sent", "payment_received"}
    else:
        assert notified(case, made) == []
    case.node.rpc.call("nwc-revoke", {"name": case.app.name})


def check_both_books(case: Case, made: Json) -> None:
    """Check that invoice and payment are both paid or both not, and booked once."""
    times = len([part for part in case.parts() if part["status"] == "complete"])
    assert times in (0, 1)
    if times:
        wait_until_recorded(case.node, made)
    assert lookup(case.app, made)["state"] == ("settled" if times else "pending")
    budget = budget_of(case.node, case.app.name)
    shown = [budget[f"{what}_msat"] for what in ("spent", "reserved", "granted", "left")]
    assert shown == [times * AMOUNT_MSAT, 0, (1 + times) * AMOUNT_MSAT, AMOUNT_MSAT]


def notified(case: Case, made: Json) -> list[str]:
    if case.is_paid():
        case.app.wait_for_notifications(made["payment_hash"])
    case.app.ask("get_info")  # its answer comes after everything published before
    notifications = case.app.notifications()
    return [n.type for n in notifications if n.transaction["payment_hash"] == made["payment_hash"]]
