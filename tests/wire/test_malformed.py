"""Relays that break the WebSocket protocol, or send more than the plugin may hold in memory.

Each misdeed ends that WebSocket and nothing else. The plugin reconnects to this relay, answers an honest
request over another relay meanwhile, and its memory does not grow.
"""

import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import psutil  # type: ignore[import-untyped]
import pytest

from tests.support.raw_relay import (
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Endless,
    RawRelay,
    accepted,
    frame,
)
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.node import NodeUnderTest

MIB = 1 << 20
# For all misdeeds of a test together. Held in memory, most of them alone would exceed it.
MAX_GROWTH = 48 * MIB
# Bytes that a socket and its buffers take before the plugin reads them.
MAX_TAKEN = 16 * MIB
ENDLESS = 200 * MIB

# As nwc-connect allows.
MAX_RELAYS_PER_CONNECTION = 10

COFFEE = {"amount": 1000, "description": "coffee"}


def bomb(size: int) -> bytes:
    """Return this many zero bytes, compressed as permessage-deflate (RFC 7692) does."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(bytes(size)) + deflate.flush(zlib.Z_SYNC_FLUSH)[:-4]


def pieces(data: bytes) -> list[bytes]:
    """Return the data in pieces of 1 MiB, since a client may hang up before the end."""
    return [data[start : start + MIB] for start in range(0, len(data), MIB)]


def endless(piece: bytes, *, first: bytes = b"") -> Endless:
    return Endless(first, piece, ENDLESS)


# Without those of tests/unit/nostr/test_relay_socket.py.
FRAMES: dict[str, Iterable[bytes]] = {
    "compressed bomb": [frame(TEXT, bomb(200 * MIB), rsv=4)],
    "compressed fragments": [frame(TEXT, bomb(MIB), rsv=4, fin=False)],
    "RSV2": [frame(TEXT, b"[]", rsv=2)],
    "unknown opcode": [frame(3, b"[]")],
    "masked": [b"\x81\x82\0\0\0\0[]"],
    "10 MB": pieces(frame(TEXT, b"x" * 10 * MIB)),
    "the longest length": [frame(TEXT, b"[" * 1000, length=2**63 - 1)],
    "fragments, too long together": [
        frame(TEXT, b"x" * 100_000, fin=False),
        *[frame(CONTINUATION, b"x" * 100_000, fin=False)] * 30,
    ],
    "fragments of a byte without end": endless(
        frame(CONTINUATION, b"x", fin=False) * 10_000,
        first=frame(TEXT, b"x", fin=False),
    ),
    "a fragment of nothing": [frame(CONTINUATION, b"[]")],
    "a message within a message": [frame(TEXT, b"[", fin=False), frame(TEXT, b"]")],
    "a ping too long": [frame(PING, bytes(126))],
    "a ping of a megabyte": [frame(PING, bytes(MIB))],
    "a ping in fragments": [frame(PING, b"", fin=False)],
    "a close of one byte": [frame(CLOSE, b"\x03")],
    "a close with a code that nobody may send": [frame(CLOSE, b"\x03\xed")],
    "a close without UTF-8": [frame(CLOSE, b"\x03\xe8\xff\xff")],
    "no frames at all": [b"HTTP/1.1 200 OK\r\n\r\n" * 1000],
}


def header_lines(line: bytes) -> Endless:
    return endless(line, first=b"HTTP/1.1 101 Switching Protocols\r\n")


def body(*lines: bytes, piece: bytes = b"x" * MIB) -> Endless:
    head = b"".join(line + b"\r\n" for line in (b"HTTP/1.1 503 Busy", *lines, b""))
    return endless(piece, first=head)


def always(answer: Iterable[bytes]) -> Callable[[str], Iterable[bytes]]:
    return lambda _: answer


COMPRESSION = "Sec-WebSocket-Extensions: permessage-deflate"
HANDSHAKES: dict[str, Callable[[str], Iterable[bytes]]] = {
    "headers without end": always(header_lines(b"X: " + b"x" * 4000 + b"\r\n")),
    "short headers without end": always(header_lines(b"X: x\r\n" * 1000)),
    "one header without end": always(header_lines(b"x" * 10_000)),
    "a status without end": always(endless(b"x" * 10_000, first=b"HTTP/1.1 101 ")),
    "a body without end": always(body()),
    "a body of which too much is announced": always(body(b"Content-Length: 99999999999999999999")),
    "a body whose length has thousands of digits": always(body(b"Content-Length: " + b"9" * 8000)),
    "a body in chunks without end": always(
        body(b"Transfer-Encoding: chunked", piece=b"100000\r\n" + b"x" * MIB + b"\r\n")
    ),
    "a chunk of which too much is announced": always(
        body(b"Transfer-Encoding: chunked", b"", b"ffffffffffff")
    ),
    "no HTTP": always([b"\0\xff" * 100, b"\r\n\r\n"]),
    "no version of HTTP": always([b"HTTP/9.9 101 Yes\r\n\r\n"]),
    "early frames": always([frame(TEXT, b'["NOTICE","hello"]') + b"\r\n\r\n"]),
    "another key": lambda _: [accepted("another")],
    "no upgrade": always([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"]),
    "compression that nobody asked for": lambda key: [accepted(key, COMPRESSION)],
    "nothing but a line": always([b"\r\n"]),
}


# One connection has all relays of a batch, since nwc-connect waits a moment for the relays of each.
BATCHES = [list(HANDSHAKES)[:MAX_RELAYS_PER_CONNECTION], list(HANDSHAKES)[MAX_RELAYS_PER_CONNECTION:]]


@pytest.fixture
def honest(connect: Connect) -> ConnectedApp:
    """An app whose relay has no fault."""
    return connect()


def memory(node: NodeUnderTest) -> int:
    """Return the plugin's resident memory in bytes."""
    return int(psutil.Process(node.plugin_pid).memory_info().rss)


