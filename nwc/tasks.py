"""Background tasks that are kept alive, reported when they fail, and can be awaited together."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Tasks:
    """Tasks nobody awaits one by one. asyncio itself keeps only weak references to them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run a coroutine in the background."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` seconds for all tasks, then cancel what is left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a background task failed", exc_info=error)


class Steps:
    """Steps that must not be cut in the middle, where who awaits them is cancelled."""

    def __init__(self) -> None:
        self._steps: set[asyncio.Task[Any]] = set()

    async def whole(self, step: Coroutine[Any, Any, _T]) -> _T:
        """Run a step to its end, and return or raise what it does."""
        task = asyncio.create_task(step)
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)
        return await asyncio.shield(task)

    async def finish(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` seconds for the steps under way, then cancel what is left."""
        steps = list(self._steps)
        if steps:
            await asyncio.wait(steps, timeout=timeout_s)
        for step in steps:
            step.cancel()
        await asyncio.gather(*steps, return_exceptions=True)
