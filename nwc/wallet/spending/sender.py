"""Sending a reserved payment through lightningd, and following it to its end.

These are the steps *send* and *follow* of the theory of operation in payments.py. This module reads and
writes no ledger and no record.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from nwc.backoff import backoff
from nwc.cln.errors import NodeError
from nwc.cln.node import Json
from nwc.cln.payer import PayCommandError, Payer, Sent, exceeds_fee_limit
from nwc.cln.retry import retry
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.connections.record import connection_id_of
from nwc.wallet.labels import request_label
from nwc.wallet.spending.large import LargePayments
from nwc.wallet.spending.payment import (
    CommandParams,
    Payment,
    PaymentRecord,
    PaymentState,
)
from nwc.wallet.spending.payment_errors import (
    INSUFFICIENT,
    NOT_SENT,
    failure_of,
    is_insufficient,
    too_costly,
)
from nwc.wallet.spending.pending_payments import Outcome

# How long lightningd may begin new attempts. Apps wait for a minute.
RETRY_FOR_S = 50
# How much longer a command of unknown outcome is assumed to be able to begin a part.
UNSENT_GRACE_S = 60.0
_POLL_FIRST_S = 0.5
_POLL_MAX_S = 10.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known of a payment after lightningd got the command for it.

    Attributes:
        payment: as reserved.
        may_begin_until: until when lightningd may begin a part of it, in seconds of the loop's clock.
        sent: what the command answered; None if it did not succeed.
        failure: the error for the client if no part completes; None if the command returned no error.
        may_prove: False if lightningd may have stopped while it made the proof of this payment. If some
            part is complete already, it is not asked again, since it could stop at each start.

    """

    payment: Payment
    may_begin_until: float
    sent: Sent | None = None
    failure: Nip47Error | None = None
    may_prove: bool = True


def unknown_attempt(payment: Payment, *, may_prove: bool = True) -> Attempt:
    """Return an attempt whose command may have been given until now, and of which nothing is known."""
    now = asyncio.get_running_loop().time()
    return Attempt(payment, now + RETRY_FOR_S + UNSENT_GRACE_S, may_prove=may_prove)


