"""make_invoice (NIP-47): make a BOLT11 invoice, exactly once for each request event.

The invoice's label contains the id of the request event. For a second copy of a request (from another
relay, replayed, after a crash) lightningd reports a duplicate label, and the copy gets the first one's
answer.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

from nwc.cln import bolt11
from nwc.cln.errors import NodeUnavailableError, RpcCallError, RpcCode
from nwc.cln.node import Json, Node
from nwc.nip47 import params
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nostr.encoding import to_json
from nwc.options import MAX_INVOICE_EXPIRY_S
from nwc.wallet.context import Call, Wallet
from nwc.wallet.invoice_record import InvoiceRecord
from nwc.wallet.labels import request_label
from nwc.wallet.transaction import MAX_DESCRIPTION_BYTES, Transaction, incoming_transaction

# Description and metadata together, as JSON: the answer must fit into one event.
MAX_TEXT_BYTES = 36_000
# lightningd stores this much of a longer description; the invoice contains the hash of the whole.
MAX_KEPT_DESCRIPTION_BYTES = 4096


@dataclass(frozen=True, slots=True)
class WantedInvoice:
    """The checked parameters of make_invoice.

    Attributes:
        amount_msat: 0 lets the payer choose.
        description: the client's text, or "".
        description_hash: the hash that the invoice must contain; None if it contains the description.
        expiry: seconds.
        metadata: the client's object, None if absent or dropped.

    """

    amount_msat: int
    description: str
    description_hash: bytes | None
    expiry: int
    metadata: dict[str, Any] | None

    @property
    def has_bare_hash(self) -> bool:
        """True if lightningd cannot compute the hash from the description that it stores."""
        description = self.description.encode()
        return self.description_hash is not None and (
            len(description) > MAX_KEPT_DESCRIPTION_BYTES
            or hashlib.sha256(description).digest() != self.description_hash
        )

    def record(self) -> InvoiceRecord:
        """Return what lightningd's record of the invoice cannot hold."""
        too_long = self.has_bare_hash and len(self.description.encode()) > bolt11.MAX_DESCRIPTION_LENGTH
        kept = kept_description(self.description)
        return InvoiceRecord(self.metadata, kept if too_long else None)


def kept_description(description: str) -> str:
    """Return a description as far as it is stored."""
    return _cut(description, MAX_KEPT_DESCRIPTION_BYTES)


def parse_params(given: params.Params, default_expiry: int) -> WantedInvoice:
    """Return the checked parameters of make_invoice.

    Every number is bounded: lightningd aborts on some, so only ranges that were tried with it pass.

    Raises:
        Nip47Error: OTHER, with the field, its rule and the value that was given.

    """
    amount_msat = params.required_integer(
        given, "amount", minimum=0, maximum=bolt11.MAX_AMOUNT_MSAT, unit="msat"
    )
    description = params.text(given, "description", max_bytes=MAX_DESCRIPTION_BYTES) or ""
    description_bytes = _check_length_as_json(description)
    description_hash = params.hex_bytes(given, "description_hash", size=32)
    expiry = params.integer(given, "expiry", minimum=0, maximum=MAX_INVOICE_EXPIRY_S, unit="seconds")
    metadata = params.json_object(given, "metadata", max_characters=params.MAX_METADATA_CHARACTERS)
    if metadata is not None and description_bytes + _json_bytes(metadata) > MAX_TEXT_BYTES:
        metadata = None
    if description_hash is None and len(description.encode()) > bolt11.MAX_DESCRIPTION_LENGTH:
        description_hash = hashlib.sha256(description.encode()).digest()
    return WantedInvoice(amount_msat, description, description_hash, expiry or default_expiry, metadata)


def _check_length_as_json(description: str) -> int:
    """Return the description's size as JSON, in bytes; raise Nip47Error if an answer cannot hold it.

    Some characters, such as a line break, take two bytes in JSON.
    """
    size = _json_bytes(description) - 2
    if size > MAX_DESCRIPTION_BYTES:
        raise Nip47Error(
            ErrorCode.OTHER,
            f"description: must be at most {MAX_DESCRIPTION_BYTES} bytes as JSON; got {size}",
        )
    return size


def _json_bytes(value: object) -> int:
    return len(to_json(value).encode())


async def make_invoice(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Make an invoice and return it as a NIP-47 transaction.

    Raises:
        Nip47Error: OTHER for an invalid parameter.
        NodeError: lightningd refused or is unavailable.

    """
    return await issue(wallet, call, parse_params(call.params, wallet.invoice_expiry))


async def issue(wallet: Wallet, call: Call, wanted: WantedInvoice) -> Transaction:
    """Make the invoice of a request, exactly once, and return it as a NIP-47 transaction.

    Raises:
        NodeError: lightningd refused or is unavailable.

    """
    label = request_label(call.connection.id, call.request_id)
    async with wallet.invoice_limits[call.connection.id]:
        kept = await wallet.records.keep(call.connection, call.request_id, wanted.record())
        try:
            made = await _make(wallet, wanted, label)
        except RpcCallError as error:
            if error.code != RpcCode.INVOICE_LABEL_ALREADY_EXISTS:
                raise
            made = await _existing_invoice(wallet.node, label)
    # The answer has the whole description, even if lightningd stores only a part.
    shown = InvoiceRecord(kept.metadata, wanted.description or None)
    return incoming_transaction(made, shown, time.time())


async def _make(wallet: Wallet, wanted: WantedInvoice, label: str) -> Json:
    if wanted.has_bare_hash:
        return await _make_with_bare_hash(wallet, wanted, label)
    made = await wallet.node.invoice(
        amount_msat=wanted.amount_msat,
        label=label,
        description=wanted.description,
        expiry=wanted.expiry,
        deschashonly=wanted.description_hash is not None,
    )
    # `invoice` returns fewer fields than `listinvoices`; the others are as in the request.
    return {
        **made,
        "status": "unpaid",
        "description": wanted.description,
        "amount_msat": wanted.amount_msat,
    }


async def _existing_invoice(node: Node, label: str) -> Json:
    made = await node.invoice_by_label(label)
    if made is None:
        raise NodeUnavailableError("the invoice was deleted while its request was repeated")
    return made


async def _make_with_bare_hash(wallet: Wallet, wanted: WantedInvoice, label: str) -> Json:
    """Make an invoice with a description hash whose description lightningd does not have.

    No RPC takes a bare hash, but `createinvoice` signs an invoice string that contains one.
    """
    template = await wallet.templates.get(wanted.amount_msat)
    # Never used twice: lightningd aborts if `createinvoice` gets a payment hash that it already has.
    preimage = secrets.token_bytes(32)
    invoice = bolt11.renewed(
        template,
        preimage,
        amount_msat=wanted.amount_msat,
        created_at=int(time.time()),
        expiry=wanted.expiry,
    )
    text = _cut(wanted.description, bolt11.MAX_DESCRIPTION_LENGTH)
    assert wanted.description_hash is not None  # noqa: S101
    unsigned = bolt11.with_description_hash(invoice, wanted.description_hash, text)
    return await wallet.node.create_invoice(unsigned.encode(), label, preimage.hex())


def _cut(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore")
