"""The rules of the ledger, one by one; a damaged ledger is refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.records import RecordError
from nwc.wallet.spending.ledger import BudgetExceededError, Ledger, parse_ledger
from tests.unit.helpers import JSON_VALUES
from tests.unit.wallet.spending.values import (
    DAY,
    NO_NUMBERS,
    NO_OBJECTS,
    NO_TEXTS,
    START,
    amount,
    payment,
)

NOW = START + 10
ONE, TWO = payment(1), payment(2)


def reserved(*payments: Any, budget: Budget | None = None) -> Ledger:
    ledger = Ledger()
    for one in payments:
        ledger = ledger.reserve(one, budget or amount(10_000), NOW)
    return ledger


# Rule 1 and 3: reservations


def test_the_most_that_a_payment_can_cost_is_reserved() -> None:
    ledger = reserved(ONE)
    assert ledger.reserved_msat == 110
    assert ledger.left(amount(1000), NOW) == 890


@pytest.mark.parametrize(("budget_msat", "fits"), [(220, True), (219, False)])
def test_reserved_money_is_not_left(budget_msat: int, fits: bool) -> None:
    budget = amount(budget_msat)
    ledger = reserved(ONE, budget=budget)
    if fits:
        assert ledger.reserve(TWO, budget, NOW).left(budget, NOW) == 0
    else:
        with pytest.raises(BudgetExceededError) as error:
            ledger.reserve(TWO, budget, NOW)
        assert error.value.left_msat == 109


def test_spent_money_is_not_left() -> None:
    budget = amount(200)
    ledger = reserved(ONE, budget=budget).book(ONE.request_id, 105, budget, NOW)
    assert ledger.left(budget, NOW) == 95
    with pytest.raises(BudgetExceededError):
        ledger.reserve(TWO, budget, NOW)


def test_a_request_cannot_be_reserved_twice() -> None:
    with pytest.raises(ValueError):
        reserved(ONE, ONE)


def test_without_a_budget_even_a_free_payment_is_refused() -> None:
    free = payment(amount_msat=0, max_fee_msat=0)
    with pytest.raises(BudgetExceededError):
        Ledger(received_msat=1000).reserve(free, Budget(), NOW)


def test_an_unlimited_budget_has_no_limit() -> None:
    budget = Budget(BudgetKind.UNLIMITED)
    ledger = Ledger().reserve(payment(amount_msat=10**15), budget, NOW)
    assert ledger.left(budget, NOW) is None
    assert ledger.granted(budget) is None


def test_a_lowered_budget_leaves_zero_and_not_less() -> None:
    ledger = reserved(ONE)
    assert ledger.left(amount(50), NOW) == 0


# Rule 2: how a reservation ends


def test_a_payment_is_booked_with_its_real_cost() -> None:
    budget = amount(1000)
    ledger = reserved(ONE, TWO).book(ONE.request_id, 103, budget, NOW)
    assert list(ledger.reservations) == [TWO.request_id]
    assert (ledger.spent_msat, ledger.total_spent_msat) == (103, 103)
    assert ledger.unannounced == (ONE.request_id,)
    assert ledger.left(budget, NOW) == 1000 - 103 - 110


def test_a_payment_is_booked_once() -> None:
    ledger = reserved(ONE).book(ONE.request_id, 103, amount(1000), NOW)
    assert ledger.book(ONE.request_id, 103, amount(1000), NOW) is ledger
    assert ledger.release(ONE.request_id) is ledger


def test_no_more_is_booked_than_was_reserved() -> None:
    assert reserved(ONE).book(ONE.request_id, 5000, amount(1000), NOW).spent_msat == 110


def test_a_release_can_leave_the_payment_unannounced() -> None:
    ledger = reserved(ONE).release(ONE.request_id, unannounced=True)
    assert (ledger.reservations, ledger.unannounced, ledger.spent_msat) == ({}, (ONE.request_id,), 0)
    assert ledger.mark_announced(ONE.request_id).unannounced == ()


def test_a_release_leaves_nothing_behind() -> None:
    ledger = reserved(ONE).release(ONE.request_id)
    assert (ledger.reservations, ledger.spent_msat, ledger.unannounced) == ({}, 0, ())
    assert ledger.release(ONE.request_id) is ledger
    assert ledger.book(ONE.request_id, 103, amount(1000), NOW) is ledger


def test_booking_for_a_revoked_connection_begins_no_period() -> None:
    ledger = reserved(ONE).book(ONE.request_id, 103, None, NOW + 900 * DAY)
    assert (ledger.period_started_at, ledger.spent_msat) == (START, 103)


def test_mark_announced_removes_one_request() -> None:
    ledger = replace(Ledger(), unannounced=("a", "b"))
    assert ledger.mark_announced("a").unannounced == ("b",)
    assert ledger.mark_announced("c") is ledger


# Rule 4: periods


def test_a_new_period_renews_the_budget_but_not_the_reservations() -> None:
    budget = amount(300, Renewal.DAILY)
    ledger = reserved(ONE, TWO, budget=budget).book(ONE.request_id, 103, budget, NOW)
    tomorrow = NOW + DAY
    assert ledger.spent_at(budget, tomorrow) == 0
    assert ledger.left(budget, tomorrow) == 300 - 110, "a payment in flight still counts"
    assert TWO.request_id in ledger.reserve(payment(3), budget, tomorrow).reservations
    booked = ledger.book(TWO.request_id, 110, budget, tomorrow)
    assert (booked.period_started_at, booked.spent_msat) == (START + DAY, 110)
    assert booked.total_spent_msat == 213


def test_a_reservation_begins_the_period() -> None:
    budget = amount(300, Renewal.DAILY)
    ledger = replace(Ledger(), period_started_at=START, spent_msat=300)
    begun = ledger.reserve(ONE, budget, NOW + DAY)
    assert (begun.period_started_at, begun.spent_msat) == (START + DAY, 0)


def test_a_clock_that_is_set_back_renews_no_budget() -> None:
    budget = amount(110, Renewal.DAILY)
    ledger = Ledger().reserve(ONE, budget, NOW + DAY).book(ONE.request_id, 110, budget, NOW + DAY)
    assert ledger.left(budget, NOW) == 0
    with pytest.raises(BudgetExceededError):
        ledger.reserve(TWO, budget, NOW)
    late = Ledger().reserve(ONE, budget, NOW + DAY).book(ONE.request_id, 110, budget, NOW)
    assert (late.period_started_at, late.spent_msat) == (START + DAY, 110)


@given(
    st.sampled_from(Renewal),
    st.lists(
        st.tuples(st.integers(0, 3 * DAY), st.integers(-DAY, DAY), st.integers(0, 110)), max_size=12
    ),
)
def test_no_period_spends_more_than_was_granted(
    renewal: Renewal, steps: list[tuple[int, int, int]]
) -> None:
    """Compare each reservation with a list of what was booked in which period."""
    budget, ledger, now = amount(250, renewal), Ledger(), START
    booked: list[tuple[int, int]] = []
    newest = 0
    for number, (later, jump, cost_msat) in enumerate(steps):
        now = max(START, now + later + jump)
        newest = max(newest, budget.period_started_at(now))
        spent_msat = sum(cost for period, cost in booked if period == newest)
        one = payment(number)
        if spent_msat + one.reserved_msat > 250:
            with pytest.raises(BudgetExceededError):
                ledger.reserve(one, budget, now)
            continue
        ledger = ledger.reserve(one, budget, now).book(one.request_id, cost_msat, budget, now)
        booked.append((newest, cost_msat))
    assert ledger.total_spent_msat == sum(cost for _, cost in booked)


# A budget of what was received


def test_a_received_budget_has_no_periods() -> None:
    budget = Budget(BudgetKind.RECEIVED, since=START)
    ledger = Ledger().receive(200, 7)
    assert ledger.left(budget, NOW) == 200
    spent = ledger.reserve(ONE, budget, NOW).book(ONE.request_id, 103, budget, NOW)
    assert spent.left(budget, NOW + 900 * DAY) == 97
    assert spent.left(replace(budget, since=NOW + DAY), NOW + 2 * DAY) == 97


def test_an_invoice_is_counted_once() -> None:
    ledger = Ledger().receive(200, 7)
    assert ledger.receive(200, 7) is ledger
    assert ledger.receive(300, 6) is ledger
    assert ledger.receive(300, 9).received_msat == 500


# Stored ledgers

PAYMENTS = st.builds(
    payment,
    st.integers(0, 20),
    amount_msat=st.integers(0, 2**63 - 1),
    max_fee_msat=st.integers(0, 2**63 - 1),
    payment_hash=st.none() | st.just("ab" * 32),
    metadata=st.none() | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
LEDGERS = st.builds(
    Ledger,
    st.integers(0, 2**40),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**40),
    st.lists(PAYMENTS, max_size=3).map(lambda payments: {p.request_id: p for p in payments}),
    st.lists(st.text(max_size=5), max_size=2).map(tuple),
)


@given(LEDGERS)
def test_a_stored_ledger_is_read_unchanged(ledger: Ledger) -> None:
    assert parse_ledger(ledger.to_json()) == ledger


FULL = json.loads(replace(reserved(ONE), spent_msat=5, unannounced=("ab",)).to_json())
RESERVATION = FULL["reservations"][ONE.request_id]


@pytest.mark.parametrize("name", FULL)
def test_a_missing_field_is_damage(name: str) -> None:
    fields = {other: value for other, value in FULL.items() if other != name}
    with pytest.raises(RecordError):
        parse_ledger(json.dumps(fields))


# Earlier versions did not write these fields.
MAY_BE_MISSING = ("metadata", "first_sendpay_index", "reserved_at_us")


@pytest.mark.parametrize("name", [n for n in RESERVATION if n not in MAY_BE_MISSING])
def test_a_missing_field_of_a_reservation_is_damage(name: str) -> None:
    fields = {other: value for other, value in RESERVATION.items() if other != name}
    with pytest.raises(RecordError):
        parse_ledger(json.dumps({**FULL, "reservations": {ONE.request_id: fields}}))


@pytest.mark.parametrize("text", ["", "{}", "[]", "1", "null", '"x"', "{", "[" * 100_000, "NaN", "\0"])
def test_text_that_is_not_a_ledger_is_refused(text: str) -> None:
    with pytest.raises(RecordError):
        parse_ledger(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 3),
        ("version", None),
        ("other", 1),
        *(
            (name, value)
            for name in FULL
            if name.endswith(("_msat", "_at", "_index"))
            for value in (*NO_NUMBERS, 1e999)
        ),
        *(("untold", value) for value in (*NO_TEXTS[:2], "ab", {"ab": 1}, [1], [["ab"]])),
        *(("reservations", value) for value in (*NO_OBJECTS, None, {"a": 1}, {"a": RESERVATION})),
    ],
)
def test_a_damaged_field_is_refused(name: str, value: object) -> None:
    with pytest.raises(RecordError):
        parse_ledger(json.dumps({**FULL, name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((n, v) for n in RESERVATION if n.endswith("_msat") for v in NO_NUMBERS),
        *(
            (n, 5)
            for n in ("payment_hash", "invoice", "destination", "metadata", "method", "encryption")
        ),
        ("payment_hash", ["ab"]),
        ("metadata", []),
        ("metadata", {"a": "\ud800"}),
        ("metadata", {"a": float("nan")}),
        ("invoice", "\ud800"),
        ("other", 1),
    ],
)
def test_a_damaged_reservation_is_refused(name: str, value: object) -> None:
    reservations = {ONE.request_id: {**RESERVATION, name: value}}
    with pytest.raises(RecordError):
        parse_ledger(json.dumps({**FULL, "reservations": reservations}))


def check_usable(text: str) -> None:
    """Check that the text is refused, or that no amount of the ledger is negative."""
    try:
        ledger = parse_ledger(text)
    except RecordError:
        return
    assert min(ledger.spent_msat, ledger.total_spent_msat, ledger.received_msat) >= 0
    assert all(min(p.amount_msat, p.max_fee_msat) >= 0 for p in ledger.reservations.values())
    left = ledger.left(amount(1000), NOW)
    assert left is not None
    assert 0 <= left <= 1000


@given(LEDGERS, st.dictionaries(st.sampled_from([*FULL, "x"]), JSON_VALUES, max_size=3))
def test_a_ledger_with_random_fields_is_refused_or_usable(
    ledger: Ledger, damage: dict[str, Any]
) -> None:
    check_usable(json.dumps({**json.loads(ledger.to_json()), **damage}))


@given(st.dictionaries(st.sampled_from([*RESERVATION, "x"]), JSON_VALUES, min_size=1, max_size=3))
def test_a_ledger_with_a_random_reservation_is_refused_or_usable(damage: dict[str, Any]) -> None:
    reservations = {ONE.request_id: {**RESERVATION, **damage}}
    check_usable(json.dumps({**FULL, "reservations": reservations}))


@given(LEDGERS, st.data())
def test_a_ledger_with_random_text_is_refused_or_usable(ledger: Ledger, data: st.DataObject) -> None:
    text = ledger.to_json()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    check_usable(text[:start] + data.draw(st.text('-,:[]{}"0123456789nul', max_size=4)) + text[end:])


@given(JSON_VALUES)
def test_random_json_is_refused(value: Any) -> None:
    with pytest.raises(RecordError):
        parse_ledger(json.dumps(value))
