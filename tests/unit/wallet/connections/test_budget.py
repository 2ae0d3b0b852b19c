"""Budgets: when their periods begin, and which stored ones are refused."""

import calendar
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.records import DamagedRecordError, read
from tests.unit.helpers import JSON_VALUES

DAY = 86_400
RENEWING = [Renewal.DAILY, Renewal.WEEKLY, Renewal.MONTHLY, Renewal.YEARLY]
# In days: shortest and longest. From the 31st of January to the 28th of February is a month.
LENGTHS = {
    Renewal.DAILY: (1, 1),
    Renewal.WEEKLY: (7, 7),
    Renewal.MONTHLY: (28, 31),
    Renewal.YEARLY: (365, 366),
}
TIMES = st.integers(0, 2**33)
FAR = datetime(9990, 1, 1, tzinfo=UTC).timestamp()


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def day(moment: float | None) -> str:
    assert moment is not None
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


def renewing(renewal: Renewal, since: int) -> Budget:
    return Budget(BudgetKind.AMOUNT, 1000, renewal, since)


@given(st.sampled_from(RENEWING), TIMES, st.integers(0, int(FAR)) | st.floats(0, FAR))
@example(Renewal.MONTHLY, at("2024-01-31T10:00"), at("2024-02-29T10:00"))
@example(Renewal.YEARLY, at("2024-02-29T00:00"), at("2025-02-28T00:00") - 0.5)
def test_any_time_is_in_its_period(renewal: Renewal, since: int, now: float) -> None:
    budget = renewing(renewal, since)
    started_at, renews_at = budget.period_started_at(now), budget.renews_at(now)
    assert renews_at is not None
    assert started_at >= since
    assert now < renews_at
    assert started_at <= now or (now < since and started_at == since)
    shortest, longest = LENGTHS[renewal]
    assert shortest * DAY <= renews_at - started_at <= longest * DAY


@given(st.sampled_from(RENEWING), TIMES, st.integers(0, int(FAR)), st.integers(0, 800 * DAY))
def test_periods_follow_each_other_without_a_gap(
    renewal: Renewal, since: int, now: int, later: int
) -> None:
    budget = renewing(renewal, since)
    renews_at = budget.renews_at(now)
    assert renews_at is not None
    assert budget.period_started_at(renews_at) == renews_at
    assert budget.period_started_at(renews_at - 1) == budget.period_started_at(now)
    assert budget.period_started_at(now + later) >= budget.period_started_at(now)


@given(TIMES, st.integers(0, int(FAR)))
def test_a_month_starts_on_the_same_day_and_time_or_its_last_day(since: int, now: int) -> None:
    given, started = (
        datetime.fromtimestamp(moment, UTC)
        for moment in (since, renewing(Renewal.MONTHLY, since).period_started_at(now))
    )
    assert started.time() == given.time()
    assert started.day == min(given.day, calendar.monthrange(started.year, started.month)[1])


