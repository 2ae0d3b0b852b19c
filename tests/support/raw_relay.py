"""A relay that implements WebSocket (RFC 6455) itself, so that a test can make it break the protocol.

Until a test makes it misbehave it is honest: it accepts every event and confirms every subscription.
Like ScriptedRelay it is also the channel of an app in a test.
"""

import base64
import contextlib
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from types import TracebackType
from typing import BinaryIO, Self

from tests.support.channel import EventLog, Json
from tests.support.waiting import PATIENCE_S, wait_until

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
CONTINUATION = 0
FOR_EVER_S = 600.0
# Longer than any frame of an honest client in the tests.
_MAX_READ = 1 << 20
_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(
    opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, length: int | None = None
) -> bytes:
    """Return the bytes of a server's frame, which is unmasked.

    Args:
        opcode: of the frame.
        payload: of the frame.
        fin: True if it is the last frame of its message.
        rsv: the three reserved bits; 4 is RSV1, "compressed".
        length: the length in the header, in bytes, if it is to be false.

    """
    declared = len(payload) if length is None else length
    first = bytes([fin << 7 | rsv << 4 | opcode])
    if declared < 126:
        return first + bytes([declared]) + payload
    if declared < 1 << 16:
        return first + struct.pack("!BH", 126, declared) + payload
    return first + struct.pack("!BQ", 127, declared) + payload


def accepted(key: bytes, *more: bytes) -> bytes:
    """Return the answer that accepts a handshake, with further header lines."""
    digest = base64.b64encode(hashlib.sha1(key + _ACCEPT_SUFFIX).digest())
    lines = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + digest, *more)
    return b"HTTP/1.1 101 Switching Protocols\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


class RawRelay:
    """A relay on a free port.

    Attributes:
        handshake: None, or a function of the client's key that gives the pieces of a dishonest answer
            to every later handshake.
        received: the events that clients published.
        port: the port it listens on.
        sent_before_hang_up: for each misbehaviour, the bytes that were sent before the client hung up.

    """

    def __init__(self) -> None:
        self.handshake: Callable[[bytes], Iterable[bytes]] | None = None
        self._is_deaf = False
        self.received = EventLog()
        self.sent_before_hang_up: list[int] = []
        self._subscriptions: dict[socket.socket, tuple[str, Json]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @property
    def url(self) -> str:
        """The URL it listens on."""
        return f"ws://127.0.0.1:{self.port}"

    # As the channel of an app

    def send(self, event: Json) -> None:
        """Deliver an event to every subscription."""
        for client, (name, _) in list(self._subscriptions.items()):
            client.sendall(frame(TEXT, json.dumps(["EVENT", name, event]).encode()))

    def close(self) -> None:
        """Do nothing: the relay runs on after the app."""

    # Misbehaviour

    def misbehave(self, pieces: Iterable[bytes], *, is_deaf: bool = False) -> None:
        """Send raw bytes to the only subscriber, and wait until it hangs up.

        Args:
            pieces: the bytes to send, piece by piece.
            is_deaf: True to read nothing meanwhile.

        """
        [client] = self._subscriptions
        self._is_deaf = is_deaf
        self._misbehave(client, pieces)
        self._is_deaf = False
        wait_until(lambda: client not in self._subscriptions, "the client hangs up")

    def wait_for_subscription(self, wallet_pubkey: str) -> None:
        """Wait until there is a subscription to the requests for a wallet key."""
        wait_until(
            lambda: any(wallet_pubkey in f.get("#p", ()) for _, f in list(self._subscriptions.values())),
            "a subscription",
            PATIENCE_S * 2,
        )

    # Inside

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self._open.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, EOFError):
            try:
                reader = client.makefile("rb")
                key = _handshake_key(reader.readline(_MAX_READ) for _ in iter(int, 1))
                if self.handshake is not None:
                    self._misbehave(client, self.handshake(key))
                    _read_to_the_end(client)
                    return
                client.sendall(accepted(key))
                while True:
                    wait_until(lambda: not self._is_deaf, "the relay may read again", FOR_EVER_S)
                    self._handle(client, *_read_frame(reader))
            finally:
                self._subscriptions.pop(client, None)
                self._open.discard(client)

    def _misbehave(self, client: socket.socket, pieces: Iterable[bytes]) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            for piece in pieces:
                client.sendall(piece)
                sent += len(piece)
        self.sent_before_hang_up.append(sent)

    def _handle(self, client: socket.socket, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            raise EOFError
        if opcode == PING:
            client.sendall(frame(10, payload))
        if opcode != TEXT:
            return
        match json.loads(payload):
            case ["EVENT", event]:
                self.received.add(event)
                client.sendall(frame(TEXT, json.dumps(["OK", event["id"], True, ""]).encode()))
            case ["REQ", str(name), filter_]:
                self._subscriptions[client] = name, filter_
                client.sendall(frame(TEXT, json.dumps(["EOSE", name]).encode()))


def _handshake_key(lines: Iterable[bytes]) -> bytes:
    key = b""
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-key":
            key = value.strip()
        if line in (b"\r\n", b""):
            return key
    return key


def _read_frame(reader: BinaryIO) -> tuple[int, bytes]:
    """Read a frame of a client; return its opcode and its payload, unmasked."""
    opcode, length = _read(reader, 2)
    length &= 127
    if length == 126:
        [length] = struct.unpack("!H", _read(reader, 2))
    elif length == 127:
        [length] = struct.unpack("!Q", _read(reader, 8))
    mask = _read(reader, 4)
    payload = _read(reader, length)
    return opcode & 15, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def _read(reader: BinaryIO, size: int) -> bytes:
    data = reader.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _read_to_the_end(client: socket.socket) -> None:
    while client.recv(_MAX_READ):
        pass


@dataclass(frozen=True)
class Endless:
    """The first bytes, then a piece again and again, up to `at_most` bytes of it in all.

    A client should hang up long before that.
    """

    first: bytes
    piece: bytes
    at_most: int

    def __iter__(self) -> Iterator[bytes]:
        yield self.first
        yield from repeat(self.piece, self.at_most // len(self.piece))
