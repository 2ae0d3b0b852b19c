"""The transaction object of NIP-47, from an invoice as lightningd shows it."""

from typing import Any

from nwc.cln import bolt11
from nwc.cln.node import Json
from nwc.wallet.invoice_record import InvoiceRecord

_STATES = {"unpaid": "pending", "paid": "settled", "expired": "expired"}


def incoming_transaction(invoice: Json, record: InvoiceRecord) -> dict[str, Any]:
    """Return the NIP-47 transaction of a BOLT11 invoice of ours.

    Args:
        invoice: an entry of `listinvoices`.
        record: what the plugin keeps beside it.

    """
    description_hash = bolt11.description_hash(invoice["bolt11"])
    paid = invoice["status"] == "paid"
    amount_msat = invoice.get("amount_received_msat") if paid else invoice.get("amount_msat")
    transaction: dict[str, Any] = {
        "type": "incoming",
        "state": _STATES[invoice["status"]],
        "invoice": invoice["bolt11"],
        "payment_hash": invoice["payment_hash"],
        "amount": int(amount_msat or 0),
        "fees_paid": 0,
        "created_at": bolt11.timestamp(invoice["bolt11"]),
        "expires_at": invoice["expires_at"],
        "metadata": record.metadata or {},
    }
    description = record.description or invoice.get("description") or ""
    if description or description_hash is None:
        transaction["description"] = description
    if description_hash is not None:
        transaction["description_hash"] = description_hash
    if paid:
        transaction["preimage"] = invoice["payment_preimage"]
        transaction["settled_at"] = invoice["paid_at"]
    return transaction
