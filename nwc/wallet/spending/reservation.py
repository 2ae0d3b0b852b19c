"""What may be reserved for a payment: within the budget, its cap on one payment, and the fee limit."""

from dataclasses import replace

from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.spending.ledger import BudgetExceededError, Ledger
from nwc.wallet.spending.payment import Payment, usual_fee_limit_msat


def reserve(ledger: Ledger, wanted: Payment, budget: Budget, now: float) -> Ledger:
    """Return the ledger with a reservation for a payment, whose fee limit is lowered to what is left.

    Args:
        ledger: of the connection that pays.
        wanted: what to pay.
        budget: of that connection, as it is now.
        now: Unix seconds.

    Raises:
        Nip47Error: QUOTA_EXCEEDED, INSUFFICIENT_BALANCE or RESTRICTED, it costs more than what is left.

    """
    _check_cap(budget, wanted)
    left = ledger.left(budget, now)
    max_fee_msat = _fee_limit(budget, wanted)
    if left is not None:
        max_fee_msat = max(0, min(max_fee_msat, left - wanted.amount_msat))
    try:
        reserved = replace(wanted, max_fee_msat=max_fee_msat, reserved_at_us=int(now * 1_000_000))
        return ledger.reserve(reserved, budget, now)
    except BudgetExceededError as error:
        raise _over_budget(budget, error.left_msat, now) from None


def _check_cap(budget: Budget, wanted: Payment) -> None:
    cap = budget.max_payment_msat
    if cap is not None and wanted.amount_msat > cap:
        raise Nip47Error(
            ErrorCode.QUOTA_EXCEEDED,
            f"amount: must be at most {cap} msat for this connection; got {wanted.amount_msat}",
        )


def _fee_limit(budget: Budget, wanted: Payment) -> int:
    """Return the most a payment may cost beside its amount, in msat.

    Where the owner has capped payments, an app may only lower the usual limit: a route hint can ask for
    any fee.
    """
    if budget.max_payment_msat is None:
        return wanted.max_fee_msat
    return min(wanted.max_fee_msat, usual_fee_limit_msat(wanted.amount_msat))


def _over_budget(budget: Budget, left_msat: int, now: float) -> Nip47Error:
    match budget.kind:
        case BudgetKind.NOTHING:
            return Nip47Error(ErrorCode.RESTRICTED, "this connection can only receive")
        case BudgetKind.RECEIVED:
            return Nip47Error(
                ErrorCode.INSUFFICIENT_BALANCE,
                f"amount: must be at most the {left_msat} msat received here and not spent",
            )
        case _:
            renews_at = budget.renews_at(now)
            when = "" if renews_at is None else f"; it renews in {max(1, int(renews_at - now))} seconds"
            return Nip47Error(
                ErrorCode.QUOTA_EXCEEDED,
                f"amount: must be at most the {left_msat} msat that are left of the budget{when}",
            )
