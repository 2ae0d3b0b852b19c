"""A BoundedConnection whose peer sends more than it should, or reads less."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from nwc.nostr import bounded_connection as module
from nwc.nostr.bounded_connection import PIECE_BYTES, BoundedConnection
from tests.unit.helpers import until
from tests.unit.nostr.fake_relay import PATIENCE_S, FakeRelay

MAX_QUEUE = 8
LONG_S = 3600.0
READ_AT_ONCE = 256 * 1024  # asyncio's
# RFC 6455 section 5.2: opcode and FIN, then a length of none.
EMPTY_TEXT, PING, UNFINISHED_TEXT, EMPTY_CONTINUATION = b"\x81\0", b"\x89\0", b"\x01\0", b"\0\0"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[BoundedConnection, ServerConnection]]:
    """Give both ends of a connection."""
    async with FakeRelay() as relay:
        connection = await connect(
            relay.url,
            create_connection=BoundedConnection,
            compression=None,
            proxy=None,
            max_queue=MAX_QUEUE,
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
    """Write a frame without end, as long as somebody takes it."""
    chunk = frame * (READ_AT_ONCE // len(frame))
    while not peer.transport.is_closing():
        if peer.transport.get_write_buffer_size() < READ_AT_ONCE:
            peer.transport.write(chunk)
        await asyncio.sleep(0)


@asynccontextmanager
async def flooded(peer: ServerConnection, frame: bytes) -> AsyncIterator[None]:
    """Be flooded meanwhile."""
    flooding = asyncio.create_task(flood(peer, frame))
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    finally:
        flooding.cancel()
        await asyncio.wait([flooding])


PIECES = 50


@pytest.mark.parametrize("before", [b"", PING * (PIECES * PIECE_BYTES // len(PING))], ids=["", "pings"])
async def test_others_have_their_turn_between_the_pieces(
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
        counting = asyncio.create_task(count())
        peer.transport.write(before)
        text = "" if before else "x" * (PIECES * PIECE_BYTES)
        await peer.send(text)
        assert await connection.recv() == text
        counting.cancel()
    assert turns >= PIECES


async def test_all_arrives_in_its_order() -> None:
    async with connected() as (connection, peer):
        texts = [f"{number} " * number for number in range(1000)]

        async def send() -> None:
            for text in texts:
                await peer.send(text)

        sending = asyncio.create_task(send())
        assert [await connection.recv() for _ in texts] == texts
        await sending


@pytest.mark.parametrize(("size", "taken"), [(0, 10_000), (1000, 1000), (100_000, 50)])
async def test_what_nobody_takes_is_not_read(
    size: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN_S", PATIENCE_S)  # it is not the clock that stops it
    async with connected() as (connection, peer):
        header = b"\x81\x7f" + size.to_bytes(8, "big") if size else EMPTY_TEXT
        async with flooded(peer, header + bytes(size)):
            await until(lambda: connection._queue_is_full)
            await asyncio.sleep(0)
            held = len(connection._unhandled)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(connection._unhandled) == held <= READ_AT_ONCE
            # One piece may hold many frames; that is all the queue goes over its limit.
            assert len(connection.recv_messages.frames) <= MAX_QUEUE + 1 + PIECE_BYTES // 2
            for _ in range(taken):
                await connection.recv()
            assert len(connection._unhandled) <= READ_AT_ONCE


async def test_the_end_may_come_before_all_is_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As asyncio's TLS hands it on: what it has decrypted, and at once the end."""
    monkeypatch.setattr(module, "TURN_S", 0)
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with connected() as (connection, _):
        connection.data_received(PING * PIECE_BYTES)
        assert connection._next_turn
        connection.eof_received()
        await until(lambda: connection._next_turn is None)
    assert errors == []


async def test_a_peer_over_its_share_is_not_read_though_the_queue_is_empty_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TURN_S", PATIENCE_S)
    async with connected() as (connection, peer):
        monkeypatch.setattr(connection.share, "pause_after", lambda *_: LONG_S)
        peer.transport.write(EMPTY_TEXT * 10_000)
        await until(lambda: connection._queue_is_full)
        for _ in range(len(connection.recv_messages.frames)):
            await connection.recv()
        assert not connection._queue_is_full
        for _ in range(100):
            await asyncio.sleep(0)
        assert not connection.recv_messages.frames


async def test_a_pause_ends_while_the_queue_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (connection, peer):
        pauses = iter([0.001])
        monkeypatch.setattr(connection.share, "pause_after", lambda *_: next(pauses, 0))
        peer.transport.write(EMPTY_TEXT * 10_000)
        await until(lambda: connection._queue_is_full)
        await until(lambda: connection._next_turn is None)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(10_000):
                assert await connection.recv() == ""


async def test_a_peer_that_pings_and_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNSENT_BYTES", 1 << 16)
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        # What the machine buffers is not ours, and takes long to fill.
        for end, buffer in ((connection, socket.SO_SNDBUF), (peer, socket.SO_RCVBUF)):
            end.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, 4096)
        async with flooded(peer, PING.replace(b"\0", b"\x7d") + bytes(125)):
            await connection.wait_closed()


async def fill(connection: BoundedConnection) -> None:
    """Send until the connection ends."""
    while True:
        await connection.send("x" * 100_000)


async def test_a_peer_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREAD_TIMEOUT_S", 0.05)
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(ConnectionClosed):
                await fill(connection)


async def test_a_peer_that_reads_slowly_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        filling = asyncio.create_task(fill(connection))
        await until(lambda: connection._patience is not None)
        patience = connection._patience
        assert patience
        peer.transport.resume_reading()
        await until(patience.cancelled)
        filling.cancel()


async def test_closing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is that websockets waits for."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.05)
    async with connected() as (connection, _):
        monkeypatch.setattr(ClientConnection, "close", never)
        async with asyncio.timeout(PATIENCE_S):
            await connection.close()
            await connection.wait_closed()


async def test_closing_needs_no_peer_that_reads() -> None:
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        filling = asyncio.create_task(fill(connection))
        await until(lambda: connection._patience is not None)
        async with asyncio.timeout(PATIENCE_S):
            await connection.close()
            await connection.wait_closed()
            await asyncio.wait([filling])
        assert isinstance(filling.exception(), ConnectionClosed)


async def test_a_message_of_fragments_without_end() -> None:
    async with connected() as (connection, peer):
        peer.transport.write(UNFINISHED_TEXT)
        async with flooded(peer, EMPTY_CONTINUATION):
            with pytest.raises(ConnectionClosed):
                await connection.recv()
