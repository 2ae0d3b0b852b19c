"""pay_invoice (NIP-47): pay a BOLT11 invoice from the connection's budget, exactly once."""

import time
from dataclasses import dataclass
from typing import Any

from nwc.cln import bolt11, onion
from nwc.cln.errors import RpcCallError, RpcCode
from nwc.cln.node import Json
from nwc.nip47 import params
from nwc.nip47.errors import ErrorCode, Nip47Error, refuse
from nwc.wallet.context import Call, Wallet
from nwc.wallet.spending.payment import (
    MAX_PAYMENT_MSAT,
    CommandParams,
    Payment,
    PaymentRecord,
    usual_fee_limit_msat,
)

# The invoice is stored in the node's datastore. With the longest description and ten hops of route hints
# it has some 2,500 characters.
MAX_INVOICE_CHARACTERS = 4096

# BOLT11, "Human-Readable Part": the prefix of each network, by lightningd's name of it.
_PREFIXES = {"bitcoin": "bc", "testnet": "tb", "testnet4": "tb", "signet": "tbs", "regtest": "bcrt"}
_BOLT12 = ("lno1", "lni1", "lnr1")


@dataclass(frozen=True, slots=True)
class WantedPayment:
    """The checked parameters of pay_invoice.

    Attributes:
        invoice: BOLT11, lower case.
        amount_msat: as the client gave it, None if absent or 0.
        max_fee_msat: as the client gave it, or None.
        metadata: the client's object, None if absent or dropped.

    """

    invoice: str
    amount_msat: int | None
    max_fee_msat: int | None
    metadata: dict[str, Any] | None


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
        params.integer(given, "amount", minimum=0, maximum=MAX_PAYMENT_MSAT, unit="msat") or None,
        max_fee_param(given),
        params.json_object(given, "metadata", max_characters=params.MAX_METADATA_CHARACTERS),
    )


def max_fee_param(given: params.Params) -> int | None:
    """Return the client's own limit on the fee, in msat; None if it gave none.

    Raises:
        Nip47Error: OTHER.

    """
    return params.integer(given, "max_fee", minimum=0, maximum=MAX_PAYMENT_MSAT, unit="msat")


def fee_limit_msat(amount_msat: int, wanted_msat: int | None) -> int:
    """Return the limit on the fee, in msat: the client's, else the default for this amount."""
    return usual_fee_limit_msat(amount_msat) if wanted_msat is None else wanted_msat


def _checked_invoice(text: str) -> str:
    invoice = text.strip().lower().removeprefix("lightning:")
    if invoice.startswith(_BOLT12):
        refuse("invoice: must be a BOLT11 invoice; the method pay takes BOLT12 offers")
    try:
        bolt11.payment_hash(invoice)
    except ValueError:
        refuse("invoice: must be a BOLT11 invoice, complete and unchanged")
    return invoice


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
    return payment_answer(record or await _pay(wallet, call))


async def _pay(wallet: Wallet, call: Call) -> PaymentRecord:
    wanted = parse_params(call.params)
    decoded = await _decode(wallet, wanted.invoice)
    _check_invoice(decoded, await wallet.node.info(), time.time())
    amount_msat = _amount_msat(decoded, wanted.amount_msat)
    payment = Payment(
        request_id=call.request_id,
        request_created_at=call.created_at,
        method="pay_invoice",
        encryption=call.encryption,
        created_at=int(time.time()),
        amount_msat=amount_msat,
        max_fee_msat=fee_limit_msat(amount_msat, wanted.max_fee_msat),
        payment_hash=decoded["payment_hash"],
        invoice=wanted.invoice,
        destination=decoded["payee"],
        metadata=wanted.metadata,
        first_sendpay_index=await wallet.payments.payer.next_sendpay_index(),
    )
    await wallet.payments.payer.prepare()
    params = CommandParams(
        needs_amount=decoded.get("amount_msat") is None, has_fee_limit=wanted.max_fee_msat is not None
    )
    return await wallet.payments.pay(call.connection, payment, params)


def payment_answer(record: PaymentRecord) -> dict[str, Any]:
    """Return the result of pay_invoice and pay_keysend for a payment that has ended.

    Raises:
        Nip47Error: it failed.

    """
    if not record.is_settled:
        code = ErrorCode(record.error_code or ErrorCode.PAYMENT_FAILED)
        raise Nip47Error(code, record.error_message or "the payment failed")
    return {"preimage": record.preimage, "fees_paid": record.fee_msat}


async def _decode(wallet: Wallet, invoice: str) -> Json:
    try:
        decoded = await wallet.payments.payer.decode(invoice)
    except RpcCallError as error:
        if error.code == RpcCode.INVALID_PARAMS:
            refuse("invoice: must be a BOLT11 invoice that the node can read")
        if error.code == RpcCode.METHOD_NOT_FOUND:  # lightningd's plugin `offers` is disabled
            raise Nip47Error(
                ErrorCode.INTERNAL, "the node has no command to read an invoice with; nothing was paid"
            ) from None
        raise
    if not decoded.get("valid") or decoded.get("type") != "bolt11 invoice":
        refuse("invoice: must be a BOLT11 invoice that the node can read")
    return decoded


def _check_invoice(decoded: Json, node: Json, now: float) -> None:
    network = _PREFIXES.get(node["network"])
    if decoded["currency"] != network:
        refuse(
            f"invoice: must be of the network {node['network']}; its prefix is ln{decoded['currency']}"
        )
    if decoded["payee"] == node["id"]:
        refuse("invoice: must be another node's; the node that would pay has made this one")
    if decoded["created_at"] + decoded["expiry"] <= now:
        refuse("invoice: must not have expired")
    try:
        onion.check_invoice(decoded)
    except onion.OnionTooLargeError as error:
        refuse(f"invoice: {error}")


def _amount_msat(decoded: Json, given_msat: int | None) -> int:
    asked = decoded.get("amount_msat")
    if asked is None:
        if given_msat is None:
            refuse("amount: must be given in msat, since the invoice has none")
        return given_msat
    if given_msat is not None and given_msat != asked:
        refuse(f"amount: must be the invoice's {asked} msat, or absent; got {given_msat}")
    if not 0 < asked <= MAX_PAYMENT_MSAT:
        refuse(f"invoice: must be for 1 to {MAX_PAYMENT_MSAT} msat; got {asked}")
    return int(asked)
