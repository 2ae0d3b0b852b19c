"""The NIP-47 transaction object, made from invoices and payments of lightningd."""

from typing import Any

from nwc.cln import bolt11, bolt12
from nwc.cln.history import invoice_created_at
from nwc.cln.node import Json
from nwc.nip47.response import MAX_PLAINTEXT_BYTES
from nwc.nostr.encoding import to_json
from nwc.wallet.hold_record import HoldRecord, HoldRecordState
from nwc.wallet.invoice_record import InvoiceRecord
from nwc.wallet.spending.payment import Payment, PaymentRecord

Transaction = dict[str, Any]

# Descriptions of invoices that other programs made have no limit; LNURL servers put images into them.
MAX_DESCRIPTION_BYTES = 32_768
_CUT_DESCRIPTION_BYTES = 5000  # each takes up to six bytes of JSON
# Invoice strings have no limit either; ours have some hundred characters. A longer one than this is left
# out of a transaction that would otherwise not fit into an answer.
_LONG_INVOICE = 2500
_MAX_TRANSACTION_BYTES = MAX_PLAINTEXT_BYTES - 1000


def incoming_transaction(invoice: Json, record: InvoiceRecord, now: float) -> Transaction:
    """Return the NIP-47 transaction of an invoice of this node.

    Args:
        invoice: an entry of `listinvoices`; BOLT11 or BOLT12.
        record: what the plugin stores about it.
        now: Unix seconds.

    """
    paid = invoice["status"] == "paid"
    amount_msat = invoice.get("amount_received_msat") if paid else invoice.get("amount_msat")
    description_hash = _description_hash(invoice)
    transaction: Transaction = {
        "type": "incoming",
        "state": _incoming_state(invoice, now),
        "invoice": invoice.get("bolt11") or invoice.get("bolt12") or "",
        "payment_hash": invoice["payment_hash"],
        "amount": int(amount_msat or 0),
        "fees_paid": 0,
        "created_at": invoice_created_at(invoice),
        "expires_at": invoice["expires_at"],
        "metadata": record.metadata or {},
    }
    description = _bounded(record.description or invoice.get("description") or "")
    if description or description_hash is None:
        transaction["description"] = description
    if description_hash is not None:
        transaction["description_hash"] = description_hash
    if paid:
        transaction["preimage"] = invoice["payment_preimage"]
        transaction["settled_at"] = invoice["paid_at"]
    return _fitted(transaction)


def _bounded(description: str) -> str:
    """Return a description, cut if no answer could hold it."""
    if _size(description) - 2 <= MAX_DESCRIPTION_BYTES:
        return description
    return description.encode()[:_CUT_DESCRIPTION_BYTES].decode(errors="ignore")


def _fitted(transaction: Transaction) -> Transaction:
    """Return a transaction, without its invoice if no answer could hold it with the rest."""
    if len(transaction["invoice"]) > _LONG_INVOICE and _size(transaction) > _MAX_TRANSACTION_BYTES:
        return transaction | {"invoice": ""}
    return transaction


def _size(value: object) -> int:
    return len(to_json(value).encode())


def _incoming_state(invoice: Json, now: float) -> str:
    if invoice["status"] == "paid":
        return "settled"
    # lightningd marks an invoice as expired a little after it has expired.
    expired = invoice["status"] == "expired" or invoice["expires_at"] <= now
    return "expired" if expired else "pending"


def _description_hash(invoice: Json) -> str | None:
    try:
        return bolt11.description_hash(invoice["bolt11"]) if "bolt11" in invoice else None
    except ValueError:  # made by another program, and longer than MAX_INVOICE_LENGTH
        return None


_HOLD_STATES = {
    HoldRecordState.UNPAID: "pending",
    HoldRecordState.ACCEPTED: "accepted",
    HoldRecordState.SETTLED: "settled",
    HoldRecordState.CANCELLED: "failed",
    HoldRecordState.EXPIRED: "expired",
}


def hold_transaction(record: HoldRecord, now: float) -> Transaction:
    """Return the NIP-47 transaction of a hold invoice (NWC-03).

    Args:
        record: what the plugin stores about it.
        now: Unix seconds.

    """
    is_settled = record.state is HoldRecordState.SETTLED
    is_late = record.state is HoldRecordState.UNPAID and record.expires_at <= now
    transaction: Transaction = {
        "type": "incoming",
        "state": "expired" if is_late else _HOLD_STATES[record.state],
        "invoice": record.invoice,
        "payment_hash": record.payment_hash,
        "amount": record.received_msat if is_settled else record.amount_msat,
        "fees_paid": 0,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "metadata": record.metadata or {},
    }
    description_hash = bolt11.description_hash(record.invoice)
    if record.description or description_hash is None:
        transaction["description"] = record.description
    if description_hash is not None:
        transaction["description_hash"] = description_hash
    if record.state is HoldRecordState.ACCEPTED:
        transaction["settle_deadline"] = record.settle_deadline
    if is_settled:
        transaction |= {"preimage": record.preimage, "settled_at": record.settled_at}
    return _fitted(transaction)


_OUTGOING_STATES = {"complete": "settled", "pending": "pending", "failed": "failed"}


