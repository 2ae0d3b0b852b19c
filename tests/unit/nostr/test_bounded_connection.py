"""A BoundedConnection whose peer sends too much or reads too little."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.utils import accept_key

from nwc.nostr import bounded_connection as module
from nwc.nostr.bounded_connection import PIECE_BYTES, READ_BYTES, BoundedConnection
from tests.support.certificate import Certificate
from tests.unit.helpers import until
from tests.unit.nostr.fake_relay import PATIENCE_S, FakeRelay

LONG_S = 3600.0
WRITTEN_AT_ONCE = 256 * 1024
# RFC 6455 section 5.2: opcode and FIN, then a length of 0.
EMPTY_TEXT, PING, UNFINISHED_TEXT, EMPTY_CONTINUATION = b"\x81\0", b"\x89\0", b"\x01\0", b"\0\0"


class Messages:
    """The messages that a connection has delivered."""

    def __init__(self, connection: BoundedConnection) -> None:
        self.received: list[str | bytes] = []
        self.writable = 0
        connection.listen(self.received.append, self._on_writable)

    def _on_writable(self) -> None:
        self.writable += 1

    async def next(self, count: int) -> list[str | bytes]:
        """Wait for `count` messages and return them."""
        await until(lambda: len(self.received) >= count)
        taken, self.received[:count] = self.received[:count], []
        return taken


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"))


# The certificate for connections over TLS, which asyncio reads in another way than plain TCP.
over: ContextVar[Certificate | None] = ContextVar("over")


@pytest.fixture(params=["ws", "wss"], autouse=True)
def scheme(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[None]:
    """Run every test twice, the second time over TLS."""
    token = over.set(certificate if request.param == "wss" else None)
    yield
    over.reset(token)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[BoundedConnection, ServerConnection]]:
    """Yield both ends of a connection before `listen` is called."""
    tls = over.get()
    async with FakeRelay(tls.server_context() if tls else None) as relay:
        connection = await connect(
            relay.url,
            ssl=tls.client_context() if tls else None,
            create_connection=BoundedConnection,
            compression=None,
            proxy=None,
            close_timeout=0.1,
        )
        assert isinstance(connection, BoundedConnection)
        peer = await relay.arrival()
        try:
            yield connection, peer
        finally:
            connection.transport.abort()
            peer.transport.abort()


async def flood(peer: ServerConnection, frame: bytes) -> None:
    """Write a frame without end, until the connection closes."""
    chunk = frame * (WRITTEN_AT_ONCE // len(frame))
    while not peer.transport.is_closing():
        if peer.transport.get_write_buffer_size() < WRITTEN_AT_ONCE:
            peer.transport.write(chunk)
        await asyncio.sleep(0)


@asynccontextmanager
async def flooded(peer: ServerConnection, frame: bytes) -> AsyncIterator[None]:
    """Flood the connection inside the `with` block."""
    flooding = asyncio.create_task(flood(peer, frame))
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    finally:
        flooding.cancel()
        await asyncio.wait([flooding])


PIECES = 50


@pytest.mark.parametrize("before", [b"", PING * (PIECES * PIECE_BYTES // len(PING))], ids=["", "pings"])
async def test_other_tasks_run_between_two_pieces(
    before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN_S", 0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with connected() as (connection, peer):
        messages = Messages(connection)
        counting = asyncio.create_task(count())
        peer.transport.write(before)
        text = "" if before else "x" * (PIECES * PIECE_BYTES)
        await peer.send(text)
        assert await messages.next(1) == [text]
        counting.cancel()
    assert turns >= PIECES


async def test_messages_arrive_in_order() -> None:
    async with connected() as (connection, peer):
        messages = Messages(connection)
        texts = [f"{number} " * number for number in range(1000)]

        async def send() -> None:
            for text in texts:
                await peer.send(text)

        sending = asyncio.create_task(send())
        assert await messages.next(len(texts)) == texts
        await sending


async def test_messages_that_arrive_at_once_are_all_delivered() -> None:
    """Over TLS, each message is a record of its own, and one read returns several records."""
    async with connected() as (connection, peer):
        messages = Messages(connection)
        texts = [f"{number} " * number for number in [*range(40), READ_BYTES, *range(40)]]
        for text in texts:
            peer.protocol.send_text(text.encode())
            peer.send_data()
        assert await messages.next(len(texts)) == texts


async def test_fragments_are_joined_to_one_message() -> None:
    async with connected() as (connection, peer):
        messages = Messages(connection)
        await peer.send(["a", "ü", "", "c"])
        await peer.send([b"\0", b"\1"])
        await peer.send("d")
        assert await messages.next(3) == ["aüc", b"\0\1", "d"]


async def test_text_that_is_not_utf_8_ends_the_connection() -> None:
    async with connected() as (connection, peer):
        messages = Messages(connection)
        peer.transport.write(b"\x81\x01\xff" + EMPTY_TEXT * 5)
        await connection.wait_closed()
        await peer.wait_closed()
        assert (peer.close_code, messages.received) == (1007, [])


@pytest.mark.parametrize("size", [0, 1000, 100_000])
async def test_nothing_is_read_before_listen(size: int) -> None:
    async with connected() as (connection, peer):
        header = b"\x81\x7f" + size.to_bytes(8, "big") if size else EMPTY_TEXT
        async with flooded(peer, header + bytes(size)):
            await until(lambda: peer.transport.get_write_buffer_size() >= WRITTEN_AT_ONCE)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(connection._unhandled) <= READ_BYTES
            messages = Messages(connection)
            assert [*set(await messages.next(50))] == ["\0" * size]


def switching(request: str) -> bytes:
    """Return the answer to a handshake (RFC 6455 section 4.2.2)."""
    key = next(line for line in request.splitlines() if line.startswith("Sec-WebSocket-Key: "))
    accept = accept_key(key.partition(": ")[2])
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


async def test_messages_that_come_with_the_handshake_are_delivered_after_listen() -> None:
    """A relay may send its AUTH challenge right after its answer to the handshake."""
    is_over = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(switching(request.decode()) + b"\x81\x05hello" + EMPTY_TEXT * PIECE_BYTES)
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        is_over.set()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await connect(
            f"ws://127.0.0.1:{port}", create_connection=BoundedConnection, compression=None, proxy=None
        )
        assert isinstance(connection, BoundedConnection)
        messages = Messages(connection)
        assert await messages.next(1 + PIECE_BYTES) == ["hello"] + [""] * PIECE_BYTES
        connection.transport.abort()
        await is_over.wait()


async def test_a_peer_that_sends_close_but_keeps_the_connection_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.05)
    async with connected() as (connection, peer):
        messages = Messages(connection)
        peer.transport.pause_reading()
        peer.transport.write(b"\x81\x03bye\x88\0")
        async with asyncio.timeout(PATIENCE_S):
            await connection.wait_closed()
        assert messages.received == ["bye"]
        assert not connection.can_send


async def test_sending_stops_while_the_peer_does_not_read() -> None:
    async with connected() as (connection, peer):
        messages = Messages(connection)
        peer.transport.pause_reading()
        while connection.can_send:
            connection.send_now(json.dumps(["x" * 10_000]))
        assert messages.writable == 0
        peer.transport.resume_reading()
        await until(lambda: messages.writable == 1)
        assert connection.can_send


async def test_an_end_of_stream_before_all_bytes_are_handled_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncio's TLS delivers decrypted bytes and, right after them, the end of the stream."""
    monkeypatch.setattr(module, "TURN_S", 0)
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with connected() as (connection, _):
        Messages(connection)
        connection.data_received(PING * PIECE_BYTES)
        turn = connection._next_turn
        assert turn
        connection.eof_received()
        await until(lambda: connection._next_turn is not turn or turn.cancelled())
    assert errors == []


