"""A Relay that is connected to a WebSocket server in the same event loop."""

import asyncio
import json
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import psutil  # type: ignore[import-untyped]
import pytest
import pytest_asyncio

from nwc.nostr import reconnect_pace, relay_health, relay_socket
from nwc.nostr import relay as module
from nwc.nostr.auth import Auth
from nwc.nostr.event import Event, sign_event
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import MAX_FRAME_BYTES, MAX_MESSAGE_LENGTH
from nwc.nostr.relay import Relay
from nwc.nostr.subscriptions import Recipient
from tests.unit.helpers import as_json, until
from tests.unit.nostr.fake_relay import PATIENCE_S, FakeRelay

KEYS = KeyPair.generate()
RECIPIENT = Recipient(KEYS, "a" * 64)
EVENTS = [sign_event(KEYS, kind=1, content=str(number), tags=[], created_at=1) for number in range(3)]
LONG_S = 60.0


class Client:
    """A Relay, and what it has delivered."""

    def __init__(self, url: str, *, proxy: str | None = None) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.connects: list[str] = []
        self.rejected_for: str | None = None
        self.relay = Relay(
            url,
            kinds=(23194,),
            max_age=120,
            proxy=proxy,
            on_event=self._on_event,
            on_connected=self.connects.append,
        )

    def _on_event(self, event: Event, url: str) -> str | None:
        self.events.put_nowait(event)
        return self.rejected_for

    @property
    def state(self) -> str:
        return self.relay.info().state

    async def event(self) -> Event:
        async with asyncio.timeout(PATIENCE_S):
            return await self.events.get()

    async def down(self) -> str:
        """Wait until an attempt fails and return why."""
        await until(lambda: self.state == "disconnected")
        return self.relay.info().last_error or ""


ClientMaker = Callable[..., Client]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect_pace, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(reconnect_pace, "INTERVAL_S", 0.01)
    monkeypatch.setattr(module, "TICK_S", 0.01)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as relay:
        yield relay


@pytest_asyncio.fixture
async def start() -> AsyncIterator[ClientMaker]:
    clients: list[Client] = []

    def make(url: str, *, proxy: str | None = None) -> Client:
        client = Client(url, proxy=proxy)
        clients.append(client)
        client.relay.start()
        return client

    yield make
    for client in clients:
        await client.relay.stop()


@asynccontextmanager
async def tcp_server(answer: bytes | None, *, closes: bool = True) -> AsyncIterator[int]:
    """Listen on TCP and yield the port. Answer once, or accept and send nothing."""
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            writer.write(answer)
            if closes:
                writer.close()

    tcp = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield tcp.sockets[0].getsockname()[1]
    finally:
        tcp.close()
        for writer in writers:
            writer.close()
        await tcp.wait_closed()


async def test_the_events_for_a_recipient_are_delivered(server: FakeRelay, start: ClientMaker) -> None:
    client = start(server.url)
    client.relay.subscribe(RECIPIENT)
    assert client.relay.info().recipients == 1
    connection = await server.arrival()
    _, name, filter_ = await server.next("REQ")
    assert filter_["#p"] == [KEYS.public_key]
    await until(lambda: client.relay.is_listening(KEYS.public_key))
    await connection.send(json.dumps(["EVENT", name, as_json(EVENTS[0])]))
    assert await client.event() == EVENTS[0]
    assert client.connects == [server.url]
    info = client.relay.info()
    assert (info.url, info.state, info.reconnects, info.last_error) == (server.url, "connected", 0, None)
    client.relay.unsubscribe(KEYS.public_key)
    assert await server.next("CLOSE") == ["CLOSE", name]


async def test_an_event_is_published(server: FakeRelay, start: ClientMaker) -> None:
    client = start(server.url)
    result = await client.relay.publish(EVENTS[0], LONG_S)
    assert (result.event_id, result.accepted) == (EVENTS[0].id, True)
    assert (await server.next("EVENT"))[1] == as_json(EVENTS[0])