def merged_payment(parts: list[Json]) -> Json:
    """Return one object for all parts and attempts of a payment.

    `state` is "complete" if any part is complete, else "pending" if any is pending, else "failed".

    Args:
        parts: all entries of `listsendpays` for a payment hash, at least one.

    """
    parts = sorted(parts, key=_index)
    by_state = {state: [p for p in parts if p["status"] == state] for state in _OUTGOING_STATES}
    complete = by_state["complete"]
    merged: Json = {
        "payment_hash": parts[0]["payment_hash"],
        "state": next(state for state, found in by_state.items() if found),
        "created_at": parts[0]["created_at"],
        "completed_at": min((p["completed_at"] for p in complete if "completed_at" in p), default=None),
        "complete_msat": _sum(complete, "amount_msat"),
        "complete_sent_msat": _sum(complete, "amount_sent_msat"),
        "pending_msat": _sum(by_state["pending"], "amount_msat"),
        "failed_msat": max((p["amount_msat"] for p in parts if "amount_msat" in p), default=None),
    }
    for field in ("payment_preimage", "bolt11", "bolt12", "description"):
        merged[field] = next((part[field] for part in parts if field in part), None)
    return {name: value for name, value in merged.items() if value is not None}


def _index(part: Json) -> int:
    index: int = part.get("created_index") or part["id"]
    return index


def _sum(parts: list[Json], field: str) -> int | None:
    known = [int(part[field]) for part in parts if field in part]
    return sum(known) if known else None


def outgoing_transaction(payment: Json, metadata: dict[str, Any] | None = None) -> Transaction:
    """Return the NIP-47 transaction of a payment of this node.

    Args:
        payment: from `merged_payment`.
        metadata: from the request, if a connection made the payment.

    """
    state = _OUTGOING_STATES[payment["state"]]
    transaction: Transaction = {
        "type": "outgoing",
        "state": state,
        "invoice": payment.get("bolt11") or payment.get("bolt12") or "",
        "payment_hash": payment["payment_hash"],
        "amount": _amount_msat(payment, state),
        "fees_paid": _fees_paid(payment) if state == "settled" else 0,
        "created_at": payment["created_at"],
        "metadata": metadata or {},
    }
    transaction |= _description_fields(payment)
    if state == "settled":
        transaction["preimage"] = payment["payment_preimage"]
        transaction["settled_at"] = payment.get("completed_at", payment["created_at"])
    return _fitted(transaction)


def pending_transaction(payment: Payment) -> Transaction:
    """Return the NIP-47 transaction of a connection's payment that is in flight."""
    invoice = payment.invoice or ""
    transaction: Transaction = {
        "type": "outgoing",
        "state": "pending",
        "invoice": invoice,
        "payment_hash": payment.payment_hash or "",
        "amount": payment.amount_msat,
        "fees_paid": 0,
        "created_at": payment.created_at,
        "metadata": payment.metadata or {},
    }
    fields = _fields_of_invoice(invoice) if invoice else {}
    fields["description"] = _bounded(fields.get("description") or "")
    return _fitted(transaction | fields)


def ended_transaction(record: PaymentRecord) -> Transaction:
    """Return the NIP-47 transaction of a connection's payment that has ended."""
    transaction = pending_transaction(record.payment)
    transaction |= {"state": str(record.state), "fees_paid": record.fee_msat}
    transaction["amount"] = record.amount_msat
    if record.is_settled:
        transaction |= {"preimage": record.preimage, "settled_at": record.ended_at}
    return _fitted(transaction)


def _amount_msat(payment: Json, state: str) -> int:
    if state == "settled":
        # A part that an older lightningd stored may lack the amount without fees.
        return _arrived_msat(payment) or int(payment.get("complete_sent_msat") or 0)
    return _invoice_amount_msat(payment) or int(
        payment.get("pending_msat") or payment.get("failed_msat") or 0
    )


def _arrived_msat(payment: Json) -> int | None:
    """Return what the payee got; None if lightningd does not say so."""
    complete_msat: int | None = payment.get("complete_msat")
    if complete_msat is None or "bolt12" not in payment:
        return complete_msat
    # With `pay`, the amount of a part includes the fee of the blinded path.
    return min(complete_msat, _invoice_amount_msat(payment) or complete_msat)


def _invoice_amount_msat(payment: Json) -> int | None:
    try:
        if "bolt12" in payment:
            return bolt12.summary(payment["bolt12"]).amount_msat
        return bolt11.amount_msat(payment["bolt11"]) if "bolt11" in payment else None
    except ValueError:  # `sendpay` stores whatever it is given
        return None


def _fees_paid(payment: Json) -> int:
    sent, arrived = payment.get("complete_sent_msat"), _arrived_msat(payment)
    return max(0, int(sent) - int(arrived)) if sent is not None and arrived is not None else 0


def _description_fields(payment: Json) -> Transaction:
    invoice = payment.get("bolt11") or payment.get("bolt12")
    fields = _fields_of_invoice(invoice) if invoice else {}
    fields["description"] = _bounded(payment.get("description") or fields.get("description") or "")
    return fields


def _fields_of_invoice(invoice: str) -> Transaction:
    if invoice.startswith(bolt12.PREFIX):
        return _fields_of_bolt12(invoice)
    try:
        fields = {
            "description": bolt11.description(invoice),
            "description_hash": bolt11.description_hash(invoice),
            "expires_at": bolt11.timestamp(invoice) + bolt11.expiry(invoice),
        }
    except ValueError:  # `sendpay` stores whatever it is given
        return {}
    return {name: value for name, value in fields.items() if value is not None}


def _fields_of_bolt12(invoice: str) -> Transaction:
    try:
        summary = bolt12.summary(invoice)
    except ValueError:
        return {}
    return {"description": summary.description, "expires_at": summary.expires_at}
