"""How xpay, pay, xkeysend and keysend answer: the fields of a success, the codes of a failure."""

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
RAN_OUT = "Ran out of routes to try after 1 attempt: see `paystatus`"


def _sums(payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
    preimage = next(row["payment_preimage"] for row in rows if row["payment_preimage"])
    sent = sum(row["amount_sent_msat"] for row in rows if row["status"] != "failed")
    return {
        "payment_preimage": preimage.hex(),
        "amount_msat": payment.amount_msat,
        "amount_sent_msat": sent,
    }


class Xpay:
    """xpay and xkeysend."""

    numbers_one_part = True
    asks_first = False

    def success(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Count the parts; those still pending are taken for successful."""
        failed = sum(row["status"] == "failed" for row in rows)
        counts = {"failed_parts": failed, "successful_parts": len(rows) - failed}
        return {**_sums(payment, rows), **counts}

    def already_paid(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Refuse to pay again."""
        raise RpcError(ALREADY_PAID, "Already paid this invoice successfully")

    def failure(self, payment: Payment, error: RpcError, *, is_pending: bool) -> RpcError:
        """Leave the error as it is: it does not say whether a part is pending."""
        return error


class OldXpay(Xpay):
    """xpay before 26.06."""

    def already_paid(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Refuse to pay again."""
        raise RpcError(ALREADY_PAID_BEFORE_26_06, "Already paid this invoice successfully")

    def failure(self, payment: Payment, error: RpcError, *, is_pending: bool) -> RpcError:
        """Have one code for all that has no route."""
        is_costly = error.code == ROUTE_TOO_EXPENSIVE
        return RpcError(ROUTE_NOT_FOUND, str(error)) if is_costly else error


class Pay(Xpay):
    """pay, which xpay has taken over (xpay-handle-pay)."""

    def success(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Give the fields of the old `pay`."""
        return {
            **_sums(payment, rows),
            "parts": len(rows),
            "destination": payment.destination.hex(),
            "payment_hash": payment.payment_hash.hex(),
            "status": "complete",
            "created_at": payment.started_at,
        }

    def already_paid(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Give the payment that was made before; only created_at is whole seconds then."""
        amount = sum(row["amount_msat"] for row in rows)
        before = {"amount_msat": amount, "created_at": rows[0]["created_at"]}
        return {**self.success(payment, rows), **before}


class OldPay(Pay):
    """The old `pay`, which lightningd does not hand to xpay."""

    numbers_one_part = False
    asks_first = True

    def failure(self, payment: Payment, error: RpcError, *, is_pending: bool) -> RpcError:
        """Say beside code and message whether a part is pending."""
        status = "pending" if is_pending else "failed"
        if error.code == DESTINATION_PERM_FAIL:
            message = "failed: WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS (reply from remote)"
            return _ErrorWithFields(error.code, message, {"status": status})
        attempts = {"attempts": [_attempt(payment, status, str(error))]}
        if error.code == ROUTE_NOT_FOUND and UNKNOWN_DESTINATION in str(error):
            message = (
                f"Destination {payment.destination.hex()} is not reachable directly and all routehints"
                " were unusable."
            )
            return _ErrorWithFields(0, message, attempts)
        if error.code in (ROUTE_NOT_FOUND, ROUTE_TOO_EXPENSIVE):
            return _ErrorWithFields(STOPPED_ERROR, RAN_OUT, attempts)
        return _ErrorWithFields(error.code, str(error), attempts)


class Keysend(Pay):
    """The old keysend."""

    numbers_one_part = False

    def failure(self, payment: Payment, error: RpcError, *, is_pending: bool) -> RpcError:
        """Put everything down to routes that ran out, or to a payee that does not understand."""
        status = "pending" if is_pending else "failed"
        if error.code == DESTINATION_PERM_FAIL:
            message = (
                f"Recipient {payment.destination.hex()} reported an invalid payload, this usually"
                " means they don't support keysend."
            )
            attempts = [_attempt(payment, status, message)]
            return _ErrorWithFields(0, message, {"attempts": attempts})
        attempts = [_attempt(payment, status, str(error))]
        return _ErrorWithFields(STOPPED_ERROR, RAN_OUT, {"attempts": attempts})


class _ErrorWithFields(RpcError):
    """An error with further fields beside code and message, not below `data`."""

    def __init__(self, code: int, message: str, fields: Json) -> None:
        super().__init__(code, message)
        self._fields = fields

    def as_json(self) -> Json:
        """Give the `error` member of the reply."""
        return {**super().as_json(), **self._fields}


def _attempt(payment: Payment, status: str, reason: str) -> Json:
    amount = payment.amount_msat
    return {"status": status, "failreason": reason, "partid": 0, "amount_msat": amount}
