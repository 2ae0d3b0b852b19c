"""RpcSocket against a server on a Unix socket: answers, errors, connections, and what closes them."""

import asyncio
import gc
import json
import logging
import os
import socket
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from pyln.client.lightning import UnixSocket

from nwc.cln import rpc as rpc_module
from nwc.cln.errors import NodeError, NodeUnavailableError, RpcCallError
from nwc.cln.rpc import MAX_IDLE, RpcSocket, result_of
from tests.support.waiting import PATIENCE_S
from tests.unit.cln.rpc_server import END, Answer, Json, Server, failure, read_request, result
from tests.unit.helpers import until

BUFFER_BYTES = 1024
SECRET = "5ec7e7" + "00" * 29


class Rpc(RpcSocket):
    """The socket, with the whole call as one method."""

    async def call(self, method: str, params: Json) -> Any:
        return result_of(await self.send(method, params))


@pytest_asyncio.fixture
async def rpc(socket_path: Path) -> AsyncIterator[Rpc]:
    rpc = Rpc(str(socket_path))
    yield rpc
    rpc.close()


def text(answer: str) -> Answer:
    """Return an answer with this text, in which ID stands for the id of the request."""
    return lambda request: answer.replace("ID", json.dumps(request["id"])).encode() + END


@contextmanager
def slow_connecting(rpc: Rpc) -> Iterator[None]:
    """Delay connecting, as a busy lightningd does."""
    end = threading.Event()
    rpc._connecting.submit(end.wait)
    try:
        yield
    finally:
        end.set()


@dataclass
class Connected:
    """Replaces pyln's UnixSocket."""

    sock: socket.socket | None


