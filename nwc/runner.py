"""Between pyln's main thread and the service: starting it, and answering commands when they are done."""

import inspect
import json
import logging
import os
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from pyln.client.plugin import Method, MethodType, Plugin, Request, RpcException

from nwc.cln.errors import NodeError, RpcCode, RpcFailed
from nwc.cln.options import BadOption, parse_settings
from nwc.commands import BadArgument
from nwc.service import Service
from nwc.wallet.manager import ManagementError

# lightningd's JSONRPC2 "internal error".
_INTERNAL_ERROR = -32603

# More digits than sys.get_int_max_str_digits() is an error in Python.
_MAX_DIGITS = 400
_MAX_DEPTH = 100
_NUMBER = rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]|' + _NUMBER + rb'|[^"\[\]{}0-9-]+', re.DOTALL)

_log = logging.getLogger(__name__)

Json = dict[str, Any]
Command = Callable[..., Coroutine[Any, Any, Json]]


class NwcPlugin(Plugin):
    """pyln's plugin, with errors for people: pyln adds a traceback to each, and binds arguments so that
    a forgotten one is a traceback in the log.
    """

    def add_command(self, name: str, command: Command, help_text: str, runner: "Runner") -> None:
        """Register a command, whose parameters after the first are those people give."""
        self.methods[name] = _Command(name, command, help_text, runner.background(command))

    def _multi_dispatch(self, msgs: list[bytes]) -> bytes:
        """Read what lightningd sends; the last is what is not complete yet."""
        last: bytes = super()._multi_dispatch([*map(readable, msgs[:-1]), msgs[-1]])
        return last

    def _write_locked(self, obj: Any) -> None:
        if isinstance(obj.get("error"), dict):
            obj["error"].pop("traceback", None)
        super()._write_locked(obj)


def readable(message: bytes) -> bytes:
    """Return a message of lightningd as it is, unless Python cannot read it: that would end the plugin.

    lightningd passes on whatever parameters it is given. Numbers of thousands of digits become infinite
    then, and what is nested too deep becomes empty; no command takes either.
    """
    try:
        json.loads(message)
    except (ValueError, RecursionError):
        return _tamed(message)
    return message


def _tamed(message: bytes) -> bytes:
    pieces, depth = [], 0
    for token in _TOKEN.findall(message):
        depth -= token in b"]}"
        if depth < _MAX_DEPTH:
            is_huge = len(token) > _MAX_DIGITS and token[:1] in b"-0123456789"
            pieces.append(b"1e999" if is_huge else token)
        depth += token in b"[{"
    return b"".join(pieces)


class _Command(Method):
    """A method whose usage is read off the command, not off the function that starts it."""

    def __init__(self, name: str, command: Command, help_text: str, start: Callable[..., None]) -> None:
        super().__init__(name, start, MethodType.RPCMETHOD, description=help_text)
        self.background = True
        self._parameters = list(inspect.signature(command).parameters.values())[1:]

    def get_usage(self) -> str:
        """Return the parameters as lightningd's help shows them, then what the command does."""
        words = [p.name if p.default is p.empty else f"[{p.name}]" for p in self._parameters]
        return " ".join([*words, f"\n {self.description}"])


class Runner:
    """Holds the service once lightningd has sent `init`. Nothing here waits, but `exit` for a moment."""

    def __init__(self) -> None:
        self._service: Service | None = None

    def start(self, options: Json, configuration: Json) -> Json:
        """Start the service; returns the answer to `init`."""
        try:
            settings = parse_settings(options, configuration)
        except BadOption as error:
            return {"disable": f"nwc: {error}"}
        self._service = Service(settings)
        self._service.start()
        return {}

    def background(self, command: Command) -> Callable[..., None]:
        """Return what pyln calls for a command: it starts the command and returns at once."""

        def start(request: Request, *args: Any, **kwargs: Any) -> None:
            problem = _misuse(command, args, kwargs)
            if problem is not None or self._service is None:
                request.set_exception(problem or RpcException("the plugin is not initialised"))
                return
            done = self._service.run(lambda core: command(core, *args, **kwargs))
            done.add_done_callback(lambda done: _reply(request, done))

        return start

    def on_block_added(self, **notification: Any) -> None:
        """Pass on a new block; the key was `block` before v24.08 of lightningd."""
        block = notification.get("block_added") or notification.get("block")
        if self._service is not None and isinstance(block, dict):
            self._service.block_added(block["height"], block["hash"])

    def on_shutdown(self, **_: Any) -> None:
        """End when lightningd says so."""
        self.exit()

    def exit(self) -> None:
        """Stop the service and end the process."""
        if self._service is not None:
            self._service.stop()
        # A worker thread may sit in an RPC that never returns; a normal exit would wait for it.
        os._exit(0)


def _misuse(command: Command, args: tuple[Any, ...], kwargs: Json) -> RpcException | None:
    try:
        inspect.signature(command).bind(None, *args, **kwargs)
    except TypeError as error:
        return RpcException(str(error), RpcCode.INVALID_PARAMS)
    return None


def _reply(request: Request, done: "Future[Json]") -> None:
    problem = _problem(done)
    if problem is None:
        request.set_result(done.result())
    else:
        request.set_exception(problem)


def _problem(done: "Future[Json]") -> RpcException | None:
    """Translate what a command raised into an error that helps the person at lightning-cli."""
    error = done.exception()
    match error:
        case None:
            return None
        case BadArgument() | ManagementError():
            return RpcException(str(error), RpcCode.INVALID_PARAMS)
        case RpcFailed():
            return RpcException(f"lightningd could not do this: {error.message}", error.code)
        case NodeError():
            return RpcException(f"lightningd could not do this: {error}", _INTERNAL_ERROR)
        case _:
            _log.error("a command failed", exc_info=error)
            return RpcException("internal error; see lightningd's log", _INTERNAL_ERROR)