def check_bounded(node: NodeUnderTest, relays: dict[str, RawRelay], memory_before: int) -> None:
    """Check that the plugin read no endless data to the end and inflated nothing."""
    assert memory(node) - memory_before < MAX_GROWTH
    taken = {name: max(relay.sent_before_hang_up) for name, relay in relays.items()}
    assert {name: size for name, size in taken.items() if size > MAX_TAKEN} == {}


def test_a_malformed_frame_ends_only_its_connection(
    node: NodeUnderTest, honest: ConnectedApp, connect: Connect
) -> None:
    with ExitStack() as running:
        relays = {name: running.enter_context(RawRelay()) for name in FRAMES}
        apps = {name: connect(relays=relay.url, channels=[relay]) for name, relay in relays.items()}
        before = memory(node)
        for name, relay in relays.items():
            relay.misbehave(FRAMES[name])
            assert memory(node) - before < MAX_GROWTH, name
            assert honest.ask("make_invoice", COFFEE).result["invoice"]
        check_bounded(node, relays, before)
        for name, relay in relays.items():
            relay.wait_for_subscription(apps[name].wallet_pubkey)
            assert apps[name].ask("make_invoice", COFFEE).result["invoice"]


@pytest.mark.parametrize("names", BATCHES, ids=["some", "others"])
def test_a_malformed_handshake_ends_only_its_connection(
    node: NodeUnderTest, honest: ConnectedApp, connect: Connect, names: list[str]
) -> None:
    with ExitStack() as running:
        relays = {name: running.enter_context(RawRelay()) for name in names}
        for name, relay in relays.items():
            relay.handshake = HANDSHAKES[name]
        before = memory(node)
        urls, channels = [relay.url for relay in relays.values()], list(relays.values())
        app = connect(relays=urls, channels=channels, wait=False)
        for name, relay in relays.items():
            wait_until(lambda relay=relay: relay.sent_before_hang_up, f"{name} to be sent")  # type: ignore[misc]
            assert honest.ask("make_invoice", COFFEE).result["invoice"]
        check_bounded(node, relays, before)
        for relay in relays.values():
            relay.handshake = None
        for relay in relays.values():
            relay.wait_for_subscription(app.wallet_pubkey)
        assert app.ask("make_invoice", COFFEE).result["invoice"]
