"""One connection to lightningd's RPC socket: the bytes of a request out, those of its answer in.

It carries one request at a time. Whatever goes wrong with one (hung up, too long, given up) closes the
connection, as does what lightningd says unasked: no request can get the answer of another.
"""

import asyncio
import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from pyln.client.lightning import UnixSocket

# All that is there of one kind comes in one answer: of 10,000 connections some 50 MB.
MAX_ANSWER_BYTES = 256 * 1024 * 1024

_END_OF_ANSWER = b"\n\n"

# Called once, with the answer to a request or why there is none, in the step of the loop that reads it.
Listener = Callable[[bytearray | Exception], None]


class RpcConnection(asyncio.BufferedProtocol):
    """A connection to lightningd, between requests or in one.

    A protocol of its own, since asyncio's streams take two steps of the loop more for each answer, and
    new memory of 256 KiB for each read.

    Args:
        buffer: to read into. What is read is taken out of it at once, so all connections can have one.

    """

    _transport: asyncio.Transport

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._received = bytearray()
        self._listener: Listener | None = None
        self._unread = select.poll()

    @classmethod
    async def open(cls, path: str, thread: ThreadPoolExecutor, buffer: memoryview) -> Self:
        """Connect to lightningd, in a thread: it waits where lightningd has many others to take in."""
        loop = asyncio.get_running_loop()
        connected = await loop.run_in_executor(thread, _connected_socket, path)
        _, connection = await loop.create_unix_connection(lambda: cls(buffer), sock=connected)
        return connection

    def ask(self, request: bytes, listener: Listener) -> None:
        """Send a request; nothing waits for lightningd to take it, but for its answer."""
        self._listener = listener
        self._transport.write(request)

    @property
    def is_fit_for_use(self) -> bool:
        """Tell whether lightningd has said nothing since the last answer, nor hung up."""
        # Also what the loop has not read yet: no request may be lost to a connection that has ended.
        return not self._transport.is_closing() and not self._unread.poll(0)

    def close(self) -> None:
        """Hang up. Who listens for an answer hears no more."""
        self._listener = None
        self._transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the socket."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._unread.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return where to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read, and search no more than that: a long answer comes in many pieces."""
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
        """Lightningd hangs up."""
        self._fail(EOFError())

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who listens; closed by us, nobody does."""
        self._fail(exc or EOFError())

    # Inside

    def _answered(self, listener: Listener, end: int) -> None:
        answer, self._received, self._listener = self._received, bytearray(), None
        if len(answer) > end + len(_END_OF_ANSWER):
            self.close()  # nobody has asked for what follows
        del answer[end:]
        listener(answer)

    def _fail(self, error: Exception) -> None:
        listener = self._listener
        self.close()
        if listener is not None:
            listener(error)


def _connected_socket(path: str) -> Any:
    """Connect the way pyln does, which knows how to reach a path that is too long for an address."""
    connecting = UnixSocket(path)
    connected, connecting.sock = connecting.sock, None  # its end would close it
    return connected
