"""The ledger of one connection: what it has spent, and what is set aside for payments under way.

Rules
-----
1. Nothing is sent before the most it can cost (amount and largest fee) stands here as a reservation.
   Lightningd is told the same largest fee, so a reservation is a true upper bound.
2. A reservation ends in one of two ways: *booked*, when the payment is complete (the real cost counts
   from then on), or *released*, when it is certain that nothing of it can be paid any more. While
   neither is certain it stays, however long that takes and whatever is restarted in between.
3. What is left is budget less spent less reserved. It never becomes more by a payment under way, and a
   reservation is refused when it is more than what is left.
4. When a new period begins, what was spent in the old one counts no more; what is reserved still does,
   and is booked in the period in which it ends.
5. Every change is one value in the place of another, and one write of the record: there is no moment in
   which a crash could leave half of it.

    reserve ──► reservation ──► book ──► spent (and untold, until the apps know) ──► told
                     └────────► release (and untold) ──────────────────────────────────┘

A pure value: no clock, no datastore. `ledgers.py` keeps it.
"""

from dataclasses import asdict, dataclass, field, fields, replace

from nwc.errors import NwcError
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.records import RecordKind, RecordVersionError, is_number
from nwc.wallet.spending.payment import Payment, payment_from_fields


class BudgetExceededError(NwcError):
    """A payment may cost more than what is left.

    Attributes:
        left_msat: what is left.

    """

    def __init__(self, left_msat: int) -> None:
        super().__init__(f"{left_msat} msat are left")
        self.left_msat = left_msat


@dataclass(frozen=True, slots=True)
class Ledger:
    """A connection's ledger.

    Attributes:
        period_started_at: Unix seconds; the period in which `spent_msat` was spent.
        spent_msat: in this period, fees included.
        total_spent_msat: ever.
        received_msat: what came in through this connection, up to `received_pay_index`.
        received_pay_index: lightningd's `pay_index` of the last invoice that is counted.
        reservations: payments under way, by request id.
        untold: request ids of payments that have ended, and no app may know of it yet.

    """

    period_started_at: int = 0
    spent_msat: int = 0
    total_spent_msat: int = 0
    received_msat: int = 0
    received_pay_index: int = 0
    reservations: dict[str, Payment] = field(default_factory=dict)
    unannounced: tuple[str, ...] = ()

    @property
    def reserved_msat(self) -> int:
        """What the payments under way can cost at most."""
        return sum(payment.reserved_msat for payment in self.reservations.values())

    def spent_at(self, budget: Budget, now: float) -> int:
        """Return what counts as spent against a budget, in msat."""
        if budget.kind is BudgetKind.RECEIVED:
            return self.total_spent_msat
        # A clock that is set back does not bring an old period, and its budget, back.
        is_over = budget.period_started_at(now) > self.period_started_at
        return 0 if is_over else self.spent_msat

    def granted(self, budget: Budget) -> int | None:
        """Return what may be spent in all, or in this period, in msat; None for no bound."""
        match budget.kind:
            case BudgetKind.NOTHING:
                return 0
            case BudgetKind.AMOUNT:
                return budget.amount_msat
            case BudgetKind.RECEIVED:
                return self.received_msat
            case BudgetKind.UNLIMITED:
                return None

    def left(self, budget: Budget, now: float) -> int | None:
        """Return what may still be spent now, in msat; None for no bound."""
        granted = self.granted(budget)
        if granted is None:
            return None
        return max(0, granted - self.spent_at(budget, now) - self.reserved_msat)

    def reserve(self, payment: Payment, budget: Budget, now: float) -> "Ledger":
        """Set aside the most a payment can cost.

        Raises:
            BudgetExceededError: it is more than what is left.
            ValueError: its request has a reservation already.

        """
        if payment.request_id in self.reservations:
            raise ValueError("the request has a reservation already")
        left = self.left(budget, now)
        if not budget.can_spend or (left is not None and payment.reserved_msat > left):
            raise BudgetExceededError(left or 0)
        renewed = self._in_period_of(budget, now)
        return replace(renewed, reservations={**self.reservations, payment.request_id: payment})

    def restore(self, payment: Payment) -> "Ledger":
        """Set aside the cost of a payment that lightningd has made, whatever is left of the budget.

        Does nothing when there is a reservation already.
        """
        return replace(self, reservations={payment.request_id: payment, **self.reservations})

    def book(self, request_id: str, sent_msat: int, budget: Budget | None, now: float) -> "Ledger":
        """End a reservation: the payment is complete. Does nothing when there is none (any more).

        Args:
            request_id: whose reservation.
            sent_msat: what it cost, fees included. No more than the reservation is counted: were it
            more, somebody else would have paid the same invoice.
            budget: the connection's; None when it has been revoked.
            now: Unix seconds.

        """
        payment = self.reservations.get(request_id)
        if payment is None:
            return self
        cost_msat = min(sent_msat, payment.reserved_msat)
        current = self if budget is None else self._in_period_of(budget, now)
        return replace(
            current._without(request_id),
            spent_msat=current.spent_msat + cost_msat,
            total_spent_msat=current.total_spent_msat + cost_msat,
            unannounced=(*current.unannounced, request_id),
        )

    def release(self, request_id: str, *, unannounced: bool = False) -> "Ledger":
        """End a reservation: nothing was paid, and nothing can be. Does nothing when there is none.

        Args:
            request_id: whose reservation.
            untold: whether the app has yet to be answered.

        """
        if request_id not in self.reservations:
            return self
        released = self._without(request_id)
        return (
            replace(released, unannounced=(*released.unannounced, request_id))
            if unannounced
            else released
        )

    def mark_announced(self, request_id: str) -> "Ledger":
        """Note that the apps know how a payment has ended."""
        if request_id not in self.unannounced:
            return self
        return replace(self, unannounced=tuple(id_ for id_ in self.unannounced if id_ != request_id))

    def receive(self, amount_msat: int, pay_index: int) -> "Ledger":
        """Count what came in; an invoice that is counted already (by its `pay_index`) is not again."""
        if pay_index <= self.received_pay_index:
            return self
        received_msat = self.received_msat + amount_msat
        return replace(self, received_msat=received_msat, received_pay_index=pay_index)

    def _without(self, request_id: str) -> "Ledger":
        others = {id_: payment for id_, payment in self.reservations.items() if id_ != request_id}
        return replace(self, reservations=others)

    def _in_period_of(self, budget: Budget, now: float) -> "Ledger":
        started_at = budget.period_started_at(now)
        if started_at <= self.period_started_at:
            return self
        return replace(self, period_started_at=started_at, spent_msat=0)

    def to_json(self) -> str:
        """Return the ledger as stored."""
        stored = asdict(self)
        stored[_STORED_UNANNOUNCED] = stored.pop("unannounced")
        return KIND.to_json(stored)


