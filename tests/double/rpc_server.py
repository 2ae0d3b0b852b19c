"""The JSON-RPC socket: connections, requests and replies. The commands are elsewhere."""

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from tests.double.jsonio import Json, JsonError, JsonSplitter, dumps, token
from tests.double.params import INVALID_REQUEST, RpcError
from tests.double.plugin import READ_SIZE

if TYPE_CHECKING:
    from tests.double.node import Node

SOCKET = "lightning-rpc"


class RpcServer:
    """The listening socket. Every request is a task of its own, so a slow one delays no other."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def listen(self) -> None:
        """Open the socket by a relative path, which cannot exceed the length limit of unix sockets."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        self._server = await asyncio.start_unix_server(self._serve, SOCKET)

    def stop_listening(self) -> None:
        """Refuse new connections, as lightningd does when it stops; open ones continue."""
        self._server.close()

    async def close(self) -> None:
        """Wait 0.2 seconds at most for pending answers, then close all connections."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=0.2)
        for task in self.tasks:
            task.cancel()
        for connection in self._connections:
            connection.writer.close()
        # At its end, asyncio would cancel these tasks, and its own callback would log a traceback.
        if self._serving:
            await asyncio.wait(self._serving, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, writer)
        self._connections.add(connection)
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            splitter = JsonSplitter()
            while data := await reader.read(READ_SIZE):
                for request in splitter.feed(data):
                    connection.start(request)
        except JsonError as error:
            connection.send(_failure(None, RpcError(INVALID_REQUEST, str(error))))
        except ConnectionError:
            pass
        finally:
            # A client may close its half and still wait for answers.
            await asyncio.gather(*connection.pending, return_exceptions=True)
            self._connections.discard(connection)
            writer.close()


class Connection:
    """One client."""

    def __init__(self, server: RpcServer, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.writer = writer
        self.pending: set[asyncio.Task[None]] = set()
        self._notifications = False

    def send(self, message: Json) -> None:
        """Send a message, unless the client has gone."""
        if not self.writer.is_closing():
            self.writer.write(dumps(message))

    def start(self, request: Json) -> None:
        """Start to answer one request, concurrently with the pending ones."""
        task = asyncio.create_task(self._answer(request))
        for tasks in (self.server.tasks, self.pending):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _answer(self, request: Json) -> None:
        id_ = request.get("id")
        try:
            _check_envelope(request)
            reply = await self._execute(request)
        except RpcError as error:
            reply = _failure(id_, error)
        fault = self.server.node.fault_of(str(request.get("method")))
        if fault.answers:
            fault.answers -= 1
            self._misbehave(fault.answer, token(id_))
        else:
            self.send(reply)

    def _misbehave(self, answer: str | None, id_: str) -> None:
        if answer is not None and not self.writer.is_closing():
            self.writer.write(answer.replace("ID", id_).encode())
        self.writer.close()

    async def _execute(self, request: Json) -> Json:
        node, id_ = self.server.node, request["id"]
        if request["method"] == "notifications":
            enable = request["params"]
            self._notifications = enable[0] if isinstance(enable, list) else enable["enable"]
            return _success(id_, {})
        plugin = node.plugins.find(request["method"])
        if not plugin:
            result = await node.call(request["method"], request["params"])
            return _success(id_, _filtered(result, request.get("filter", True)))
        async with node.faults(request["method"]):
            reply = await plugin.request(request, token(id_), self._forward_notification(id_))
        return {**reply, "id": id_}

    def _forward_notification(self, id_: Json) -> "Notifier":
        return Notifier(self, id_)

    def notify(self, message: Json) -> None:
        """Pass on a plugin's message or progress if the client has enabled notifications."""
        if self._notifications:
            self.send(message)


class Notifier:
    """Passes a plugin's notifications about one request to the client, under the client's id."""

    def __init__(self, connection: Connection, id_: Json) -> None:
        self._connection = connection
        self._id = id_

    def __call__(self, message: Json) -> None:
        """Pass on one notification."""
        self._connection.notify({**message, "params": {**message["params"], "id": self._id}})


def _check_envelope(request: Json) -> None:
    if "id" not in request:
        raise RpcError(INVALID_REQUEST, "No id")
    if request.get("jsonrpc") != "2.0":
        message = 'jsonrpc: "2.0" must be specified in the request'
        raise RpcError(INVALID_REQUEST, message)
    if "method" not in request or "params" not in request:
        raise RpcError(INVALID_REQUEST, "No params" if "method" in request else "No method")
    if not isinstance(request["method"], str):
        raise RpcError(INVALID_REQUEST, "Expected string for method")


def _success(id_: Json, result: Json) -> Json:
    return {"jsonrpc": "2.0", "id": id_, "result": result}


def _failure(id_: Json, error: RpcError) -> Json:
    return {"jsonrpc": "2.0", "id": id_, "error": error.as_json()}


def _filtered(value: Json, wanted: Json) -> Json:
    """Return only the fields that the request's `filter` names."""
    if isinstance(wanted, list) and isinstance(value, list):
        return [_filtered(entry, wanted[0]) for entry in value]
    if isinstance(wanted, dict) and isinstance(value, dict):
        return {k: _filtered(value[k], w) for k, w in wanted.items() if k in value and w}
    return value
