"""How xpay, pay, xkeysend and keysend answer: the fields of a success, the codes of a failure."""

import sqlite3
from collections.abc import Sequence

from tests.double.jsonio import Json
from tests.double.params import RpcError
from tests.double.paying import ALREADY_PAID, DESTINATION_PERM_FAIL, Payment

STOPPED_ERROR = 210


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

    def success(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Count the parts; those still pending are taken for successful."""
        failed = sum(row["status"] == "failed" for row in rows)
        counts = {"failed_parts": failed, "successful_parts": len(rows) - failed}
        return {**_sums(payment, rows), **counts}

    def already_paid(self, payment: Payment, rows: Sequence[sqlite3.Row]) -> Json:
        """Refuse to pay again."""
        raise RpcError(ALREADY_PAID, "Already paid this invoice successfully")

    def failure(self, payment: Payment, error: RpcError) -> RpcError:
        """Leave the error as it is."""
        return error


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


class Keysend(Pay):
    """The old keysend."""

    def failure(self, payment: Payment, error: RpcError) -> RpcError:
        """Put everything down to routes that ran out, or to a payee that does not understand."""
        if error.code == DESTINATION_PERM_FAIL:
            message = (
                f"Recipient {payment.destination.hex()} reported an invalid payload, this usually"
                " means they don't support keysend."
            )
            return _StoppedError(0, message, _attempt(payment, message))
        message = "Ran out of routes to try after 1 attempt: see `paystatus`"
        return _StoppedError(STOPPED_ERROR, message, _attempt(payment, str(error)))


class _StoppedError(RpcError):
    """An error with the attempts beside code and message, not below `data`."""

    def __init__(self, code: int, message: str, attempt: Json) -> None:
        super().__init__(code, message)
        self._attempt = attempt

    def as_json(self) -> Json:
        """Give the `error` member of the reply."""
        return {**super().as_json(), "attempts": [self._attempt]}


def _attempt(payment: Payment, reason: str) -> Json:
    amount = payment.amount_msat
    return {"status": "failed", "failreason": reason, "partid": 0, "amount_msat": amount}