class AtOnce(ThreadPoolExecutor):
    """Runs everything in `submit`, so that tests can count the iterations of the loop."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done = Future[Any]()
        done.set_result(work(*args, **kwargs))
        return done


# Answers


async def test_a_result_is_returned(server: Server, rpc: Rpc) -> None:
    server.answer = result({"alias": "é"})
    assert await rpc.call("getinfo", {"name": "ü"}) == {"alias": "é"}
    assert server.asked == ("getinfo", {"name": "ü"})
    assert server.requests[0]["jsonrpc"] == "2.0"


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
async def test_any_json_value_is_a_result(server: Server, rpc: Rpc, value: object) -> None:
    server.answer = result(value)
    assert await rpc.call("method", {}) == value


async def test_an_answer_in_many_pieces_is_read(server: Server, rpc: Rpc) -> None:
    rows = ["row " * 1000] * 500
    server.answer = result(rows)
    assert await rpc.call("sql", {}) == rows


async def test_a_long_request_is_sent_whole(server: Server, rpc: Rpc) -> None:
    """lightningd may read it in pieces."""
    params = {"string": "é" * 1_000_000}
    await rpc.call("datastore", params)
    assert server.asked == ("datastore", params)


async def test_an_error_is_raised_with_code_and_message(server: Server, rpc: Rpc) -> None:
    server.answer = failure(900, "Duplicate label 'x'")
    with pytest.raises(RpcCallError) as caught:
        await rpc.call("invoice", {"label": "x"})
    error = caught.value
    assert (error.method, error.code, error.message) == ("invoice", 900, "Duplicate label 'x'")
    assert isinstance(error, NodeError)


NO_ANSWERS = [
    "not JSON",
    "[" * 100_000,
    "[]",
    "\udcff",
    "{}",
    '{"id": ID}',
    '{"result": {}}',
    '{"id": 7, "result": {}}',
    '{"id": 7, "error": {"code": 900, "message": "words"}}',
    '{"id": "nwc:makesecret#2", "result": {}}',
    '{"id": ID, "error": "words"}',
    '{"id": ID, "error": {}}',
    '{"id": ID, "error": {"code": "x", "message": "words"}}',
    '{"id": ID, "error": {"code": 900, "message": null}}',
    '{"id": ID, "error": null}',
    '{"id": ID, "error": [900, "x"]}',
    '{"id": ID, "result": ' + "9" * 5000 + "}",
    '{"id": ID, "result": {}} trailing',
]


@pytest.mark.parametrize("answer", NO_ANSWERS)
async def test_a_malformed_answer_is_none_and_ends_its_connection(
    server: Server, rpc: Rpc, answer: str
) -> None:
    server.answer = lambda request: (
        answer.replace("ID", json.dumps(request["id"])).encode(errors="surrogateescape") + END
    )
    with pytest.raises(NodeUnavailableError) as caught:
        await rpc.call("makesecret", {"string": "purpose of the secret"})
    assert str(caught.value).startswith("makesecret: ")
    assert "purpose" not in str(caught.value)
    server.answer = result("good")
    assert await rpc.call("method", {}) == "good"
    await until(lambda: server.open == 1)
    assert len(server.connections) == 2


@pytest.mark.parametrize("answer", [None, b"", b'{"id": "x", "res', b'{"result": {}}', b"{}\n"])
async def test_hanging_up_is_no_answer(server: Server, rpc: Rpc, answer: bytes | None) -> None:
    server.answer = lambda request: answer
    with pytest.raises(NodeUnavailableError, match="invoice: EOFError"):
        await rpc.call("invoice", {})
    assert len(server.requests) == 1  # it may have been carried out


async def test_an_endless_answer_is_cut_off(
    server: Server, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_module, "MAX_ANSWER_BYTES", 100_000)
    server.answer = result("x" * 1_000_000)
    with pytest.raises(NodeUnavailableError, match="sql: OverflowError"):
        await rpc.call("sql", {})
    await until(lambda: server.open == 0)


async def test_a_request_without_utf8_is_not_sent(server: Server, rpc: Rpc) -> None:
    with pytest.raises(NodeUnavailableError, match="invoice: UnicodeEncodeError"):
        await rpc.call("invoice", {"description": "\ud800"})
    assert server.requests == []


async def test_a_request_nested_too_deep_is_not_sent(server: Server, rpc: Rpc) -> None:
    params: dict[str, object] = {}
    for _ in range(100_000):
        params = {"params": params}
    with pytest.raises(NodeUnavailableError, match="invoice: RecursionError"):
        await rpc.call("invoice", params)
    assert server.requests == []


async def test_a_missing_socket_is_no_answer(rpc: Rpc) -> None:
    with pytest.raises(NodeUnavailableError, match="getinfo: FileNotFoundError"):
        await rpc.call("getinfo", {})


async def test_a_socket_without_listener_is_no_answer(rpc: Rpc, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(socket_path))
    with pytest.raises(NodeUnavailableError, match="getinfo: ConnectionRefusedError"):
        await rpc.call("getinfo", {})


async def test_a_path_too_long_for_an_address_works(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    server = Server(directory / "rpc")
    listening = socket.socket(socket.AF_UNIX)
    here = os.open(directory, os.O_DIRECTORY)
    listening.bind(f"/proc/self/fd/{here}/rpc")
    os.close(here)
    rpc = Rpc(str(server.path))
    async with await asyncio.start_unix_server(server.talk, sock=listening):
        assert await rpc.call("getinfo", {}) == {}
        rpc.close()


async def test_secrets_are_logged_at_no_level(
    server: Server, rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.NOTSET)
    logging.getLogger("pyln").setLevel(logging.NOTSET)
    server.answer = result({"secret": SECRET})
    assert await rpc.call("makesecret", {"string": "a purpose"}) == {"secret": SECRET}
    server.answer = failure(-1, "no luck with " + SECRET)
    with pytest.raises(RpcCallError):
        await rpc.call("makesecret", {"string": "a purpose"})
    assert [record for record in caplog.records if record.name != "asyncio"] == []
    assert SECRET not in caplog.text
    assert "a purpose" not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        SECRET.encode() + END,
        f'{{"id": 7, "result": "{SECRET}"}}'.encode() + END,
        f'{{"result": "{SECRET}'.encode(),
        SECRET.encode() + b"\xff" + END,
        failure(-1, SECRET)({"id": "nwc:makesecret#1"}),
        None,
    ],
)
async def test_no_error_shows_parameters_or_answers(
    server: Server, rpc: Rpc, answer: bytes | None
) -> None:
    """Not even with its traceback."""
    server.answer = lambda _: answer
    for params in ({"string": SECRET}, {"string": SECRET + "\ud800"}):
        with pytest.raises(NodeError) as caught:
            await rpc.call("makesecret", params)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert SECRET not in shown
        assert caught.value.__cause__ is None


# Connections


async def test_one_connection_serves_many_calls(server: Server, rpc: Rpc) -> None:
    for number in range(5):
        server.answer = failure(1, "no") if number % 2 else result(number)
        with pytest.raises(RpcCallError) if number % 2 else nullcontext():
            await rpc.call("method", {"number": number})
    assert [request["params"]["number"] for request in server.requests] == list(range(5))
    assert len(server.connections) == 1


@pytest.mark.parametrize("said", [b"", b"{}\n\n"])
async def test_a_connection_that_closed_while_idle_is_not_used(
    server: Server, rpc: Rpc, said: bytes
) -> None:
    """A call that is lost in it may have been carried out or not."""
    await rpc.call("method", {})
    server.connections[0].write(said)
    server.connections[0].close()
    await server.connections[0].wait_closed()
    server.answer = result("good")
    assert await rpc.call("method", {}) == "good"
    assert len(server.requests) == 2


@pytest.mark.parametrize("said", [b"{", END, b"{}" + END, None])
async def test_an_idle_connection_with_unexpected_bytes_or_an_end_is_closed(
    server: Server, rpc: Rpc, said: bytes | None
) -> None:
    await rpc.call("method", {})
    if said is None:
        server.connections[0].write_eof()
    else:
        server.connections[0].write(said)
    await until(lambda: server.open == 0)


async def test_a_connection_that_broke_while_idle_is_not_used(server: Server, rpc: Rpc) -> None:
    await rpc.call("method", {})
    rpc._idle[0].close()
    assert await rpc.call("method", {}) == {}
    assert len(server.connections) == 2


async def test_two_calls_at_once_after_all_idle_connections_broke_are_sent_once_each(
    server: Server, rpc: Rpc
) -> None:
    """lightningd has hung up, and the event loop has not seen it yet."""
    await asyncio.gather(rpc.call("method", {}), rpc.call("method", {}))
    for connection in server.connections:
        connection.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    server.answer = lambda request: result(request["params"])(request)
    outcomes = [rpc.send("method", {"number": number}) for number in range(2)]
    answers = [result_of(await outcome) for outcome in outcomes]
    assert answers == [{"number": 0}, {"number": 1}]
    assert len(server.requests) == 4


async def test_two_calls_at_once_do_not_share_an_idle_connection(server: Server, rpc: Rpc) -> None:
    await rpc.call("method", {})
    server.answer = lambda request: result(request["params"])(request)
    outcomes = [rpc.send("method", {"number": number}) for number in range(2)]
    async with asyncio.timeout(PATIENCE_S):
        answers = [result_of(await outcome) for outcome in outcomes]
    assert answers == [{"number": 0}, {"number": 1}]
    assert len(server.connections) == 2


async def test_no_two_calls_have_the_same_id(server: Server, rpc: Rpc) -> None:
    for _ in range(2):
        await asyncio.gather(*(rpc.call("method", {}) for _ in range(3)))
    await rpc.send("pay", {}, name="nwc:payment")
    ids = [request["id"] for request in server.requests]
    assert len({*ids}) == len(ids)
    assert ids[-1] == "nwc:pay#nwc:payment"


async def test_a_connection_with_unexpected_bytes_is_not_used(server: Server, rpc: Rpc) -> None:
    await rpc.call("method", {})
    server.connections[0].write(text('{"id": "nwc:method#2", "result": "old"}')({"id": 0}) or b"")
    server.answer = result("good")
    assert await rpc.call("method", {}) == "good"
    await until(lambda: server.open == 1)


async def test_slow_name_servers_delay_no_call(server: Server, rpc: Rpc) -> None:
    """asyncio resolves names in the threads of the loop."""
    loop, answered = asyncio.get_running_loop(), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)
        looking_up = loop.run_in_executor(None, answered.wait)
        try:
            async with asyncio.timeout(PATIENCE_S):
                assert await rpc.call("method", {}) == {}
        finally:
            answered.set()
        await looking_up


async def test_calls_run_concurrently(server: Server, rpc: Rpc) -> None:
    both, arrived = asyncio.Event(), 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        request = await read_request(reader)
        arrived += 1
        if arrived == 2:
            both.set()
        await both.wait()
        writer.write(json.dumps({"id": request["id"], "result": request["params"]}).encode() + END)
        writer.close()

    os.unlink(server.path)
    async with await asyncio.start_unix_server(talk, server.path), asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(rpc.call("a", {"x": 1}), rpc.call("b", {"x": 2}))
    assert list(answers) == [{"x": 1}, {"x": 2}]


async def test_the_answer_to_a_cancelled_call_is_dropped(server: Server, rpc: Rpc) -> None:
    held = asyncio.Event()
    server.before_answer = held.wait
    asking = asyncio.create_task(rpc.call("slow", {}))
    await until(lambda: bool(server.requests))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    held.set()
    server.answer = lambda request: result(request["method"])(request)
    assert await rpc.call("quick", {}) == "quick"
    await until(lambda: server.open == 1)
    assert len(server.connections) == 2


@pytest.mark.parametrize("iterations", range(12))
async def test_a_call_that_is_cancelled_at_any_time_is_sent_at_most_once_and_harms_no_other(
    server: Server, rpc: Rpc, monkeypatch: pytest.MonkeyPatch, iterations: int
) -> None:
    """While its connection opens, while it waits for its answer, and when the answer is there."""
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    monkeypatch.setattr(rpc, "_connecting", AtOnce())
    server.answer = lambda request: result(request["params"])(request)
    outcome = rpc.send("pay", {"number": 1})
    for _ in range(iterations):
        await asyncio.sleep(0)
    outcome.cancel()
    for number in (2, 3):
        assert await rpc.call("pay", {"number": number}) == {"number": number}
    await until(lambda: server.open == len(rpc._idle) and len(rpc._opening) == 0)
    asked = [request["params"]["number"] for request in server.requests]
    assert asked in ([2, 3], [1, 2, 3])
    assert errors == []


async def test_a_call_that_is_given_up_when_its_connection_is_open_is_not_sent(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last iteration of the loop before it would be sent."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    monkeypatch.setattr(rpc_module, "UnixSocket", lambda _: Connected(ours))
    made = rpc_module._Connection.connection_made

    def give_up_next(connection: rpc_module._Connection, transport: asyncio.BaseTransport) -> None:
        made(connection, transport)
        asyncio.get_running_loop().call_soon(outcome.cancel)

    monkeypatch.setattr(rpc_module._Connection, "connection_made", give_up_next)
    outcome = rpc.send("pay", {})
    with theirs:
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.get_running_loop().sock_recv(theirs, 100) == b""


async def test_a_call_that_timed_out_logs_no_error(server: Server, rpc: Rpc) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    held = asyncio.Event()
    server.before_answer = held.wait
    with pytest.raises(NodeUnavailableError, match="method: no answer in time"):
        result_of(await rpc.send("method", {}, timeout_s=0.01))
    held.set()
    assert await rpc.call("method", {}) == {}
    await until(lambda: server.open == 1)
    assert errors == []


async def test_an_answered_call_is_forgotten_before_its_timeout(server: Server, rpc: Rpc) -> None:
    """Otherwise the requests and answers of a minute would be kept."""
    outcome = rpc.send("method", {}, timeout_s=3600)
    await outcome
    await asyncio.sleep(0)
    kept = weakref.ref(outcome)
    del outcome
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), MemoryError(), OSError(24, "")]
)
async def test_any_fault_ends_the_call(
    server: Server, rpc: Rpc, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A call that never ends would keep a payment waiting."""

    def go_wrong(*args: object) -> None:
        raise error

    async with asyncio.timeout(PATIENCE_S):
        for owner, name in ((rpc_module._Call, "read"), (rpc_module, "UnixSocket")):
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, go_wrong)
                with pytest.raises(NodeUnavailableError):
                    await rpc.call("method", {})
        assert await rpc.call("method", {}) == {}
    assert len(server.requests) == 2


