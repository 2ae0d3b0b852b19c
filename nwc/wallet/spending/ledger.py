"""The ledger of one connection: what it has spent, and what is reserved for payments in flight.

Rules
-----
1. Nothing is sent before the most it can cost (amount and largest fee) is reserved here. lightningd gets
   the same limit on the fee, so a reservation is a true upper bound.
2. A reservation ends in one of two ways. It is *booked* when the payment is complete: then the real cost
   counts. It is *released* when it is certain that no part can complete any more. Until one of these is
   certain, the reservation stays, however long that takes and whatever is restarted in between.
3. What is left is the budget less what is spent less what is reserved. A payment in flight never makes
   it more. A reservation that exceeds what is left is refused.
4. When a new period begins, the spending of the old one no longer counts. Reservations still count, and
   are booked in the period in which they end.
5. Every change replaces one value by another in one write of the record, so a crash cannot leave half a
   change.

    reserve ──► reservation ──► book ──► spent, and unannounced ──► mark_announced
                     └────────► release, and unannounced ────────────────┘

A pure value: no clock, no datastore. `ledgers.py` stores it.
"""

from dataclasses import asdict, dataclass, field, fields, replace

from nwc.errors import NwcError
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.records import OPTIONAL, DamagedRecordError, Fields, RecordKind, read
from nwc.wallet.spending.payment import Payment, with_is_bolt12


class BudgetExceededError(NwcError):
    """A payment may cost more than what is left of the budget.

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
        period_started_at: when the period of `spent_msat` started, Unix seconds.
        spent_msat: spent in this period, fees included.
        total_spent_msat: spent since the first payment, fees included.
        received_msat: received through this connection, up to `received_pay_index`.
        received_pay_index: lightningd's `pay_index` of the last invoice that is counted.
        reservations: payments in flight, by request id.
        unannounced: request ids of ended payments whose app may not have been notified or answered.
        counted_holds: payment hashes of hold invoices that `received_msat` includes, and whose records
            may not say yet that they are settled. Stored only if there are any.

    """

    period_started_at: int = 0
    spent_msat: int = 0
    total_spent_msat: int = 0
    received_msat: int = 0
    received_pay_index: int = 0
    reservations: dict[str, Payment] = field(default_factory=dict)
    unannounced: tuple[str, ...] = ()
    counted_holds: tuple[str, ...] = field(default=(), metadata=OPTIONAL)

    @property
    def reserved_msat(self) -> int:
        """The most that the payments in flight can cost."""
        return sum(payment.reserved_msat for payment in self.reservations.values())

    def spent_at(self, budget: Budget, now: float) -> int:
        """Return what counts as spent against a budget, in msat."""
        if budget.kind is BudgetKind.RECEIVED:
            return self.total_spent_msat
        # If the clock is set back, the old period and its budget do not come back.
        is_over = budget.period_started_at(now) > self.period_started_at
        return 0 if is_over else self.spent_msat

    def granted(self, budget: Budget) -> int | None:
        """Return what may be spent in total, or in this period, in msat; None for no limit."""
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
        """Return what may still be spent now, in msat; None for no limit."""
        granted = self.granted(budget)
        if granted is None:
            return None
        return max(0, granted - self.spent_at(budget, now) - self.reserved_msat)

    def reserve(self, payment: Payment, budget: Budget, now: float) -> "Ledger":
        """Return the ledger with a reservation of the most that a payment can cost.

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
        """Return the ledger with a reservation of a payment that lightningd has made unnoticed.

        It may exceed what is left of the budget. Nothing changes if there is a reservation already.
        """
        return replace(self, reservations={payment.request_id: payment, **self.reservations})

    def book(self, request_id: str, sent_msat: int, budget: Budget | None, now: float) -> "Ledger":
        """Return the ledger after a payment is complete. Nothing changes without a reservation.

        Args:
            request_id: whose reservation.
            sent_msat: what it cost, fees included. At most the reservation is counted: if it were more,
                somebody else would have paid the same invoice.
            budget: the connection's; None if it has been revoked.
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
        """Return the ledger after a payment failed for certain. Nothing changes without a reservation.

        Args:
            request_id: whose reservation.
            unannounced: True if the app may not have been answered yet.

        """
        if request_id not in self.reservations:
            return self
        released = self._without(request_id)
        if not unannounced:
            return released
        return replace(released, unannounced=(*released.unannounced, request_id))

    def mark_announced(self, request_id: str) -> "Ledger":
        """Return the ledger after the app of an ended payment was answered and notified."""
        if request_id not in self.unannounced:
            return self
        return replace(self, unannounced=tuple(id_ for id_ in self.unannounced if id_ != request_id))

    def receive(self, amount_msat: int, pay_index: int) -> "Ledger":
        """Return the ledger with a paid invoice counted, unless it is counted already (`pay_index`)."""
        if pay_index <= self.received_pay_index:
            return self
        received_msat = self.received_msat + amount_msat
        return replace(self, received_msat=received_msat, received_pay_index=pay_index)

    def receive_hold(self, amount_msat: int, payment_hash: str, remembered: frozenset[str]) -> "Ledger":
        """Return the ledger with a settled hold invoice counted, unless it is counted already.

        Args:
            amount_msat: what was received.
            payment_hash: of the invoice.
            remembered: the payment hashes that may be counted again; the others are forgotten.

        """
        if payment_hash in self.counted_holds:
            return self
        kept = tuple(hash_ for hash_ in self.counted_holds if hash_ in remembered)
        received_msat = self.received_msat + amount_msat
        return replace(self, received_msat=received_msat, counted_holds=(*kept, payment_hash))

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
        if not self.counted_holds:
            del stored["counted_holds"]
        return KIND.to_json(stored)


# The stored name of `unannounced`. A new name would need a new version of the record, which earlier
# versions of the plugin could not read.
_STORED_UNANNOUNCED = "untold"


def _from_1_to_2(stored: Fields) -> Fields:
    reservations = stored["reservations"].items()
    return {**stored, "reservations": {id_: with_is_bolt12(payment) for id_, payment in reservations}}


# No field may be missing: a missing one must not be taken for "nothing spent".
KIND = RecordKind(
    required=frozenset(f.name for f in fields(Ledger)) - {"unannounced", "counted_holds"}
    | {_STORED_UNANNOUNCED},
    optional=frozenset({"counted_holds"}),
    upgrades=(_from_1_to_2,),
)


def parse_ledger(text: str) -> Ledger:
    """Return a stored ledger.

    Raises:
        RecordError: it is damaged, or a newer version of the plugin has written it. Its connection may
            not spend.

    """
    stored = KIND.parse(text)
    stored["unannounced"] = stored.pop(_STORED_UNANNOUNCED)
    ledger = read(Ledger, stored)
    if any(id_ != payment.request_id for id_, payment in ledger.reservations.items()):
        raise DamagedRecordError("a reservation has the id of another request")
    return ledger
