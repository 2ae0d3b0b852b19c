"""The transaction object of NIP-47, from invoices and payments as lightningd shows them."""

from typing import Any

from nwc.cln import bolt11
from nwc.cln.history import invoice_created_at
from nwc.cln.node import Json
from nwc.nip47.response import MAX_PLAINTEXT_BYTES
from nwc.nostr.encoding import to_json
from nwc.wallet.invoice_record import InvoiceRecord
from nwc.wallet.spending.payment import Payment, PaymentRecord

Transaction = dict[str, Any]

# Descriptions of invoices made elsewhere have no limit; LNURL servers put images into them.
MAX_DESCRIPTION_BYTES = 32_768
_CUT_DESCRIPTION_BYTES = 5000  # six bytes of JSON each at most
# Nor have invoice strings. Ours have some hundred; what is longer than this is left out where it would
# not fit into an answer with the rest of the row.
_LONG_INVOICE = 2500
_MAX_TRANSACTION_BYTES = MAX_PLAINTEXT_BYTES - 1000


def incoming_transaction(invoice: Json, record: InvoiceRecord, now: float) -> Transaction:
    """Return the NIP-47 transaction of an invoice of ours.

    Args:
        invoice: an entry of `listinvoices`; BOLT11 or BOLT12.
        record: what the plugin keeps beside it.
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
    return _that_fits(transaction)


def _bounded(description: str) -> str:
    """Cut a description that no answer could hold."""
    if _size(description) - 2 <= MAX_DESCRIPTION_BYTES:
        return description
    return description.encode()[:_CUT_DESCRIPTION_BYTES].decode(errors="ignore")


def _that_fits(transaction: Transaction) -> Transaction:
    """Leave out an invoice string that no answer could hold: the rest is worth showing."""
    if len(transaction["invoice"]) > _LONG_INVOICE and _size(transaction) > _MAX_TRANSACTION_BYTES:
        return transaction | {"invoice": ""}
    return transaction


def _size(value: object) -> int:
    return len(to_json(value).encode())


def _incoming_state(invoice: Json, now: float) -> str:
    if invoice["status"] == "paid":
        return "settled"
    # Lightningd marks an invoice as expired a little after the time.
    expired = invoice["status"] == "expired" or invoice["expires_at"] <= now
    return "expired" if expired else "pending"


def _description_hash(invoice: Json) -> str | None:
    try:
        return bolt11.description_hash(invoice["bolt11"]) if "bolt11" in invoice else None
    except ValueError:  # one made elsewhere, longer than we read
        return None


_OUTGOING_STATES = {"complete": "settled", "pending": "pending", "failed": "failed"}


def merged_payment(parts: list[Json]) -> Json:
    """Bring all parts and attempts of one payment together.

    What is complete counts, else what is pending; `state` is the status of these.

    Args:
        parts: all entries of `listsendpays` for a payment hash, one at least.

    """
    parts = sorted(parts, key=_number)
    of_state = {state: [p for p in parts if p["status"] == state] for state in _OUTGOING_STATES}
    complete = of_state["complete"]
    merged: Json = {
        "payment_hash": parts[0]["payment_hash"],
        "state": next(state for state, having in of_state.items() if having),
        "created_at": parts[0]["created_at"],
        "completed_at": min((p["completed_at"] for p in complete if "completed_at" in p), default=None),
        "complete_msat": _sum(complete, "amount_msat"),
        "complete_sent_msat": _sum(complete, "amount_sent_msat"),
        "pending_msat": _sum(of_state["pending"], "amount_msat"),
        "failed_msat": max((p["amount_msat"] for p in parts if "amount_msat" in p), default=None),
    }
    for field in ("payment_preimage", "bolt11", "bolt12", "description"):
        merged[field] = next((part[field] for part in parts if field in part), None)
    return {name: value for name, value in merged.items() if value is not None}


def _number(part: Json) -> int:
    number: int = part.get("created_index") or part["id"]
    return number


def _sum(parts: list[Json], field: str) -> int | None:
    known = [int(part[field]) for part in parts if field in part]
    return sum(known) if known else None


def outgoing_transaction(payment: Json, metadata: dict[str, Any] | None = None) -> Transaction:
    """Return the NIP-47 transaction of a payment of ours.

    Args:
        payment: from `merged_payment`.
        metadata: of the connection that has made it, if one has.

    """
    state = _OUTGOING_STATES[payment["state"]]
    transaction: Transaction = {
        "type": "outgoing",
        "state": state,
        "invoice": payment.get("bolt11") or payment.get("bolt12") or "",
        "payment_hash": payment["payment_hash"],
        "amount": _amount_sent(payment, state),
        "fees_paid": _fees_paid(payment) if state == "settled" else 0,
        "created_at": payment["created_at"],
        "metadata": metadata or {},
    }
    transaction |= _described(payment)
    if state == "settled":
        transaction["preimage"] = payment["payment_preimage"]
        transaction["settled_at"] = payment.get("completed_at", payment["created_at"])
    return _that_fits(transaction)


def pending_transaction(payment: Payment) -> Transaction:
    """Return the NIP-47 transaction of a connection's payment that is under way."""
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
    described = _described_by_invoice(invoice) if invoice else {}
    described["description"] = _bounded(described.get("description") or "")
    return transaction | described


def ended_transaction(record: PaymentRecord) -> Transaction:
    """Return the NIP-47 transaction of a connection's payment that has ended."""
    transaction = pending_transaction(record.payment)
    transaction |= {"state": str(record.state), "fees_paid": record.fee_msat}
    transaction["amount"] = record.amount_msat
    if record.is_settled:
        transaction |= {"preimage": record.preimage, "settled_at": record.ended_at}
    return transaction


def _amount_sent(payment: Json, state: str) -> int:
    if state == "settled":
        # An older lightningd may not know the amount without fees.
        return int(payment.get("complete_msat") or payment.get("complete_sent_msat") or 0)
    return _amount_asked(payment) or int(payment.get("pending_msat") or payment.get("failed_msat") or 0)


def _amount_asked(payment: Json) -> int | None:
    try:
        return bolt11.amount_msat(payment["bolt11"]) if "bolt11" in payment else None
    except ValueError:  # `sendpay` stores whatever it is given
        return None


def _fees_paid(payment: Json) -> int:
    sent, arrived = payment.get("complete_sent_msat"), payment.get("complete_msat")
    return max(0, int(sent) - int(arrived)) if sent is not None and arrived is not None else 0


def _described(payment: Json) -> Transaction:
    described = _described_by_invoice(payment["bolt11"]) if "bolt11" in payment else {}
    described["description"] = _bounded(payment.get("description") or described.get("description") or "")
    return described


def _described_by_invoice(invoice: str) -> Transaction:
    try:
        described = {
            "description": bolt11.description(invoice),
            "description_hash": bolt11.description_hash(invoice),
            "expires_at": bolt11.timestamp(invoice) + bolt11.expiry(invoice),
        }
    except ValueError:  # `sendpay` stores whatever it is given
        return {}
    return {name: value for name, value in described.items() if value is not None}
