"""Serving requests: from a relay's event to one published answer.

gate → open_request → dispatch → seal_response → publish. Every authentic request gets exactly one
answer, up to a rate. All other events are ignored and counted.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from nwc.nip47.encryption import Encryption
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.gate import Gate, Rejected, Rejection
from nwc.nip47.methods import METHODS
from nwc.nip47.request import UNKNOWN_METHOD, Request, open_request
from nwc.nip47.response import seal_response
from nwc.nostr.event import Event
from nwc.tasks import Tasks
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection
from nwc.wallet.context import Wallet
from nwc.wallet.dispatch import Outcome, dispatch
from nwc.wallet.payment_answers import answer_of
from nwc.wallet.slots import Slots
from nwc.wallet.spending.payment import PaymentRecord

# How many requests are served at once. The maximum of one connection is above the burst of the default
# nwc-rate-limit. Each connection has OWN_IN_FLIGHT of its own, and all share MAX_IN_FLIGHT more. An app
# within its rate limit meets these bounds only if lightningd is slow. Each rejected request gets an
# error; the rate limit already bounds how many there can be.
MAX_IN_FLIGHT_PER_CONNECTION = 128
OWN_IN_FLIGHT = 8
MAX_IN_FLIGHT = 1024
# The same bounds for all tasks, including those that only wait for a relay to accept an answer (64 KB at
# most). An app whose relay accepts no answers meets these.
MAX_TASKS_PER_CONNECTION = 256
OWN_TASKS = 16
MAX_TASKS = 8192
# Apps give up after a minute, so later answers are useless. An answer that no relay has accepted in the
# first 20 s is published once more.
ANSWER_TIMEOUTS_S = (20.0, 38.0)
RETRY_ANSWER_AFTER_S = 1.0

_OVERLOADED = "overloaded"
_STOPPING = "stopping"

_log = logging.getLogger(__name__)

Publish = Callable[[Event, tuple[str, ...], float], Awaitable[bool]]


class RequestServer:
    """Serves the requests of all connections.

    Args:
        wallet: what the method handlers share.
        connections: the connections to serve.
        max_request_age: seconds a request's `created_at` may differ from our clock.
        publish: publishes an event on relays, and returns True if one accepts it in so many seconds.
        on_request: is called with the connection of each authentic request.

    Attributes:
        answered: number of answers by method and outcome ("ok" or the error code).
        ignored: number of ignored events by reason.

    """

    def __init__(
        self,
        wallet: Wallet,
        connections: ConnectionRegistry,
        max_request_age: int,
        publish: Publish,
        on_request: Callable[[LiveConnection], None] = lambda _: None,
    ) -> None:
        self.answered: Counter[tuple[str, str]] = Counter()
        self.ignored: Counter[str] = Counter()
        self._wallet = wallet
        self._connections = connections
        self._gate = Gate(connections.of_wallet, max_request_age)
        self._publish = publish
        self._on_request = on_request
        self._tasks = Tasks()
        self._task_slots = Slots(own=OWN_TASKS, most=MAX_TASKS_PER_CONNECTION, shared=MAX_TASKS)
        self._request_slots = Slots(
            own=OWN_IN_FLIGHT, most=MAX_IN_FLIGHT_PER_CONNECTION, shared=MAX_IN_FLIGHT
        )
        self._is_stopping = False

    def on_event(self, event: Event, relay: str) -> str | None:
        """Serve an event in the background, or ignore it.

        Args:
            event: its signature is unchecked.
            relay: URL of the relay that sent it.

        Returns:
            Why it is ignored; None if it is served.

        """
        reason = self._admit(event, relay)
        if reason is not None:
            self.ignored[reason] += 1
        return reason

    def _admit(self, event: Event, relay: str) -> str | None:
        if self._is_stopping:  # a request that starts now may be interrupted
            return _STOPPING
        verdict = self._gate.check(event, time.time())
        if isinstance(verdict, Rejected):
            _note_ignored(verdict)
            return verdict.reason
        live = verdict.connection
        live.clock_ahead_s = None
        client_pubkey = live.client_pubkey
        if not self._task_slots.are_free(client_pubkey):
            return _OVERLOADED
        live.last_used_at = int(time.time())
        self._on_request(live)
        request = open_request(event, live.cipher)
        self._task_slots.take(client_pubkey)
        task = self._tasks.spawn(self._serve(live, request, relay, too_fast=verdict.rate_limited))
        task.add_done_callback(lambda _: self._task_slots.give_back(client_pubkey))
        return None

    async def answer_payment(self, client_pubkey: str, record: PaymentRecord) -> None:
        """Answer a request for a payment that arrived before the plugin was last started."""
        live = self._connections.of_client(client_pubkey)
        if live is None:
            return
        payment = record.payment
        scheme = Encryption(payment.encryption)
        request = Request(payment.request_id, payment.request_created_at, scheme, payment.method, {})
        try:
            outcome: Outcome = answer_of(record)
        except Nip47Error as error:
            outcome = error
        await self._answer(live, request, outcome)

    async def finish(self, timeout_s: float) -> None:
        """Finish the requests in flight, for at most `timeout_s` seconds, and accept no others."""
        self._is_stopping = True
        await self._tasks.finish(timeout_s)

    async def _serve(
        self, live: LiveConnection, request: Request, relay: str, *, too_fast: bool
    ) -> None:
        if too_fast:
            outcome: Outcome = _TOO_FAST
        # Checked here and not on arrival: many events can arrive before the first of them is in flight.
        elif not self._request_slots.are_free(live.client_pubkey):
            outcome = _BUSY
        else:
            outcome = await self._dispatch(live, request)
        if isinstance(outcome, Nip47Error) and _spends(request):
            await self._wallet.payments.refusals.note(live.client_pubkey, request.created_at)
        await self._answer(live, request, outcome, relay)

    async def _answer(
        self, live: LiveConnection, request: Request, outcome: Outcome, relay: str | None = None
    ) -> None:
        response = seal_response(request, outcome, live.keys, live.cipher, int(time.time()))
        self._count(live, request, outcome)
        await self._deliver(live, response, relay)

    async def _dispatch(self, live: LiveConnection, request: Request) -> Outcome:
        client_pubkey = live.client_pubkey
        self._request_slots.take(client_pubkey)
        try:
            return await dispatch(self._wallet, live.record, request, time.time())
        finally:
            self._request_slots.give_back(client_pubkey)

    async def _deliver(self, live: LiveConnection, response: Event, first: str | None) -> None:
        """Publish an answer on all relays of its connection, and retry once if none has accepted it.

        The relay that delivered the request first comes first: it is probably the fastest now.
        """
        relays = tuple(sorted(live.record.relays, key=lambda url: url != first))
        for timeout_s in ANSWER_TIMEOUTS_S:
            if await self._publish(response, relays, timeout_s):
                return
            await asyncio.sleep(RETRY_ANSWER_AFTER_S)
        _log.debug("no relay has accepted an answer to %r in time", live.record.name)

    def _count(self, live: LiveConnection, request: Request, outcome: Outcome) -> None:
        # Unknown method names come from clients: they must not make the counters grow without bound.
        method = request.method if request.method in METHODS else UNKNOWN_METHOD
        code = str(outcome.code) if isinstance(outcome, Nip47Error) else "ok"
        self.answered[method, code] += 1
        live.answered[method, code] += 1
        live.rate_limited += outcome is _TOO_FAST
        _log.debug("%s of %r: %s", method, live.record.name, code)


def _note_ignored(verdict: Rejected[LiveConnection]) -> None:
    live = verdict.connection
    if live is None:
        return
    live.rate_limited += verdict.reason is Rejection.RATE_LIMITED
    if verdict.ahead_s is not None:
        live.clock_ahead_s = verdict.ahead_s


def _spends(request: Request) -> bool:
    return request.method in METHODS and METHODS[request.method].spends


_TOO_FAST = Nip47Error(ErrorCode.RATE_LIMITED, "too many requests; try again in a second")
_BUSY = Nip47Error(ErrorCode.INTERNAL, "too many requests are in flight; try again in a few seconds")
