"""lookup_invoice (NIP-47): one invoice or payment, by payment hash or invoice."""

import time
from typing import Any

from nwc.cln import bolt11, bolt12
from nwc.cln.node import Json
from nwc.nip47 import params
from nwc.nip47.errors import ErrorCode, Nip47Error, refuse
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.context import Call, Wallet
from nwc.wallet.labels import connection_prefix
from nwc.wallet.transaction import (
    Transaction,
    ended_transaction,
    hold_transaction,
    incoming_transaction,
    merged_payment,
    outgoing_transaction,
    pending_transaction,
)


async def lookup_invoice(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return one transaction.

    An invoice that this connection may not see is looked up too and then reported as not found, so that
    neither the error nor its timing reveals whether it exists.

    Raises:
        Nip47Error: OTHER for invalid parameters; NOT_FOUND for an unknown payment hash, or one that this
            connection may not see.
        NodeError: lightningd is unavailable.

    """
    payment_hash = wanted_payment_hash(call.params)
    invoice = await wallet.node.invoice_by_payment_hash(payment_hash)
    if invoice is not None and may_see(call.connection, invoice):
        record = await wallet.records.find(invoice)
        return incoming_transaction(invoice, record, time.time())
    held = await wallet.hold_invoices.visible_to(call.connection, payment_hash)
    if held:
        return hold_transaction(held[0], time.time())
    if call.connection.view is View.NODE:
        parts = await wallet.node.payment_parts(payment_hash)
        if parts:
            metadata = await wallet.payments.metadata_of(payment_hash)
            return outgoing_transaction(merged_payment(parts), metadata)
    own = await _own_payment(wallet, call.connection, payment_hash)
    if own is not None:
        return own
    raise Nip47Error(ErrorCode.NOT_FOUND, "there is no such invoice or payment")


async def _own_payment(wallet: Wallet, connection: Connection, payment_hash: str) -> Transaction | None:
    """Return the connection's payment with this hash, even if lightningd does not know it (yet)."""
    in_flight = await wallet.in_flight.with_hash(connection.client_pubkey, payment_hash)
    if in_flight is not None:
        return pending_transaction(in_flight)
    await wallet.payments.records.ready(connection.id)
    entry = wallet.payments.records.with_hash(payment_hash, connection.id)
    record = await wallet.payments.records.get(connection.id, entry.request_id) if entry else None
    return ended_transaction(record) if record else None


def may_see(connection: Connection, invoice: Json) -> bool:
    """Return True if a connection may see an invoice."""
    if connection.view is View.NODE:
        return True
    label: str = invoice["label"]
    return label.startswith(connection_prefix(connection.id))


def wanted_payment_hash(given: params.Params) -> str:
    """Return the payment hash in the parameters, given as such or in an invoice.

    Raises:
        Nip47Error: OTHER if both are absent (an empty string counts as absent), one is malformed, or
            they differ.

    """
    by_hash = params.hex_bytes(given, "payment_hash", size=32)
    invoice = params.text(given, "invoice", max_bytes=bolt11.MAX_INVOICE_LENGTH)
    if by_hash is None and invoice is None:
        refuse("payment_hash: this or invoice must be given")
    if invoice is None:
        return bytes(by_hash or b"").hex()
    by_invoice = _payment_hash(invoice)
    if by_hash is not None and by_hash.hex() != by_invoice:
        refuse("payment_hash: must be the invoice's if both are given")
    return by_invoice


def _payment_hash(invoice: str) -> str:
    text = invoice.strip().lower().removeprefix("lightning:")
    try:
        if text.startswith(bolt12.PREFIX):
            return bolt12.summary(text).payment_hash
        return bolt11.payment_hash(text)
    except ValueError:
        refuse("invoice: must be a BOLT11 invoice or a BOLT12 invoice")
