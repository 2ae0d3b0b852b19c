"""One relay connection: the socket, tasks and clock around a RelaySession.

It reconnects for ever, as fast as reconnect_pace.py allows. Lightning nodes run for months: an
unreachable relay is a state to show, not an error to raise.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable

from websockets.exceptions import WebSocketException

from nwc.nostr.connection_failure import describe_failure
from nwc.nostr.event import Event
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import MessageError, NoticeReceived
from nwc.nostr.reconnect_pace import ReconnectPace
from nwc.nostr.relay_health import STABLE_AFTER_S, RelayHealth, RelayInfo
from nwc.nostr.relay_socket import RelaySocket, open_socket
from nwc.nostr.relay_url import is_onion
from nwc.nostr.session import Published, RelaySession
from nwc.nostr.subscriptions import Recipient

OPEN_TIMEOUT_S = 15.0
# Over Tor, a circuit and a TLS handshake take longer.
OPEN_TIMEOUT_PROXY_S = 60.0
# An attempt that takes longer may hang for ever, so a second one begins beside it.
HANGS_AFTER_S = 5.0
TICK_S = 1.0
# How long to send pending frames at the end of a connection.
FLUSH_TIMEOUT_S = 0.5

_log = logging.getLogger(__name__)


class Relay:
    """A relay that is kept connected from `start` to `stop`.

    Args:
        url: the relay's URL, as `parse_relay_url` returns it.
        kinds: event kinds to read.
        max_age: how many seconds subscriptions must reach back.
        proxy: SOCKS proxy URL, None to connect directly.
        on_event: called with every event for a recipient, signature unchecked, and the relay's URL.
            Returns the reason why it ignores the event, else None. Must not raise or wait.
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
        # Frames from the session that wait until the relay has read earlier ones.
        self._frames: deque[str] = deque()
        self._is_send_scheduled = False
        self._pending: dict[str, asyncio.Future[Published]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._connection: RelaySocket | None = None
        self._health = RelayHealth()
        self._pace = ReconnectPace(_loop_time())

    def info(self) -> RelayInfo:
        """Return the state of the relay."""
        latency_s = self._connection.latency_s if self._connection else None
        return self._health.info(self.url, recipients=len(self._session), latency_s=latency_s)

    @property
    def has_recipients(self) -> bool:
        """True if any recipient's events are read from this relay."""
        return len(self._session) > 0

    @property
    def is_publishing(self) -> bool:
        """True if a publication is pending on this relay."""
        return bool(self._pending)

    async def publications_done(self) -> None:
        """Wait until all publications that are pending now have ended."""
        if self._pending:
            await asyncio.wait(list(self._pending.values()))

    # Subscriptions and publications

    def subscribe(self, recipient: Recipient) -> None:
        """Start to read a recipient's events, on this and every later connection."""
        self._session.subscribe(recipient, _loop_time())
        self._send_soon()

    def unsubscribe(self, public_key: str) -> None:
        """Stop reading a recipient's events."""
        self._session.unsubscribe(public_key, _loop_time())
        self._send_soon()

    def is_listening(self, public_key: str) -> bool:
        """Return True if the relay has confirmed the subscription for this recipient."""
        return self._session.is_listening(public_key)

    async def publish(self, event: Event, timeout_s: float, signer: KeyPair | None = None) -> Published:
        """Publish an event; if the relay is not connected, wait until it is.

        Args:
            event: signed.
            timeout_s: how long to try.
            signer: the key that signed it, for AUTH, if that key is no recipient here.

        Returns:
            The relay's answer, or after `timeout_s` seconds a refusal that says why there is none.

        """
        return await asyncio.shield(self.begin_publishing(event, timeout_s, signer))

    def begin_publishing(
        self, event: Event, timeout_s: float, signer: KeyPair | None = None
    ) -> "asyncio.Future[Published]":
        """Do the same as `publish`, and send at once if possible. Do not cancel the returned future."""
        if (pending := self._pending.get(event.id)) is not None:
            return pending
        outcome: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        refused = self._session.publish(event, _loop_time() + timeout_s, signer)
        if refused:
            outcome.set_result(refused)
        else:
            self._pending[event.id] = outcome
            self._send()
        return outcome

    # Life

    def start(self) -> None:
        """Start to connect."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._tick_every_second())]

    async def stop(self) -> None:
        """Send queued frames and close the connection. Pending publications are given up."""
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
                self._on_disconnect(error)
            await asyncio.sleep(self._pace.pause(_loop_time()))

    async def _connect(self) -> RelaySocket:
        """Return a new connection, after as many attempts as it takes."""
        attempts: set[asyncio.Task[RelaySocket]] = set()
        connection = None
        try:
            while connection is None:
                self._pace.attempted(_loop_time())
                attempts.add(asyncio.create_task(self._open()))
                connection = await self._first_success(attempts)
        finally:
            await _abandon(attempts)
        return connection

    async def _first_success(self, attempts: "set[asyncio.Task[RelaySocket]]") -> RelaySocket | None:
        """Return the connection of the first attempt that succeeds, None if another may begin.

        An attempt may hang because the network has changed since it began. So the next attempt does not
        wait for its end.
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
                self._on_disconnect(error)
                next_at = min(next_at, _loop_time() + self._pace.pause(_loop_time()))
        return None

    async def _tick_every_second(self) -> None:
        """Give up publications at their deadline and retry what is due, connected or not."""
        while True:
            await asyncio.sleep(TICK_S)
            for published in self._session.tick(_loop_time(), time.time()):
                self._settle(published)
            if self._session.is_unanswered:
                self._health.unanswered()
            if self._session.has_data_to_send:
                self._send_soon()
            if self._health.should_log_outage():
                _log.info(
                    "relay %s: unreachable for over a minute (%s); still retrying",
                    self.url,
                    self._health.last_error,
                )

    async def _open(self) -> RelaySocket:
        if self._proxy is None and is_onion(self.url):
            # Resolving an onion name would reveal the relay to the name server.
            raise OSError("a .onion relay needs lightningd's option proxy")
        async with asyncio.timeout(OPEN_TIMEOUT_PROXY_S if self._proxy else OPEN_TIMEOUT_S):
            return await open_socket(self.url, proxy=self._proxy)

    async def _serve(self, connection: RelaySocket) -> None:
        """Serve a connection until it ends, then raise why it ended."""
        began = _loop_time()
        self._on_connect(connection)
        try:
            await connection.wait_closed()
        finally:
            if self._session.has_served or _loop_time() - began >= STABLE_AFTER_S:
                self._pace.served(_loop_time())
            await self._flush(connection)
        raise connection.close_exc

    async def _flush(self, connection: RelaySocket) -> None:
        self._frames.extend(self._session.data_to_send(time.time()))
        # A timeout must not replace a cancellation.
        with contextlib.suppress(TimeoutError):
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
                self._connection.abort()

    def _receive(self, frame: str | bytes) -> None:
        # Errors and complaints are counted and kept, but not logged: a hostile relay could send them
        # without end, and every log line goes through lightningd.
        if isinstance(frame, bytes):
            self._health.invalid_frame()
            return
        try:
            result = self._session.receive(frame, _loop_time())
        except MessageError:
            self._health.invalid_frame()
            return
        match result:
            case Event():
                self._health.event(self._on_event(result, self.url))
            case Published(accepted=accepted, reason=reason):
                if not accepted:  # for example, because our clock is wrong
                    self._health.complained(reason or "an event was refused without a reason")
                self._settle(result)
            case NoticeReceived(reason):
                self._health.complained(reason or "an empty NOTICE")
        if self._session.has_data_to_send:
            self._send()

    def _send(self) -> None:
        """Send what the relay can take now. The rest follows when it has read, or in a later turn."""
        connection = self._connection
        if connection is None or self._is_send_scheduled:
            return
        if not self._frames:
            self._frames.extend(self._session.data_to_send(time.time()))
        self._send_frames(connection)
        if not self._frames and self._session.has_data_to_send:
            self._send_soon()  # there is more AUTH to sign

    def _send_frames(self, connection: RelaySocket) -> None:
        while self._frames and connection.can_send:
            connection.send(self._frames.popleft())

    def _send_soon(self) -> None:
        """Send in the next step of the event loop, together with all frames that are queued by then."""
        if not self._is_send_scheduled:
            self._is_send_scheduled = True
            asyncio.get_running_loop().call_soon(self._send_scheduled)

    def _send_scheduled(self) -> None:
        self._is_send_scheduled = False
        self._send()

    def _settle(self, published: Published) -> None:
        future = self._pending.pop(published.event_id, None)
        if future is not None and not future.done():
            future.set_result(published)

    def _on_connect(self, connection: RelaySocket) -> None:
        self._connection = connection
        self._session.connected(_loop_time())
        connection.listen(self._on_message, self._send)
        self._send_soon()
        self._health.connected()
        _log.debug("relay %s: connected", self.url)
        self._on_connected(self.url)

    def _on_disconnect(self, error: BaseException) -> None:
        if not isinstance(error, OSError | WebSocketException | ValueError):
            _log.error("relay %s: unexpected error", self.url, exc_info=error)
        reason = describe_failure(error, has_proxy=self._proxy is not None)
        self._health.disconnected(reason)
        _log.debug("relay %s: not connected (%s); retrying", self.url, reason)
        self._connection = None
        self._frames.clear()
        self._session.disconnected()


def _loop_time() -> float:
    """Return seconds of the event loop's monotonic clock."""
    return asyncio.get_running_loop().time()


async def _abandon(attempts: "set[asyncio.Task[RelaySocket]]") -> None:
    """Cancel attempts that are not needed any more, and drop the connection of one that succeeded."""
    for attempt in attempts:
        attempt.cancel()
    for left in await asyncio.gather(*attempts, return_exceptions=True):
        if not isinstance(left, BaseException):
            left.abort()
