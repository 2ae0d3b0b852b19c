"""A server for tests that runs in this process: an event loop in a thread of its own."""

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server

from tests.support.waiting import PATIENCE_S


class LoopThread(ABC):
    """What a WebSocket server needs to run beside a test.

    Args:
        port: where to listen; 0 for any that is free.

    Attributes:
        port: where it listens, once it does.

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(PATIENCE_S)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self.port}"

    def _in_loop(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end, from the test's thread."""
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    @abstractmethod
    async def _main(self) -> None:
        """Listen, and serve until the end: see `_until_stopped`."""

    async def _until_stopped(self, server: Server) -> None:
        """Say that the server listens, and wait for the end."""
        self.port = next(iter(server.sockets)).getsockname()[1]
        self._started.set()
        await self._stopping.wait()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._main())
