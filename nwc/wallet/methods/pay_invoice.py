"""pay_invoice (NIP-47): pay a BOLT11 invoice from the connection's budget, exactly once."""

from typing import Any

from nwc.nip47 import params
from nwc.nip47.errors import refuse
from nwc.wallet import bolt11_payment
from nwc.wallet.bolt11_payment import MAX_INVOICE_CHARACTERS, WantedPayment
from nwc.wallet.context import Call, Wallet
from nwc.wallet.payment_answers import preimage_answer
from nwc.wallet.spending.payment import PaymentRecord

_BOLT12 = ("lno1", "lni1", "lnr1")


def parse_params(given: params.Params) -> WantedPayment:
    """Return the checked parameters of pay_invoice.

    Raises:
        Nip47Error: OTHER, with the field, the rule and the given value.

    """
    invoice = params.text(given, "invoice", max_bytes=MAX_INVOICE_CHARACTERS)
    if invoice is None:
        refuse("invoice: must be a BOLT11 invoice; got nothing")
    return WantedPayment(
        _checked_invoice(invoice),
        bolt11_payment.amount_param(given),
        bolt11_payment.max_fee_param(given),
        params.json_object(given, "metadata", max_characters=params.MAX_METADATA_CHARACTERS),
    )


def _checked_invoice(text: str) -> str:
    if text.strip().lower().removeprefix("lightning:").startswith(_BOLT12):
        refuse("invoice: must be a BOLT11 invoice; the method pay takes BOLT12 offers")
    return bolt11_payment.checked_invoice(text)


async def pay_invoice(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Pay an invoice, and return the result when the payment has settled.

    Raises:
        Nip47Error: OTHER for a bad parameter or invoice; QUOTA_EXCEEDED, INSUFFICIENT_BALANCE,
            RATE_LIMITED, RESTRICTED or FEE_LIMIT_EXCEEDED: nothing was sent; PAYMENT_FAILED: the payment
            failed for certain.
        NodeError: lightningd is unavailable, and nothing was sent.

    """
    # Before the invoice is checked: a paid invoice may have expired when its request is sent again.
    record = await wallet.payments.previous_outcome(call.connection, call.request_id, call.created_at)
    return preimage_answer(record or await _pay(wallet, call))


async def _pay(wallet: Wallet, call: Call) -> PaymentRecord:
    wanted = parse_params(call.params)
    earlier = await bolt11_payment.earlier(wallet, call, wanted)
    if earlier is not None:
        return earlier
    payment, command = await bolt11_payment.prepare(wallet, call, "pay_invoice", wanted)
    return await wallet.payments.pay(call.connection, payment, command)
