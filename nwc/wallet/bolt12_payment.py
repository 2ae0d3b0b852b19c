"""The payment of a BOLT12 offer: the checks before and after its invoice is fetched, for pay.

Nothing here sends money. Every error but those of lightningd itself has a code by which a client knows
that nothing was sent.
"""

import time
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from nwc.cln import offers
from nwc.cln.errors import UNREADABLE, NodeUnavailableError, RpcCallError, RpcCode
from nwc.cln.node import Json
from nwc.cln.offers import Fault, FetchedInvoice, Offer, OfferError
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.bolt11_payment import fee_limit_msat
from nwc.wallet.context import Call, Wallet
from nwc.wallet.spending.payment import MAX_PAYMENT_MSAT, CommandParams, Fetch, Payment

_CODES = {
    Fault.INVALID: ErrorCode.BAD_REQUEST,
    Fault.UNSUPPORTED: ErrorCode.UNSUPPORTED_PAYMENT_INSTRUCTION,
    Fault.NETWORK: ErrorCode.UNSUPPORTED_NETWORK,
}
_NO_ANSWER = "the payee cannot be reached, did not answer in time, or refused"


@dataclass(frozen=True, slots=True)
class WantedOfferPayment:
    """The checked parameters of a payment.

    Attributes:
        offer: BOLT12, lower case, at most `offers.MAX_OFFER_LENGTH` characters.
        amount_msat: as the client gave it, None if absent.
        max_fee_msat: as the client gave it, or None.
        payer_note: for the payee, or None.
        metadata: the client's object, None if absent or dropped.

    """

    offer: str
    amount_msat: int | None
    max_fee_msat: int | None
    payer_note: str | None
    metadata: dict[str, Any] | None


async def prepare(
    wallet: Wallet, call: Call, method: str, wanted: WantedOfferPayment
) -> tuple[Payment, Fetch]:
    """Return the payment of an offer, after all checks, and what fetches its invoice.

    Raises:
        Nip47Error: BAD_REQUEST, UNSUPPORTED_PAYMENT_INSTRUCTION or UNSUPPORTED_NETWORK for a bad offer
            or amount; NOT_IMPLEMENTED if the node cannot decode.
        NodeError: lightningd is unavailable.

    """
    node = await wallet.node.info()
    offer = await _read_offer(wallet, wanted.offer, node["network"])
    amount_msat = _amount_msat(offer, wanted.amount_msat)
    payment = Payment(
        request_id=call.request_id,
        request_created_at=call.created_at,
        method=method,
        encryption=call.encryption,
        created_at=int(time.time()),
        amount_msat=amount_msat,
        max_fee_msat=fee_limit_msat(amount_msat, wanted.max_fee_msat),
        payment_hash=None,
        invoice=None,
        destination=None,
        is_bolt12=True,
        metadata=wanted.metadata,
        first_sendpay_index=await wallet.payments.payer.next_sendpay_index(),
    )
    await wallet.payments.payer.prepare()

    async def fetch(payment: Payment) -> tuple[Payment, CommandParams]:
        asked_msat = payment.amount_msat if offer.amount_msat is None else None
        invoice = await _fetch(wallet, wanted, asked_msat)
        decoded = await _decode(wallet, invoice)
        found = _checked(decoded, offer, payment.amount_msat, wanted.payer_note, node["network"])
        is_own = found.node_id == node["id"]
        paying = replace(
            payment,
            payment_hash=found.payment_hash,
            invoice=invoice,
            destination=found.node_id,
            # A payment to the own node has no route, and so no fee.
            max_fee_msat=0 if is_own else payment.max_fee_msat,
        )
        blinded_fee_msat = 0 if is_own else found.blinded_fee_msat
        return paying, CommandParams(
            has_fee_limit=True, blinded_fee_msat=blinded_fee_msat, is_own=is_own
        )

    return payment, fetch


async def _read_offer(wallet: Wallet, text: str, network: str) -> Offer:
    try:
        decoded = await wallet.payments.payer.decode(text)
    except RpcCallError as error:
        if error.code == RpcCode.INVALID_PARAMS:
            decoded = {}
        elif error.code == RpcCode.METHOD_NOT_FOUND:  # lightningd's plugin `offers` is disabled
            raise Nip47Error(
                ErrorCode.NOT_IMPLEMENTED, "the node has no command to read an offer with"
            ) from None
        else:
            raise
    try:
        return offers.parse_offer(decoded, network, time.time())
    except OfferError as error:
        raise Nip47Error(_CODES[error.fault], f"offer: {error}") from None
    except UNREADABLE as error:
        raise NodeUnavailableError(f"decode: unreadable answer: {type(error).__name__}") from error


def _amount_msat(offer: Offer, given_msat: int | None) -> int:
    asked_msat = offer.amount_msat
    if asked_msat is None:
        if given_msat is None:
            _refuse("amount: must be given in msat, since the offer has none")
        return given_msat
    if given_msat not in (None, asked_msat):
        _refuse(f"amount: must be the offer's {asked_msat} msat, or absent; got {given_msat}")
    if not 0 < asked_msat <= MAX_PAYMENT_MSAT:
        _refuse(f"offer: must be for 1 to {MAX_PAYMENT_MSAT} msat; got {asked_msat}")
    return asked_msat


async def _fetch(wallet: Wallet, wanted: WantedOfferPayment, asked_msat: int | None) -> str:
    """Return the invoice of the offer's issuer, whose own words are not passed on if there is none."""
    try:
        invoice = await wallet.payments.payer.fetch_invoice(
            wanted.offer, amount_msat=asked_msat, payer_note=wanted.payer_note
        )
    except RpcCallError as error:
        if error.code == RpcCode.METHOD_NOT_FOUND:
            raise Nip47Error(
                ErrorCode.NOT_IMPLEMENTED, "the node has no command to fetch an invoice with"
            ) from None
        _not_found(_NO_ANSWER)
    except NodeUnavailableError:  # it can take lightningd a minute to connect to the payee
        _not_found(_NO_ANSWER)
    if len(invoice) > offers.MAX_INVOICE_LENGTH:
        _not_found(f"the invoice has more than {offers.MAX_INVOICE_LENGTH} characters")
    return invoice


async def _decode(wallet: Wallet, invoice: str) -> Json:
    try:
        return await wallet.payments.payer.decode(invoice)
    except RpcCallError:
        _not_found("the invoice cannot be read")


def _checked(
    decoded: Json, offer: Offer, amount_msat: int, payer_note: str | None, network: str
) -> FetchedInvoice:
    try:
        return offers.parse_invoice(
            decoded,
            offer,
            amount_msat=amount_msat,
            payer_note=payer_note,
            network=network,
            now=time.time(),
        )
    except OfferError as error:
        _not_found(str(error))
    except UNREADABLE:
        _not_found("the invoice cannot be read")


def _refuse(message: str) -> NoReturn:
    raise Nip47Error(ErrorCode.BAD_REQUEST, message)


def _not_found(why: str) -> NoReturn:
    raise Nip47Error(
        ErrorCode.NOT_FOUND, f"offer: no invoice that could be paid was found ({why}); nothing was paid"
    )
