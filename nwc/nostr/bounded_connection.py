"""A WebSocket connection that limits how much CPU time and memory a hostile peer can take.

A message is handled in the step of the event loop in which it was read, without a queue or a task, and
nothing more is read until it has been handled. websockets alone handles everything it has read at once:
for 256 KB of empty frames or pings this takes seconds. Its `send`, keepalive and `close` also wait for
ever on a peer that does not read.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Event, State

from nwc.nostr.cpu_share import CpuShare

# CPU time that one connection may use before the others get their turn.
TURN_S = 0.002
# How many bytes are handled between looks at the clock: at worst some hundred frames, and most messages
# whole.
PIECE_BYTES = 1024
READ_BYTES = 16 * 1024
MAX_FRAGMENTS = 1024
# Pongs are written even if the peer does not read them.
MAX_UNSENT_BYTES = 1 << 20
# How long a peer may leave our frames unread.
UNREAD_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 2.0

Message = str | bytes


# A BufferedProtocol, because otherwise asyncio allocates 256 KiB for each read, which takes longer than
# everything else.
class BoundedConnection(ClientConnection, asyncio.BufferedProtocol):
    """A connection that shares the event loop fairly with all others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._share = CpuShare(self.loop.time())
        # A memoryview: over TLS asyncio reads into a slice of it, and a slice of a bytearray is a copy.
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._unhandled = bytearray()
        self._fragments: list[bytes | bytearray | memoryview] = []
        self._is_text = True
        self._has_failed = False
        # Messages that came with the answer to the handshake, before `listen`.
        self._early_messages: list[Message] = []
        self._on_message: Callable[[Message], None] | None = None
        self._on_writable: Callable[[], None] | None = None
        self._next_turn: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    def listen(self, on_message: Callable[[Message], None], on_writable: Callable[[], None]) -> None:
        """Begin to deliver messages. Until then, none is read.

        Args:
            on_message: called with every message, text or binary. Must not raise or wait.
            on_writable: called when the peer has read enough so that more can be sent.

        """
        self._on_message, self._on_writable = on_message, on_writable
        early, self._early_messages = self._early_messages, []
        for message in early:
            on_message(message)
        if self._next_turn is None:
            self._handle()

    @property
    def is_open(self) -> bool:
        """True if the connection is open."""
        return self.protocol.state is State.OPEN and not self.transport.is_closing()

    @property
    def can_send(self) -> bool:
        """True if the connection is open and the peer reads what we send."""
        return not self.paused and self.is_open

    def send_now(self, text: str) -> None:
        """Send a text message without waiting. Call it only if `can_send` is True."""
        self.protocol.send_text(text.encode())
        self.send_data()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, after at most CLOSE_TIMEOUT_S seconds."""
        if self._unread_timer is None:  # else the peer does not read, so it would not get a Close frame
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await super().close(code, reason)
        self.transport.abort()

    # Called by the event loop

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return the buffer to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle the bytes that were read into the buffer."""
        self.data_received(self._buffer[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        """Handle received bytes for one turn, and the rest in later turns. Meanwhile nothing is read."""
        self._unhandled += data
        if self._next_turn is None:
            self._handle()

    def eof_received(self) -> None:
        """Drop unhandled bytes: websockets accepts nothing after the end of the stream.

        Over TLS, the end can arrive together with the bytes before it, even though reading is paused.
        """
        self._unhandled.clear()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop unhandled bytes and stop the timers."""
        self._unhandled.clear()
        for timer in (self._next_turn, self._unread_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the timeout of a peer that is slow or does not read."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timeout: the peer has read."""
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        super().resume_writing()
        if self._on_writable is not None:
            self._on_writable()

    def process_event(self, event: Event) -> None:
        """Handle what websockets has parsed: the handshake, a control frame or a part of a message."""
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._add_fragment(event)
        else:
            super().process_event(event)

    # Inside

    def _add_fragment(self, frame: Frame) -> None:
        if self._has_failed or self.transport.is_closing():
            return
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._fragments.append(frame.data)
        if len(self._fragments) > MAX_FRAGMENTS:
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        elif frame.fin:
            data = b"".join(self._fragments)
            self._fragments.clear()
            self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        try:
            message = data.decode() if self._is_text else data
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "not UTF-8")
            return
        if self._on_message is None:
            self._early_messages.append(message)
        else:
            self._on_message(message)

    def _fail(self, code: CloseCode, reason: str) -> None:
        self._has_failed = True
        self._fragments.clear()
        self.protocol.fail(code, reason)
        self.send_data()

    @property
    def _is_ready(self) -> bool:
        """True if bytes can be handled: during the handshake, and after `listen`."""
        return self.response is None or self._on_message is not None

    def _handle(self) -> None:
        self._next_turn = None
        began_s = time.thread_time()
        used_s = 0.0
        while self._unhandled and self._is_ready:
            piece = bytes(self._unhandled[:PIECE_BYTES])
            del self._unhandled[:PIECE_BYTES]
            super().data_received(piece)
            used_s = time.thread_time() - began_s
            if used_s >= TURN_S:
                break
        pause_s = self._share.pause_after(used_s, self.loop.time())
        # After a failed handshake, websockets would read until the peer closes the connection.
        has_failed = self.protocol.handshake_exc is not None
        if has_failed or self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.transport.abort()
        elif pause_s or (self._unhandled and self._is_ready):
            self.transport.pause_reading()
            self._next_turn = self.loop.call_later(pause_s, self._handle)
        elif not self._is_ready:
            self.transport.pause_reading()  # until `listen`
        else:
            self.transport.resume_reading()
        if self._close_timer is None and self.protocol.state is State.CLOSING:
            self._close_timer = self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)
