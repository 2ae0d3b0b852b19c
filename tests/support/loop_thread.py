"""A base class of servers that run in the tests' process, on an event loop in a thread of their own."""

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Self

from websockets.asyncio.server import Server

from tests.support.waiting import PATIENCE_S


class LoopThread(ABC):
    """A WebSocket server in a thread of its own.

    Args:
        port: the port to listen on; 0 for any free one.

    Attributes:
        port: the port it listens on, once it is entered.

    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(PATIENCE_S)

    @property
    def url(self) -> str:
        """The URL it listens on."""
        return f"ws://127.0.0.1:{self.port}"

    def _in_loop(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the loop and wait for its end; called in the test's thread."""
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    @abstractmethod
    async def _main(self) -> None:
        """Listen, and serve as long as `_until_stopped` waits."""

    async def _until_stopped(self, server: Server) -> None:
        """Announce that the server listens, and wait until it is to stop."""
        self.port = next(iter(server.sockets)).getsockname()[1]
        self._started.set()
        await self._stopping.wait()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._main())