async def test_a_refusal_is_returned_and_shown(server: FakeRelay, start: ClientMaker) -> None:
    server.answers = False
    client = start(server.url)
    connection = await server.arrival()
    publishing = asyncio.create_task(client.relay.publish(EVENTS[0], LONG_S))
    await server.next("EVENT")
    await connection.send(json.dumps(["OK", EVENTS[0].id, False, "blocked: no"]))
    result = await publishing
    assert (result.accepted, result.reason) == (False, "blocked: no")
    assert client.relay.info().last_error == "blocked: no"


async def test_an_event_that_is_published_twice_at_once_is_sent_once(
    server: FakeRelay, start: ClientMaker
) -> None:
    server.answers = False
    client = start(server.url)
    connection = await server.arrival()
    both = [asyncio.create_task(client.relay.publish(EVENTS[0], LONG_S)) for _ in range(2)]
    await server.next("EVENT")
    await connection.send(json.dumps(["OK", EVENTS[0].id, True, ""]))
    assert [result.accepted for result in await asyncio.gather(*both)] == [True, True]
    server.answers = True
    await client.relay.publish(EVENTS[1], LONG_S)
    assert (await server.next("EVENT"))[1]["id"] == EVENTS[1].id


async def test_a_cancelled_publish_does_not_end_another_of_the_same_event(
    server: FakeRelay, start: ClientMaker
) -> None:
    server.answers = False
    client = start(server.url)
    connection = await server.arrival()
    first = asyncio.create_task(client.relay.publish(EVENTS[0], LONG_S))
    await server.next("EVENT")
    second = asyncio.create_task(client.relay.publish(EVENTS[0], LONG_S))
    first.cancel()
    await asyncio.wait([first])
    await connection.send(json.dumps(["OK", EVENTS[0].id, True, ""]))
    assert (await second).accepted


