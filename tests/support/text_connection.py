"""A WebSocket connection for what measures, and should cost next to nothing beside what it measures.

The processes of a benchmark share a machine with the node: what an app and a relay use there, lightningd
lacks. With picows (on its own transport, aiofastnet) and uvloop, the way over the relay and back takes
half of what it took with websockets on asyncio (0.12 ms instead of 0.24), and lightningd makes 3 % more
invoices.
"""

import asyncio

from picows import WSFrame, WSListener, WSMsgType, WSTransport

_CLOSE_TIMEOUT_S = 5


class TextConnection(WSListener):
    """One end of a connection over which go texts, each in one frame."""

    def __init__(self) -> None:
        self._transport: WSTransport | None = None
        self._is_writable = asyncio.Event()
        self._is_writable.set()

    def begun(self) -> None:
        """Take note of the beginning of the connection."""

    def received(self, text: str) -> None:
        """Take what came."""

    def lost(self) -> None:
        """Take note of the end of the connection."""

    @property
    def is_open(self) -> bool:
        """Tell whether something can be sent."""
        return self._transport is not None and not self._transport.is_disconnected

    def send(self, text: str) -> None:
        """Send a text; waits for nobody."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, text)

    async def drain(self) -> None:
        """Wait where the other end does not keep up."""
        await self._is_writable.wait()

    async def close(self) -> None:
        """End the connection, whether or not the other end takes note."""
        if self._transport is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                self._transport.send_close()
                self._transport.disconnect()
                await self._transport.wait_disconnected()
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """End the connection without a word."""
        if self._transport is not None:
            self._transport.underlying_transport.abort()

    # Called by picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take note of the connection."""
        self._transport = transport
        self.begun()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hand on a text, and end when the other end wants to."""
        if frame.msg_type == WSMsgType.TEXT:
            self.received(frame.get_payload_as_utf8_text())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Pass on that it is over; who waits to send need not."""
        self._is_writable.set()
        self.lost()

    def pause_writing(self) -> None:
        """Much is still to be sent."""
        self._is_writable.clear()

    def resume_writing(self) -> None:
        """Most of it is."""
        self._is_writable.set()
