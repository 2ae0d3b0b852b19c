"""A relay in the test's own event loop, which sends what the test tells it to send."""

import asyncio
import json
import ssl
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve

Frame = list[Any]
PATIENCE_S = 60


class FakeRelay:
    """Listens on 127.0.0.1; answers EVENT with OK and REQ with EOSE unless `answers` is False."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.answers = True
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.arrivals: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, compression=None, max_size=None, ssl=self._tls
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}"

    async def arrival(self) -> ServerConnection:
        """Return the next connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.arrivals.get()

    async def next(self, kind: str) -> Frame:
        """Return the next frame of a type, and drop all frames before it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame = await self.frames.get()
                if frame[0] == kind:
                    return frame

    async def _serve(self, connection: ServerConnection) -> None:
        self.arrivals.put_nowait(connection)
        async for text in connection:
            frame = json.loads(text)
            self.frames.put_nowait(frame)
            if self.answers and frame[0] == "EVENT":
                await connection.send(json.dumps(["OK", frame[1]["id"], True, ""]))
            elif self.answers and frame[0] == "REQ":
                await connection.send(json.dumps(["EOSE", frame[1]]))
