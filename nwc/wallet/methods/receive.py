"""receive (NWC-321): a BIP-321 URI to be paid, exactly once for each request event.

The URI contains a BOLT11 invoice, made as make_invoice makes it. It contains no offer: paid offers carry
no label, so that the connection of such a payment would be unknown.
"""

from typing import Any

from nwc.cln.bolt11 import MAX_DESCRIPTION_LENGTH
from nwc.nip47 import params
from nwc.nip47.bip321 import payment_uri
from nwc.nip47.errors import ErrorCode, refuse, refusing_with
from nwc.wallet.context import Call, Wallet
from nwc.wallet.methods.make_invoice import WantedInvoice, issue
from nwc.wallet.methods.make_invoice import parse_params as parse_invoice_params

_FIELDS = ("amount", "description", "metadata")


async def receive(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Make an invoice and return its URI, with the payment hash as the transaction's id.

    Raises:
        Nip47Error: BAD_REQUEST for an invalid parameter.
        NodeError: lightningd refused or is unavailable.

    """
    invoice = await issue(wallet, call, parse_params(call.params, wallet.invoice_expiry))
    return {"bip321": payment_uri(invoice["invoice"]), "transaction_id": invoice["payment_hash"]}


def parse_params(given: params.Params, default_expiry: int) -> WantedInvoice:
    """Return the checked parameters of receive: those of make_invoice that it has in common.

    Without an amount, or with 0, the payer chooses it. A description must fit into the invoice.

    Raises:
        Nip47Error: BAD_REQUEST, with the field, its rule and the value that was given.

    """
    known = {name: given[name] for name in _FIELDS if given.get(name) is not None}
    with refusing_with(ErrorCode.BAD_REQUEST):
        wanted = parse_invoice_params({"amount": 0, **known}, default_expiry)
        if wanted.description_hash is not None:
            # NWC-321: the description MUST be in the instruction; the hash of it is not.
            refuse(f"description: must be at most {MAX_DESCRIPTION_LENGTH} bytes; the URI contains it")
    return wanted
