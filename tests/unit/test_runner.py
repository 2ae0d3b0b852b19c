"""Between pyln's thread and the service's, and what an owner is told when a command fails."""

import asyncio
import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.commands import ArgumentError
from nwc.runner import Runner, _reply
from nwc.wallet.connections.manager import StillStoredError


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
    done[1].set_exception(ArgumentError("name: is wrong"))
    done[0].set_result({"a": 1})
    for request in (good, bad):
        assert request.answered.wait(20)
        assert request.thread != threading.current_thread().name
    assert good.answer == {"a": 1}
    assert bad.answer.message == "name: is wrong"


def test_nothing_is_begun_while_the_plugin_ends() -> None:
    runner, request = Runner(), Request()
    runner._service = SimpleNamespace(run=command)  # type: ignore[assignment]
    runner._ending.acquire()
    runner.background(command)(request)
    assert str(request.answer.message).startswith("the plugin was stopped")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ArgumentError("name: must be short"), -32602, "name: must be short"),
        (RpcCallError("datastore", 1202, "exists"), 1202, "lightningd could not do this: exists"),
        (
            NodeUnavailableError("datastore: away"),
            -32603,
            "lightningd could not do this: datastore: away",
        ),
        (StillStoredError("'a' is served no more"), -32603, "'a' is served no more"),
        (
            TimeoutError(),
            -32603,
            "lightningd did not answer in time; the command may still be carried out",
        ),
        (asyncio.CancelledError(), -32603, "the plugin was stopped"),
        (KeyError("a secret"), -32603, "internal error; see lightningd's log"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_the_owner_is_told(error: BaseException, code: int, words: str) -> None:
    done: Future[Any] = Future()
    if isinstance(error, asyncio.CancelledError):
        done.cancel()
    else:
        done.set_exception(error)
    request: Any = Request()
    _reply(request, done)
    assert request.answer.code == code
    assert request.answer.message.startswith(words)
