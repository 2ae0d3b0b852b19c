"""The answers to requests to pay, made from payments that have ended or are pending."""

from typing import Any

from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.spending.payment import Payment, PaymentRecord


def answer_of(record: PaymentRecord) -> dict[str, Any]:
    """Return the result for the request that made a payment, whichever method that was.

    Raises:
        Nip47Error: it failed.

    """
    return pay_answer(record) if record.payment.method == "pay" else preimage_answer(record)


def preimage_answer(record: PaymentRecord) -> dict[str, Any]:
    """Return the result of pay_invoice and pay_keysend for a payment that has ended.

    Raises:
        Nip47Error: it failed.

    """
    _raise_if_failed(record)
    return {"preimage": record.preimage, "fees_paid": record.fee_msat}


def pay_answer(record: PaymentRecord) -> dict[str, Any]:
    """Return the result of `pay` for a payment that has ended.

    Raises:
        Nip47Error: it failed.

    """
    _raise_if_failed(record)
    answer = {
        **_common(record.payment),
        "state": "settled",
        "amount": record.amount_msat,
        "fees_paid": record.fee_msat,
        "preimage": record.preimage,
        "settled_at": record.ended_at,
    }
    return answer if record.payer_proof is None else {**answer, "payer_proof": record.payer_proof}


def pending_answer(payment: Payment) -> dict[str, Any]:
    """Return the result of `pay` for a payment in flight. Its fee is not known yet."""
    return {**_common(payment), "state": "pending", "amount": payment.amount_msat}


def _common(payment: Payment) -> dict[str, Any]:
    return {
        "transaction_id": payment.payment_hash,
        "payment_hash": payment.payment_hash,
        "instruction_type": "bolt12" if payment.is_bolt12 else "bolt11",
        "created_at": payment.created_at,
    }


def _raise_if_failed(record: PaymentRecord) -> None:
    if not record.is_settled:
        code = ErrorCode(record.error_code or ErrorCode.PAYMENT_FAILED)
        raise Nip47Error(code, record.error_message or "the payment failed")
