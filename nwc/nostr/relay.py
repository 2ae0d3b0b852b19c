"""One relay connection: the socket, tasks and clock around a RelaySession.

Reconnects for ever, as fast as reconnect_pace.py allows. Lightning nodes run for months: a relay that is
away is a state to show, not an error to raise.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from nwc.nostr.bounded_connection import BoundedConnection
from nwc.nostr.connection_failure import describe_failure
from nwc.nostr.event import Event
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import MAX_FRAME_BYTES, MessageError, NoticeReceived
from nwc.nostr.reconnect_pace import ReconnectPace
from nwc.nostr.relay_health import STABLE_AFTER_S, RelayHealth, RelayInfo
from nwc.nostr.relay_url import is_onion
from nwc.nostr.session import Published, RelaySession
from nwc.nostr.subscriptions import Inbox

OPEN_TIMEOUT_S = 15.0
# Over Tor a circuit and a TLS handshake take their time.
OPEN_TIMEOUT_PROXY_S = 60.0
# An attempt that takes longer may hang for good: another one is begun beside it.
HANGS_AFTER_S = 5.0
PING_INTERVAL_S = 20.0
TICK_S = 1.0
# What is still to be sent at the end.
FLUSH_TIMEOUT_S = 0.5
# A clock that is off by less than this, or is moved by less, is as good as right.
CLOCK_STEP_S = 2.0

_log = logging.getLogger(__name__)


class _connect(connect):
    """A relay must not send us elsewhere: the new place could be one that the proxy rules forbid."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow no redirect; the answer is an error like any other."""
        return exc