async def test_closing_ends_calls_without_a_connection(server: Server, rpc: Rpc) -> None:
    with slow_connecting(rpc):
        asking = asyncio.create_task(rpc.call("method", {}))
        await until(lambda: rpc._connecting._work_queue.qsize() > 0)
        rpc.close()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(NodeUnavailableError):
                await asking
    assert server.connections == []


@pytest.mark.parametrize("iterations", [0, 1, 5])
async def test_closing_ends_a_call_whose_connect_never_returns(
    server: Server, rpc: Rpc, monkeypatch: pytest.MonkeyPatch, iterations: int
) -> None:
    """It has no timeout, and may not be sent after `close`."""
    returns = threading.Event()

    def never_return(path: str) -> UnixSocket:
        returns.wait()
        return UnixSocket(path)

    monkeypatch.setattr(rpc_module, "UnixSocket", never_return)
    outcome = rpc.send("pay", {})
    for _ in range(iterations):
        await asyncio.sleep(0)
    rpc.close()
    try:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(NodeUnavailableError, match="pay: closed"):
                result_of(await outcome)
    finally:
        returns.set()
    await until(lambda: server.open == 0)
    assert server.requests == []


async def test_a_server_that_hangs_up_at_once_is_no_answer(rpc: Rpc, socket_path: Path) -> None:
    """As a server with too many connections does."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(hang_up, socket_path), asyncio.timeout(PATIENCE_S):
        with pytest.raises(NodeUnavailableError):
            await rpc.call("method", {})


async def test_a_connection_that_closes_right_after_opening_is_not_used(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call over it would be lost."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(rpc_module, "UnixSocket", lambda _: Connected(ours))
    theirs.shutdown(socket.SHUT_WR)
    with theirs:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(NodeUnavailableError):
                await rpc.call("method", {})
        assert theirs.recv(100) == b""


async def test_a_call_without_other_references_is_not_garbage_collected(
    server: Server, rpc: Rpc
) -> None:
    """pyln's thread drops its references to a command's call."""
    held, answers = asyncio.Event(), asyncio.Queue[str]()
    server.before_answer = held.wait
    server.answer = result("late")

    async def ask() -> None:
        answers.put_nowait(await rpc.call("method", {}))

    asyncio.run_coroutine_threadsafe(ask(), asyncio.get_running_loop())
    await until(lambda: bool(server.requests))
    gc.collect()
    held.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await answers.get() == "late"


async def test_few_connections_stay_open_after_many_calls(server: Server, rpc: Rpc) -> None:
    count = MAX_IDLE + 5
    all_asked = asyncio.Barrier(count)
    server.before_answer = all_asked.wait
    await asyncio.gather(*(rpc.call("method", {}) for _ in range(count)))
    assert len(server.connections) == count
    await until(lambda: server.open == MAX_IDLE)


async def test_closing_ends_idle_connections_and_those_in_use(server: Server, rpc: Rpc) -> None:
    await asyncio.gather(rpc.call("method", {}), rpc.call("method", {}))
    held = asyncio.Event()
    server.before_answer = held.wait
    asking = asyncio.create_task(rpc.call("last", {}))
    await until(lambda: len(server.requests) == 3)
    rpc.close()
    held.set()
    assert await asking == {}
    await until(lambda: server.open == 0)
    with pytest.raises(NodeUnavailableError):
        await rpc.call("method", {})
    assert len(server.requests) == 3


# The bytes of one connection


@dataclass
class Line:
    """A connection, and lightningd's end of it."""

    connection: rpc_module._Connection
    lightningd: socket.socket
    idle: list[rpc_module._Connection]

    @classmethod
    async def open(cls) -> "Line":
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        buffer, idle = memoryview(bytearray(BUFFER_BYTES)), list[rpc_module._Connection]()
        _, connection = await asyncio.get_running_loop().create_unix_connection(
            lambda: rpc_module._Connection(buffer, idle.append), sock=ours
        )
        return cls(connection, theirs, idle)

    async def close(self) -> None:
        self.connection.close()
        self.lightningd.close()
        await asyncio.sleep(0)  # the loop closes its socket in this iteration

    def ask(self, size: int = 10) -> asyncio.Future[Any]:
        call = rpc_module._Call("echo", {"text": "x" * size}, "1")
        self.connection.send(call)
        return call.outcome

    def read(self, data: bytes) -> None:
        """Pass bytes to the connection, as the event loop does."""
        buffer = self.connection.get_buffer(-1)
        buffer[: len(data)] = data
        self.connection.buffer_updated(len(data))

    async def wait_until_hung_up(self) -> bytes:
        """Return the bytes that lightningd gets until the end."""
        said = b""
        async with asyncio.timeout(PATIENCE_S):
            while more := await asyncio.get_running_loop().sock_recv(self.lightningd, 65_536):
                said += more
        return said


