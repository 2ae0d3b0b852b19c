"""A budget: what the owner lets a connection spend, and when that begins anew.

Periods are counted from the moment the budget was given (`since`), so that a week is a week and not what
is left of one: a budget given on a Wednesday renews on Wednesdays. All in UTC.
"""

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from nwc.wallet.records import Bounds


class BudgetKind(StrEnum):
    """What bounds the spending of a connection."""

    NOTHING = "nothing"
    AMOUNT = "amount"
    RECEIVED = "received"
    UNLIMITED = "unlimited"


class Renewal(StrEnum):
    """When an amount is granted anew (NIP-47's `renewal_period`)."""

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
        kind: what bounds it.
        amount_msat: of kind `amount`, for one period, fees included; else 0.
        renewal: of kind `amount`; else never.
        since: Unix seconds from which periods are counted.
        max_payment_msat: cap on one payment's amount, None for none.

    """

    kind: BudgetKind = BudgetKind.NOTHING
    amount_msat: int = 0
    renewal: Renewal = Renewal.NEVER
    since: Annotated[int, Bounds(0, _LAST_SINCE)] = 0
    max_payment_msat: int | None = None

    @property
    def can_spend(self) -> bool:
        """Tell whether this is a budget to spend from at all."""
        return self.kind is not BudgetKind.NOTHING

    def period_started_at(self, now: float) -> int:
        """Return when the period of `now` began; `since` also for a clock that is before it."""
        match self.renewal:
            case Renewal.NEVER:
                return self.since
            case Renewal.DAILY | Renewal.WEEKLY:
                length = _SECONDS[self.renewal]
                return self.since + max(0, int(now - self.since) // length) * length
            case Renewal.MONTHLY | Renewal.YEARLY:
                return self._after_months(self._whole_periods(now) * _MONTHS[self.renewal])

    def renews_at(self, now: float) -> int | None:
        """Return when the next period begins, None for never."""
        match self.renewal:
            case Renewal.NEVER:
                return None
            case Renewal.DAILY | Renewal.WEEKLY:
                return self.period_started_at(now) + _SECONDS[self.renewal]
            case Renewal.MONTHLY | Renewal.YEARLY:
                return self._after_months((self._whole_periods(now) + 1) * _MONTHS[self.renewal])

    def _whole_periods(self, now: float) -> int:
        """Return how many whole months or years have passed since the budget was given."""
        step = _MONTHS[self.renewal]
        since, then = _date(self.since), _date(now)
        months = (then.year - since.year) * 12 + then.month - since.month
        periods = max(0, months // step)
        # The last of them may not be over: on the 3rd, a month that began on the 20th.
        return periods - 1 if periods and self._after_months(periods * step) > now else periods

    def _after_months(self, months: int) -> int:
        """Return the same day and time so many months after `since`; the 31st may be the 28th there."""
        since = _date(self.since)
        years, month = divmod(since.month - 1 + months, 12)
        year = min(since.year + years, _LAST_YEAR)
        day = min(since.day, calendar.monthrange(year, month + 1)[1])
        return int(since.replace(year=year, month=month + 1, day=day).timestamp())


def _date(at: float) -> datetime:
    return datetime.fromtimestamp(int(at), UTC)
