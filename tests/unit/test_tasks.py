import asyncio
import logging

import pytest

from nwc.tasks import ShieldedTasks, Tasks

LONG_S = 60.0


async def test_finish_waits_for_short_tasks() -> None:
    tasks, done = Tasks(), []

    async def work(name: str) -> None:
        await asyncio.sleep(0)
        done.append(name)

    tasks.spawn(work("a"))
    tasks.spawn(work("b"))
    assert len(tasks) == 2
    await tasks.finish(LONG_S)
    assert done == ["a", "b"]
    assert len(tasks) == 0


async def test_finish_cancels_long_tasks() -> None:
    tasks, ended = Tasks(), asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks.spawn(wait())
    await asyncio.sleep(0)
    await tasks.finish(0)
    assert ended.is_set()
    assert len(tasks) == 0


async def test_finish_without_tasks_returns() -> None:
    await Tasks().finish(LONG_S)


async def test_a_failure_is_logged_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    tasks, done = Tasks(), asyncio.Event()

    async def fail() -> None:
        raise ValueError("a bug")

    async def work() -> None:
        done.set()

    tasks.spawn(fail())
    tasks.spawn(work())
    await tasks.finish(LONG_S)
    assert done.is_set()
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "ValueError: a bug" in caplog.text


# ShieldedTasks


class Step:
    """A coroutine that ends when the test lets it."""

    def __init__(self) -> None:
        self.started, self.may_end = asyncio.Event(), asyncio.Event()
        self.is_done = False

    async def run(self) -> str:
        self.started.set()
        await self.may_end.wait()
        self.is_done = True
        return "done"


async def cancel_caller(tasks: ShieldedTasks, step: Step) -> None:
    """Start a step, and cancel its caller."""
    waiting = asyncio.create_task(tasks.run(step.run()))
    await step.started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_run_returns_the_result() -> None:
    step = Step()
    step.may_end.set()
    assert await ShieldedTasks().run(step.run()) == "done"


async def test_run_raises_the_error() -> None:
    async def fail() -> None:
        raise ValueError("of the step")

    tasks = ShieldedTasks()
    with pytest.raises(ValueError, match="of the step"):
        await tasks.run(fail())
    await tasks.finish(LONG_S)


async def test_a_coroutine_completes_though_its_caller_is_cancelled() -> None:
    tasks, step = ShieldedTasks(), Step()
    await cancel_caller(tasks, step)
    finishing = asyncio.create_task(tasks.finish(LONG_S))
    await asyncio.sleep(0)
    assert not step.is_done
    step.may_end.set()
    await finishing
    assert step.is_done


async def test_finish_cancels_a_coroutine_that_takes_too_long() -> None:
    tasks, step = ShieldedTasks(), Step()
    await cancel_caller(tasks, step)
    await tasks.finish(0)
    step.may_end.set()
    await asyncio.sleep(0)
    assert not step.is_done
    await tasks.finish(LONG_S)


async def test_a_coroutine_that_fails_without_a_caller_harms_no_other() -> None:
    tasks, step, may_fail = ShieldedTasks(), Step(), asyncio.Event()

    async def fail() -> None:
        await may_fail.wait()
        raise ValueError("of the step")

    waiting = asyncio.create_task(tasks.run(fail()))
    await cancel_caller(tasks, step)
    waiting.cancel()
    may_fail.set()
    step.may_end.set()
    await tasks.finish(LONG_S)
    assert step.is_done
