"""The plugin is killed at each step of a payment. It never pays twice, and records and answers the end.

The steps are not listed here. An undisturbed payment records them.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyln.client import RpcError

from tests.support.faults import FAULTY_PLUGIN, Faults
from tests.support.waiting import wait_until
from tests.wire.fixtures import wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.paying import *  # noqa: F403
from tests.wire.paying import (
    FEE_MSAT,
    RESERVED_MSAT,
    Case,
    Kind,
    NewCase,
    check_books,
    each_kind,
    each_that_succeeds,
)
from tests.wire.test_spending import books
from tests.wire.three_nodes import *  # noqa: F403


@pytest.fixture(scope="module")
def plugin_file() -> Path:
    return FAULTY_PLUGIN


# The crashes


@contextlib.contextmanager
def named(point: str) -> Iterator[None]:
    """Add the point of the kill to any error."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"the plugin was killed {point}")
        raise


def points_of(case: Case, faults: Faults) -> list[str]:
    """Return the points that an undisturbed payment passes."""
    faults.record()
    case.app.ask_with(case.request)
    case.wait_until_quiet()
    points = faults.points()
    assert any(is_payment(point) for point in points)
    return points


def points_of_next_run(case: Case, faults: Faults, point: str) -> list[str]:
    """Return the points that the next run of the plugin passes, after a kill at this one."""
    kill_at(case, faults, point)
    faults.record()
    case.node.start_plugin()
    case.app.answer_to(case.request)
    case.wait_until_quiet()
    return [point for point in faults.points() if is_reached_again(point)]


def is_payment(point: str) -> bool:
    return point.split()[1] in ("keysend", "pay", "xkeysend", "xpay")


def is_reached_again(point: str) -> bool:
    """Return False for points that differ little from their neighbours, and for repeated polls."""
    if "listsendpays" in point:
        return point == "sent listsendpays 1"
    return point.startswith("sent ") or "publish" in point


def has_state_of_its_own(point: str) -> bool:
    """Return False for the points after most calls: nothing changes until the next point."""
    return not point.startswith("after ") or is_payment(point) or "publish" in point


@each_kind
def test_a_kill_at_any_step_loses_and_doubles_no_payment(
    node: NodeUnderTest, new_case: NewCase, faults: Faults, kind: Kind
) -> None:
    for point in filter(has_state_of_its_own, points_of(new_case(kind), faults)):
        with named(point):
            case = new_case(kind)
            kill_at(case, faults, point)
            check_next_run(case)
            node.rpc.call("nwc-revoke", {"name": case.app.name})


@each_kind
def test_a_second_kill_at_any_step_loses_and_doubles_no_payment(
    node: NodeUnderTest, new_case: NewCase, faults: Faults, kind: Kind
) -> None:
    """The second kill is in the next run, which looks for the outcome of the payment."""
    [paid] = [p for p in points_of(new_case(kind), faults) if p.startswith("after ") and is_payment(p)]
    for point in points_of_next_run(new_case(kind), faults, paid):
        with named(f"{paid}, then {point}"):
            kill_at(case := new_case(kind), faults, paid)
            faults.crash_at(point)
            with contextlib.suppress(RpcError):  # It may die before lightningd has accepted it.
                node.start_plugin()
            node.wait_until_plugin_died()
            faults.clear()
            check_next_run(case)
            node.rpc.call("nwc-revoke", {"name": case.app.name})


def kill_at(case: Case, faults: Faults, point: str) -> None:
    faults.crash_at(point)
    case.send()
    case.node.wait_until_plugin_died()
    faults.clear()


def check_next_run(case: Case) -> None:
    """Start the plugin again; check its ledger, answers and notifications."""
    was_reserved, was_quiet = case.is_reserved(), case.is_quiet()
    case.node.start_plugin()
    wait_until_announced(case.node, case.app.name)
    case.wait_until_quiet()
    if not was_quiet:
        case.app.answer_to(case.request)
    check_outcome(case)
    if was_reserved or was_quiet:
        assert case.notified() == ["payment_sent"] * case.is_paid()
    else:  # The kill may have come between the notification and its record.
        assert set(case.notified()) == ({"payment_sent"} if case.is_paid() else set())


def check_outcome(case: Case) -> None:
    """Check ledger, answers and the payee's receipts, before and after a replay of the request."""
    has_ended, was_paid = case.has_record(), case.is_paid()
    check_books(case)
    answer = case.ask_again()
    case.wait_until_quiet()
    # A payment that was never started starts now.
    assert case.is_paid() == (was_paid if has_ended else case.kind.succeeds)
    check_books(case)
    assert all(body == answer.body for body in case.answers())
    if case.is_paid():
        assert answer.result["fees_paid"] == FEE_MSAT
        assert answer.result["preimage"] in {p.get("payment_preimage") for p in case.parts()}
    else:
        assert answer.code == "PAYMENT_FAILED"


# Crashes while the payee holds the payment


def check_still_held(case: Case) -> None:
    wait_until_announced(case.node, case.app.name)
    assert books(case.node, case.app) == (0, RESERVED_MSAT)
    assert case.answers() == []


def check_end(case: Case, *, failed: bool) -> None:
    """Check that a held payment has ended once, and that the app was answered and notified."""
    answer = case.app.answer_to(case.request)
    case.wait_until_quiet()
    assert case.is_paid() != failed
    assert answer.body["error" if failed else "result"]
    check_outcome(case)
    assert case.notified() == ["payment_sent"] * case.is_paid()


each_end = pytest.mark.parametrize("failed", [False, True], ids=["paid", "failed"])


@each_end
@each_that_succeeds
def test_a_held_payment_survives_a_kill_of_the_plugin(
    held: Case, payee: Payee, faults: Faults, failed: bool
) -> None:
    """The payment stays reserved for as long as it is held."""
    held.node.kill_plugin()
    faults.record()
    held.node.start_plugin()
    # By then a payment that was not started could not start any more.
    wait_until(lambda: "sent listsendpays 9" in faults.points(), "many polls of its parts")
    check_still_held(held)
    payee.release(fail=failed)
    check_end(held, failed=failed)


@each_end
@each_that_succeeds
def test_a_payment_that_ends_while_the_plugin_is_down_is_answered(
    held: Case, payee: Payee, failed: bool
) -> None:
    held.node.kill_plugin()
    payee.release(fail=failed)
    held.node.start_plugin()
    check_end(held, failed=failed)


@each_end
@each_that_succeeds
def test_a_held_payment_survives_a_restart_of_lightningd(held: Case, payee: Payee, failed: bool) -> None:
    held.node.restart_node()
    check_still_held(held)
    payee.release(fail=failed)
    check_end(held, failed=failed)


@each_end
@each_that_succeeds
def test_a_held_payment_survives_a_kill_of_lightningd(
    node: NodeUnderTest, held: Case, payee: Payee, failed: bool
) -> None:
    node.kill_node()
    node.start_node()
    check_still_held(held)
    payee.release(fail=failed)
    check_end(held, failed=failed)
