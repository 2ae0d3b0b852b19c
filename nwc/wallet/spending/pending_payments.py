"""The payments in flight, by request and by payment hash, and the slots that bound how many there are.

Two requests that pay the same invoice, or one request that arrives twice, get one payment. Nothing here
is stored: after a start, `Payments` adds each payment that its ledgers hold as a reservation.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.tasks import Tasks
from nwc.wallet.slots import Slots
from nwc.wallet.spending.payment import Payment, PaymentRecord
from nwc.wallet.spending.payment_errors import ALREADY_PAID

# Payments in flight. Each connection has one slot of its own, which others cannot take; all further ones
# come from a shared pool. In all there are no more than PAYMENT_BOUNDS of nwc/cln/payer.py has slots.
MAX_PER_CONNECTION = 20
MAX_SHARED = 64
MAX_IN_ALL = 256

Outcome = PaymentRecord | Nip47Error
# The work of a payment. It gets the future of the outcome, and may set that before it ends itself.
Run = Callable[[asyncio.Future[Outcome]], Coroutine[Any, Any, Outcome]]


class PendingPayments:
    """The payments in flight of all connections.

    Args:
        tasks: runs the work of each payment.

    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        # By request and by payment hash: the client key of the payer, and the outcome.
        self._outcomes: dict[str, tuple[str, asyncio.Future[Outcome]]] = {}
        self._slots = Slots(own=1, most=MAX_PER_CONNECTION, shared=MAX_SHARED)
        # The requests that hold a slot.
        self._with_slot: set[str] = set()
        # Ids of requests that were sent again while their payment was in flight.
        self._repeated: set[str] = set()

    def count(self) -> int:
        """Return how many payments of all connections are in flight."""
        return len({id(outcome) for _, outcome in self._outcomes.values()})

    def is_pending(self, client_pubkey: str, request_id: str) -> bool:
        """Return True if the payment of this request is in flight."""
        return _request_key(client_pubkey, request_id) in self._outcomes

    def outcome_of(self, client_pubkey: str, request_id: str) -> asyncio.Future[Outcome] | None:
        """Return the outcome of this request's payment; None if it is not in flight."""
        _, outcome = self._outcomes.get(_request_key(client_pubkey, request_id), (None, None))
        return outcome

    def outcome_with(self, client_pubkey: str, payment_hash: str) -> asyncio.Future[Outcome] | None:
        """Return the outcome of this client's payment with this hash; None if none is in flight."""
        payer_pubkey, outcome = self._outcomes.get(payment_hash, (None, None))
        return outcome if payer_pubkey == client_pubkey else None

    def find_duplicate(self, client_pubkey: str, wanted: Payment) -> asyncio.Future[Outcome] | None:
        """Return the outcome of the payment in flight for the same request or payment hash, or None.

        Raises:
            Nip47Error: PAYMENT_FAILED, another connection is paying the same invoice.

        """
        for key in _keys(client_pubkey, wanted):
            if key in self._outcomes:
                payer_pubkey, outcome = self._outcomes[key]
                if payer_pubkey != client_pubkey:
                    raise Nip47Error(ErrorCode.PAYMENT_FAILED, ALREADY_PAID)
                return outcome
        return None

    def start(self, client_pubkey: str, payment: Payment, run: Run) -> asyncio.Future[Outcome]:
        """Run the work of a payment in a task of its own, and return the future of its outcome."""
        outcome = asyncio.get_running_loop().create_future()
        task = self._tasks.spawn(run(outcome))
        keys = _keys(client_pubkey, payment)
        self._outcomes |= dict.fromkeys(keys, (client_pubkey, outcome))
        task.add_done_callback(lambda _: self._remove(client_pubkey, payment.request_id, outcome))
        task.add_done_callback(partial(_copy_result, outcome))
        return outcome

    def learn_hash(self, client_pubkey: str, payment: Payment) -> None:
        """Note the payment hash of a payment in flight that had none when it started.

        Raises:
            Nip47Error: PAYMENT_FAILED, another request is paying an invoice with this hash.

        """
        request, payment_hash = _keys(client_pubkey, payment)
        if payment_hash in self._outcomes:
            raise Nip47Error(ErrorCode.PAYMENT_FAILED, ALREADY_PAID)
        self._outcomes[payment_hash] = self._outcomes[request]

    def _remove(self, client_pubkey: str, request_id: str, outcome: asyncio.Future[Outcome]) -> None:
        self._repeated.discard(request_id)
        for key in [key for key, (_, other) in self._outcomes.items() if other is outcome]:
            del self._outcomes[key]
        self._release_slot(client_pubkey, request_id)

    def note_repeated(self, request_id: str) -> None:
        """Note that a request with a payment in flight was sent again, and so gets an answer."""
        self._repeated.add(request_id)

    def is_repeated(self, request_id: str) -> bool:
        """Return True if the request was sent again while its payment was in flight."""
        return request_id in self._repeated

    def check_slot(self, client_pubkey: str) -> None:
        """Raise Nip47Error (RATE_LIMITED) unless this connection may have one more payment in flight."""
        if self._slots.are_free(client_pubkey) and len(self._with_slot) < MAX_IN_ALL:
            return
        whose = "of this connection " if self._slots.has_maximum(client_pubkey) else ""
        raise Nip47Error(
            ErrorCode.RATE_LIMITED, f"too many payments {whose}are pending; try again later"
        )

    def take_slot(self, client_pubkey: str, request_id: str) -> None:
        """Take a slot for the payment of a request. `start` releases it when the payment has ended."""
        self._with_slot.add(_request_key(client_pubkey, request_id))
        self._slots.take(client_pubkey)

    def _release_slot(self, client_pubkey: str, request_id: str) -> None:
        """Release the slot of a payment; a request that was refused has none."""
        key = _request_key(client_pubkey, request_id)
        if key in self._with_slot:
            self._with_slot.discard(key)
            self._slots.give_back(client_pubkey)


async def record_of(outcome: asyncio.Future[Outcome]) -> PaymentRecord:
    """Wait for the outcome of a payment and return its record. Cancelling this does not end the payment.

    Raises:
        Nip47Error: nothing was sent.

    """
    ended = await asyncio.shield(outcome)
    if isinstance(ended, Nip47Error):
        raise ended
    return ended


def _copy_result(outcome: asyncio.Future[Outcome], task: asyncio.Task[Outcome]) -> None:
    """Set the outcome to the result of the payment's task, unless the task has set it earlier."""
    if outcome.done():
        return
    if task.cancelled():
        outcome.cancel()
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
        outcome.exception()  # nobody may be waiting for it; Tasks has logged it
    else:
        outcome.set_result(task.result())


def _request_key(client_pubkey: str, request_id: str) -> str:
    return f"{client_pubkey}:{request_id}"


def _keys(client_pubkey: str, payment: Payment) -> tuple[str, ...]:
    """Return the keys of a payment in flight: its request, and its payment hash if it is known."""
    request = _request_key(client_pubkey, payment.request_id)
    return (request,) if payment.payment_hash is None else (request, payment.payment_hash)
