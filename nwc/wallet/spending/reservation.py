"""Reserving a payment: the budget, its cap on a single payment, and the limit on the fee."""

from dataclasses import replace

from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.spending.ledger import BudgetExceededError, Ledger
from nwc.wallet.spending.payment import Payment, usual_fee_limit_msat


def reserve(ledger: Ledger, wanted: Payment, budget: Budget, now: float) -> Ledger:
    """Return the ledger with a reservation for a payment; its fee limit is lowered to what is left.

    Args:
        ledger: of the connection that pays.
        wanted: the payment.
        budget: of that connection, as it is now.
        now: Unix seconds.

    Raises:
        Nip47Error: QUOTA_EXCEEDED, INSUFFICIENT_BALANCE or RESTRICTED: the budget does not allow it.

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
    """Return the limit on the fee of a payment, in msat.

    If the owner has capped payments, an app can only lower the usual limit: a route hint can ask for any
    fee.
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
                f"amount: must be at most the {left_msat} msat that this connection has received "
                "and not spent",
            )
        case _:
            renews_at = budget.renews_at(now)
            when = "" if renews_at is None else f"; it renews in {max(1, int(renews_at - now))} seconds"
            return Nip47Error(
                ErrorCode.QUOTA_EXCEEDED,
                f"amount: exceeds the remaining budget of {left_msat} msat{when}",
            )
