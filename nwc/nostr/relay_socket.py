"""A WebSocket to a relay that limits how much CPU time and memory a hostile relay can take.

Theory of operation
-------------------
websockets' Sans-I/O layer parses and serializes; this module has the socket, the clock and the limits:
https://websockets.readthedocs.io/en/stable/howto/sansio.html

* A message is handled in the step of the event loop in which it was read, without a queue or a task.
* Received bytes are handled in turns of TURN_S. Nothing more is read until all of them are handled, and
  the relay has not used more than its share of CPU time: see cpu_share.py. websockets alone handles all
  bytes that it gets: for 256 KB of empty frames or pings this takes seconds.
* websockets allows 128 headers of 8 KiB each in the answer to the handshake, and can take 0.4 s for them
  in one step. MAX_HEAD_BYTES is a tighter limit.
* Nothing waits for ever on a relay that does not read, answers no ping or does not close.
"""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

from python_socks import ProxyType
from python_socks.async_.asyncio import Proxy
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, ProxyError, SecurityError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI, parse_uri

from nwc.nostr.cpu_share import CpuShare
from nwc.nostr.messages import MAX_FRAME_BYTES

# CPU time that one socket may use before the others get their turn.
TURN_S = 0.002
# How many bytes are handled between looks at the clock: at worst some hundred frames, and most messages
# whole.
PIECE_BYTES = 1024
READ_BYTES = 16 * 1024
MAX_FRAGMENTS = 1024
# Of the status and headers that answer the handshake: some 300 bytes from a relay, 1 KiB from a CDN. An
# HTTP body after them, such as an error page, does not count.
MAX_HEAD_BYTES = 16 * 1024
# With more bytes that the relay has not read, we send no more.
MAX_UNREAD_BYTES = 32 * 1024
# Pongs are written all the same.
MAX_UNREAD_BYTES_WITH_PONGS = 1 << 20
# How long a relay may leave our frames unread.
UNREAD_TIMEOUT_S = 20.0
# How often to ping, and how long to wait for the pong.
PING_INTERVAL_S = 20.0
# How long a relay may take to end the connection after a Close frame.
CLOSE_TIMEOUT_S = 1.0
# The reason in our Close frame.
NO_PONG = "keepalive ping timeout"

Message = str | bytes


async def open_socket(url: str, *, proxy: str | None) -> "RelaySocket":
    """Return a new open WebSocket to a relay.

    Redirects are not followed: the proxy rules could forbid the new address. The environment's proxies
    are ignored. There is no timeout.

    Args:
        url: the relay's URL.
        proxy: SOCKS5 proxy (`socks5h://host:port`), which then resolves the relay's name; None to
            connect directly.

    Raises:
        OSError: the network, TLS or the proxy failed.
        WebSocketException: the proxy cannot reach the relay, or the server is not a relay.
        ValueError: the host name is invalid.

    """
    uri = parse_uri(url)
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if uri.secure:
        options |= {"ssl": ssl.create_default_context(), "server_hostname": uri.host}
    if proxy is None:
        options |= {"host": uri.host, "port": uri.port}
    else:
        options |= {"sock": await _connect_through(proxy, uri)}
    _, opened = await loop.create_connection(lambda: RelaySocket(uri), **options)
    try:
        await opened.handshake()
    except BaseException:
        opened.abort()
        raise
    return opened


async def _connect_through(proxy: str, uri: WebSocketURI) -> socket.socket:
    """Return a TCP connection to the relay through a SOCKS5 proxy, which resolves the relay's name.

    Raises:
        OSError: the proxy cannot be reached.
        ProxyError: the proxy cannot reach the relay, or is no SOCKS5 proxy.

    """
    address = urlsplit(proxy)
    socks = Proxy(ProxyType.SOCKS5, address.hostname or "", address.port or 0, rdns=True)
    try:
        return await socks.connect(uri.host, uri.port)
    except OSError:
        raise
    except Exception as error:  # python-socks does not document all of them
        raise ProxyError("the proxy refused") from error


