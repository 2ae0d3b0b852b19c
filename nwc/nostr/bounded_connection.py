"""A WebSocket to a stranger, who gets a share of our time and memory and no more.

A message is handled as soon as it has come, in the same step of the event loop: there is no queue and no
task that waits for it, and what is not handled is not read. websockets itself handles at once whatever
has come: a quarter of a megabyte of empty frames, or of pings, takes it seconds. And its `send`, its
keepalive and its `close` wait for ever on a peer that does not read.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Event, State

from nwc.nostr.cpu_share import TimeShare

# CPU time that one connection takes before the others have their turn.
TURN_S = 0.002
# Bytes handled without a look at the clock: some hundred frames at worst, and most messages whole.
PIECE_BYTES = 1024
READ_BYTES = 16 * 1024
MAX_FRAGMENTS = 1024
# Answers to pings are written whether or not anybody reads them.
MAX_UNSENT_BYTES = 1 << 20
# How long a peer may leave unread what we send.
UNREAD_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 2.0

Message = str | bytes


# Buffered, since asyncio else has 256 KiB allocated for each read, which takes longer than all the rest.
class BoundedConnection(ClientConnection, asyncio.BufferedProtocol):
    """A connection that shares the event loop with others and lets nobody hold it up."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._share = TimeShare(self.loop.time())
        # A view: over TLS asyncio reads on into a slice of it, which of a bytearray would be a copy.
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._unhandled = bytearray()
        self._fragments: list[bytes | bytearray | memoryview] = []
        self._is_text = True
        self._has_failed = False
        # What came with the answer to the handshake, before there is anybody to listen.
        self._early: list[Message] = []
        self._on_message: Callable[[Message], None] | None = None
        self._on_writable: Callable[[], None] | None = None
        self._next_turn: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None

    def listen(self, on_message: Callable[[Message], None], on_writable: Callable[[], None]) -> None:
        """Begin to hand on messages; until then none is read.

        Args:
            on_message: called with every message, text or binary. Must not raise or wait.
            on_writable: called when the peer has read so much that more can be sent.

        """
        self._on_message, self._on_writable = on_message, on_writable
        early, self._early = self._early, []
        for message in early:
            on_message(message)
        if self._next_turn is None:
            self._handle()

    @property
    def is_open(self) -> bool:
        """Tell whether the connection is not at its end."""
        return self.protocol.state is State.OPEN and not self.transport.is_closing()

    @property
    def can_send(self) -> bool:
        """Tell whether the connection is open, and the peer reads what is sent to it."""
        return not self.paused and self.is_open

    def send_now(self, text: str) -> None:
        """Send a text message where `can_send`; nothing waits until the peer has taken it."""
        self.protocol.send_text(text.encode())
        self.send_data()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, whether or not the peer listens."""
        if self._patience is None:  # else there is no room for a goodbye
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await super().close(code, reason)
        self.transport.abort()

    # Called by the event loop

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(self._buffer[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        """Handle a turn's worth, the rest later. Nothing is read meanwhile."""
        self._unhandled += data
        if self._next_turn is None:
            self._handle()

    def eof_received(self) -> None:
        """Forget what has not been handled: websockets takes nothing after the end.

        Over TLS the end may come with what is before it, although that has reading paused.
        """
        self._unhandled.clear()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what has not been handled; as lost as what was not received."""
        self._unhandled.clear()
        for timer in (self._next_turn, self._patience, self._end):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer is slow, or does not read at all."""
        super().pause_writing()
        self._patience = self.loop.call_later(UNREAD_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        super().resume_writing()
        if self._on_writable is not None:
            self._on_writable()

    def process_event(self, event: Event) -> None:
        """Take what websockets has made of a piece: its handshake, a pong, or a part of a message."""
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._take(event)
        else:
            super().process_event(event)

    # Inside

    def _take(self, frame: Frame) -> None:
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
            self._hand_on(data)

    def _hand_on(self, data: bytes) -> None:
        try:
            message = data.decode() if self._is_text else data
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "not UTF-8")
            return
        if self._on_message is None:
            self._early.append(message)
        else:
            self._on_message(message)

    def _fail(self, code: CloseCode, reason: str) -> None:
        self._has_failed = True
        self._fragments.clear()
        self.protocol.fail(code, reason)
        self.send_data()

    @property
    def _is_ready(self) -> bool:
        """Tell whether somebody takes what comes: websockets the handshake, a listener the messages."""
        return self.response is None or self._on_message is not None

    def _handle(self) -> None:
        self._next_turn = None
        began = time.thread_time()
        taken_s = 0.0
        while self._unhandled and self._is_ready:
            piece = bytes(self._unhandled[:PIECE_BYTES])
            del self._unhandled[:PIECE_BYTES]
            super().data_received(piece)
            taken_s = time.thread_time() - began
            if taken_s >= TURN_S:
                break
        pause_s = self._share.pause_after(taken_s, self.loop.time())
        # After a handshake that failed websockets would read on, until the peer comes to an end.
        has_failed = self.protocol.handshake_exc is not None
        if has_failed or self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.transport.abort()
        elif pause_s or (self._unhandled and self._is_ready):
            self.transport.pause_reading()
            self._next_turn = self.loop.call_later(pause_s, self._handle)
        elif not self._is_ready:
            self.transport.pause_reading()  # until somebody listens
        else:
            self.transport.resume_reading()
        if self._end is None and self.protocol.state is State.CLOSING:
            self._end = self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)
