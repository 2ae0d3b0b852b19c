"""cancel_hold_invoice (NWC-03): give the money of a hold invoice back to its payer."""

from typing import Any

from nwc.nip47 import params
from nwc.nip47.errors import refuse
from nwc.wallet.context import Call, Wallet


async def cancel_hold_invoice(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Cancel an open hold invoice, and return an empty result; also if it is cancelled already.

    Raises:
        Nip47Error: NOT_FOUND if this connection has no hold invoice with this payment hash; OTHER if
            the payment hash is malformed, or the invoice is settled; NOT_IMPLEMENTED without `hold`.
        NodeError: lightningd or `hold` refused or is unavailable.

    """
    payment_hash = params.hex_bytes(call.params, "payment_hash", size=32)
    if payment_hash is None:
        refuse("payment_hash: must be given")
    await wallet.hold_invoices.cancel(call.connection.id, payment_hash.hex())
    return {}
