"""A RelaySocket whose peer sends too much or reads too little."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus, SecurityError
from websockets.frames import CloseCode
from websockets.utils import accept_key

from nwc.nostr import relay_socket as module
from nwc.nostr.relay_socket import (
    MAX_HEAD_BYTES,
    NO_PONG,
    PIECE_BYTES,
    READ_BYTES,
    RelaySocket,
    open_socket,
)
from tests.support.certificate import Certificate
from tests.unit.helpers import until
from tests.unit.nostr.fake_relay import PATIENCE_S, FakeRelay

LONG_S = 3600.0
WRITTEN_AT_ONCE = 256 * 1024
# RFC 6455 section 5.2: opcode and FIN, then a length of 0.
EMPTY_TEXT, UNFINISHED_TEXT, EMPTY_CONTINUATION = b"\x81\0", b"\x01\0", b"\0\0"
PING, PONG = b"\x89\0", b"\x8a\0"
PINGS = PING * PIECE_BYTES


class Messages:
    """The messages that a connection has delivered."""

    def __init__(self, connection: RelaySocket) -> None:
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


Connected = Callable[[], AbstractAsyncContextManager[tuple[RelaySocket, ServerConnection]]]


@pytest.fixture(params=["ws", "wss"])
def tls(
    request: pytest.FixtureRequest, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext | None:
    """Return the relay's TLS.

    Every test runs twice, the second time over TLS, which asyncio reads in another way than plain TCP.
    """
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    return certificate.server_context() if request.param == "wss" else None


@pytest.fixture
def connected(tls: ssl.SSLContext | None) -> Connected:
    """Return a context manager that yields both ends of a connection before `listen` is called."""

    @asynccontextmanager
    async def both_ends() -> AsyncIterator[tuple[RelaySocket, ServerConnection]]:
        async with FakeRelay(tls) as relay:
            connection = await open_socket(relay.url, proxy=None)
            peer = await relay.arrival()
            try:
                yield connection, peer
            finally:
                connection.abort()
                peer.transport.abort()

    return both_ends


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
    connected: Connected, before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN_S", 1e-9)
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


async def test_messages_arrive_in_order(connected: Connected) -> None:
    async with connected() as (connection, peer):
        messages = Messages(connection)
        texts = [f"{number} " * number for number in range(1000)]

        async def send() -> None:
            for text in texts:
                await peer.send(text)

        sending = asyncio.create_task(send())
        assert await messages.next(len(texts)) == texts
        await sending


async def test_messages_that_arrive_at_once_are_all_delivered(connected: Connected) -> None:
    """Over TLS, each message is a record of its own, and one read returns several records."""
    async with connected() as (connection, peer):
        messages = Messages(connection)
        texts = [f"{number} " * number for number in [*range(40), READ_BYTES, *range(40)]]
        for text in texts:
            peer.protocol.send_text(text.encode())
            peer.send_data()
        assert await messages.next(len(texts)) == texts


async def test_fragments_are_joined_to_one_message(connected: Connected) -> None:
    async with connected() as (connection, peer):
        messages = Messages(connection)
        await peer.send(["a", "ü", "", "c"])
        await peer.send([b"\0", b"\1"])
        await peer.send("d")
        assert await messages.next(3) == ["aüc", b"\0\1", "d"]


async def test_nothing_is_delivered_after_abort(connected: Connected) -> None:
    async with connected() as (connection, peer):
        received: list[str | bytes] = []

        def take(message: str | bytes) -> None:
            received.append(message)
            connection.abort()

        connection.listen(take, lambda: None)
        peer.transport.write(EMPTY_TEXT * PIECE_BYTES)
        await connection.wait_closed()
    assert received == [""]


async def test_text_that_is_not_utf_8_ends_the_connection(connected: Connected) -> None:
    async with connected() as (connection, peer):
        messages = Messages(connection)
        peer.transport.write(b"\x81\x01\xff" + EMPTY_TEXT * 5)
        await connection.wait_closed()
        await peer.wait_closed()
        assert (peer.close_code, messages.received) == (1007, [])


@pytest.mark.parametrize("size", [0, 1000, 100_000])
async def test_nothing_is_read_before_listen(connected: Connected, size: int) -> None:
    async with connected() as (connection, peer):
        header = b"\x81\x7f" + size.to_bytes(8, "big") if size else EMPTY_TEXT
        async with flooded(peer, header + bytes(size)):
            await until(lambda: peer.transport.get_write_buffer_size() >= WRITTEN_AT_ONCE)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(connection._unhandled) <= READ_BYTES
            assert connection._early_messages == [], "none came with the handshake"
            messages = Messages(connection)
            assert [*set(await messages.next(50))] == ["\0" * size]


def switching(request: str, *, more: str = "") -> bytes:
    """Return the answer to a handshake (RFC 6455 section 4.2.2), with further header lines."""
    key = next(line for line in request.splitlines() if line.startswith("Sec-WebSocket-Key: "))
    accept = accept_key(key.partition(": ")[2])
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    ).encode()


@asynccontextmanager
async def answering(tls: ssl.SSLContext | None, answer: Callable[[str], bytes]) -> AsyncIterator[str]:
    """Yield the URL of a server that answers a handshake, and reads until the client is gone."""
    is_over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer((await reader.readuntil(b"\r\n\r\n")).decode()))
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()
        is_over.set()

    async with await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{port}"
        await is_over.wait()


async def test_the_handshake_names_no_program_and_offers_no_compression(
    tls: ssl.SSLContext | None,
) -> None:
    requests: list[str] = []

    def answer(request: str) -> bytes:
        requests.append(request)
        return switching(request)

    async with answering(tls, answer) as url:
        (await open_socket(url, proxy=None)).abort()
    headers = {line.partition(":")[0].lower() for line in requests[0].splitlines()}
    assert "sec-websocket-version" in headers
    assert headers.isdisjoint({"user-agent", "sec-websocket-extensions"})


async def test_messages_that_come_with_the_handshake_are_delivered_after_listen(
    tls: ssl.SSLContext | None,
) -> None:
    """A relay may send its AUTH challenge right after its answer to the handshake."""
    early = b"\x81\x05hello" + EMPTY_TEXT * PIECE_BYTES
    async with answering(tls, lambda request: switching(request) + early) as url:
        connection = await open_socket(url, proxy=None)
        messages = Messages(connection)
        assert await messages.next(1 + PIECE_BYTES) == ["hello"] + [""] * PIECE_BYTES
        connection.abort()


HEADER_BYTES = 4096
AT_MOST = MAX_HEAD_BYTES // HEADER_BYTES


@pytest.mark.parametrize("count", [1, AT_MOST - 1, AT_MOST + 1])
async def test_the_headers_of_the_answer_to_the_handshake_are_bounded(
    tls: ssl.SSLContext | None, count: int
) -> None:
    header = "X: ".ljust(HEADER_BYTES - 2, "x") + "\r\n"
    async with answering(tls, lambda request: switching(request, more=header * count)) as url:
        if count > AT_MOST:
            with pytest.raises(SecurityError, match="bytes of headers"):
                await open_socket(url, proxy=None)
        else:
            (await open_socket(url, proxy=None)).abort()


async def test_a_page_that_refuses_the_handshake_may_be_longer_than_headers(
    tls: ssl.SSLContext | None,
) -> None:
    size = 4 * MAX_HEAD_BYTES
    page = f"HTTP/1.1 503 Busy\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size
    async with answering(tls, lambda _: page) as url:
        with pytest.raises(InvalidStatus, match="503"):
            await open_socket(url, proxy=None)


async def test_a_peer_that_sends_close_but_keeps_the_connection_is_dropped(
    connected: Connected,
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


async def test_sending_stops_while_the_peer_does_not_read(connected: Connected) -> None:
    async with connected() as (connection, peer):
        messages = Messages(connection)
        peer.transport.pause_reading()
        while connection.can_send:
            connection.send(json.dumps(["x" * 10_000]))
        assert messages.writable == 0
        peer.transport.resume_reading()
        await until(lambda: messages.writable == 1)
        assert connection.can_send


async def test_an_end_of_stream_before_all_bytes_are_handled_is_no_error(
    connected: Connected,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncio's TLS delivers decrypted bytes and, right after them, the end of the stream."""
    monkeypatch.setattr(module, "TURN_S", 1e-9)
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with connected() as (connection, _):
        Messages(connection)
        connection.get_buffer(-1)[: len(PINGS)] = PINGS
        connection.buffer_updated(len(PINGS))
        turn = connection._next_turn
        assert turn
        connection.eof_received()
        await until(lambda: connection._next_turn is not turn or turn.cancelled())
    assert errors == []


