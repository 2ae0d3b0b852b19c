"""A WebSocket to a stranger, who gets a share of our time and memory and no more.

websockets handles at once whatever has come: a quarter of a megabyte of empty frames, or of pings, takes
it seconds. And its `send`, its keepalive and its `close` wait for ever on a peer that does not read.
"""

import asyncio
import contextlib
import time
from typing import Any

from websockets.asyncio.client import ClientConnection

from nwc.nostr.time_share import TimeShare

# CPU time that one connection takes before the others have their turn.
TURN_S = 0.002
# Bytes handled without a look at the clock: some hundred frames at worst.
PIECE_BYTES = 512
# Answers to pings are written whether or not anybody reads them.
MAX_UNSENT_BYTES = 1 << 20
# How long a peer may leave unread what we send.
UNREAD_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 2.0


class BoundedConnection(ClientConnection):
    """A connection that shares the event loop with others and lets nobody hold it up.

    Attributes:
        share: what the peer has taken of our time. Who handles its messages counts there what they take.

    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.share = TimeShare(self.loop.time())
        self._unhandled = bytearray()
        self._queue_is_full = False
        self._next_turn: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, whether or not the peer listens."""
        if self._patience is None:  # else there is no room for a goodbye
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await super().close(code, reason)
        self.transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the place of the transport where websockets wants reading paused."""
        super().connection_made(transport)
        self.recv_messages.pause = self._queue_filled
        self.recv_messages.resume = self._queue_emptied

    def data_received(self, data: bytes) -> None:
        """Handle a turn's worth, the rest later. Nothing is read meanwhile."""
        self._unhandled += data
        if self._next_turn is None:
            self._handle()

    def eof_received(self) -> None:
        """Forget what has not been handled: websockets takes nothing after the end.

        Over TLS the end comes although reading is paused.
        """
        self._unhandled.clear()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what has not been handled; as lost as what was not received."""
        self._unhandled.clear()
        for timer in (self._next_turn, self._patience):
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

    # Inside

    def _queue_filled(self) -> None:
        self._queue_is_full = True
        self.transport.pause_reading()

    def _queue_emptied(self) -> None:
        self._queue_is_full = False
        if self._next_turn is None:
            self._handle()

    def _handle(self) -> None:
        self._next_turn = None
        began = time.thread_time()
        while self._unhandled and not self._queue_is_full:
            piece = bytes(self._unhandled[:PIECE_BYTES])
            del self._unhandled[:PIECE_BYTES]
            super().data_received(piece)
            if time.thread_time() - began >= TURN_S:
                break
        pause_s = self.share.pause_after(time.thread_time() - began, self.loop.time())
        # After a handshake that failed websockets would read on, until the peer comes to an end.
        has_failed = self.protocol.handshake_exc is not None
        if has_failed or self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.transport.abort()
        elif pause_s or (self._unhandled and not self._queue_is_full):
            self.transport.pause_reading()
            self._next_turn = self.loop.call_later(pause_s, self._handle)
        elif self._queue_is_full:
            self.transport.pause_reading()  # until it is emptied
        else:
            self.transport.resume_reading()
