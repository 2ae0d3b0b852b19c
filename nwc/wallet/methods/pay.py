"""pay (NWC-321): pay a BIP-321 URI, a BOLT11 invoice or a BOLT12 offer, exactly once.

One instruction is chosen, and never another after it: two payment hashes are two payments. After
PENDING_AFTER_S seconds a payment in flight is answered as pending. It goes on.

A client decides by the error code whether something may have been sent. What is refused here has a code
that says that nothing was.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from nwc.cln import bolt11, offers
from nwc.nip47 import params
from nwc.nip47.bip321 import MAX_PAYMENT_CHARACTERS, parse_payment
from nwc.nip47.errors import ErrorCode, refuse, refusing_with
from nwc.wallet import bolt11_payment, bolt12_payment
from nwc.wallet.bolt11_payment import MAX_INVOICE_CHARACTERS, WantedPayment
from nwc.wallet.bolt12_payment import WantedOfferPayment
from nwc.wallet.context import Call, Wallet
from nwc.wallet.payment_answers import pay_answer, pending_answer
from nwc.wallet.spending.payment import CommandParams, Payment, PaymentRecord

MAX_PAYER_NOTE_BYTES = 512
# Apps wait for a minute.
PENDING_AFTER_S = 50.0
# How often to look whether a payment that is still prepared after that time has a reservation.
_LOOK_AGAIN_S = 1.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The checked parameters of pay: the chosen instruction, which is a BOLT11 invoice or an offer."""

    chosen: WantedPayment | WantedOfferPayment

    @property
    def payment_hash(self) -> str | None:
        """The payment hash of the chosen instruction, None for an offer."""
        if isinstance(self.chosen, WantedOfferPayment):
            return None
        return bolt11.payment_hash(self.chosen.invoice)


def parse_params(given: params.Params) -> Wanted:
    """Return the checked parameters of pay.

    Raises:
        Nip47Error: BAD_REQUEST, with the field and the rule; UNSUPPORTED_PAYMENT_INSTRUCTION if the URI
            has neither `lightning` nor `lno`.

    """
    with refusing_with(ErrorCode.BAD_REQUEST):
        text = params.text(given, "payment", max_bytes=MAX_PAYMENT_CHARACTERS)
        if text is None:
            refuse("payment: must be a BIP-321 URI, a BOLT11 invoice or a BOLT12 offer; got nothing")
        instructions = parse_payment(text)
        amount_msat = _agreed_msat(instructions.amount_msat, bolt11_payment.amount_param(given))
        max_fee_msat = bolt11_payment.max_fee_param(given)
        payer_note = params.text(given, "payer_note", max_bytes=MAX_PAYER_NOTE_BYTES)
        metadata = params.json_object(given, "metadata", max_characters=params.MAX_METADATA_CHARACTERS)
        if instructions.lno is not None and (payer_note or instructions.lightning is None):
            offer = _checked_offer(instructions.lno, payer_note)
            return Wanted(WantedOfferPayment(offer, amount_msat, max_fee_msat, payer_note, metadata))
        if payer_note is not None:
            refuse("payer_note: must be absent without a BOLT12 offer; an invoice carries no note")
        invoice = _checked_invoice(instructions.lightning or "")
        return Wanted(WantedPayment(invoice, amount_msat, max_fee_msat, metadata))


def _agreed_msat(in_uri: int | None, given: int | None) -> int | None:
    if in_uri is None:
        return given
    if given not in (None, in_uri):
        refuse(f"amount: must be the URI's {in_uri} msat, or absent; got {given}")
    return in_uri


def _checked_offer(offer: str, payer_note: str | None) -> str:
    if len(offer) > offers.MAX_OFFER_LENGTH:
        refuse(f"payment: an offer must have at most {offers.MAX_OFFER_LENGTH} characters")
    if payer_note is not None and not offers.is_sent_unchanged(payer_note):
        refuse(
            "payer_note: must have no quotation mark, backslash, line break or tab; "
            "the node could not deliver them unchanged"
        )
    return offer


def _checked_invoice(invoice: str) -> str:
    if len(invoice) > MAX_INVOICE_CHARACTERS:
        refuse(f"payment: an invoice must have at most {MAX_INVOICE_CHARACTERS} characters")
    return bolt11_payment.checked_invoice(invoice)


async def pay(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Pay, and return the result when the payment has settled, or after 50 s while it is pending.

    Raises:
        Nip47Error: BAD_REQUEST, UNSUPPORTED_PAYMENT_INSTRUCTION, UNSUPPORTED_NETWORK, NOT_FOUND,
            NOT_IMPLEMENTED, FEE_LIMIT_EXCEEDED, QUOTA_EXCEEDED, INSUFFICIENT_BALANCE, RATE_LIMITED or
            RESTRICTED: nothing was sent; PAYMENT_FAILED: the payment failed for certain.
        NodeError: lightningd is unavailable, and nothing was sent.

    """
    waiting = _Waiting(wallet, call)
    # Before anything is checked: a paid invoice may have expired when its request is sent again.
    earlier = wallet.payments.previous_outcome(call.connection, call.request_id, call.created_at)
    outcome = await waiting.outcome_of(earlier)
    if outcome is None:
        wanted = parse_params(call.params)
        paying = _pay(wallet, call, wanted.chosen)
        outcome = await waiting.outcome_of(paying, wanted.payment_hash)
    return pay_answer(outcome) if isinstance(outcome, PaymentRecord) else pending_answer(outcome)


async def _pay(wallet: Wallet, call: Call, wanted: WantedPayment | WantedOfferPayment) -> PaymentRecord:
    if isinstance(wanted, WantedOfferPayment):
        payment, fetch = await bolt12_payment.prepare(wallet, call, "pay", wanted)
        command = CommandParams()
        return await wallet.payments.pay(call.connection, payment, command, fetch)
    earlier = await bolt11_payment.earlier(wallet, call, wanted)
    if earlier is not None:
        return earlier
    with refusing_with(ErrorCode.BAD_REQUEST):
        payment, command = await bolt11_payment.prepare(
            wallet, call, "pay", wanted, wrong_network=ErrorCode.UNSUPPORTED_NETWORK
        )
    return await wallet.payments.pay(call.connection, payment, command)


class _Waiting:
    """Waits for the outcome of one request, until it is time to answer that it is pending."""

    def __init__(self, wallet: Wallet, call: Call) -> None:
        self._wallet = wallet
        self._call = call
        self._until = asyncio.get_running_loop().time() + PENDING_AFTER_S

    async def outcome_of(
        self, work: Coroutine[Any, Any, _T], payment_hash: str | None = None
    ) -> _T | Payment:
        """Return what the work returns, or the payment if it is in flight when the time is over.

        Args:
            work: of Payments: it can be cancelled while it waits for a payment in flight.
            payment_hash: an earlier request may be paying the same invoice.

        """
        task = asyncio.ensure_future(work)
        timeout_s = max(0.0, self._until - asyncio.get_running_loop().time())
        try:
            while not (await asyncio.wait({task}, timeout=timeout_s))[0]:
                if (payment := self._in_flight(payment_hash)) is not None:
                    return payment
                timeout_s = _LOOK_AGAIN_S
            return task.result()
        finally:
            task.cancel()

    def _in_flight(self, payment_hash: str | None) -> Payment | None:
        ledger = self._wallet.payments.ledgers.known(self._call.connection.client_pubkey)
        found = (
            payment
            for payment in ledger.reservations.values()
            if payment.request_id == self._call.request_id
            or payment.payment_hash == (payment_hash or "")
        )
        return next(found, None)
