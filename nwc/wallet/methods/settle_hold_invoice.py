"""settle_hold_invoice (NWC-03): take the money of an accepted hold invoice."""

import hashlib
from typing import Any

from nwc.nip47 import params
from nwc.nip47.errors import refuse
from nwc.wallet.context import Call, Wallet


async def settle_hold_invoice(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Settle the hold invoice of a preimage, and return an empty result; also if it is settled already.

    Raises:
        Nip47Error: NOT_FOUND if this connection has no hold invoice of this preimage; OTHER if the
            preimage is malformed, or the invoice is not accepted; NOT_IMPLEMENTED without `hold`;
            INTERNAL if `hold` refused: the payment may be gone.
        NodeError: lightningd is unavailable.

    """
    preimage = params.hex_bytes(call.params, "preimage", size=32)
    if preimage is None:
        refuse("preimage: must be given")
    payment_hash = hashlib.sha256(preimage).hexdigest()
    await wallet.hold_invoices.settle(call.connection.id, payment_hash, preimage.hex())
    return {}
