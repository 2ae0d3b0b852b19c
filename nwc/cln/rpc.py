"""JSON-RPC over lightningd's Unix socket, in the event loop, over connections that are kept open.

A call is one future, which ends once: with lightningd's answer, with the reason why there is none, or
cancelled. No call is sent twice, since lightningd may have carried it out. A connection carries one call
at a time. It is closed if its call ends without an answer, or if bytes come that no call asked for: no
call can get the answer to another. No error and no log line shows parameters or answers, which can hold
secrets.
"""

import asyncio
import itertools
import json
import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyln.client.lightning import UnixSocket

from nwc.cln.errors import NodeError, NodeUnavailableError, RpcCallError
from nwc.nostr.encoding import to_json
from nwc.tasks import Tasks

# Further connections are opened on demand and closed after use. lightningd keeps 2 MB for each.
MAX_IDLE = 16
# lightningd lists all records of one kind in one answer: 10,000 connections are some 50 MB.
MAX_ANSWER_BYTES = 256 * 1024 * 1024
# The most that one read returns: as much as a Unix socket buffers.
READ_BYTES = 256 * 1024

_END_OF_ANSWER = b"\n\n"

Json = dict[str, Any]
Params = Json | list[Any]
# Ends with the result of a call or a NodeError. That is a value and not an exception, since asyncio logs
# exceptions that nobody awaits, such as those of calls whose caller was cancelled.
Outcome = asyncio.Future[Any]