class _Violation(Exception):
    """The relay has sent a message that we do not accept."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


# A BufferedProtocol, because otherwise asyncio allocates 256 KiB for each read, which takes longer than
# everything else.
class RelaySocket(asyncio.BufferedProtocol):
    """A WebSocket that shares the event loop fairly with all others. `open_socket` makes it.

    Attributes:
        latency_s: how many seconds the relay took to answer the last ping; None before its first pong.

    """

    _transport: asyncio.Transport

    def __init__(self, uri: WebSocketURI) -> None:
        self.latency_s: float | None = None
        self._loop = asyncio.get_running_loop()
        self._protocol = ClientProtocol(uri, max_size=MAX_FRAME_BYTES)
        self._share = CpuShare(self._loop.time())
        # A memoryview: over TLS asyncio reads into a slice of it, and a slice of a bytearray is a copy.
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._unhandled = bytearray()
        # The status and headers that answer the handshake so far; None once they are complete.
        self._head: bytearray | None = bytearray()
        self._head_error: SecurityError | None = None
        self._fragments: list[bytes | bytearray | memoryview] = []
        self._is_text = True
        self._is_listening = False
        # Messages that came with the answer to the handshake, before `listen`.
        self._early_messages: list[Message] = []
        self._on_message: Callable[[Message], object] = self._early_messages.append
        self._on_writable: Callable[[], object] = lambda: None
        # The ping without a pong: its payload, and when it was sent.
        self._pinged: tuple[bytes, float] | None = None
        self._handshake_ended = asyncio.Event()
        self._writable = asyncio.Event()
        self._lost = asyncio.Event()
        self._next_turn: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    async def handshake(self) -> None:
        """Wait for the relay's answer to the handshake.

        Raises:
            InvalidHandshake: the server is not a relay, or refuses us. SecurityError: its answer is too
                long.

        """
        await self._handshake_ended.wait()
        if error := self._head_error or self._protocol.handshake_exc:
            raise error

    def listen(self, on_message: Callable[[Message], None], on_writable: Callable[[], None]) -> None:
        """Begin to deliver messages and to ping. Until then, nothing is read.

        Args:
            on_message: called with every message, text or binary. Must not raise or wait.
            on_writable: called when the relay has read enough so that more can be sent.

        """
        self._is_listening = True
        self._on_message, self._on_writable = on_message, on_writable
        self._ping()
        for message in self._early_messages:
            on_message(message)
        self._early_messages.clear()
        if self._next_turn is None:
            self._handle()

    @property
    def is_open(self) -> bool:
        """True if the connection is open."""
        return self._protocol.state is State.OPEN and not self._transport.is_closing()

    @property
    def can_send(self) -> bool:
        """True if the connection is open and the relay reads what we send."""
        return self._writable.is_set() and self.is_open

    def send(self, text: str) -> None:
        """Send a text message without waiting. Call it only if `can_send` is True."""
        self._protocol.send_text(text.encode())
        self._write()

    async def drain(self) -> None:
        """Wait until the relay reads what we send, or the connection has ended."""
        await self._writable.wait()

    async def close(self) -> None:
        """Close the connection, after at most CLOSE_TIMEOUT_S seconds."""
        if not self._writable.is_set():  # the relay does not read, so it would not get a Close frame
            self.abort()
        elif self.is_open:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._write()
        await self.wait_closed()

    def abort(self) -> None:
        """End the connection at once, without a Close frame."""
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended."""
        await self._lost.wait()

    @property
    def close_exc(self) -> ConnectionClosed:
        """Why the connection has ended. Use it only after `wait_closed`."""
        return self._protocol.close_exc

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake, which names no program (a User-Agent would)."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(MAX_UNREAD_BYTES)
        self._writable.set()
        self._protocol.send_request(self._protocol.connect())
        self._write()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return the buffer to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle received bytes for one turn, and the rest in later turns. Meanwhile nothing is read."""
        self._unhandled += self._buffer[:nbytes]
        if self._next_turn is None:
            self._handle()

    def eof_received(self) -> None:
        """End the connection, and drop unhandled bytes.

        Over TLS, the end can arrive together with the bytes before it, even though reading is paused.
        """
        self._drop_unhandled()
        self._protocol.receive_eof()
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Drop unhandled bytes, stop the timers and wake whoever waits."""
        self._drop_unhandled()
        for timer in (self._next_turn, self._ping_timer, self._unread_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        self._protocol.receive_eof()
        self._handshake_ended.set()
        self._writable.set()
        self._lost.set()

    def pause_writing(self) -> None:
        """Start the timeout of a relay that is slow or does not read."""
        self._writable.clear()
        self._unread_timer = self._loop.call_later(UNREAD_TIMEOUT_S, self.abort)

    def resume_writing(self) -> None:
        """Stop the timeout: the relay has read."""
        self._writable.set()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        self._on_writable()

    # Reading

    @property
    def _is_ready(self) -> bool:
        """True if bytes can be handled: during the handshake, and after `listen`."""
        return self._is_listening or not self._handshake_ended.is_set()

    @property
    def _has_work(self) -> bool:
        return bool(self._unhandled) and self._is_ready and not self._transport.is_closing()

    def _handle(self) -> None:
        """Handle received bytes for one turn. Then read more, or plan the next turn."""
        self._next_turn = None
        began_s = time.thread_time()
        used_s = 0.0
        while self._has_work and used_s < TURN_S:
            piece = bytes(self._unhandled[:PIECE_BYTES])
            del self._unhandled[:PIECE_BYTES]
            self._handle_piece(piece)
            used_s = time.thread_time() - began_s
        pause_s = self._share.pause_after(used_s, self._loop.time())
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES_WITH_PONGS:
            self.abort()
        elif not self._is_ready:
            self._transport.pause_reading()  # until `listen`
        elif pause_s or self._has_work:
            self._transport.pause_reading()
            self._next_turn = self._loop.call_later(pause_s, self._handle)
        else:
            self._transport.resume_reading()

    def _handle_piece(self, piece: bytes) -> None:
        if self._head is not None:
            self._head += piece
            if b"\r\n\r\n" in self._head:
                self._head = None
            elif len(self._head) > MAX_HEAD_BYTES:
                self._head_error = SecurityError(f"more than {MAX_HEAD_BYTES} bytes of headers")
                self.abort()
                return
        self._protocol.receive_data(piece)
        self._write()
        try:
            for event in self._protocol.events_received():
                if not self._transport.is_closing():
                    self._handle_event(event)
        except _Violation as error:
            self._drop_unhandled()
            self._fail(error.code, error.reason)

    def _handle_event(self, event: object) -> None:
        match event:
            case Frame(opcode=Opcode.TEXT | Opcode.BINARY | Opcode.CONT):
                self._add_fragment(event)
            case Frame(opcode=Opcode.PONG, data=payload):
                self._on_pong(bytes(payload))
            case Response():
                self._handshake_ended.set()

    def _add_fragment(self, frame: Frame) -> None:
        """Add one part of a message, and deliver the message if it is the last.

        Raises:
            _Violation: the message has too many fragments, or is text that is not UTF-8.

        """
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._fragments.append(frame.data)
        if len(self._fragments) > MAX_FRAGMENTS:
            raise _Violation(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        if not frame.fin:
            return
        data = b"".join(self._fragments)
        self._fragments.clear()
        try:
            message = data.decode() if self._is_text else data
        except UnicodeDecodeError:
            raise _Violation(CloseCode.INVALID_DATA, "not UTF-8") from None
        self._on_message(message)

    def _drop_unhandled(self) -> None:
        self._unhandled.clear()
        self._fragments.clear()

    # Writing

    def _write(self) -> None:
        """Write what websockets has to send: call it after every other call of `_protocol`."""
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:  # the relay has ended the stream, or the handshake has failed
                self.abort()
        if self._close_timer is None and self._protocol.close_expected():
            self._close_timer = self._loop.call_later(CLOSE_TIMEOUT_S, self.abort)

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Send a Close frame, and receive nothing more."""
        self._protocol.fail(code, reason)
        self._write()

    def _ping(self) -> None:
        """Send a ping, or give up if the last one has no pong yet."""
        if not self.is_open:
            return
        if self._pinged is not None:
            self._fail(CloseCode.INTERNAL_ERROR, NO_PONG)
            return
        payload = os.urandom(4)
        self._pinged = payload, self._loop.time()
        self._protocol.send_ping(payload)
        self._write()
        self._ping_timer = self._loop.call_later(PING_INTERVAL_S, self._ping)

    def _on_pong(self, payload: bytes) -> None:
        if self._pinged is not None and payload == self._pinged[0]:
            self.latency_s = self._loop.time() - self._pinged[1]
            self._pinged = None
