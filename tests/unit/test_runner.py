"""How a command runs between the threads of pyln and of the service, and how its errors are shown."""

import asyncio
import threading
from concurrent.futures import Future
from io import BytesIO, TextIOWrapper
from types import SimpleNamespace
from typing import Any

import pytest

from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.commands import ArgumentError
from nwc.runner import NwcPlugin, Runner, _reply
from nwc.wallet.connections.manager import StillStoredError


class Request:
    """A pyln request that keeps its answer and the name of the thread that answered."""

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


async def command(_app: Any) -> dict[str, Any]:
    raise AssertionError("only a real service runs it")


def test_the_thread_of_the_service_writes_no_answers() -> None:
    """Writing an answer blocks until lightningd reads it."""
    done: list[Future[Any]] = []

    def run(_action: Any) -> Future[Any]:
        done.append(Future())
        return done[-1]

    runner = Runner()
    runner._service = SimpleNamespace(run=run)  # type: ignore[assignment]
    good, bad = Request(), Request()
    for request in (good, bad):
        runner.background(command)(request)
    # The loop of the service does this.
    done[1].set_exception(ArgumentError("name: is wrong"))
    done[0].set_result({"a": 1})
    for request in (good, bad):
        assert request.answered.wait(20)
        assert request.thread != threading.current_thread().name
    assert good.answer == {"a": 1}
    assert bad.answer.message == "name: is wrong"


def test_a_value_that_lightning_cli_takes_for_a_parameter_is_explained() -> None:
    """lightning-cli reads `nwc-revoke a=b` as a parameter named a."""
    runner, request = Runner(), Request()
    runner.background(command)(request, **{"a" * 1000: "b"})
    assert str(request.answer.message).startswith("got an unexpected keyword argument 'aaa")
    assert str(request.answer.message).endswith("as in lightning-cli -k nwc-list name='a=b'")
    assert len(request.answer.message) < 300


def test_no_command_starts_while_the_plugin_stops() -> None:
    runner, request = Runner(), Request()
    runner._service = SimpleNamespace(run=command)  # type: ignore[assignment]
    runner._ending.acquire()
    runner.background(command)(request)
    assert str(request.answer.message).startswith("the plugin was stopped")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ArgumentError("name: must be short"), -32602, "name: must be short"),
        (RpcCallError("datastore", 1202, "exists"), 1202, "lightningd could not do this: exists"),
        (
            NodeUnavailableError("datastore: away"),
            -32603,
            "lightningd could not do this: datastore: away",
        ),
        (StillStoredError("'a' is still stored"), -32603, "'a' is still stored"),
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
def test_each_error_has_its_code_and_message(error: BaseException, code: int, message: str) -> None:
    done: Future[Any] = Future()
    if isinstance(error, asyncio.CancelledError):
        done.cancel()
    else:
        done.set_exception(error)
    request: Any = Request()
    _reply(request, done)
    assert request.answer.code == code
    assert request.answer.message.startswith(message)


DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize("params", [f"[{'9' * 5000}]", f"[{DEEP}]", '["\\"", "\xff"]', "[1"])
def test_a_message_that_cannot_be_read_is_ignored(
    params: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise it would end the plugin."""
    monkeypatch.setenv("LIGHTNINGD_PLUGIN", "1")
    messages = [
        f'{{"jsonrpc":"2.0","method":"{name}","params":{given},"id":"{name}"}}\n\n'
        for name, given in (("bad", params), ("good", "[]"), ("bad", params), ("better", "[]"))
    ]
    stdin = TextIOWrapper(BytesIO("".join(messages).encode("latin-1")))
    asked: list[Any] = []
    plugin = NwcPlugin(autopatch=False)
    plugin.stdin = stdin
    monkeypatch.setattr(plugin, "_dispatch_request", lambda request: asked.append(request.id))
    plugin.run()
    assert asked == ["good", "better"]
    assert [record.getMessage()[:31] for record in caplog.records] == [
        "ignored a message of lightningd"
    ] * 2