class RpcSocket:
    """lightningd's RPC socket. Used inside the event loop.

    Args:
        path: of the socket.

    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[_Connection] = []
        # Each read is copied out of it at once, so all connections share one.
        self._buffer = memoryview(bytearray(READ_BYTES))
        # A thread of its own, since the loop's threads may all wait for name servers of relays.
        self._connecting = ThreadPoolExecutor(1, "nwc-rpc")
        self._opening = Tasks()
        self._numbers = itertools.count(1)
        self._is_closed = False

    def close(self) -> None:
        """Refuse further calls, and end those that wait for a connection. Others end by themselves."""
        self._is_closed = True
        self._connecting.shutdown(wait=False)
        self._opening.cancel()  # the thread may wait for lightningd for ever
        while self._idle:
            self._idle.pop().close()

    def send(
        self, method: str, params: Params, *, timeout_s: float | None = None, name: str = ""
    ) -> Outcome:
        """Send a call and return its outcome, for `result_of`. To cancel the outcome is to hang up.

        Args:
            method: the RPC method.
            params: by name, or a list by position.
            timeout_s: seconds until the call is given up; None for never.
            name: unique; part of the JSON-RPC id, which lightningd logs and keeps with reservations. A
                number by default.

        Raises:
            NodeUnavailableError: the parameters cannot be sent: text without UTF-8, or nested too deep.

        """
        call = _Call(method, params, name or str(next(self._numbers)))
        if timeout_s is not None:
            timer = asyncio.get_running_loop().call_later(timeout_s, call.fail, "no answer in time")
            call.outcome.add_done_callback(lambda _: timer.cancel())
        connection = self._take_idle()
        if connection is not None:
            connection.send(call)
        else:
            opening = self._opening.spawn(self._open_for(call))
            opening.add_done_callback(call.opening_ended)
            call.outcome.add_done_callback(lambda _: opening.cancel())
        return call.outcome

    def _take_idle(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit_for_use:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: "_Connection") -> None:
        if len(self._idle) < MAX_IDLE and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()

    async def _open_for(self, call: "_Call") -> None:
        """Open a connection for a call, and send it."""
        loop = asyncio.get_running_loop()
        try:
            # Connecting blocks if lightningd's queue is full. After `close` the thread refuses. pyln can
            # connect to a path that is too long for a socket address.
            connected: Any = await loop.run_in_executor(self._connecting, UnixSocket, self._path)
            # From here on it is ours. If this is cancelled before, its destructor closes it.
            ours, connected.sock = connected.sock, None
            _, connection = await loop.create_unix_connection(
                lambda: _Connection(self._buffer, self._give_back), sock=ours
            )
            if call.outcome.done() or not connection.is_fit_for_use:
                connection.close()
                raise EOFError
            connection.send(call)
        except Exception as error:  # no caller may wait for ever
            call.fail(error)


def result_of(outcome: Any) -> Any:
    """Return the result of a call.

    Raises:
        RpcCallError: lightningd answered with an error.
        NodeUnavailableError: lightningd is unreachable, hung up, or sent no answer in time.

    """
    if isinstance(outcome, NodeError):
        raise outcome
    return outcome


class _Call:
    __slots__ = ("_id", "_method", "outcome", "text")

    def __init__(self, method: str, params: Params, name: str) -> None:
        self._method = method
        self._id = f"nwc:{method}#{name}"
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": self._id}
        try:
            self.text = to_json(request).encode()
        except (ValueError, RecursionError) as error:  # such as lone surrogates
            raise NodeUnavailableError(f"{method}: {type(error).__name__}") from None
        self.outcome: Outcome = asyncio.get_running_loop().create_future()

    def opening_ended(self, opening: asyncio.Task[None]) -> None:
        """End if opening a connection was cancelled, perhaps before its first step."""
        if opening.cancelled():
            self.fail("closed")

    def fail(self, why: Exception | str) -> None:
        """End without an answer."""
        why = why if isinstance(why, str) else type(why).__name__
        self.end(NodeUnavailableError(f"{self._method}: {why}"))

    def end(self, outcome: Any) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def read(self, text: bytearray) -> Any:
        """Return the outcome that an answer tells; raise ValueError if it is not an answer to this."""
        answer = json.loads(text.decode(errors="surrogatepass"))
        match answer:
            case {"id": self._id, "error": {"code": int(code), "message": str(message)} as error}:
                return RpcCallError(self._method, code, message, error)
            case {"id": self._id, "result": result}:
                return result
        raise ValueError


class _Connection(asyncio.BufferedProtocol):
    """A connection, idle or with one call in flight.

    asyncio's streams would take two more loop iterations for each answer, and allocate 256 KiB for each
    read.
    """

    _transport: asyncio.Transport

    def __init__(self, buffer: memoryview, give_back: Callable[["_Connection"], None]) -> None:
        self._buffer = buffer
        self._give_back = give_back
        self._received = bytearray()
        self._call: _Call | None = None
        self._unread = select.poll()

    def send(self, call: _Call) -> None:
        self._call = call
        call.outcome.add_done_callback(lambda _: self._hang_up_on(call))
        self._transport.write(call.text)

    @property
    def is_fit_for_use(self) -> bool:
        """True if lightningd sent nothing since the last answer and has not hung up."""
        # `poll` also sees what the loop has not read yet: a closed connection would lose the request.
        return not self._transport.is_closing() and not self._unread.poll(0)

    def close(self) -> None:
        self._transport.abort()

    def _hang_up_on(self, call: _Call) -> None:
        if self._call is call:  # it has ended without an answer
            self.close()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._unread.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Search the newly read bytes for the end of the answer; a long answer comes in many pieces."""
        searched = max(len(self._received) - len(_END_OF_ANSWER) + 1, 0)
        self._received += self._buffer[:nbytes]
        end = self._received.find(_END_OF_ANSWER, searched)
        if self._call is None:
            self.close()
        elif end >= 0:
            self._answer(self._call, end)
        elif len(self._received) > MAX_ANSWER_BYTES:
            self._fail(OverflowError())

    def eof_received(self) -> None:
        self._fail(EOFError())

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or EOFError())

    def _answer(self, call: _Call, end: int) -> None:
        answer, self._received, self._call = self._received, bytearray(), None
        is_exact = len(answer) == end + len(_END_OF_ANSWER)
        del answer[end:]
        try:
            outcome = call.read(answer)
        except Exception as error:  # the caller must learn of any error
            self.close()
            call.fail(error)
            return
        if is_exact:
            self._give_back(self)
        else:
            self.close()
        call.end(outcome)

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._call is not None:
            self._call.fail(error)
            self._call = None