@pytest_asyncio.fixture
async def line() -> AsyncIterator[Line]:
    line = await Line.open()
    yield line
    await line.close()


def answer_to_echo(value: object) -> bytes:
    return json.dumps({"id": "nwc:echo#1", "result": value}, indent=1).encode()


@given(text=st.text(max_size=10), places=st.sets(st.integers(1, 60)))
def test_an_answer_is_read_however_it_is_cut(text: str, places: set[int]) -> None:
    """Also within its end mark, and at a line end."""
    data = answer_to_echo(text) + END
    ends = sorted({*(place for place in places if place < len(data)), len(data)})
    *pieces, last = [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]

    async def check() -> None:
        line = await Line.open()
        for _ in range(2):
            outcome = line.ask()
            for piece in pieces:
                line.read(piece)
                assert not outcome.done()
            line.read(last)
            assert outcome.result() == text
        assert len(line.idle) == 2
        await line.close()

    asyncio.run(check())


async def test_a_long_answer_is_searched_once(line: Line) -> None:
    """Searching each byte again would take minutes on a large node."""
    searched = 0

    class Counting(bytearray):
        def find(self, what: bytes, start: int) -> int:  # type: ignore[override]
            nonlocal searched
            searched += len(self) - start
            return super().find(what, start)

    line.connection._received = Counting()
    outcome = line.ask()
    answer = answer_to_echo("x" * 100 * BUFFER_BYTES) + END
    for begin in range(0, len(answer), BUFFER_BYTES):
        line.read(answer[begin : begin + BUFFER_BYTES])
    assert len(outcome.result()) == 100 * BUFFER_BYTES
    assert searched <= 102 * (BUFFER_BYTES + 1)