async def test_a_full_outbox_refuses_an_event(
    server: FakeRelay, start: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nwc.nostr.session.MAX_OUTBOX", 0)
    result = await start(server.url).relay.publish(EVENTS[0], LONG_S)
    assert not result.accepted


async def test_a_dropped_connection_is_made_again(server: FakeRelay, start: ClientMaker) -> None:
    client = start(server.url)
    client.relay.subscribe(RECIPIENT)
    for _ in range(3):
        connection = await server.arrival()
        _, name, _ = await server.next("REQ")
        await connection.send(json.dumps(["EVENT", name, as_json(EVENTS[0])]))
        await client.event()
        await connection.close(1001)
    await server.arrival()
    await until(lambda: client.relay.info().reconnects == 3)
    assert client.connects == [server.url] * 4


@pytest.mark.parametrize("how", ["close", "abort", "code 4000"])
async def test_the_reason_for_a_lost_connection_is_shown(
    server: FakeRelay, start: ClientMaker, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect_pace, "FIRST_PAUSE_S", LONG_S)
    client = start(server.url)
    connection = await server.arrival()
    await until(lambda: client.state == "connected")
    if how == "close":
        await connection.close()
        assert await client.down() == "the relay closed the connection"
    elif how == "abort":
        connection.transport.abort()
        assert (await client.down()).startswith("the connection was lost")
    else:
        await connection.close(4000, "words of the relay")
        assert await client.down() == "the relay closed the connection (code 4000: words of the relay)"
    assert not client.relay.is_listening(KEYS.public_key)
    assert client.relay.info().latency_ms is None


async def test_a_publication_survives_a_reconnect(server: FakeRelay, start: ClientMaker) -> None:
    server.answers = False
    client = start(server.url)
    connection = await server.arrival()
    publishing = asyncio.create_task(client.relay.publish(EVENTS[0], LONG_S))
    await server.next("EVENT")
    server.answers = True
    await connection.close()
    assert (await publishing).accepted
    assert (await server.next("EVENT"))[1]["id"] == EVENTS[0].id


async def test_a_publication_is_pending_while_the_relay_is_down(start: ClientMaker) -> None:
    async with FakeRelay() as gone:
        url, port = gone.url, gone.port
    client = start(url)
    await client.down()
    publishing = asyncio.create_task(client.relay.publish(EVENTS[0], LONG_S))
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", port):
        async with asyncio.timeout(PATIENCE_S):
            await arrived.wait()
        assert not publishing.done()
    await client.relay.stop()
    result = await publishing
    assert (result.accepted, result.reason) == (False, "the relay is not connected")


async def test_a_publication_to_a_relay_that_is_down_ends_at_its_deadline(start: ClientMaker) -> None:
    async with FakeRelay() as gone:
        url = gone.url
    result = await start(url).relay.publish(EVENTS[0], 0.05)
    assert (result.accepted, result.reason) == (False, "the relay is not connected")


async def test_a_clock_change_does_not_end_a_publication(
    server: FakeRelay, start: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = False
    client = start(server.url)
    client.relay.subscribe(RECIPIENT)
    connection = await server.arrival()
    before = await server.next("REQ")
    publishing = asyncio.create_task(client.relay.publish(EVENTS[0], LONG_S))
    await server.next("EVENT")
    real_time, ahead_s = time.time, 10 * LONG_S
    monkeypatch.setattr(time, "time", lambda: real_time() + ahead_s)
    await client.relay.publish(EVENTS[1], 0)  # ends when the deadlines are checked
    assert not publishing.done()
    ahead_s = -10 * LONG_S
    # By the new clock, the old subscription would begin in the future.
    after = await server.next("REQ")
    assert after[1] == before[1]
    assert after[2]["since"] < before[2]["since"]
    assert not publishing.done()
    await connection.send(json.dumps(["OK", EVENTS[0].id, True, ""]))
    assert (await publishing).accepted


async def test_a_publication_ends_at_its_deadline_while_connecting(
    start: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_TIMEOUT_S", LONG_S)
    async with tcp_server(None) as port:
        client = start(f"ws://127.0.0.1:{port}")
        async with asyncio.timeout(PATIENCE_S):
            result = await client.relay.publish(EVENTS[0], 0.05)
        assert not result.accepted
        await client.relay.stop()


@pytest.mark.parametrize(
    "answer",
    [None, b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 503 Go away\r\nContent-Length: 9\r\n\r\n"],
)
async def test_failed_attempts_leave_no_socket_open(
    start: ClientMaker, answer: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_TIMEOUT_S", 0.01)
    tried = 0

    async def hang_up_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tried
        if answer is not None:
            writer.write(answer)
            writer.write_eof()
        await reader.read()  # until the client is gone
        writer.close()
        tried += 1

    async with await asyncio.start_server(hang_up_late, "127.0.0.1", 0) as tcp:
        before = psutil.Process().num_fds()
        client = start(f"ws://127.0.0.1:{tcp.sockets[0].getsockname()[1]}")
        await until(lambda: tried >= 20)
        await client.relay.stop()
        await until(lambda: psutil.Process().num_fds() <= before)
        assert client.connects == []


async def test_stop_ends_when_the_relay_resets_the_connection(
    server: FakeRelay, start: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay does not read the pending frames, and then resets the connection."""
    client = start(server.url)
    peer = await server.arrival()
    await until(lambda: client.state == "connected")
    connection = client.relay._connection
    assert connection
    peer.transport.pause_reading()
    # The kernel's buffers are not our memory.
    for transport, buffer in (
        (connection._transport, socket.SO_SNDBUF),
        (peer.transport, socket.SO_RCVBUF),
    ):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, 4096)
    for number in range(100):
        event = sign_event(KEYS, kind=1, content=f"{number}" + "x" * 60_000, tags=[], created_at=1)
        client.relay.begin_publishing(event, LONG_S)
    await until(lambda: not connection.can_send)
    assert client.relay._frames
    is_draining = asyncio.Event()
    drain = connection.drain

    async def note_and_drain() -> None:
        is_draining.set()
        await drain()

    monkeypatch.setattr(connection, "drain", note_and_drain)
    stopping = asyncio.create_task(client.relay.stop())
    await is_draining.wait()
    reset = peer.transport.get_extra_info("socket")
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.transport.abort()
    async with asyncio.timeout(PATIENCE_S):
        await stopping


async def test_auth_of_many_keys_is_signed_in_batches(
    server: FakeRelay, start: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tasks run in between, even while frames arrive."""
    client = start(server.url)
    for _ in range(200):
        client.relay.subscribe(Recipient(KeyPair.generate(), "a" * 64))
    connection = await server.arrival()
    await server.next("REQ")
    signed: list[int] = []
    turns: list[int] = []
    frames = Auth.frames

    def count(auth: Auth, created_at: int) -> list[str]:
        made = frames(auth, created_at)
        if made:
            signed.append(len(made))
            turns.append(turn)
        return made

    turn = 0

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(Auth, "frames", count)
    taking_turns = asyncio.create_task(take_turns())
    notices = [json.dumps(["NOTICE", "x"])] * 50
    for text in [json.dumps(["AUTH", "challenge"]), *notices]:
        connection.protocol.send_text(text.encode())
    connection.send_data()
    await until(lambda: sum(signed) == 200)
    taking_turns.cancel()
    assert len(turns) == len(set(turns)) == 7


async def test_a_server_that_sends_nothing_times_out(
    start: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_TIMEOUT_S", 0.05)
    async with tcp_server(None) as port:
        client = start(f"ws://127.0.0.1:{port}")
        assert client.state == "connecting"
        assert (await client.down()).startswith("no answer in time: ")
        await client.relay.stop()


@pytest.mark.parametrize(
    ("answer", "closes", "error"),
    [
        (b"HTTP/1.1 503 Go away\r\nContent-Length: 0\r\n\r\n", False, "HTTP status 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True, "HTTP status 200"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False, "the server is not a relay"),
        (b"", True, "the server is not a relay"),
        (b"HTTP/1.1 101 X\r\nConnection: x\r\n\r\n", True, "the server is not a relay"),
        (b"HTTP/1.1 301 X\r\nLocation: https://x.invalid/secret\r\n\r\n", True, "HTTP status 301"),
    ],
)
async def test_a_server_that_is_not_a_relay_is_named_as_such(
    start: ClientMaker, monkeypatch: pytest.MonkeyPatch, answer: bytes, closes: bool, error: str
) -> None:
    """The plugin does not wait for the server to close the connection."""
    monkeypatch.setattr(module, "OPEN_TIMEOUT_S", LONG_S)
    async with tcp_server(answer, closes=closes) as port:
        client = start(f"ws://127.0.0.1:{port}")
        reason = await client.down()
        assert reason.startswith(error)
        assert "secret" not in reason
        await client.relay.stop()


async def test_an_outage_is_logged_once(
    start: ClientMaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, module.__name__)
    async with FakeRelay() as gone:
        url = gone.url
    client = start(url)
    assert await client.down()
    monkeypatch.setattr(relay_health, "LOG_OUTAGE_AFTER_S", 0.05)
    await until(lambda: any("unreachable" in record.message for record in caplog.records))
    count = len(caplog.records)
    await until(lambda: len(caplog.records) >= count + 4)
    # Above debug level there is one line per outage, however long it lasts.
    lines = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    reason = client.relay.info().last_error
    assert lines == [f"relay {url}: unreachable for over a minute ({reason}); still retrying"]


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\x01binary",
        "",
        "not JSON",
        "[]",
        '["EVENT","nwc1",{}]',
        '["AUTH","\\ud800"]',
        "[" * 10_000,
        '["NOTICE","' + "x" * MAX_MESSAGE_LENGTH + '"]',
    ],
)
async def test_junk_does_not_end_the_connection(
    server: FakeRelay, start: ClientMaker, junk: str | bytes
) -> None:
    client = start(server.url)
    client.relay.subscribe(RECIPIENT)
    connection = await server.arrival()
    _, name, _ = await server.next("REQ")
    await connection.send(junk)
    await connection.send(json.dumps(["EVENT", name, as_json(EVENTS[0])]))
    assert await client.event() == EVENTS[0]
    assert client.relay.info().reconnects == 0


async def test_a_frame_over_the_limit_ends_the_connection_and_a_new_one_is_made(
    server: FakeRelay, start: ClientMaker
) -> None:
    client = start(server.url)
    connection = await server.arrival()
    await connection.send("x" * (MAX_FRAME_BYTES + 1))
    await server.arrival()
    await until(lambda: client.relay.info().reconnects == 1)
    assert connection.close_code == 1009  # RFC 6455 section 7.4.1: too big


async def test_a_notice_is_shown(server: FakeRelay, start: ClientMaker) -> None:
    client = start(server.url)
    connection = await server.arrival()
    await connection.send(json.dumps(["NOTICE", "maintenance\nat noon"]))
    await until(lambda: client.relay.info().last_error == "maintenance?at noon")


async def test_a_relay_that_does_not_answer_a_subscription_is_shown(
    server: FakeRelay, start: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nwc.nostr.session.UNANSWERED_FIRST_S", 0)
    server.answers = False
    client = start(server.url)
    client.relay.subscribe(RECIPIENT)
    await server.next("REQ")
    await server.next("REQ")
    await until(lambda: "does not answer" in str(client.relay.info().last_error))


async def test_stop_sends_queued_frames(server: FakeRelay, start: ClientMaker) -> None:
    client = start(server.url)
    client.relay.subscribe(RECIPIENT)
    connection = await server.arrival()
    await server.next("REQ")
    client.relay.unsubscribe(KEYS.public_key)
    await client.relay.stop()
    assert await server.next("CLOSE") == ["CLOSE", "nwc1"]
    await connection.wait_closed()
    assert connection.close_code == 1000


async def test_stop_gives_up_pending_publications(server: FakeRelay, start: ClientMaker) -> None:
    server.answers = False
    client = start(server.url)
    await server.arrival()
    publishing = asyncio.create_task(client.relay.publish(EVENTS[0], LONG_S))
    await server.next("EVENT")
    await client.relay.stop()
    result = await publishing
    assert (result.accepted, result.reason) == (False, "the relay did not answer")
    await client.relay.stop()


async def test_stop_works_while_connecting(start: ClientMaker) -> None:
    async with tcp_server(None) as port:
        client = start(f"ws://127.0.0.1:{port}")
        await client.relay.stop()


async def test_stop_works_before_start() -> None:
    await Client("ws://127.0.0.1:1").relay.stop()


# Attempts and proxy: the calls of `open_socket`


class Attempts:
    """Replaces `open_socket`: fails, and records its arguments."""

    def __init__(self, error: Exception | None = None) -> None:
        self.made: list[dict[str, Any]] = []
        self._error = error or OSError("no")

    async def __call__(self, url: str, **options: Any) -> Any:
        self.made.append({"url": url, **options})
        raise self._error


async def attempt(client: Client, attempts: Attempts, count: int) -> None:
    """Run until there were `count` attempts."""
    client.relay.start()
    await until(lambda: len(attempts.made) >= count)
    await client.relay.stop()


@pytest.mark.parametrize(
    "error",
    [
        OSError("no"),
        TimeoutError(),
        ValueError("strange"),
        UnicodeError("label too long"),
        EOFError(),
        AssertionError(),
        RuntimeError("a bug of a library"),
    ],
)
async def test_no_error_ends_the_attempts(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts(error)
    monkeypatch.setattr(module, "open_socket", attempts)
    await attempt(Client("ws://relay.invalid"), attempts, 3)


@pytest.mark.parametrize("proxy", [None, "socks5h://127.0.0.1:9050"])
async def test_the_proxy_is_passed_to_the_socket(
    proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")  # only lightningd's option counts
    attempts = Attempts()
    monkeypatch.setattr(module, "open_socket", attempts)
    await attempt(Client("wss://relay.invalid", proxy=proxy), attempts, 1)
    assert attempts.made[0]["proxy"] == proxy


async def test_an_onion_name_is_never_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts()
    monkeypatch.setattr(module, "open_socket", attempts)
    client = Client("ws://abc.onion")
    client.relay.start()
    await client.down()
    await client.relay.stop()
    assert attempts.made == []
    assert client.relay.info().last_error == "a .onion relay needs lightningd's option proxy"


async def test_the_socks_proxy_resolves_the_name(server: FakeRelay, start: ClientMaker) -> None:
    """RFC 1928: the request contains the host name (address type 3), so we do not resolve it."""
    requested: list[bytes] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()

    async def socks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        await reader.readexactly(count)
        writer.write(b"\x05\x00")
        header = await reader.readexactly(5)
        assert header[:4] == b"\x05\x01\x00\x03"
        requested.append(await reader.readexactly(header[4]))
        await reader.readexactly(2)
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        there = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    async with await asyncio.start_server(socks, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        client = start("ws://abc.onion", proxy=f"socks5h://127.0.0.1:{port}")
        assert (await client.relay.publish(EVENTS[0], LONG_S)).accepted
        assert requested == [b"abc.onion"]
        await client.relay.stop()


async def test_a_proxy_that_does_not_speak_socks_is_an_error_of_the_proxy(start: ClientMaker) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        client = start("wss://relay.example", proxy=f"socks5h://127.0.0.1:{port}")
        assert (await client.down()).startswith("lightningd's proxy cannot reach the relay")
        await client.relay.stop()


async def test_a_relay_that_delivers_forged_events_is_still_read(
    server: FakeRelay, start: ClientMaker
) -> None:
    """A stranger may have forged them, and must not shut out honest clients."""
    client = start(server.url)
    client.rejected_for = "bad id or signature"
    client.relay.subscribe(RECIPIENT)
    connection = await server.arrival()
    _, name, _ = await server.next("REQ")
    for _ in range(200):
        await connection.send(json.dumps(["EVENT", name, as_json(EVENTS[0])]))
        await client.event()
    client.rejected_for = None
    await connection.send(json.dumps(["EVENT", name, as_json(EVENTS[1])]))
    assert await client.event() == EVENTS[1]
    info = client.relay.info()
    assert (info.state, info.reconnects) == ("connected", 0)
    assert info.events_ignored == {"bad id or signature": 200}


class Share:
    """Replaces a CpuShare: returns the same pause for any CPU time."""

    def __init__(self) -> None:
        self.pause_s = 0.0

    def __call__(self, now: float) -> Self:
        return self

    def pause_after(self, cpu_s: float, now: float) -> float:
        return self.pause_s


async def test_a_relay_over_its_share_is_paused_and_another_is_not(
    server: FakeRelay, start: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Share()
    monkeypatch.setattr(relay_socket, "CpuShare", share)
    greedy, calm = start(server.url), start(server.url)
    for client in (greedy, calm):
        client.relay.subscribe(RECIPIENT)
    first, second = [await server.arrival() for _ in range(2)]
    _, name, _ = await server.next("REQ")
    await until(lambda: all(c.relay.is_listening(KEYS.public_key) for c in (greedy, calm)))
    frame = json.dumps(["EVENT", name, as_json(EVENTS[0])])
    share.pause_s = LONG_S
    await first.send(frame)
    paused, other = (greedy, calm) if await has_event(greedy, calm) else (calm, greedy)
    await paused.event()
    share.pause_s = 0
    for _ in range(3):
        await first.send(frame)
        await second.send(frame)
    for _ in range(3):
        await other.event()
    assert paused.events.empty()
    assert paused.state == "connected"


async def has_event(client: Client, other: Client) -> bool:
    """Wait until one of two has an event. Return True if it is the first."""
    await until(lambda: not client.events.empty() or not other.events.empty())
    return not client.events.empty()
