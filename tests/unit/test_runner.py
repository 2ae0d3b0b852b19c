"""Between pyln's thread and the service's."""

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from nwc.commands import BadArgument
from nwc.runner import Runner


class Request:
    """What pyln hands to a command, with the thread in which it is answered."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.answer: Any = None
        self.thread = ""

    def set_result(self, result: Any) -> None:
        self._set(result)

    def set_exception(self, error: Exception) -> None:
        self._set(error)

    def _set(self, answer: Any) -> None:
        self.answer, self.thread = answer, threading.current_thread().name
        self.answered.set()


async def command(_core: Any) -> dict[str, Any]:
    raise AssertionError("the service would run it")


def test_the_loop_does_not_wait_until_lightningd_has_read_an_answer() -> None:
    done: list[Future[Any]] = []

    def run(_action: Any) -> Future[Any]:
        done.append(Future())
        return done[-1]

    runner = Runner()
    runner._service = SimpleNamespace(run=run)  # type: ignore[assignment]
    good, bad = Request(), Request()
    for request in (good, bad):
        runner.background(command)(request)
    # As the service's loop does.
    done[1].set_exception(BadArgument("name: is wrong"))
    done[0].set_result({"a": 1})
    for request in (good, bad):
        assert request.answered.wait(20)
        assert request.thread != threading.current_thread().name
    assert good.answer == {"a": 1}
    assert bad.answer.message == "name: is wrong"
