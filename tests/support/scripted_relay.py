"""A relay in this process whose behaviour a test controls, honest or not.

It stores nothing by itself, checks nothing, and ignores filters: each event goes to every subscription.
"""

import itertools
import json
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.support.channel import EventLog, Json
from tests.support.loop_thread import LoopThread
from tests.support.waiting import wait_until

# Given an event, a filter or an AUTH event and the keys that are authenticated, returns the reason of a
# refusal, "" to accept it, or None to give no answer.
Verdict = Callable[[Json, set[str]], str | None]


def takes_all(_what: Json, _known: set[str]) -> str | None:
    """Accept everything."""
    return ""


class ScriptedRelay(LoopThread):
    """A relay and, for the app in a test, the channel to its wallet.

    Args:
        port: the port to listen on; 0 for any free one.
        tls: the context with its certificate; None for no TLS.

    Attributes:
        received: the events that clients published and that it accepted.
        kept: events that a new subscription gets at once, before its EOSE.
        is_mute: True to ignore every message.
        port: the port it listens on, once it is entered.
        connections_so_far: how many clients have connected.
        handshakes: the HTTP headers of each handshake.
        redirect_to: None, or the URL to which each client is redirected (HTTP 301).
        on_event: the verdict on each published event.
        on_filter: the verdict on each REQ.
        on_auth: the verdict on each AUTH (NIP-42); an accepted key is authenticated from then on.
        challenges: True to send a new challenge when a client connects, and with each
            "auth-required:"; only the newest is valid.
        auths: the AUTH events received.
        forgets_strangers: True to answer a REQ of a client without AUTH with a challenge and EOSE, and
            then forget it (as chorus does).
        after_eose: further elements of each EOSE message (NIP-67 has one).

    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(port)
        self._tls = tls
        self.received = EventLog()
        self.kept: list[Json] = []
        self.is_mute = False
        self.connections_so_far = 0
        self.handshakes: list[list[tuple[str, str]]] = []
        self.redirect_to: str | None = None
        self.on_event: Verdict = takes_all
        self.on_filter: Verdict = takes_all
        self.on_auth: Verdict = takes_all
        self.challenges = False
        self.auths = EventLog()
        self.forgets_strangers = False
        self.after_eose: list[str] = []
        self._known: dict[ServerConnection, set[str]] = {}
        self._numbers = itertools.count(1)
        self._challenge = ""
        self._connections: set[ServerConnection] = set()
        self._subscriptions: dict[tuple[ServerConnection, str], Json] = {}

    @property
    def url(self) -> str:
        """The URL it listens on."""
        return f"wss://127.0.0.1:{self.port}" if self._tls else super().url

    # From the test's thread

    def send(self, event: Json) -> None:
        """Deliver an event to every subscription, whatever its filter."""
        self._in_loop(self._deliver(event))

    def send_frame(self, frame: str | bytes) -> None:
        """Send a raw frame to every client."""
        self._in_loop(self._send_frame(frame))

    def challenge(self) -> None:
        """Send a new challenge to every client."""
        self._challenge = f"challenge {next(self._numbers)}"
        self.send_frame(json.dumps(["AUTH", self._challenge]))

    def forget_keys(self) -> None:
        """Forget all authenticated keys without sending anything."""
        for known in self._known.values():
            known.clear()

    def end_subscriptions(self, reason: str) -> None:
        """Close every subscription (NIP-01 CLOSED) for this reason."""
        names = self.subscription_names()
        self.forget_subscriptions()
        for name in names:
            self.send_frame(json.dumps(["CLOSED", name, reason]))

    def forget_subscriptions(self) -> None:
        """Forget all subscriptions without sending anything."""
        self._subscriptions.clear()

    def subscription_names(self) -> list[str]:
        """Return the names of all subscriptions."""
        return [name for _, name in self._subscriptions]

    def close(self) -> None:
        """Do nothing: the relay runs on after the app."""

    def wait_for_subscription(self, wallet_pubkey: str) -> None:
        """Wait until there is a subscription to the requests for a wallet key."""
        wait_until(lambda: self._is_read(wallet_pubkey), f"a subscription for {wallet_pubkey}")

    def filters(self) -> list[Json]:
        """Return the filters of all subscriptions."""
        return list(self._subscriptions.values())

    def _is_read(self, wallet_pubkey: str) -> bool:
        return any(wallet_pubkey in filter_.get("#p", []) for filter_ in self.filters())

    # In the loop

    async def _main(self) -> None:
        async with serve(
            self._serve,
            "127.0.0.1",
            self.port,
            process_request=self._respond,
            open_timeout=None,
            compression=None,
            ssl=self._tls,
        ) as server:
            await self._until_stopped(server)

    async def _respond(self, connection: ServerConnection, request: Request) -> Response | None:
        return self._redirect(connection, request)

    def _redirect(self, connection: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(list(request.headers.raw_items()))
        if self.redirect_to is None:
            return None
        response = connection.respond(HTTPStatus.MOVED_PERMANENTLY, "")
        response.headers["Location"] = self.redirect_to
        return response

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections_so_far += 1
        self._connections.add(connection)
        self._known[connection] = set()
        if self.challenges:
            self._send_challenge(connection)
        try:
            async for frame in connection:
                self._receive(connection, json.loads(frame))
        except ConnectionClosed:
            pass
        finally:
            self._connections.discard(connection)
            del self._known[connection]
            for key in [key for key in self._subscriptions if key[0] is connection]:
                del self._subscriptions[key]

    def _receive(self, connection: ServerConnection, message: list[Any]) -> None:
        if self.is_mute:
            return
        known = self._known[connection]
        match message:
            case ["EVENT", event]:
                reason = self.on_event(event, known)
                if not reason:
                    self.received.add(event)
                self._answer(connection, event, reason)
            case ["AUTH", event]:
                self.auths.add(event)
                reason = self.on_auth(event, known)
                if ["challenge", self._challenge] not in event["tags"]:
                    reason = "error: wrong challenge"
                if not reason:
                    known.add(event["pubkey"])
                self._answer(connection, event, reason)
            case ["REQ", str(name), filter_]:
                self._subscribe(connection, name, filter_)
            case ["CLOSE", str(name)]:
                self._subscriptions.pop((connection, name), None)

    def _answer(self, connection: ServerConnection, event: Json, reason: str | None) -> None:
        if reason is not None:
            self._challenge_for(connection, reason)
            _send(connection, ["OK", event["id"], not reason, reason])

    def _subscribe(self, connection: ServerConnection, name: str, filter_: Json) -> None:
        if reason := self.on_filter(filter_, self._known[connection]):
            self._challenge_for(connection, reason)
            _send(connection, ["CLOSED", name, reason])
            return
        if self.forgets_strangers and not self._known[connection]:
            self._send_challenge(connection)
        else:
            self._subscriptions[connection, name] = filter_
            for event in self.kept:
                _send(connection, ["EVENT", name, event])
        _send(connection, ["EOSE", name, *self.after_eose])

    def _challenge_for(self, connection: ServerConnection, reason: str) -> None:
        if self.challenges and reason.startswith("auth-required:"):
            self._send_challenge(connection)

    def _send_challenge(self, connection: ServerConnection) -> None:
        self._challenge = f"challenge {next(self._numbers)}"
        _send(connection, ["AUTH", self._challenge])

    async def _deliver(self, event: Json) -> None:
        for connection, name in self._subscriptions:
            _send(connection, ["EVENT", name, event])

    async def _send_frame(self, frame: str | bytes) -> None:
        broadcast(self._connections, frame)


def _send(connection: ServerConnection, message: list[Any]) -> None:
    broadcast([connection], json.dumps(message))