@pytest.mark.parametrize(
    ("renewal", "since", "now", "started", "renews"),
    [
        ("monthly", "2024-01-31T10:00", "2024-02-29T09:59", "2024-01-31 10:00", "2024-02-29 10:00"),
        ("monthly", "2024-01-31T10:00", "2024-02-29T10:00", "2024-02-29 10:00", "2024-03-31 10:00"),
        ("monthly", "2024-01-31T10:00", "2024-03-30T23:00", "2024-02-29 10:00", "2024-03-31 10:00"),
        ("monthly", "2023-01-30T00:00", "2023-03-01T00:00", "2023-02-28 00:00", "2023-03-30 00:00"),
        ("monthly", "2023-10-29T00:00", "2024-03-28T00:00", "2024-02-29 00:00", "2024-03-29 00:00"),
        ("monthly", "2023-12-20T00:00", "2024-01-03T00:00", "2023-12-20 00:00", "2024-01-20 00:00"),
        ("yearly", "2024-02-29T12:00", "2025-02-28T11:59", "2024-02-29 12:00", "2025-02-28 12:00"),
        ("yearly", "2024-02-29T12:00", "2025-03-01T00:00", "2025-02-28 12:00", "2026-02-28 12:00"),
        ("yearly", "2024-02-29T12:00", "2028-02-29T12:00", "2028-02-29 12:00", "2029-02-28 12:00"),
        ("yearly", "2024-12-01T00:00", "2026-01-01T00:00", "2025-12-01 00:00", "2026-12-01 00:00"),
        ("weekly", "2024-05-01T08:00", "2024-05-15T07:59", "2024-05-08 08:00", "2024-05-15 08:00"),
        ("daily", "2024-05-01T08:00", "2024-05-03T08:00", "2024-05-03 08:00", "2024-05-04 08:00"),
        ("daily", "2024-05-01T08:00", "2020-05-03T08:00", "2024-05-01 08:00", "2024-05-02 08:00"),
        ("monthly", "2024-05-01T08:00", "2020-05-03T08:00", "2024-05-01 08:00", "2024-06-01 08:00"),
    ],
)
def test_when_a_period_started_and_renews(
    renewal: str, since: str, now: str, started: str, renews: str
) -> None:
    budget = renewing(Renewal(renewal), at(since))
    assert day(budget.period_started_at(at(now))) == started
    assert day(budget.renews_at(at(now))) == renews


@given(TIMES, st.integers(0, int(FAR)))
def test_a_budget_that_never_renews_has_one_period(since: int, now: int) -> None:
    budget = renewing(Renewal.NEVER, since)
    assert (budget.period_started_at(now), budget.renews_at(now)) == (since, None)


def test_only_the_kind_nothing_cannot_spend() -> None:
    assert [kind for kind in BudgetKind if not Budget(kind).can_spend] == [BudgetKind.NOTHING]


# Stored

BUDGETS = st.builds(
    Budget,
    st.sampled_from(BudgetKind),
    st.integers(0, 2**63 - 1),
    st.sampled_from(Renewal),
    TIMES,
    st.none() | st.integers(0, 2**63 - 1),
)
NO_VALUES: tuple[object, ...] = (-1, 1.0, True, "", [], {}, "5", "Daily", 2**63)
FIELDS = sorted(asdict(Budget()))


def stored(budget: Budget) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(json.dumps(asdict(budget)))
    return fields


@given(BUDGETS)
def test_a_budget_is_read_as_it_was_stored(budget: Budget) -> None:
    assert read(Budget, stored(budget)) == budget


@pytest.mark.parametrize("name", FIELDS)
def test_a_budget_without_a_field_is_refused(name: str) -> None:
    fields = stored(Budget(BudgetKind.AMOUNT, 1000, Renewal.DAILY, 5, 100))
    del fields[name]
    with pytest.raises(DamagedRecordError):
        read(Budget, fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in FIELDS for value in NO_VALUES),
        *((name, None) for name in FIELDS if name != "max_payment_msat"),
        ("max_payment_msat", False),
        ("max_payment_msat", 0.0),
        ("since", 2**60),
        ("since", 253_400_000_000),
        ("other", 1),
    ],
)
def test_a_budget_with_a_damaged_field_is_refused(name: str, value: object) -> None:
    fields = stored(Budget(BudgetKind.AMOUNT, 1000, Renewal.DAILY, 5, 100))
    with pytest.raises(DamagedRecordError):
        read(Budget, {**fields, name: value})


@given(BUDGETS, st.dictionaries(st.sampled_from([*FIELDS, "x"]), JSON_VALUES), st.integers(0, int(FAR)))
def test_a_budget_is_refused_or_usable(budget: Budget, damage: dict[str, Any], now: int) -> None:
    try:
        kept = read(Budget, {**stored(budget), **damage})
    except DamagedRecordError:
        return
    assert min(kept.amount_msat, kept.since, kept.max_payment_msat or 0) >= 0
    assert kept.period_started_at(now) >= kept.since
    assert type(kept.kind) is BudgetKind


@given(JSON_VALUES)
def test_other_json_is_refused(value: Any) -> None:
    with pytest.raises(DamagedRecordError):
        read(Budget, value)
