"""The transaction object of NIP-47, from invoices and payments as lightningd shows them."""

import json
from typing import Any

from nwc.cln import bolt11
from nwc.cln.history import invoice_created_at
from nwc.cln.node import Json
from nwc.wallet.invoice_record import InvoiceRecord

Transaction = dict[str, Any]

# Descriptions of invoices made elsewhere have no limit; LNURL servers put images into them.
_MAX_DESCRIPTION_BYTES = 32_768
_CUT_DESCRIPTION_BYTES = 5000  # six bytes of JSON each at most


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
    return transaction


def _bounded(description: str) -> str:
    """Cut a description that no answer could hold."""
    if len(json.dumps(description, ensure_ascii=False).encode()) - 2 <= _MAX_DESCRIPTION_BYTES:
        return description
    return description.encode()[:_CUT_DESCRIPTION_BYTES].decode(errors="ignore")


def _incoming_state(invoice: Json, now: float) -> str:
    if invoice["status"] == "paid":
        return "settled"
    # Lightningd marks an invoice as expired a little after the time.
    expired = invoice["status"] == "expired" or invoice["expires_at"] <= now
    return "expired" if expired else "pending"


def _description_hash(invoice: Json) -> str | None:
    return bolt11.description_hash(invoice["bolt11"]) if "bolt11" in invoice else None


_OUTGOING_STATES = {2: "settled", 1: "pending", 0: "failed"}


def outgoing_transaction(payment: Json) -> Transaction:
    """Return the NIP-47 transaction of a payment of ours.

    Args:
        payment: a row of History.payments: all parts and attempts for one payment hash.

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
        "metadata": {},
    }
    transaction |= _described(payment)
    if state == "settled":
        transaction["preimage"] = payment["payment_preimage"]
        transaction["settled_at"] = payment.get("completed_at", payment["created_at"])
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
