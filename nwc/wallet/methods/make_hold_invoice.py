"""make_hold_invoice (NWC-03): an invoice whose payment is held until its app settles or cancels it.

The app has the preimage, so lightningd cannot make the invoice. It is written as one for a bare
description hash is (templates.py), signed by `signinvoice`, and given to the plugin `hold`.
"""

import secrets
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from nwc.cln import bolt11
from nwc.nip47 import params
from nwc.nip47.errors import refuse
from nwc.wallet.context import Call, Wallet
from nwc.wallet.hold_record import HoldRecord
from nwc.wallet.methods.make_invoice import WantedInvoice, kept_description
from nwc.wallet.methods.make_invoice import parse_params as parse_invoice_params
from nwc.wallet.transaction import hold_transaction

# A day: the app needs time to decide, of which the last blocks are lost to the deadline.
MIN_CLTV = 144
# BOLT11 has no limit, but payers allow some 2,016 blocks for the whole route.
MAX_CLTV = 1008


@dataclass(frozen=True, slots=True)
class WantedHoldInvoice:
    """The checked parameters of make_hold_invoice.

    Attributes:
        invoice: those that it has in common with make_invoice; the amount is at least 1 msat.
        payment_hash: 32 bytes, from the app.
        min_cltv: the final CLTV in blocks.

    """

    invoice: WantedInvoice
    payment_hash: bytes
    min_cltv: int


def parse_params(given: params.Params, default_expiry: int) -> WantedHoldInvoice:
    """Return the checked parameters of make_hold_invoice.

    Raises:
        Nip47Error: OTHER, with the field, its rule and the value that was given.

    """
    params.required_integer(given, "amount", minimum=1, maximum=bolt11.MAX_AMOUNT_MSAT, unit="msat")
    invoice = parse_invoice_params(given, default_expiry)
    payment_hash = params.hex_bytes(given, "payment_hash", size=32)
    if payment_hash is None:
        refuse("payment_hash: must be given")
    cltv = params.integer(given, "min_cltv_expiry_delta", minimum=0, maximum=MAX_CLTV, unit="blocks")
    return WantedHoldInvoice(invoice, payment_hash, max(cltv or 0, MIN_CLTV))


async def make_hold_invoice(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Make a hold invoice, exactly once for each request, and return it as a NIP-47 transaction.

    Raises:
        Nip47Error: OTHER for an invalid parameter, a payment hash that the node knows already, or too
            many open hold invoices; NOT_IMPLEMENTED without the plugin `hold`; UNAUTHORIZED if the
            connection has been revoked meanwhile.
        NodeError: lightningd or `hold` refused or is unavailable.

    """
    wanted = parse_params(call.params, wallet.invoice_expiry)
    record = await wallet.hold_invoices.add(
        call.connection.id,
        call.request_id,
        wanted.payment_hash.hex(),
        partial(_make, wallet, call.request_id, wanted),
    )
    return hold_transaction(record, time.time())


async def _make(wallet: Wallet, request_id: str, wanted: WantedHoldInvoice) -> HoldRecord:
    """Return the record of a new hold invoice, which is signed, but not injected."""
    invoice = wanted.invoice
    now = int(time.time())
    unsigned = bolt11.with_terms(
        await wallet.templates.get(invoice.amount_msat),
        payment_hash=wanted.payment_hash,
        # `hold` reads it from the invoice.
        payment_secret=secrets.token_bytes(32),
        amount_msat=invoice.amount_msat,
        created_at=now,
        expiry=invoice.expiry,
    )
    unsigned = bolt11.with_final_cltv(unsigned, wanted.min_cltv)
    return HoldRecord(
        payment_hash=wanted.payment_hash.hex(),
        request_id=request_id,
        invoice=await wallet.node.sign_invoice(_described(unsigned, invoice).encode()),
        min_cltv=wanted.min_cltv,
        amount_msat=invoice.amount_msat,
        created_at=now,
        expires_at=now + invoice.expiry,
        description=kept_description(invoice.description),
        metadata=invoice.metadata,
    )


def _described(unsigned: bolt11.Bolt11, wanted: WantedInvoice) -> bolt11.Bolt11:
    if wanted.description_hash is None:
        return bolt11.with_description(unsigned, wanted.description)
    # `signinvoice` writes only the hash if an invoice has both.
    return bolt11.with_description_hash(unsigned, wanted.description_hash, "")
