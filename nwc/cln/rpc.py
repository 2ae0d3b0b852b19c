"""JSON-RPC on lightningd's Unix socket, in the event loop: no thread, and connections that are kept.

Where a connection is idle, a request is written at once, and who waits goes on in the step of the loop
after the one that reads the answer. A call goes on by itself, also when who waits for it is cancelled.
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

# More are opened when they are needed, and closed again. Lightningd has a buffer of 2 MB for each.
MAX_IDLE = 16
# The most that one read takes: as much as a Unix socket holds.
READ_BYTES = 256 * 1024

Json = dict[str, Any]
Params = Json | list[Any]
Action = Callable[[], object]

# json.dumps would make a new one each time.
_encoder = json.JSONEncoder(ensure_ascii=False)


def _nothing() -> None:
    pass


class RpcCall:
    """A call. Once begun it ends once: with lightningd's answer, without one, or given up.

    None of its errors may show what was asked or answered: there are secrets in it.

    Args:
        method: the RPC method.
        params: its parameters.
        name: stands in what lightningd logs and keeps of the call; no two calls have the same.

    Attributes:
        text: what is sent.

    Raises:
        NodeUnavailableError: this cannot be sent: text that has no UTF-8, or nested too deep.

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
        # Holds errors as values: raised where nobody waits they would be the loop's.
        self._outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def result(self) -> Any:
        """Wait for the result. Where this is cancelled, only the answer is lost.

        Raises:
            RpcCallError: lightningd answered with an error.
            NodeUnavailableError: lightningd is not there, hung up, or said what is no answer.

        """
        outcome = await self._outcome
        if isinstance(outcome, NodeError):
            raise outcome
        return outcome

    def begun(self, timeout_s: float | None, ended: Action) -> None:
        """Take note of how long it may take, None for ever, and of what to do at its end."""
        self._ended = ended
        if timeout_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(timeout_s, self.give_up, "no answer in time")

    def carried_by(self, drop: Action) -> None:
        """Take note of how to end what is now done for this call."""
        self._drop = drop

    def give_up(self, why: str) -> None:
        """Hang up, if the call has not ended."""
        if not self._is_over:
            self._drop()
            self._end(NodeUnavailableError(f"{self._method}: {why}"))

    def fail(self, error: BaseException) -> None:
        """End without an answer."""
        self._end(NodeUnavailableError(f"{self._method}: {type(error).__name__}"))

    def read(self, said: bytearray) -> Json:
        """Read the answer to this call.

        Raises:
            ValueError: it is none.
            RecursionError: it is none that anybody can read.

        """
        answer = json.loads(said.decode(errors="surrogatepass"))
        if not isinstance(answer, dict) or answer.get("id") != self._id:
            raise ValueError
        return answer

    def succeed(self, answer: Json) -> None:
        """End with what lightningd has answered."""
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
        if not self._outcome.done():  # who waited may have been cancelled
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
        # Of its own: the loop's own threads may all wait for name servers, on behalf of relays.
        self._connecting = ThreadPoolExecutor(1, "nwc-rpc")
        self._opening = Tasks()
        self._numbers = itertools.count(1)
        self._is_closed = False

    def close(self) -> None:
        """Take no more calls. Those under way end by themselves."""
        self._is_closed = True
        self._connecting.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            self._idle.pop().close()

    def new_call(self, method: str, params: Params, name: str = "") -> RpcCall:
        """Make a call, to be begun here.

        Args:
            method: the RPC method.
            params: by name, or a list of them.
            name: by which what lightningd keeps of the call is found again; by default a number.

        Raises:
            NodeUnavailableError: this cannot be sent: text that has no UTF-8, or nested too deep.

        """
        return RpcCall(method, params, name or str(next(self._numbers)))

    def begin(self, call: RpcCall, timeout_s: float | None = None, ended: Action = _nothing) -> None:
        """Begin a call, which goes on until lightningd answers or its time is over.

        It is never sent again: lightningd may have carried it out.

        Args:
            call: not begun before.
            timeout_s: seconds until it is given up; None for never.
            ended: called at its end.

        """
        call.begun(timeout_s, ended)
        connection = self._take_idle()
        if connection is not None:
            self._send(call, connection)
        else:
            call.carried_by(self._opening.spawn(self._open_for(call)).cancel)

    async def call(self, method: str, params: Json) -> Any:
        """Return the result of a method, as `RpcCall.result`; hang up where this is cancelled."""
        call = self.new_call(method, params)
        self.begin(call)
        try:
            return await call.result()
        finally:
            call.give_up("nobody waits")

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
            # Once this is closed, its thread refuses.
            connection = await RpcConnection.open(self._path, self._connecting, self._buffer)
            if not connection.is_fit_for_use:
                connection.close()
                raise EOFError
        # Cancelled, too, where the call was given up or this was closed: nobody may wait for ever.
        except (Exception, asyncio.CancelledError) as error:
            call.fail(error)
        else:
            self._send(call, connection)

    def _send(self, call: RpcCall, connection: RpcConnection) -> None:
        call.carried_by(connection.close)
        connection.ask(call.text, partial(self._hear, call, connection))

    def _hear(self, call: RpcCall, connection: RpcConnection, said: bytearray | Exception) -> None:
        """Take what lightningd said to a call, and end it."""
        try:
            if isinstance(said, Exception):
                raise said
            answer = call.read(said)
        except Exception as error:  # whatever it is, who waits must hear of it
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