async def test_a_peer_over_its_share_is_not_read_until_its_pause_is_over(
    connected: Connected,
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


async def test_nothing_is_read_while_a_peer_is_paused(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a flood would fill our memory."""
    async with connected() as (connection, peer):
        messages = Messages(connection)
        monkeypatch.setattr(connection._share, "pause_after", lambda *_: LONG_S)
        await peer.send("a")
        await messages.next(1)
        async with flooded(peer, EMPTY_TEXT):
            await until(lambda: peer.transport.get_write_buffer_size() >= WRITTEN_AT_ONCE)
            for _ in range(100):
                await asyncio.sleep(0)
        assert len(connection._unhandled) <= READ_BYTES
        assert messages.received == []


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_certificate_that_is_unknown_or_for_another_name_is_refused(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    host = "localhost" if trusted else "127.0.0.1"  # the certificate is for 127.0.0.1
    async with FakeRelay(certificate.server_context()) as relay:
        with pytest.raises(ssl.SSLCertVerificationError):
            await open_socket(f"wss://{host}:{relay.port}", proxy=None)
        assert relay.arrivals.empty()


async def test_a_peer_that_pings_and_does_not_read_is_dropped(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNREAD_BYTES_WITH_PONGS", 1 << 16)
    async with connected() as (connection, peer):
        Messages(connection)
        peer.transport.pause_reading()
        # The kernel's buffers are not our memory, and take long to fill.
        for transport, buffer in (
            (connection._transport, socket.SO_SNDBUF),
            (peer.transport, socket.SO_RCVBUF),
        ):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, 4096)
        async with flooded(peer, PING.replace(b"\0", b"\x7d") + bytes(125)):
            await connection.wait_closed()


def fill(connection: RelaySocket) -> None:
    """Send more than fits into the kernel's buffers of both ends, so that the peer must read."""
    while connection.can_send:
        connection.send("x" * 16_000_000)
    assert connection.is_open


async def test_a_peer_that_does_not_read_is_dropped(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNREAD_TIMEOUT_S", 0.05)
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        fill(connection)
        async with asyncio.timeout(PATIENCE_S):
            await connection.wait_closed()
        assert (connection.close_exc.rcvd, connection.close_exc.sent) == (None, None)


async def test_the_end_of_the_connection_ends_a_drain_and_all_timers(connected: Connected) -> None:
    async with connected() as (connection, peer):
        Messages(connection)
        peer.transport.pause_reading()
        fill(connection)
        connection._fail(CloseCode.INTERNAL_ERROR, "a fault")
        timers = (connection._ping_timer, connection._unread_timer, connection._close_timer)
        draining = asyncio.create_task(connection.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        connection.abort()
        async with asyncio.timeout(PATIENCE_S):
            await connection.wait_closed()
            await draining
        assert all(timer is not None and timer.cancelled() for timer in timers)


async def test_a_peer_that_reads_slowly_is_not_dropped(connected: Connected) -> None:
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        fill(connection)
        unread_timer = connection._unread_timer
        assert unread_timer
        peer.transport.resume_reading()
        await until(unread_timer.cancelled)
        assert connection.can_send


@pytest.mark.parametrize("ends", ["abort", "fail"])
async def test_nothing_can_be_sent_once_the_end_has_begun(connected: Connected, ends: str) -> None:
    async with connected() as (connection, _):
        assert connection.can_send
        if ends == "abort":
            connection.abort()
        else:
            connection._fail(CloseCode.INTERNAL_ERROR, "a fault")
        assert not connection.is_open
        assert not connection.can_send


async def test_close_sends_a_close_frame_and_waits_for_the_end(connected: Connected) -> None:
    async with connected() as (connection, peer):
        Messages(connection)
        await connection.close()
        await peer.wait_closed()
        assert peer.close_code == 1000
        assert connection.close_exc.rcvd_then_sent is False


async def test_close_returns_if_the_peer_does_not_answer_it(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.05)
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        async with asyncio.timeout(PATIENCE_S):
            await connection.close()
        assert connection.close_exc.rcvd is None


async def test_close_does_not_wait_if_the_peer_does_not_read(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", LONG_S)
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        fill(connection)
        async with asyncio.timeout(PATIENCE_S):
            await connection.close()


async def test_close_works_twice_and_after_the_end(connected: Connected) -> None:
    async with connected() as (connection, peer):
        Messages(connection)
        peer.transport.abort()
        async with asyncio.timeout(PATIENCE_S):
            await connection.wait_closed()
            await connection.close()
            await connection.close()


async def test_the_latency_is_known_after_the_first_pong(connected: Connected) -> None:
    async with connected() as (connection, _):
        assert connection.latency_s is None
        Messages(connection)
        await until(lambda: connection.latency_s is not None)


async def test_a_pong_that_answers_no_ping_counts_for_nothing(connected: Connected) -> None:
    async with connected() as (connection, peer):
        messages = Messages(connection)
        peer.transport.pause_reading()  # so that it does not answer our ping
        peer.transport.write(PONG + EMPTY_TEXT)
        await messages.next(1)
        assert connection.latency_s is None


async def test_a_peer_that_answers_no_ping_is_dropped(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_INTERVAL_S", 0.05)
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.05)
    async with connected() as (connection, peer):
        peer.transport.pause_reading()
        Messages(connection)
        async with asyncio.timeout(PATIENCE_S):
            await connection.wait_closed()
        assert connection.close_exc.sent
        assert connection.close_exc.sent.reason == NO_PONG


async def test_a_peer_that_answers_pings_is_kept(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_INTERVAL_S", 0.01)
    latencies: set[float | None] = set()
    async with connected() as (connection, _):
        Messages(connection)

        def has_pongs() -> bool:
            latencies.add(connection.latency_s)
            return len(latencies) > 5

        await until(has_pongs)
        assert connection.is_open


async def test_a_message_with_too_many_fragments_ends_the_connection(connected: Connected) -> None:
    async with connected() as (connection, peer):
        Messages(connection)
        peer.transport.write(UNFINISHED_TEXT)
        async with flooded(peer, EMPTY_CONTINUATION):
            await connection.wait_closed()
