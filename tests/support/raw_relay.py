"""A relay that can break the WebSocket protocol (RFC 6455): it writes whatever bytes a test gives it."""

import asyncio
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.utils import accept_key

from tests.support.scripted_relay import ScriptedRelay

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
CONTINUATION = 0


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


def accepted(key: str, *more: str) -> bytes:
    """Return the answer that accepts a handshake, with further header lines."""
    lines = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade")
    return "\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept_key(key)}", *more, "", ""]).encode()


class RawRelay(ScriptedRelay):
    """A relay that is honest until a test makes it misbehave.

    Attributes:
        handshake: None, or a function of the client's key that gives the pieces of a dishonest answer
            to every later handshake.
        sent_before_hang_up: for each misbehaviour, the bytes that were sent before the client hung up.

    """

    def __init__(self) -> None:
        super().__init__()
        self.handshake: Callable[[str], Iterable[bytes]] | None = None
        self.sent_before_hang_up: list[int] = []

    def misbehave(self, pieces: Iterable[bytes]) -> None:
        """Send raw bytes to the only client, and wait until it hangs up."""
        [connection] = self._connections
        self._in_loop(self._misbehave(connection, pieces))

    async def _misbehave(self, connection: ServerConnection, pieces: Iterable[bytes]) -> None:
        sent = 0
        transport = connection.transport
        for piece in pieces:
            while transport.get_write_buffer_size():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.001)
            if transport.is_closing() or connection.state > State.OPEN:
                break
            transport.write(piece)
            sent += len(piece)
        self.sent_before_hang_up.append(sent)
        await connection.wait_closed()

    async def _respond(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.handshake is None:
            return self._redirect(connection, request)
        await self._misbehave(connection, self.handshake(request.headers["Sec-WebSocket-Key"]))
        return None


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