async def test_a_peer_over_its_share_is_not_read_until_its_pause_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TURN_S", PATIENCE_S)
    async with connected() as (connection, peer):
        messages = Messages(connection)
        pauses = iter([0, LONG_S])
        monkeypatch.setattr(connection._share, "pause_after", lambda *_: next(pauses, 0))
        await peer.send("a")
        await messages.next(1)
        await peer.send("b")
        await messages.next(1)
        await peer.send("c")
        for _ in range(100):
            await asyncio.sleep(0)
        assert messages.received == []
        paused = connection._next_turn
        assert paused
        paused.cancel()
        connection._handle()
        assert await messages.next(1) == ["c"]


async def test_a_peer_that_pings_and_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNSENT_BYTES", 1 << 16)
    async with connected() as (connection, peer):
        Messages(connection)
        peer.transport.pause_reading()
        # The kernel's buffers are not our memory, and take long to fill.
        for end, buffer in ((connection, socket.SO_SNDBUF), (peer, socket.SO_RCVBUF)):
            end.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, 4096)
        async with flooded(peer, PING.replace(b"\0", b"\x7d") + bytes(125)):
            await connection.wait_closed()


async def fill(connection: BoundedConnection) -> None:
    """Send until the connection ends."""
    while True:
        await connection.send("x" * 100_000)


async def test_a_peer_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREAD_TIMEOUT_S", 0.05)
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(ConnectionClosed):
                await fill(connection)


async def test_a_peer_that_reads_slowly_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        filling = asyncio.create_task(fill(connection))
        await until(lambda: connection._unread_timer is not None)
        unread_timer = connection._unread_timer
        assert unread_timer
        peer.transport.resume_reading()
        await until(unread_timer.cancelled)
        filling.cancel()


async def test_close_returns_if_websockets_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.05)
    async with connected() as (connection, _):
        monkeypatch.setattr(ClientConnection, "close", never)
        async with asyncio.timeout(PATIENCE_S):
            await connection.close()
            await connection.wait_closed()


async def test_close_returns_if_the_peer_does_not_read() -> None:
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        filling = asyncio.create_task(fill(connection))
        await until(lambda: connection._unread_timer is not None)
        async with asyncio.timeout(PATIENCE_S):
            await connection.close()
            await connection.wait_closed()
            await asyncio.wait([filling])
        assert isinstance(filling.exception(), ConnectionClosed)


async def test_a_message_with_too_many_fragments_ends_the_connection() -> None:
    async with connected() as (connection, peer):
        Messages(connection)
        peer.transport.write(UNFINISHED_TEXT)
        async with flooded(peer, EMPTY_CONTINUATION):
            await connection.wait_closed()
