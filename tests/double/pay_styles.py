"""The answers of xpay, pay, xkeysend and keysend: the fields of a success, the codes of a failure."""

import sqlite3
from collections.abc import Sequence

from tests.double.jsonio import Json
from tests.double.params import RpcError
from tests.double.paying import (
    ALREADY_PAID,
    ALREADY_PAID_BEFORE_26_06,
    DESTINATION_PERM_FAIL,
    ROUTE_NOT_FOUND,
    ROUTE_TOO_EXPENSIVE,
    UNKNOWN_DESTINATION,
    Payment,
)

STOPPED_ERROR = 210
NO_MORE_ROUTES = "Ran out of routes to try after 1 attempt: see `paystatus`"


def _sums(payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
    preimage = next(row["payment_preimage"] for row in rows if row["payment_preimage"])
    sent = sum(row["amount_sent_msat"] for row in rows if row["status"] != "failed")
    return {
        "payment_preimage": preimage.hex(),
        "amount_msat": payment.amount_msat,
        "amount_sent_msat": sent,
    }


class Xpay:
    """The answers of xpay and xkeysend."""

    numbers_single_part = True
    looks_for_complete_first = False
    settles_own_at_once = False

    def success(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Return the sums and the numbers of parts; a pending part counts as successful."""
        failed = sum(row["status"] == "failed" for row in rows)
        counts = {"failed_parts": failed, "successful_parts": len(rows) - failed}
        return {**_sums(payment, rows), **counts}

    def already_paid(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Raise the error of a second payment."""
        raise RpcError(ALREADY_PAID, "Already paid this invoice successfully")

    def failure(self, payment: Payment, error: RpcError, *, is_pending: bool) -> RpcError:
        """Return the error unchanged: it does not say whether a part is pending."""
        return error


class OldXpay(Xpay):
    """The answers of xpay before 26.06."""

    def already_paid(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Raise the error of a second payment."""
        raise RpcError(ALREADY_PAID_BEFORE_26_06, "Already paid this invoice successfully")

    def failure(self, payment: Payment, error: RpcError, *, is_pending: bool) -> RpcError:
        """Return ROUTE_NOT_FOUND also for a route that is too expensive."""
        is_costly = error.code == ROUTE_TOO_EXPENSIVE
        return RpcError(ROUTE_NOT_FOUND, str(error)) if is_costly else error


class Pay(Xpay):
    """The answers of `pay` when xpay handles it (xpay-handle-pay)."""

    def success(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Return the fields of the old `pay`."""
        return {
            **_sums(payment, rows),
            "parts": len(rows),
            "destination": payment.destination.hex(),
            "payment_hash": payment.payment_hash.hex(),
            "status": "complete",
            "created_at": payment.started_at,
        }

    def already_paid(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Return the earlier payment; here created_at is in whole seconds."""
        amount = sum(row["amount_msat"] for row in rows)
        before = {"amount_msat": amount, "created_at": rows[0]["created_at"]}
        return {**self.success(payment, rows), **before}


class OldPay(Pay):
    """The answers of the old `pay`, which lightningd does not hand to xpay."""

    numbers_single_part = False
    looks_for_complete_first = True
    settles_own_at_once = True

    def failure(self, payment: Payment, error: RpcError, *, is_pending: bool) -> RpcError:
        """Return an error that also says whether a part is pending."""
        status = "pending" if is_pending else "failed"
        if error.code == DESTINATION_PERM_FAIL:
            message = "failed: WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS (reply from remote)"
            return _ErrorWithFields(error.code, message, {"status": status})
        attempts = {"attempts": [_attempt(payment, status, _reason(payment, error))]}
        if error.code == ROUTE_NOT_FOUND and UNKNOWN_DESTINATION in str(error):
            message = (
                f"Destination {payment.destination.hex()} is not reachable directly and all routehints"
                " were unusable."
            )
            return _ErrorWithFields(0, message, attempts)
        if error.code in (ROUTE_NOT_FOUND, ROUTE_TOO_EXPENSIVE):
            return _ErrorWithFields(STOPPED_ERROR, NO_MORE_ROUTES, attempts)
        return _ErrorWithFields(error.code, str(error), attempts)


class Keysend(Pay):
    """The answers of the old keysend."""

    numbers_single_part = False

    def failure(self, payment: Payment, error: RpcError, *, is_pending: bool) -> RpcError:
        """Return one of two errors: the payee does not support keysend, or there are no more routes."""
        status = "pending" if is_pending else "failed"
        if error.code == DESTINATION_PERM_FAIL:
            message = (
                f"Recipient {payment.destination.hex()} reported an invalid payload, this usually"
                " means they don't support keysend."
            )
            attempts = [_attempt(payment, status, message)]
            return _ErrorWithFields(0, message, {"attempts": attempts})
        attempts = [_attempt(payment, status, _reason(payment, error))]
        return _ErrorWithFields(STOPPED_ERROR, NO_MORE_ROUTES, {"attempts": attempts})


class _ErrorWithFields(RpcError):
    """An error with fields beside code and message that are not in `data`."""

    def __init__(self, code: int, message: str, fields: Json) -> None:
        super().__init__(code, message)
        self._fields = fields

    def as_json(self) -> Json:
        """Return the `error` member of the reply."""
        return {**super().as_json(), **self._fields}


def _reason(payment: Payment, error: RpcError) -> str:
    """Return the `failreason` of an attempt; for a route that is too expensive, the fee is made up."""
    if error.code != ROUTE_TOO_EXPENSIVE:
        return str(error)
    limit_msat = payment.maxfee_msat
    return f"Fee exceeds our fee budget: {limit_msat + 1}msat > {limit_msat}msat, discarding route"


def _attempt(payment: Payment, status: str, reason: str) -> Json:
    amount = payment.amount_msat
    return {"status": status, "failreason": reason, "partid": 0, "amount_msat": amount}
