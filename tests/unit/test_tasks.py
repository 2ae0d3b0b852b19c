import asyncio
import logging

import pytest

from nwc.tasks import Tasks

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
