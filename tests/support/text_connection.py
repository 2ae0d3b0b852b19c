"""A WebSocket connection for benchmarks that uses as little CPU time as possible.

The app and the relay of a benchmark share the machine with the node, so lightningd lacks the CPU time
that they use. With picows (on its own transport, aiofastnet) and uvloop, the way to the relay and back
takes half as long as with websockets on asyncio (0.12 ms instead of 0.24), and lightningd makes 3 % more
invoices.
"""

import asyncio

from picows import WSFrame, WSListener, WSMsgType, WSTransport

_CLOSE_TIMEOUT_S = 5


class TextConnection(WSListener):
    """One end of a connection that carries texts, each in one frame."""

    def __init__(self) -> None:
        self._transport: WSTransport | None = None
        self._is_writable = asyncio.Event()
        self._is_writable.set()

    def begun(self) -> None:
        """Act on the start of the connection; subclasses override it."""

    def received(self, text: str) -> None:
        """Act on a text of the other end; subclasses override it."""

    def lost(self) -> None:
        """Act on the end of the connection; subclasses override it."""

    @property
    def is_open(self) -> bool:
        """True if texts can be sent."""
        return self._transport is not None and not self._transport.is_disconnected

    def send(self, text: str) -> None:
        """Send a text without waiting; do nothing if there is no connection yet."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, text)

    async def drain(self) -> None:
        """Wait while the other end does not keep up."""
        await self._is_writable.wait()

    async def close(self) -> None:
        """Close the connection, or abort it if the other end does not answer within 5 s."""
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
        """End the connection without a closing handshake."""
        if self._transport is not None:
            self._transport.underlying_transport.abort()

    # Called by picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Store the transport of the new connection."""
        self._transport = transport
        self.begun()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass on a text, or end the connection if the other end closes it."""
        if frame.msg_type == WSMsgType.TEXT:
            self.received(frame.get_payload_as_utf8_text())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Release `drain` and announce the end."""
        self._is_writable.set()
        self.lost()

    def pause_writing(self) -> None:
        """Make `drain` wait: the send buffer is full."""
        self._is_writable.clear()

    def resume_writing(self) -> None:
        """Release `drain`: the send buffer has room again."""
        self._is_writable.set()
