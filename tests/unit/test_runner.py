"""What an owner is told when a command fails."""

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest

from nwc.cln.errors import NodeUnavailable, RpcFailed
from nwc.commands import BadArgument
from nwc.runner import _reply


class Asked:
    """A request of lightningd's, in place of pyln's."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: Any = None

    def set_result(self, result: Any) -> None:
        self.result = result

    def set_exception(self, error: Any) -> None:
        self.error = error


def reply(done: "Future[Any]") -> Asked:
    asked: Any = Asked()
    _reply(asked, done)
    return asked  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (BadArgument("name: must be short"), -32602, "name: must be short"),
        (RpcFailed("datastore", 1202, "exists"), 1202, "lightningd could not do this: exists"),
        (NodeUnavailable("datastore: away"), -32603, "lightningd could not do this: datastore: away"),
        (TimeoutError(), -32603, "lightningd did not answer in time; what was asked may still be done"),
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
    told = reply(done).error
    assert told.code == code
    assert told.message.startswith(words)