class Sender:
    """Sends reserved payments through lightningd.

    Args:
        payer: pays through lightningd.
        large: is told how many attempts a failed payment took.

    """

    def __init__(self, payer: Payer, large: LargePayments) -> None:
        self._payer = payer
        self._large = large

    async def send(self, client_pubkey: str, payment: Payment, params: CommandParams) -> Attempt:
        """Call the paying command, and return what is known of the payment afterwards."""
        begun_at = asyncio.get_running_loop().time()
        unknown = unknown_attempt(payment)
        try:
            answer = await self._call_command(client_pubkey, payment, params)
            return replace(unknown, sent=_sent(payment, answer))
        except PayCommandError as error:
            self._large.note_failure(client_pubkey, error.attempts)
            failure = await self._failure_of(client_pubkey, error, payment, params)
            attempt = replace(unknown, failure=failure)
            return replace(attempt, may_begin_until=begun_at) if error.is_over else attempt
        except NodeError:
            return unknown
        except Exception:
            # Whatever went wrong, lightningd may be paying, so the payment must be followed.
            _log.exception("the answer of a paying command cannot be read; the payment is followed")
            return unknown

    async def _call_command(self, client_pubkey: str, payment: Payment, params: CommandParams) -> Json:
        """Call the paying command for a reserved payment, and return its answer."""
        label = request_label(connection_id_of(client_pubkey), payment.request_id)
        if payment.invoice is None:
            return await self._payer.keysend(
                payment.destination or "",
                amount_msat=payment.amount_msat,
                max_fee_msat=payment.max_fee_msat,
                retry_for_s=RETRY_FOR_S,
                label=label,
                tlvs=params.tlvs,
            )
        return await self._payer.pay_invoice(
            payment.invoice,
            amount_msat=payment.amount_msat if params.needs_amount else None,
            max_fee_msat=payment.max_fee_msat,
            retry_for_s=RETRY_FOR_S,
            label=label,
            blinded_fee_msat=params.blinded_fee_msat,
        )

    async def _failure_of(
        self, client_pubkey: str, error: PayCommandError, payment: Payment, params: CommandParams
    ) -> Nip47Error:
        if is_insufficient(error) and await self._is_short_of_funds(payment):
            return INSUFFICIENT
        is_unsent = error.is_over and error.exceeds_fee_limit
        if params.has_fee_limit and is_unsent and not await self._has_begun(client_pubkey, payment):
            return too_costly(payment, ErrorCode.FEE_LIMIT_EXCEEDED)
        return failure_of(error, payment)

    async def _has_begun(self, client_pubkey: str, payment: Payment) -> bool:
        """Return False if lightningd certainly has never begun a part of this payment."""
        label = request_label(connection_id_of(client_pubkey), payment.request_id)
        try:
            return await self._payer.has_begun(
                payment.first_sendpay_index, payment_hash=payment.payment_hash, label=label
            )
        except NodeError:
            return True

    async def _is_short_of_funds(self, payment: Payment) -> bool:
        try:
            return (await self._payer.sendable()).total_msat < payment.amount_msat
        except NodeError:
            return False

    async def follow(
        self, client_pubkey: str, attempt: Attempt, outcome: asyncio.Future[Outcome]
    ) -> PaymentRecord:
        """Poll lightningd until the payment has ended, and return its record.

        If a part is complete while others are pending, `outcome` is set at once.
        """
        payment, loop = attempt.payment, asyncio.get_running_loop()
        label = request_label(connection_id_of(client_pubkey), payment.request_id)
        waits = backoff(_POLL_FIRST_S, _POLL_MAX_S)
        proof, may_prove = None, attempt.may_prove
        while True:
            asked_at = loop.time()
            parts = await retry_forever(
                lambda: self._payer.parts(
                    payment.first_sendpay_index, payment_hash=payment.payment_hash, label=label
                )
            )
            sent = parts.sent or attempt.sent
            if sent is None:
                may_prove = True
            elif may_prove:
                proof, may_prove = await self._proof_of(payment), False
            if parts.is_pending:
                if sent is not None and not outcome.done():
                    outcome.set_result(settled(payment, sent, proof))
            elif sent is not None:
                return settled(payment, sent, proof)
            elif asked_at >= attempt.may_begin_until:
                return await self._failed(attempt, label)
            await asyncio.sleep(next(waits))

    async def _proof_of(self, payment: Payment) -> str | None:
        """Return the payer proof of a complete payment of a BOLT12 invoice, None without one."""
        if not payment.is_bolt12 or payment.invoice is None:
            return None
        return await self._payer.proof_of(payment.invoice)

    async def _failed(self, attempt: Attempt, label: str) -> PaymentRecord:
        """Return the record of a payment that has failed for certain."""
        payment = attempt.payment
        with suppress(NodeError):  # lightningd may have no askrene
            await self._payer.release_reservations(label)
        payment_hash = payment.payment_hash or await retry_forever(
            lambda: self._payer.hash_of(payment.first_sendpay_index, label)
        )
        error = attempt.failure or NOT_SENT
        return PaymentRecord(
            replace(payment, payment_hash=payment_hash),
            PaymentState.FAILED,
            int(time.time()),
            error_code=error.code,
            error_message=error.message,
        )

    async def check_route(self, payment: Payment, params: CommandParams) -> None:
        """Raise Nip47Error if no route can carry this payment.

        For a large payment, `pay` would try thousands of routes in vain.
        """
        error = await self._payer.lack_of_route(
            payment.destination or "", payment.amount_msat, payment.max_fee_msat
        )
        if error is not None:
            is_the_limit = params.has_fee_limit and exceeds_fee_limit(error)
            code = ErrorCode.FEE_LIMIT_EXCEEDED if is_the_limit else ErrorCode.PAYMENT_FAILED
            raise too_costly(payment, code)


async def retry_forever(action: Callable[[], Awaitable[_T]]) -> _T:
    """Return the result of an action, and retry it for as long as it raises NodeError."""
    return await retry(action, _POLL_FIRST_S, _POLL_MAX_S, _note_waiting)


def _note_waiting(error: NodeError) -> None:
    _log.debug("a step of a payment failed and is retried: %s", error)


def _sent(payment: Payment, answer: Json) -> Sent:
    """Return what a paying command says it has sent.

    Raises:
        ValueError, KeyError, TypeError: the answer cannot be read, or is not of this payment. `pay` can
            answer with a wrong preimage if some parts of an earlier attempt have failed.

    """
    preimage: str = answer["payment_preimage"]
    payment_hash = hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
    if payment.payment_hash not in (None, payment_hash):
        raise ValueError("the preimage belongs to another payment hash")
    return Sent(payment_hash, preimage, int(answer["amount_sent_msat"]))


def settled(payment: Payment, sent: Sent, payer_proof: str | None = None) -> PaymentRecord:
    """Return the record of a payment that is settled now."""
    return PaymentRecord(
        replace(payment, payment_hash=sent.payment_hash),
        PaymentState.SETTLED,
        int(time.time()),
        sent.sent_msat,
        sent.preimage,
        payer_proof=payer_proof,
    )
