"""The plugin is killed at every step of a payment: never paid twice, books right, outcome answered.

The steps are not listed here: a payment that nobody disturbs shows them.
"""

import contextlib
from collections.abc import Iterator

import pytest
from pyln.client import RpcError

from nwc.cln.payer import PAYMENT_METHODS
from tests.cases.fixtures import wait_until_announced
from tests.cases.node import NodeUnderTest
from tests.cases.payee import Payee
from tests.cases.paying import *  # noqa: F403
from tests.cases.paying import (
    FEE_MSAT,
    RESERVED_MSAT,
    Case,
    Kind,
    NewCase,
    check_books,
    each_kind,
    each_that_succeeds,
)
from tests.cases.spending import books
from tests.support.faults import Faults
from tests.support.waiting import wait_until

# The crashes


@contextlib.contextmanager
def named(point: str) -> Iterator[None]:
    """Have what fails say at which point."""
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
    """Return the points that the plugin passes after it was killed at one."""
    kill_at(case, faults, point)
    faults.record()
    case.node.start_plugin()
    case.app.answer_to(case.request)
    case.wait_until_quiet()
    return [point for point in faults.points() if is_reached_again(point)]


def is_payment(point: str) -> bool:
    return point.split()[1] in PAYMENT_METHODS


def is_reached_again(point: str) -> bool:
    """Leave out what differs little from its neighbours, and how often it asks, which is chance."""
    if "listsendpays" in point:
        return point == "sent listsendpays 1"
    return point.startswith("sent ") or "publish" in point


def is_its_own(point: str) -> bool:
    """After most calls nothing is different from before the next."""
    return not point.startswith("after ") or is_payment(point) or "publish" in point


@each_kind
def test_killed_at_each_step(node: NodeUnderTest, new_case: NewCase, faults: Faults, kind: Kind) -> None:
    for point in filter(is_its_own, points_of(new_case(kind), faults)):
        with named(point):
            case = new_case(kind)
            kill_at(case, faults, point)
            check_next_run(case)
            node.rpc.call("nwc-revoke", {"name": case.app.name})


@each_kind
def test_killed_at_each_step_after_a_kill(
    node: NodeUnderTest, new_case: NewCase, faults: Faults, kind: Kind
) -> None:
    """The same while the next run of the plugin finds out what became of the payment."""
    [paid] = [p for p in points_of(new_case(kind), faults) if p.startswith("after ") and is_payment(p)]
    for point in points_of_next_run(new_case(kind), faults, paid):
        with named(f"{paid}, then {point}"):
            kill_at(case := new_case(kind), faults, paid)
            faults.crash_at(point)
            with contextlib.suppress(RpcError):  # It may die before lightningd is content with it.
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
    """Start the plugin again; look at its books, its answers, and what was told."""
    was_reserved, was_quiet = case.is_reserved(), case.is_quiet()
    case.node.start_plugin()
    wait_until_announced(case.node, case.app.name)
    case.wait_until_quiet()
    if not was_quiet:
        case.app.answer_to(case.request)
    check_outcome(case)
    if was_reserved or was_quiet:
        assert case.told() == ["payment_sent"] * case.is_paid()
    else:  # It may have been told, and not noted as told.
        assert set(case.told()) == ({"payment_sent"} if case.is_paid() else set())


def check_outcome(case: Case) -> None:
    """Check books, answers and what the payee has, before and after the same request comes again."""
    has_ended, was_paid = case.has_record(), case.is_paid()
    check_books(case)
    answer = case.ask_again()
    case.wait_until_quiet()
    # What was never begun begins now.
    assert case.is_paid() == (was_paid if has_ended else case.kind.succeeds)
    check_books(case)
    assert all(body == answer.body for body in case.answers())
    if case.is_paid():
        assert answer.result["fees_paid"] == FEE_MSAT
        assert answer.result["preimage"] in {p.get("payment_preimage") for p in case.parts()}
    else:
        assert answer.code == "PAYMENT_FAILED"


# Held at the payee while something dies


def check_still_held(case: Case) -> None:
    wait_until_announced(case.node, case.app.name)
    assert books(case.node, case.app) == (0, RESERVED_MSAT)
    assert case.answers() == []


def check_end(case: Case, *, failed: bool) -> None:
    """A held payment has ended: once, and everybody knows how."""
    answer = case.app.answer_to(case.request)
    case.wait_until_quiet()
    assert case.is_paid() != failed
    assert answer.body["error" if failed else "result"]
    check_outcome(case)
    assert case.told() == ["payment_sent"] * case.is_paid()


each_end = pytest.mark.parametrize("failed", [False, True], ids=["paid", "failed"])


@each_end
@each_that_succeeds
def test_held_while_the_plugin_dies(held: Case, payee: Payee, faults: Faults, failed: bool) -> None:
    """While it is held it is not given up, however late."""
    held.node.kill_plugin()
    faults.record()
    held.node.start_plugin()
    # By then the time is over in which a payment that was not begun could still begin.
    wait_until(lambda: "sent listsendpays 9" in faults.points(), "many looks at its parts")
    check_still_held(held)
    payee.release(fail=failed)
    check_end(held, failed=failed)


@each_end
@each_that_succeeds
def test_ended_while_the_plugin_is_away(held: Case, payee: Payee, failed: bool) -> None:
    held.node.kill_plugin()
    payee.release(fail=failed)
    held.node.start_plugin()
    check_end(held, failed=failed)


@each_end
@each_that_succeeds
def test_held_while_lightningd_stops(held: Case, payee: Payee, failed: bool) -> None:
    held.node.restart_node()
    check_still_held(held)
    payee.release(fail=failed)
    check_end(held, failed=failed)
