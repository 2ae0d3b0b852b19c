import asyncio
import logging

import pytest

from nwc.tasks import Steps, Tasks

LONG_S = 60.0


async def test_finish_waits_for_what_is_short() -> None:
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


async def test_finish_ends_what_is_long() -> None:
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


async def test_finish_nothing() -> None:
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


# Steps


class Step:
    """A step that goes on when it is told to."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.is_done = False

    async def run(self) -> str:
        self.begun.set()
        await self.may_end.wait()
        self.is_done = True
        return "done"


async def cut(steps: Steps, step: Step) -> None:
    """Begin a step, and cancel who waits for it."""
    waiting = asyncio.create_task(steps.whole(step.run()))
    await step.begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_step_returns_what_it_returns() -> None:
    step = Step()
    step.may_end.set()
    assert await Steps().whole(step.run()) == "done"


async def test_a_step_raises_what_it_raises() -> None:
    async def fail() -> None:
        raise ValueError("of the step")

    steps = Steps()
    with pytest.raises(ValueError, match="of the step"):
        await steps.whole(fail())
    await steps.finish(LONG_S)


async def test_a_step_is_not_cut() -> None:
    steps, step = Steps(), Step()
    await cut(steps, step)
    finishing = asyncio.create_task(steps.finish(LONG_S))
    await asyncio.sleep(0)
    assert not step.is_done
    step.may_end.set()
    await finishing
    assert step.is_done


async def test_a_step_that_is_too_long_is_cut() -> None:
    steps, step = Steps(), Step()
    await cut(steps, step)
    await steps.finish(0)
    step.may_end.set()
    await asyncio.sleep(0)
    assert not step.is_done
    await steps.finish(LONG_S)


async def test_a_step_that_fails_when_nobody_waits_harms_no_other() -> None:
    steps, step, may_fail = Steps(), Step(), asyncio.Event()

    async def fail() -> None:
        await may_fail.wait()
        raise ValueError("of the step")

    waiting = asyncio.create_task(steps.whole(fail()))
    await cut(steps, step)
    waiting.cancel()
    may_fail.set()
    step.may_end.set()
    await steps.finish(LONG_S)
    assert step.is_done
