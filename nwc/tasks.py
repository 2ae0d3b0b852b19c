"""Background tasks that are kept alive, logged if they fail, and awaited together."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class _TaskSet:
    """Keeps references to tasks, since asyncio itself has only weak ones."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def _start(self, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancel all tasks, without waiting for them."""
        for task in self._tasks:
            task.cancel()

    async def finish(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` seconds for all tasks, then cancel the rest."""
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        self.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Tasks(_TaskSet):
    """Background tasks."""

    def spawn(self, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run a coroutine in the background."""
        task = self._start(coroutine)
        task.add_done_callback(_log_failure)
        return task


class ShieldedTasks(_TaskSet):
    """Runs coroutines to completion even if the caller is cancelled."""

    async def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end, and return its result or raise its error."""
        return await asyncio.shield(self._start(coroutine))


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a background task failed", exc_info=error)
