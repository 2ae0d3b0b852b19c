"""One connection to lightningd's RPC socket: the bytes of a request out, those of its answer in.

It carries one request at a time. Any fault (hung up, too long, given up) closes the connection, as do
bytes that no request asked for. So no request can get the answer to another.
"""

import asyncio
import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from pyln.client.lightning import UnixSocket

# lightningd lists all records of one kind in one answer: 10,000 connections are some 50 MB.
MAX_ANSWER_BYTES = 256 * 1024 * 1024

_END_OF_ANSWER = b"\n\n"

# Called once, with the answer or the reason why there is none, in the loop iteration that reads it.
Listener = Callable[[bytearray | Exception], None]


class RpcConnection(asyncio.BufferedProtocol):
    """A connection to lightningd, idle or with one request in flight.

    asyncio's streams would take two more loop iterations for each answer, and allocate 256 KiB for each
    read.

    Args:
        buffer: for reading. Each read is copied out of it at once, so all connections share one.

    """

    _transport: asyncio.Transport

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._received = bytearray()
        self._listener: Listener | None = None
        self._unread = select.poll()

    @classmethod
    async def open(cls, path: str, thread: ThreadPoolExecutor, buffer: memoryview) -> Self:
        """Return a new connection. A thread connects: that blocks if lightningd's queue is full."""
        loop = asyncio.get_running_loop()
        connected = await loop.run_in_executor(thread, _connected_socket, path)
        _, connection = await loop.create_unix_connection(lambda: cls(buffer), sock=connected)
        return connection

    def ask(self, request: bytes, listener: Listener) -> None:
        """Send a request; the listener gets the answer."""
        self._listener = listener
        self._transport.write(request)

    @property
    def is_fit_for_use(self) -> bool:
        """Return True if lightningd sent nothing since the last answer and has not hung up."""
        # `poll` also sees what the loop has not read yet: a closed connection would lose the request.
        return not self._transport.is_closing() and not self._unread.poll(0)

    def close(self) -> None:
        """Hang up. The listener is not called any more."""
        self._listener = None
        self._transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._unread.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return the buffer for the next read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Search the newly read bytes for the end of the answer; a long answer comes in many pieces."""
        searched = max(len(self._received) - len(_END_OF_ANSWER) + 1, 0)
        self._received += self._buffer[:nbytes]
        end = self._received.find(_END_OF_ANSWER, searched)
        if self._listener is None:
            self.close()
        elif end >= 0:
            self._answered(self._listener, end)
        elif len(self._received) > MAX_ANSWER_BYTES:
            self._fail(OverflowError())

    def eof_received(self) -> None:
        """Fail the request in flight: lightningd has hung up."""
        self._fail(EOFError())

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request in flight. There is none if this side has closed the connection."""
        self._fail(exc or EOFError())

    # Inside

    def _answered(self, listener: Listener, end: int) -> None:
        answer, self._received, self._listener = self._received, bytearray(), None
        if len(answer) > end + len(_END_OF_ANSWER):
            self.close()  # no request asked for the rest
        del answer[end:]
        listener(answer)

    def _fail(self, error: Exception) -> None:
        listener = self._listener
        self.close()
        if listener is not None:
            listener(error)


def _connected_socket(path: str) -> Any:
    """Return a connected socket. pyln can connect to a path that is too long for a socket address."""
    connecting = UnixSocket(path)
    connected, connecting.sock = connecting.sock, None  # its destructor would close the socket
    return connected
