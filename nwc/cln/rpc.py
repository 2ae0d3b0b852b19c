"""JSON-RPC on lightningd's Unix socket, in the event loop: no thread, and connections that are kept.

A connection carries one call at a time. Whatever goes wrong with a call (cancelled, cut off, answered
with nonsense), its connection is closed with it, so that no call can get the answer of another.
"""

import asyncio
import itertools
import json
import select
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pyln.client.lightning import UnixSocket

from nwc.cln.errors import NodeUnavailable, RpcFailed

# All that is there of one kind comes in one answer: of 10,000 connections some 50 MB.
MAX_ANSWER_BYTES = 256 * 1024 * 1024
# More are opened when they are needed, and closed again. Lightningd has a buffer of 2 MB for each.
MAX_IDLE = 16

_END_OF_ANSWER = b"\n\n"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RpcConnection:
    """A connection to lightningd, between calls or in one."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, path: str, thread: ThreadPoolExecutor) -> "RpcConnection":
        """Connect to lightningd, in a thread: it waits where lightningd has many others to take in."""
        connected = await asyncio.get_running_loop().run_in_executor(thread, _connected_socket, path)
        return cls(*await asyncio.open_unix_connection(sock=connected, limit=MAX_ANSWER_BYTES))

    def send(self, request: Json) -> None:
        """Send a request; nothing waits for lightningd to take it, but for its answer."""
        # Lone surrogates end here, as a ValueError: they have no UTF-8.
        self.writer.write(json.dumps(request, ensure_ascii=False).encode())

    async def answer(self) -> Any:
        """Read the answer to a request, which lightningd ends with an empty line."""
        return json.loads(await self.reader.readuntil(_END_OF_ANSWER))

    @property
    def is_fit_for_use(self) -> bool:
        """Tell whether lightningd has said nothing since the last answer, nor hung up."""
        if self.writer.is_closing():
            return False
        poll = select.poll()
        poll.register(self.writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


def _connected_socket(path: str) -> Any:
    """Connect the way pyln does, which knows how to reach a path that is too long for an address."""
    connecting = UnixSocket(path)
    connected, connecting.sock = connecting.sock, None  # its end would close it
    return connected


class RpcSocket:
    """lightningd's RPC socket. Used inside the event loop.

    Args:
        path: of the socket.

    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[RpcConnection] = []
        # asyncio refers to a stream's reader only weakly, and the reader to whom waits for it: without
        # this, a call nobody else knows of could be collected as garbage while it waits.
        self._in_use: set[RpcConnection] = set()
        # Of its own: the loop's own threads may all wait for name servers, on behalf of relays.
        self._connecting = ThreadPoolExecutor(1, "nwc-rpc")
        self._numbers = itertools.count(1)
        self._is_closed = False

    def close(self) -> None:
        """Take no more calls. Those under way end by themselves."""
        self._is_closed = True
        self._connecting.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            self._idle.pop().close()

    async def call(self, method: str, params: Json) -> Any:
        """Call a method and return its result.

        A call that was begun is never sent again: lightningd may have carried it out. Nor does it end
        there when the caller is cancelled; only its answer is lost.

        Raises:
            RpcFailed: lightningd answered with an error.
            NodeUnavailable: lightningd is not there, hung up, or said what is no answer.

        """
        # None of this may show what was asked or answered: there are secrets in it.
        try:
            answer = await self._ask(method, params)
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError, RecursionError) as error:
            raise NodeUnavailable(f"{method}: {type(error).__name__}") from None
        match answer:
            case {"error": {"code": int(code), "message": str(message)}}:
                raise RpcFailed(method, code, message)
            case {"result": result}:
                return result
            case _:
                raise NodeUnavailable(f"{method}: neither a result nor an error")

    async def _ask(self, method: str, params: Json) -> Any:
        call_id = f"nwc:{method}#{next(self._numbers)}"
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": call_id}
        connection = await self._take()
        self._in_use.add(connection)
        answer = None
        try:
            connection.send(request)
            answer = await connection.answer()
        finally:
            is_of_this_call = isinstance(answer, dict) and answer.get("id") == call_id
            self._give_back(connection, is_usable=is_of_this_call)
        if not is_of_this_call:
            raise ValueError
        return answer

    async def _take(self) -> RpcConnection:
        if self._is_closed:
            raise OSError
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit_for_use:
                return connection
            connection.close()
        return await RpcConnection.open(self._path, self._connecting)

    def _give_back(self, connection: RpcConnection, *, is_usable: bool) -> None:
        self._in_use.discard(connection)
        if is_usable and len(self._idle) < MAX_IDLE and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()
