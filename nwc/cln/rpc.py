"""JSON-RPC over lightningd's Unix socket, in the event loop, over connections that are kept open.

If a connection is idle, a request is written at once, and the caller resumes in the loop iteration after
the one that reads the answer. A call runs to its end even if its caller is cancelled.
"""

import asyncio
import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from nwc.cln.errors import NodeError, NodeUnavailableError, RpcCallError
from nwc.cln.rpc_connection import RpcConnection
from nwc.tasks import Tasks

# Further connections are opened on demand and closed after use. lightningd keeps 2 MB for each.
MAX_IDLE = 16
# The most that one read returns: as much as a Unix socket buffers.
READ_BYTES = 256 * 1024

Json = dict[str, Any]
Params = Json | list[Any]
Action = Callable[[], object]

# json.dumps would make a new encoder for each call.
_encoder = json.JSONEncoder(ensure_ascii=False)


def _nothing() -> None:
    pass


class RpcCall:
    """One call. It ends once: with lightningd's answer, without an answer, or given up.

    No error shows the parameters or the answer: they can hold secrets.

    Args:
        method: the RPC method.
        params: its parameters.
        name: unique; part of the JSON-RPC id, which lightningd logs and keeps with reservations.

    Attributes:
        text: the request as sent.

    Raises:
        NodeUnavailableError: the parameters cannot be sent: text without UTF-8, or nested too deep.

    """

    __slots__ = ("_drop", "_ended", "_id", "_is_over", "_method", "_outcome", "_timer", "text")

    def __init__(self, method: str, params: Params, name: str) -> None:
        self._method = method
        self._id = f"nwc:{method}#{name}"
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": self._id}
        try:
            self.text = _encoder.encode(request).encode()
        except (ValueError, RecursionError) as error:  # such as lone surrogates
            raise NodeUnavailableError(f"{method}: {type(error).__name__}") from None
        self._drop: Action = _nothing
        self._ended: Action = _nothing
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        # Errors are stored as values: an exception that nobody awaits would reach the loop's handler.
        self._outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def result(self) -> Any:
        """Return the result. If the caller is cancelled, the call still runs to its end.

        Raises:
            RpcCallError: lightningd answered with an error.
            NodeUnavailableError: lightningd is unreachable, hung up, or sent a malformed answer.

        """
        outcome = await self._outcome
        if isinstance(outcome, NodeError):
            raise outcome
        return outcome

    def begun(self, timeout_s: float | None, ended: Action) -> None:
        """Start the timeout (seconds, None for never) and set the callback for the end of the call."""
        self._ended = ended
        if timeout_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(timeout_s, self.give_up, "no answer in time")

    def carried_by(self, drop: Action) -> None:
        """Set the callback that aborts the current step of this call."""
        self._drop = drop

    def give_up(self, why: str) -> None:
        """Hang up if the call is in flight."""
        if not self._is_over:
            self._drop()
            self._end(NodeUnavailableError(f"{self._method}: {why}"))

    def fail(self, error: BaseException) -> None:
        """End the call without an answer."""
        self._end(NodeUnavailableError(f"{self._method}: {type(error).__name__}"))

    def read(self, said: bytearray) -> Json:
        """Return the answer to this call, parsed.

        Raises:
            ValueError: it is not an answer to this call.
            RecursionError: it is nested too deep.

        """
        answer = json.loads(said.decode(errors="surrogatepass"))
        if not isinstance(answer, dict) or answer.get("id") != self._id:
            raise ValueError
        return answer

    def succeed(self, answer: Json) -> None:
        """End the call with lightningd's answer: a result or an error."""
        match answer:
            case {"error": {"code": int(code), "message": str(message)} as error}:
                self._end(RpcCallError(self._method, code, message, error))
            case {"result": result}:
                self._end(result)
            case _:
                self._end(NodeUnavailableError(f"{self._method}: neither a result nor an error"))

    def _end(self, outcome: Any) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._outcome.done():  # the caller may have been cancelled
            self._outcome.set_result(outcome)
        self._ended()


class RpcSocket:
    """lightningd's RPC socket. Used inside the event loop.

    Args:
        path: of the socket.

    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[RpcConnection] = []
        self._buffer = memoryview(bytearray(READ_BYTES))
        # A thread of its own, since the loop's threads may all wait for name servers of relays.
        self._connecting = ThreadPoolExecutor(1, "nwc-rpc")
        self._opening = Tasks()
        self._numbers = itertools.count(1)
        self._is_closed = False

    def close(self) -> None:
        """Refuse further calls. Calls in flight end by themselves."""
        self._is_closed = True
        self._connecting.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            self._idle.pop().close()

    def new_call(self, method: str, params: Params, name: str = "") -> RpcCall:
        """Return a call that `begin` can send.

        Args:
            method: the RPC method.
            params: by name, or a list by position.
            name: see RpcCall; a number by default.

        Raises:
            NodeUnavailableError: the parameters cannot be sent: text without UTF-8, or nested too deep.

        """
        return RpcCall(method, params, name or str(next(self._numbers)))

    def begin(self, call: RpcCall, timeout_s: float | None = None, ended: Action = _nothing) -> None:
        """Send a call, which is in flight until lightningd answers or the timeout is over.

        It is never sent twice: lightningd may have carried it out.

        Args:
            call: not begun before.
            timeout_s: seconds until it is given up; None for never.
            ended: called at the end of the call.

        """
        call.begun(timeout_s, ended)
        connection = self._take_idle()
        if connection is not None:
            self._send(call, connection)
        else:
            call.carried_by(self._opening.spawn(self._open_for(call)).cancel)

    async def call(self, method: str, params: Json) -> Any:
        """Return the result of a method, as `RpcCall.result`; hang up if the caller is cancelled."""
        call = self.new_call(method, params)
        self.begin(call)
        try:
            return await call.result()
        finally:
            call.give_up("the caller was cancelled")

    def _take_idle(self) -> RpcConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit_for_use:
                return connection
            connection.close()
        return None

    async def _open_for(self, call: RpcCall) -> None:
        """Open a connection for a call, and send it."""
        try:
            # After `close` the thread rejects this.
            connection = await RpcConnection.open(self._path, self._connecting, self._buffer)
            if not connection.is_fit_for_use:
                connection.close()
                raise EOFError
        # Also if this is cancelled, since the call was given up or the socket closed: no caller may wait
        # for ever.
        except (Exception, asyncio.CancelledError) as error:
            call.fail(error)
        else:
            self._send(call, connection)

    def _send(self, call: RpcCall, connection: RpcConnection) -> None:
        call.carried_by(connection.close)
        connection.ask(call.text, partial(self._hear, call, connection))

    def _hear(self, call: RpcCall, connection: RpcConnection, said: bytearray | Exception) -> None:
        """End a call with lightningd's answer, or without one."""
        try:
            if isinstance(said, Exception):
                raise said
            answer = call.read(said)
        except Exception as error:  # the caller must learn of any error
            connection.close()
            call.fail(error)
        else:
            self._give_back(connection)
            call.succeed(answer)

    def _give_back(self, connection: RpcConnection) -> None:
        if len(self._idle) < MAX_IDLE and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()
