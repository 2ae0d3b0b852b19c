"""RpcConnection on a socket pair: an answer however it is cut, and what closes it."""

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
    """A connection, lightningd's end of it, and what who asked has heard."""

    connection: RpcConnection
    lightningd: socket.socket
    heard: list[bytes | Exception] = field(default_factory=list)

    def ask(self, request: bytes = REQUEST) -> None:
        self.connection.ask(request, self.hear)

    def hear(self, said: bytearray | Exception) -> None:
        self.heard.append(said if isinstance(said, Exception) else bytes(said))

    def read(self, data: bytes) -> None:
        """Have the connection read this, as the event loop does."""
        buffer = self.connection.get_buffer(-1)
        buffer[: len(data)] = data
        self.connection.buffer_updated(len(data))

    @property
    def is_closed(self) -> bool:
        return self.connection._transport.is_closing()

    async def wait_until_hung_up(self) -> bytes:
        """Return what lightningd hears until the end."""
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
        await asyncio.sleep(0)  # where its socket is closed


def cut(data: bytes, places: set[int]) -> list[bytes]:
    ends = sorted({*(place for place in places if place < len(data)), len(data)})
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


# Answers


async def test_an_answer(line: Line) -> None:
    line.ask()
    assert line.lightningd.recv(100) == REQUEST
    line.lightningd.send(ANSWER + b"\n\n")
    await until(lambda: line.heard == [ANSWER])
    assert line.connection.is_fit_for_use


@given(
    text=st.binary(max_size=40).map(lambda text: text.replace(b"\n\n", b"")),
    places=st.sets(st.integers(1, 50)),
)
def test_however_it_is_cut(text: bytes, places: set[int]) -> None:
    """Also in the middle of its end, and where a line of it ends."""
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
    """Each byte of it a second time would take minutes for all that a large node has."""
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
async def test_what_follows_an_answer_closes_it(line: Line, more: bytes) -> None:
    """The answer is one all the same: the call has been carried out."""
    line.ask()
    line.read(ANSWER + b"\n\n" + more)
    assert line.heard == [ANSWER]
    assert line.is_closed
    assert not line.connection.is_fit_for_use
    assert await line.wait_until_hung_up() == REQUEST
    assert line.heard == [ANSWER]


@pytest.mark.parametrize("said", [b"{", b"\n\n", ANSWER + b"\n\n"])
async def test_what_is_said_unasked_closes_it(line: Line, said: bytes) -> None:
    line.lightningd.send(said)
    assert not line.connection.is_fit_for_use  # before the loop has read it, too
    assert not line.is_closed
    assert await line.wait_until_hung_up() == b""
    assert line.is_closed


async def test_what_is_said_later_closes_it(line: Line) -> None:
    """Who has had an answer hears of no other."""
    line.ask()
    line.read(ANSWER + b"\n\n")
    line.read(ANSWER + b"\n\n")
    assert line.heard == [ANSWER]
    assert line.is_closed


async def test_lightningd_hangs_up_while_it_is_idle(line: Line) -> None:
    line.lightningd.shutdown(socket.SHUT_WR)
    assert not line.connection.is_fit_for_use
    assert not line.is_closed
    assert await line.wait_until_hung_up() == b""
    assert line.is_closed


@pytest.mark.parametrize("said", [b"", ANSWER, ANSWER + b"\n"])
async def test_lightningd_hangs_up_in_an_answer(line: Line, said: bytes) -> None:
    line.ask()
    line.lightningd.send(said)
    line.lightningd.shutdown(socket.SHUT_WR)
    assert await line.wait_until_hung_up() == REQUEST
    [error] = line.heard
    assert isinstance(error, EOFError)


async def test_lightningd_hangs_up_before_it_has_taken_all(line: Line) -> None:
    line.ask(b"x" * 10_000_000)
    line.lightningd.shutdown(socket.SHUT_WR)
    await until(lambda: bool(line.heard))
    [error] = line.heard
    assert isinstance(error, EOFError)


@pytest.mark.parametrize("size", [10, 10_000_000])
async def test_lightningd_dies(line: Line, size: int) -> None:
    """The request is not read, nor can all of it be sent."""
    line.ask(b"x" * size)
    line.lightningd.close()
    await until(lambda: bool(line.heard))
    [error] = line.heard
    assert isinstance(error, ConnectionError)
    assert line.is_closed


async def test_an_answer_without_end(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_connection, "MAX_ANSWER_BYTES", 3000)
    line.ask()
    for _ in range(2):
        line.read(b"x" * BUFFER_BYTES)
    assert line.heard == []
    line.read(b"x" * BUFFER_BYTES)
    [error] = line.heard
    assert isinstance(error, OverflowError)
    assert await line.wait_until_hung_up() == REQUEST


async def test_closed_it_tells_nothing(line: Line) -> None:
    line.ask()
    line.lightningd.send(ANSWER + b"\n\n")
    line.connection.close()
    with pytest.raises(ConnectionResetError):  # its answer was not read
        await line.wait_until_hung_up()
    assert line.heard == []


async def test_closed_it_sends_no_more(line: Line) -> None:
    """A request that lightningd does not take: it must not be sent once it was given up."""
    request = b"x" * 10_000_000
    line.ask(request)
    line.connection.close()
    assert len(await line.wait_until_hung_up()) < len(request)
