"""Serving requests: from an event of a relay to one published answer.

gate → open_request → dispatch → seal_response → publish, one step after the other. Every authentic,
decryptable request gets exactly one answer; all else gets silence and is counted.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.gate import Gate, Rejected
from nwc.nip47.request import UNKNOWN_METHOD, Request, open_request
from nwc.nip47.response import seal_response
from nwc.nostr.errors import DecryptionError
from nwc.nostr.event import Event
from nwc.tasks import Tasks
from nwc.wallet.context import Wallet
from nwc.wallet.dispatch import METHODS, dispatch
from nwc.wallet.live import LiveConnection, LiveConnections

# Requests being served at once, of one connection and in all.
MAX_IN_FLIGHT_PER_CONNECTION = 64
MAX_IN_FLIGHT = 512

_UNDECRYPTABLE = "undecryptable"

Publish = Callable[[Event, tuple[str, ...]], Awaitable[Any]]


class RequestServer:
    """Serves the requests of all connections.

    Args:
        wallet: what the method handlers work with.
        connections: who may ask.
        max_request_age: seconds a request's time may differ from our clock.
        publish: sends an answer to the relays of its connection.

    Attributes:
        answered: answers by method and outcome ("ok" or the error code).
        rejected: events met with silence, by reason.

    """

    def __init__(
        self, wallet: Wallet, connections: LiveConnections, max_request_age: int, publish: Publish
    ) -> None:
        self.answered: Counter[tuple[str, str]] = Counter()
        self.rejected: Counter[str] = Counter()
        self._wallet = wallet
        self._connections = connections
        self._gate = Gate(connections.find_caller, max_request_age)
        self._publish = publish
        self._tasks = Tasks()

    def on_event(self, event: Event) -> None:
        """Take an event from a relay, signature unchecked. Returns at once."""
        verdict = self._gate.check(event, time.time())
        if isinstance(verdict, Rejected):
            self.rejected[verdict.reason] += 1
            return
        live = self._connections.of_wallet(event.tag("p") or "")
        if live is None:
            return
        live.last_used_at = int(time.time())
        busy = live.in_flight >= MAX_IN_FLIGHT_PER_CONNECTION or len(self._tasks) >= MAX_IN_FLIGHT
        self._tasks.spawn(self._serve(live, event, too_fast=verdict.rate_limited or busy))

    async def finish(self, timeout_s: float) -> None:
        """Let the requests under way end, for at most `timeout_s` seconds."""
        await self._tasks.finish(timeout_s)

    async def _serve(self, live: LiveConnection, event: Event, *, too_fast: bool) -> None:
        live.in_flight += 1
        try:
            request = open_request(event, live.cipher)
            outcome = _TOO_FAST if too_fast else await self._outcome(live, request)
        except DecryptionError:
            self.rejected[_UNDECRYPTABLE] += 1
            return
        finally:
            live.in_flight -= 1
        response = seal_response(request, outcome, live.keys, live.cipher, int(time.time()))
        self._count(live, request, outcome)
        await self._publish(response, live.record.relays)

    async def _outcome(self, live: LiveConnection, request: Request) -> dict[str, Any] | Nip47Error:
        return await dispatch(self._wallet, live.record, request, time.time())

    def _count(
        self, live: LiveConnection, request: Request, outcome: dict[str, Any] | Nip47Error
    ) -> None:
        # A method name that we do not know is a stranger's text: it must not grow a table.
        method = request.method if request.method in METHODS else UNKNOWN_METHOD
        code = str(outcome.code) if isinstance(outcome, Nip47Error) else "ok"
        self.answered[method, code] += 1
        live.answered[code] += 1


_TOO_FAST = Nip47Error(ErrorCode.RATE_LIMITED, "too many requests; try again in a second")
