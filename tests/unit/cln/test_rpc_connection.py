"""RpcConnection on a socket pair: answers in any pieces, and what closes it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from nwc.cln import rpc_connection
from nwc.cln.rpc_connection import RpcConnection
from tests.support.waiting import PATIENCE_S
from tests.unit.helpers import until

BUFFER_BYTES = 1024
REQUEST = b'{"method": "getinfo"}'
ANSWER = b'{"result": {}}'


@dataclass
class Line:
    """A connection, lightningd's end of it, and what the listener got."""

    connection: RpcConnection
    lightningd: socket.socket
    heard: list[bytes | Exception] = field(default_factory=list)

    def ask(self, request: bytes = REQUEST) -> None:
        self.connection.ask(request, self.hear)

    def hear(self, said: bytearray | Exception) -> None:
        self.heard.append(said if isinstance(said, Exception) else bytes(said))

    def read(self, data: bytes) -> None:
        """Pass bytes to the connection, as the event loop does."""
        buffer = self.connection.get_buffer(-1)
        buffer[: len(data)] = data
        self.connection.buffer_updated(len(data))

    @property
    def is_closed(self) -> bool:
        return self.connection._transport.is_closing()

    async def wait_until_hung_up(self) -> bytes:
        """Return the bytes that lightningd gets until the end."""
        said = b""
        async with asyncio.timeout(PATIENCE_S):
            while more := await asyncio.get_running_loop().sock_recv(self.lightningd, 65_536):
                said += more
        return said


@pytest_asyncio.fixture
async def line() -> AsyncIterator[Line]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _, connection = await asyncio.get_running_loop().create_unix_connection(
        lambda: RpcConnection(memoryview(bytearray(BUFFER_BYTES))), sock=ours
    )
    with theirs:
        yield Line(connection, theirs)
        connection.close()
        await asyncio.sleep(0)  # the loop closes its socket in this iteration


def cut(data: bytes, places: set[int]) -> list[bytes]:
    ends = sorted({*(place for place in places if place < len(data)), len(data)})
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


# Answers


async def test_an_answer_is_passed_on(line: Line) -> None:
    line.ask()
    assert line.lightningd.recv(100) == REQUEST
    line.lightningd.send(ANSWER + b"\n\n")
    await until(lambda: line.heard == [ANSWER])
    assert line.connection.is_fit_for_use


@given(
    text=st.binary(max_size=40).map(lambda text: text.replace(b"\n\n", b"")),
    places=st.sets(st.integers(1, 50)),
)
def test_an_answer_is_read_however_it_is_cut(text: bytes, places: set[int]) -> None:
    """Also within its end mark, and at a line end."""
    answer = text.removesuffix(b"\n")

    async def check() -> None:
        ours, theirs = socket.socketpair()
        _, connection = await asyncio.get_running_loop().create_unix_connection(
            lambda: RpcConnection(memoryview(bytearray(BUFFER_BYTES))), sock=ours
        )
        line = Line(connection, theirs)
        for _ in range(2):
            line.ask()
            *pieces, last = cut(answer + b"\n\n", places)
            for piece in pieces:
                line.read(piece)
                assert line.heard == []
            line.read(last)
            assert line.heard == [answer]
            line.heard.clear()
        assert not line.is_closed
        connection.close()
        theirs.close()
        await asyncio.sleep(0)

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
    line.ask()
    for _ in range(100):
        line.read(b"x" * BUFFER_BYTES)
    line.read(b"\n\n")
    assert line.heard == [b"x" * 100 * BUFFER_BYTES]
    assert searched <= 101 * (BUFFER_BYTES + 1)


# What closes it


@pytest.mark.parametrize("more", [b"{", b"\n", ANSWER + b"\n\n"])
async def test_bytes_after_an_answer_close_the_connection(line: Line, more: bytes) -> None:
    """The answer still counts: the call was carried out."""
    line.ask()
    line.read(ANSWER + b"\n\n" + more)
    assert line.heard == [ANSWER]
    assert line.is_closed
    assert not line.connection.is_fit_for_use
    assert await line.wait_until_hung_up() == REQUEST
    assert line.heard == [ANSWER]


@pytest.mark.parametrize("said", [b"{", b"\n\n", ANSWER + b"\n\n"])
async def test_bytes_without_a_request_close_the_connection(line: Line, said: bytes) -> None:
    line.lightningd.send(said)
    assert not line.connection.is_fit_for_use  # also before the loop has read it
    assert not line.is_closed
    assert await line.wait_until_hung_up() == b""
    assert line.is_closed


async def test_later_bytes_close_the_connection(line: Line) -> None:
    """A listener gets one answer."""
    line.ask()
    line.read(ANSWER + b"\n\n")
    line.read(ANSWER + b"\n\n")
    assert line.heard == [ANSWER]
    assert line.is_closed


async def test_an_idle_connection_that_lightningd_closes_is_closed(line: Line) -> None:
    line.lightningd.shutdown(socket.SHUT_WR)
    assert not line.connection.is_fit_for_use
    assert not line.is_closed
    assert await line.wait_until_hung_up() == b""
    assert line.is_closed


@pytest.mark.parametrize("said", [b"", ANSWER, ANSWER + b"\n"])
async def test_hanging_up_within_an_answer_fails_the_request(line: Line, said: bytes) -> None:
    line.ask()
    line.lightningd.send(said)
    line.lightningd.shutdown(socket.SHUT_WR)
    assert await line.wait_until_hung_up() == REQUEST
    [error] = line.heard
    assert isinstance(error, EOFError)


async def test_hanging_up_before_the_whole_request_is_read_fails_it(line: Line) -> None:
    line.ask(b"x" * 10_000_000)
    line.lightningd.shutdown(socket.SHUT_WR)
    await until(lambda: bool(line.heard))
    [error] = line.heard
    assert isinstance(error, EOFError)


@pytest.mark.parametrize("size", [10, 10_000_000])
async def test_the_death_of_lightningd_fails_the_request(line: Line, size: int) -> None:
    """The request is not read, and not all of it can be sent."""
    line.ask(b"x" * size)
    line.lightningd.close()
    await until(lambda: bool(line.heard))
    [error] = line.heard
    assert isinstance(error, ConnectionError)
    assert line.is_closed


async def test_an_endless_answer_fails_the_request(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_connection, "MAX_ANSWER_BYTES", 3000)
    line.ask()
    for _ in range(2):
        line.read(b"x" * BUFFER_BYTES)
    assert line.heard == []
    line.read(b"x" * BUFFER_BYTES)
    [error] = line.heard
    assert isinstance(error, OverflowError)
    assert await line.wait_until_hung_up() == REQUEST


async def test_a_closed_connection_calls_no_listener(line: Line) -> None:
    line.ask()
    line.lightningd.send(ANSWER + b"\n\n")
    line.connection.close()
    with pytest.raises(ConnectionResetError):  # the answer was not read
        await line.wait_until_hung_up()
    assert line.heard == []


async def test_a_closed_connection_sends_no_more(line: Line) -> None:
    """A request that was given up must not be sent any more."""
    request = b"x" * 10_000_000
    line.ask(request)
    line.connection.close()
    assert len(await line.wait_until_hung_up()) < len(request)
