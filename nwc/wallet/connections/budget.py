"""A budget: how much a connection may spend, and when that renews.

Periods are counted from the moment when the owner set the budget (`since`), so that the first week is a
whole week: a budget set on a Wednesday renews on Wednesdays. All times are UTC.
"""

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from nwc.wallet.records import Bounds


class BudgetKind(StrEnum):
    """What limits the spending of a connection."""

    NOTHING = "nothing"
    AMOUNT = "amount"
    RECEIVED = "received"
    UNLIMITED = "unlimited"


class Renewal(StrEnum):
    """When an amount is granted again (NIP-47's `renewal_period`)."""

    NEVER = "never"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"


_SECONDS = {Renewal.DAILY: 86_400, Renewal.WEEKLY: 604_800}
_MONTHS = {Renewal.MONTHLY: 1, Renewal.YEARLY: 12}
_LAST_YEAR = 9998
_LAST_SINCE = 253_339_200_000  # in the year 9997


@dataclass(frozen=True, slots=True)
class Budget:
    """A connection's budget.

    Attributes:
        kind: what limits it.
        amount_msat: the limit for one period, fees included, if the kind is `amount`; otherwise 0.
        renewal: when that amount is granted again; `never` for the other kinds.
        since: Unix seconds from which periods are counted.
        max_payment_msat: the largest amount of one payment, None for no limit.

    """

    kind: BudgetKind = BudgetKind.NOTHING
    amount_msat: int = 0
    renewal: Renewal = Renewal.NEVER
    since: Annotated[int, Bounds(0, _LAST_SINCE)] = 0
    max_payment_msat: int | None = None

    @property
    def can_spend(self) -> bool:
        """Return True if anything may be spent at all."""
        return self.kind is not BudgetKind.NOTHING

    def period_started_at(self, now: float) -> int:
        """Return when the period of `now` began, in Unix seconds; `since` if the clock is before it."""
        match self.renewal:
            case Renewal.NEVER:
                return self.since
            case Renewal.DAILY | Renewal.WEEKLY:
                length = _SECONDS[self.renewal]
                return self.since + max(0, int(now - self.since) // length) * length
            case Renewal.MONTHLY | Renewal.YEARLY:
                return self._after_months(self._whole_periods(now) * _MONTHS[self.renewal])

    def renews_at(self, now: float) -> int | None:
        """Return when the next period begins, in Unix seconds; None for never."""
        match self.renewal:
            case Renewal.NEVER:
                return None
            case Renewal.DAILY | Renewal.WEEKLY:
                return self.period_started_at(now) + _SECONDS[self.renewal]
            case Renewal.MONTHLY | Renewal.YEARLY:
                return self._after_months((self._whole_periods(now) + 1) * _MONTHS[self.renewal])

    def _whole_periods(self, now: float) -> int:
        """Return how many whole months or years have passed since the budget was set."""
        step = _MONTHS[self.renewal]
        since, then = _date(self.since), _date(now)
        months = (then.year - since.year) * 12 + then.month - since.month
        periods = max(0, months // step)
        # The last one may not be over: on the 3rd, a month that began on the 20th is not.
        return periods - 1 if periods and self._after_months(periods * step) > now else periods

    def _after_months(self, months: int) -> int:
        """Return the same day and time a number of months after `since`, in Unix seconds.

        In a shorter month the day is its last: the 28th of February for the 31st.
        """
        since = _date(self.since)
        years, month = divmod(since.month - 1 + months, 12)
        year = min(since.year + years, _LAST_YEAR)
        day = min(since.day, calendar.monthrange(year, month + 1)[1])
        return int(since.replace(year=year, month=month + 1, day=day).timestamp())


def _date(at: float) -> datetime:
    return datetime.fromtimestamp(int(at), UTC)