# The stored name of `unannounced`. A new name would need a new version of the record, which earlier
# versions of the plugin could not read.
_STORED_UNANNOUNCED = "untold"
# None may be missing: it must not be taken for nothing spent.
KIND = RecordKind(
    required=frozenset(f.name for f in fields(Ledger)) - {"unannounced"} | {_STORED_UNANNOUNCED}
)


class LedgerError(NwcError, ValueError):
    """A stored ledger this version cannot read. Nothing may be spent then."""


def parse_ledger(text: str) -> Ledger:
    """Read a stored ledger.

    Raises:
        LedgerError: damaged, or written by a newer version of the plugin.

    """
    try:
        stored = KIND.parse(text)
        reservations = {
            id_: payment_from_fields(payment) for id_, payment in stored.pop("reservations").items()
        }
        unannounced: list[str] = stored.pop(_STORED_UNANNOUNCED)
        ledger = Ledger(**stored, reservations=reservations, unannounced=tuple(unannounced))
    except RecordVersionError as error:
        raise LedgerError(str(error)) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LedgerError(f"damaged: {type(error).__name__}") from None
    if not _has_right_types(ledger) or not isinstance(unannounced, list):
        raise LedgerError("damaged: a field does not fit")
    return ledger


def _has_right_types(ledger: Ledger) -> bool:
    numbers = (
        ledger.period_started_at,
        ledger.spent_msat,
        ledger.total_spent_msat,
        ledger.received_msat,
        ledger.received_pay_index,
    )
    return (
        all(map(is_number, numbers))
        and all(isinstance(id_, str) for id_ in ledger.unannounced)
        and all(id_ == payment.request_id for id_, payment in ledger.reservations.items())
    )
