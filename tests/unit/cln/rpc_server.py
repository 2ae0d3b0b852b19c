"""A JSON-RPC server on a Unix socket that answers as a test wants."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
# Returns the bytes to answer a request with. The server hangs up on None, and after an answer that does
# not end with an empty line.
Answer = Callable[[Json], bytes | None]
END = b"\n\n"


def result(value: Any) -> Answer:
    """Return an answer with a result."""
    return lambda request: json.dumps({"id": request["id"], "result": value}).encode() + END


def failure(code: int, message: str) -> Answer:
    """Return an answer with an error."""
    error = {"code": code, "message": message}
    return lambda request: json.dumps({"id": request["id"], "error": error}).encode() + END


async def read_request(reader: asyncio.StreamReader) -> Json:
    """Return one JSON object; as in lightningd, no separator follows it."""
    text = b""
    while data := await reader.read(65_536):
        text += data
        try:
            request: Json = json.loads(text)
        except ValueError:
            continue
        return request
    raise EOFError


class Server:
    """Lightningd's socket.

    Attributes:
        answer: for the tests to set.
        before_answer: awaited before each answer; for the tests to set.
        requests: in their order.
        connections: all there were.
        open: how many of them there are.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Answer = result({})
        self.before_answer: Callable[[], Awaitable[object]] | None = None
        self.requests: list[Json] = []
        self.connections: list[asyncio.StreamWriter] = []
        self.open = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other, as lightningd does, until one side hangs up."""
        self.connections.append(writer)
        self.open += 1
        try:
            while True:
                self.requests.append(await read_request(reader))
                answer = self.answer(self.requests[-1])
                if self.before_answer is not None:
                    await self.before_answer()
                writer.write(answer or b"")
                if answer is None or not answer.endswith(END):
                    break
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()
            self.open -= 1

    @property
    def asked(self) -> tuple[str, Any]:
        """The method and the parameters of the only request."""
        [request] = self.requests
        return request["method"], request["params"]