class Relay:
    """A relay that is kept connected while it is started.

    Args:
        url: normal form of the relay's URL.
        kinds: event kinds to read from inboxes.
        max_age: seconds the subscriptions reach back.
        proxy: SOCKS proxy URL; None connects directly.
        on_event: called with every event of an inbox, signature unchecked, and the relay's URL; tells
            why it is met with silence, None when it is served. Must not raise or wait.
        on_connected: called with the URL after each connect.

    """

    def __init__(
        self,
        url: str,
        *,
        kinds: tuple[int, ...],
        max_age: int,
        proxy: str | None,
        on_event: Callable[[Event, str], str | None],
        on_connected: Callable[[str], None],
    ) -> None:
        self.url = url
        self._session = RelaySession(url, kinds=kinds, max_age=max_age)
        self._proxy = proxy
        self._on_event = on_event
        self._on_connected = on_connected
        # What the session wants sent, as far as the relay has not read what came before it.
        self._frames: deque[str] = deque()
        self._is_to_send = False
        self._results: dict[str, asyncio.Future[Published]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._connection: BoundedConnection | None = None
        self._health = RelayHealth()
        self._pace = ReconnectPace(_loop_time())
        self._ahead_s = time.time() - time.monotonic()

    def info(self) -> RelayInfo:
        """Describe how the relay is doing."""
        # websockets says 0.0 before the first pong.
        latency_s = (self._connection.latency or None) if self._connection else None
        return self._health.info(self.url, inboxes=len(self._session), latency_s=latency_s)

    @property
    def is_read(self) -> bool:
        """Tell that an inbox is read from this relay."""
        return len(self._session) > 0

    @property
    def is_publishing(self) -> bool:
        """Tell that something is being published on it."""
        return bool(self._results)

    async def published(self) -> None:
        """Wait for the end of what is being published on it now."""
        if self._results:
            await asyncio.wait(list(self._results.values()))

    # What is wanted of it

    def subscribe(self, inbox: Inbox) -> None:
        """Read an inbox from now on, on this and every later connection."""
        self._session.subscribe(inbox, self._now())
        self._send_soon()

    def unsubscribe(self, recipient: str) -> None:
        """Stop reading the inbox of one of our keys."""
        self._session.unsubscribe(recipient, self._now())
        self._send_soon()

    def is_listening(self, recipient: str) -> bool:
        """Tell whether the relay has confirmed that it delivers this inbox."""
        return self._session.is_listening(recipient)

    async def publish(self, event: Event, timeout_s: float, signer: KeyPair | None = None) -> Published:
        """Publish an event, waiting for the relay to be back where it is away.

        Args:
            event: signed.
            timeout_s: how long to try.
            signer: its key, for AUTH, where no inbox of that key is read here.

        Returns:
            The relay's verdict, or after `timeout_s` seconds why there is none. Never raises for it.

        """
        return await asyncio.shield(self.begin_publishing(event, timeout_s, signer))

    def begin_publishing(
        self, event: Event, timeout_s: float, signer: KeyPair | None = None
    ) -> "asyncio.Future[Published]":
        """Do as `publish` does, sending now if it can; who waits for the verdict must not cancel it."""
        if (pending := self._results.get(event.id)) is not None:
            return pending
        verdict: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        refused = self._session.publish(event, self._now() + timeout_s, signer)
        if refused:
            verdict.set_result(refused)
        else:
            self._results[event.id] = verdict
            self._send()
        return verdict

    # Life

    def start(self) -> None:
        """Begin to connect."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._keep_time())]

    async def stop(self) -> None:
        """Send what is queued, close the connection and end. Publications still open are given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for published in self._session.give_up():
            self._settle(published)

    async def _run(self) -> None:
        while True:
            connection = await self._connect()
            try:
                try:
                    await self._serve(connection)
                finally:
                    await connection.close()
            except Exception as error:
                self._set_down(error)
            await asyncio.sleep(self._pace.pause(_loop_time()))

    async def _connect(self) -> BoundedConnection:
        """Return a new connection, however long that takes."""
        attempts: set[asyncio.Task[BoundedConnection]] = set()
        connection = None
        try:
            while connection is None:
                self._pace.attempted(_loop_time())
                attempts.add(asyncio.create_task(self._open()))
                connection = await self._first_of(attempts)
        finally:
            await _abandon(attempts)
        return connection

    async def _first_of(
        self, attempts: "set[asyncio.Task[BoundedConnection]]"
    ) -> BoundedConnection | None:
        """Return the connection of the first attempt that succeeds, None when another one may begin.

        What an attempt has sent may be lost with the network that it began in. So one that hangs does
        not put the next one off.
        """
        now = _loop_time()
        next_at = now + max(HANGS_AFTER_S, self._pace.pause(now))
        while (left_s := next_at - _loop_time()) > 0:
            if not attempts:
                await asyncio.sleep(left_s)
                break
            done, _ = await asyncio.wait(attempts, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                attempts.discard(attempt)
                if (error := attempt.exception()) is None:
                    return attempt.result()
                self._set_down(error)
                next_at = min(next_at, _loop_time() + self._pace.pause(_loop_time()))
        return None

    async def _keep_time(self) -> None:
        """End publications at their deadline and retry what is due, whatever the connection does."""
        while True:
            await asyncio.sleep(TICK_S)
            for published in self._session.tick(self._now()):
                self._settle(published)
            if self._session.is_unanswered:
                self._health.unanswered()
            if self._session.has_data_to_send:
                self._send_soon()
            if self._health.is_news_that_it_is_away():
                _log.info("relay %s: stays away (%s); trying on", self.url, self._health.last_error)

    async def _open(self) -> BoundedConnection:
        if self._proxy is None and is_onion(self.url):
            # Asking the resolver for an onion name would tell others where we go.
            raise OSError("a .onion relay needs lightningd's option proxy")
        async with asyncio.timeout(OPEN_TIMEOUT_PROXY_S if self._proxy else OPEN_TIMEOUT_S):
            connection = await _connect(
                self.url,
                proxy=self._proxy,
                create_connection=BoundedConnection,
                compression=None,
                max_size=MAX_FRAME_BYTES,
                open_timeout=None,
                close_timeout=1,
                ping_interval=PING_INTERVAL_S,
                ping_timeout=PING_INTERVAL_S,
                user_agent_header=None,
            )
        return cast(BoundedConnection, connection)

    async def _serve(self, connection: BoundedConnection) -> None:
        """Be connected until the connection ends; why it did is raised."""
        began = _loop_time()
        self._set_up(connection)
        try:
            await connection.ping()  # the first of many; so that its latency is known at once
            await connection.wait_closed()
        finally:
            if self._session.has_served or _loop_time() - began >= STABLE_AFTER_S:
                self._pace.served(_loop_time())
            await self._flush(connection)
        raise connection.close_exc

    async def _flush(self, connection: BoundedConnection) -> None:
        self._frames.extend(self._session.data_to_send())
        # Also what ends the connection meanwhile: it must not take the place of a cancellation.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                while self._frames and connection.is_open:
                    self._send_frames(connection)
                    await connection.drain()

    def _on_message(self, message: str | bytes) -> None:
        try:
            self._receive(message)
        except Exception:
            _log.exception("relay %s: unexpected error", self.url)
            if self._connection is not None:
                self._connection.transport.abort()

    def _receive(self, frame: str | bytes) -> None:
        # What is wrong or said is counted and kept, not logged: a hostile relay could send it without
        # end, and every line of the log goes through lightningd.
        try:
            result = self._session.receive(_text(frame), self._now())
        except MessageError:
            self._health.invalid_frame()
            return
        match result:
            case Event():
                self._health.event(self._on_event(result, self.url))
            case Published(accepted=accepted, reason=reason):
                if not accepted:  # our time may be too far from the relay's, say
                    self._health.complained(reason or "an event was refused without a reason")
                self._settle(result)
            case NoticeReceived(reason):
                self._health.complained(reason or "a NOTICE without words")
        if self._session.has_data_to_send:
            self._send()

    def _send(self) -> None:
        """Send what there is to send; the rest when the relay has read that, or after others' turn."""
        connection = self._connection
        if connection is None or self._is_to_send:  # then it is sent in the next step, with all else
            return
        if not self._frames:
            self._frames.extend(self._session.data_to_send())
        self._send_frames(connection)
        if not self._frames and self._session.has_data_to_send:
            self._send_soon()  # more AUTH to sign

    def _send_frames(self, connection: BoundedConnection) -> None:
        while self._frames and connection.can_send:
            connection.send_now(self._frames.popleft())

    def _send_soon(self) -> None:
        """Send in the next step of the event loop, together with what else is wanted until then."""
        if not self._is_to_send:
            self._is_to_send = True
            asyncio.get_running_loop().call_soon(self._send_what_waits)

    def _send_what_waits(self) -> None:
        self._is_to_send = False
        self._send()

    def _now(self) -> float:
        """Return Unix seconds; the session is told first when the clock was set."""
        now = time.time()
        moved_s = now - time.monotonic() - self._ahead_s
        if abs(moved_s) >= CLOCK_STEP_S:
            self._ahead_s += moved_s
            self._session.clock_moved(moved_s, now)
            self._send_soon()
        return now

    def _settle(self, published: Published) -> None:
        future = self._results.pop(published.event_id, None)
        if future is not None and not future.done():
            future.set_result(published)

    def _set_up(self, connection: BoundedConnection) -> None:
        self._connection = connection
        self._session.connected(self._now())
        connection.listen(self._on_message, self._send)
        self._send_soon()
        self._health.connected()
        _log.debug("relay %s: connected", self.url)
        self._on_connected(self.url)

    def _set_down(self, error: BaseException) -> None:
        if not isinstance(error, OSError | WebSocketException | ValueError):
            _log.error("relay %s: unexpected error", self.url, exc_info=error)
        words = describe_failure(error, has_proxy=self._proxy is not None)
        self._health.disconnected(words)
        _log.debug("relay %s: not connected (%s); trying again", self.url, words)
        self._connection = None
        self._frames.clear()
        self._session.disconnected()


def _text(frame: str | bytes) -> str:
    """Return a text frame's text.

    Raises:
        MessageError: it is a binary frame.

    """
    if isinstance(frame, bytes):
        raise MessageError("a binary frame")
    return frame


def _loop_time() -> float:
    """Return seconds of a clock that nobody sets."""
    return asyncio.get_running_loop().time()


async def _abandon(attempts: "set[asyncio.Task[BoundedConnection]]") -> None:
    """End attempts that are not needed any more, also one that has just succeeded."""
    for attempt in attempts:
        attempt.cancel()
    for left in await asyncio.gather(*attempts, return_exceptions=True):
        if not isinstance(left, BaseException):
            left.transport.abort()