async def test_an_answer_over_the_limit_closes_the_connection_at_once(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if no more bytes come."""
    monkeypatch.setattr(rpc_module, "MAX_ANSWER_BYTES", 100)
    outcome = line.ask()
    line.read(b"x" * 100)
    assert not outcome.done()
    line.read(b"x")
    assert outcome.done()
    await line.wait_until_hung_up()


@pytest.mark.parametrize("more", [b"{", b"\n", answer_to_echo(2) + END])
async def test_bytes_after_an_answer_close_the_connection(line: Line, more: bytes) -> None:
    """The answer still counts: the call was carried out."""
    outcome = line.ask()
    line.read(answer_to_echo(1) + END + more)
    assert outcome.result() == 1
    assert line.idle == []
    await line.wait_until_hung_up()


@pytest.mark.parametrize("size", [10, 10_000_000])
async def test_the_death_of_lightningd_fails_the_call(line: Line, size: int) -> None:
    """The request is not read, and not all of it can be sent."""
    outcome = line.ask(size)
    line.lightningd.close()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(NodeUnavailableError):
            result_of(await outcome)


async def test_hanging_up_before_the_whole_request_is_read_fails_the_call(line: Line) -> None:
    outcome = line.ask(10_000_000)
    line.lightningd.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(NodeUnavailableError, match="echo: EOFError"):
            result_of(await outcome)


async def test_the_rest_of_a_request_that_was_given_up_is_not_sent(line: Line) -> None:
    line.ask(10_000_000).cancel()
    assert len(await line.wait_until_hung_up()) < 10_000_000
