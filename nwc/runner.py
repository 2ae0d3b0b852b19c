"""Between pyln's main thread and the service: starting it, and answering commands when they are done."""

import inspect
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from pyln.client.plugin import Method, MethodType, Plugin, PluginLogHandler, Request, RpcException

from nwc import logs
from nwc.cln import versions
from nwc.cln.errors import NodeError, RpcCallError, RpcCode
from nwc.commands import ArgumentError
from nwc.manifest import Command as DeclaredCommand
from nwc.options import OptionError, parse_settings
from nwc.service import Service
from nwc.stdin import readable
from nwc.wallet.connections.manager import ManagementError, StillStoredError

# lightningd's JSONRPC2 "internal error".
_INTERNAL_ERROR = -32603

_TOO_SLOW = "lightningd did not answer in time; what was asked may still be done, see nwc-list"
_STOPPED = "the plugin was stopped; what was asked may be done all the same, see nwc-list"

_HOW_TO_CORRECT = "Correct the option in lightningd's configuration and start lightningd again"

# At the end: for what commands have answered and lightningd has not read yet.
REPLY_TIMEOUT_S = 0.5

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)

Json = dict[str, Any]
Command = Callable[..., Coroutine[Any, Any, Json]]


class NwcPlugin(Plugin):
    """pyln's plugin, with errors for people: pyln adds a traceback to each, and binds arguments so that
    a forgotten one is a traceback in the log. And with nothing secret in the log.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, PluginLogHandler):
                logs.set_up(handler)
                # pyln makes it "info", which lightningd passes on to nobody.
                handler.levels[logging.WARNING] = "warn"

    def add_command(self, declared: DeclaredCommand, command: Command, runner: "Runner") -> None:
        """Register a command, whose parameters after the first are those people give."""
        self.methods[declared.name] = _Command(declared, runner.background(command))

    def _exec_func(self, func: Callable[..., Any], request: Request) -> Any:
        try:
            return super()._exec_func(func, request)
        except Exception:
            # pyln logs what it catches with its words.
            _log.exception("%s failed", request.method)
            raise RpcException("internal error; see lightningd's log", _INTERNAL_ERROR) from None

    def _multi_dispatch(self, msgs: list[bytes]) -> bytes:
        """Read what lightningd sends; the last is what is not complete yet."""
        last: bytes = super()._multi_dispatch([*map(readable, msgs[:-1]), msgs[-1]])
        return last

    def _write_locked(self, obj: Any) -> None:
        if isinstance(obj.get("error"), dict):
            obj["error"].pop("traceback", None)
        super()._write_locked(obj)


class _Command(Method):
    """A method whose usage is the declared one, not that of the function that starts it."""

    def __init__(self, declared: DeclaredCommand, start: Callable[..., None]) -> None:
        super().__init__(declared.name, start, MethodType.RPCMETHOD, description=declared.description)
        self.background = True
        self._declared = declared

    def get_usage(self) -> str:
        """Return the parameters as lightningd's help shows them, then what the command does."""
        return self._declared.usage


class Runner:
    """Holds the service once lightningd has sent `init`. Nothing here waits, but `exit` for a moment."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._ending = threading.Lock()
        self._replies = ThreadPoolExecutor(1, "nwc-reply")

    def start(self, options: Json, configuration: Json) -> Json:
        """Start the service; returns the answer to `init`."""
        try:
            settings = parse_settings(options, configuration)
        except OptionError as error:
            # Lightningd itself logs the reason at debug, which nobody sees.
            _log.warning("the plugin is disabled: %s. %s", error, _HOW_TO_CORRECT)
            return {"disable": f"nwc: {error}"}
        if warning := versions.warning_of(versions.running_version()):
            _log.warning("%s", warning)
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
            if self._ending.locked():  # what is begun now would be cut off
                request.set_exception(RpcException(_STOPPED, _INTERNAL_ERROR))
                return
            done = self._service.run(lambda core: command(core, *args, **kwargs))
            # Not in the loop: lightningd takes megabytes, of thousands of connections, at its own pace.
            done.add_done_callback(lambda done: self._replies.submit(_reply, request, done))

        return start

    def on_block_added(self, **notification: Any) -> None:
        """Pass on a new block; the key was `block` before v24.08 of lightningd."""
        block = notification.get("block_added") or notification.get("block")
        if self._service is not None and isinstance(block, dict):
            self._service.block_added(block["height"], block["hash"])

    def on_shutdown(self, **_: Any) -> None:
        """End when lightningd says so."""
        self.exit()

    def exit_on_signals(self) -> None:
        """End in the same way when told by others: a service manager may signal all processes of a
        service, and a terminal does. To be called before there are other threads.
        """
        # A handler would run in the middle of whatever the main thread does, and could wait for a lock
        # that it holds.
        signal.pthread_sigmask(signal.SIG_BLOCK, _END_SIGNALS)
        threading.Thread(target=self._exit_on_signal, name="nwc-signals", daemon=True).start()

    def _exit_on_signal(self) -> None:
        signal.sigwait(_END_SIGNALS)
        self.exit()

    def exit(self) -> None:
        """Stop the service and end the process. Does not return."""
        self._ending.acquire()  # for ever where another thread ends it already
        if self._service is not None:
            self._service.stop()
        with suppress(TimeoutError):  # the replies before this one, where lightningd still takes them
            self._replies.submit(lambda: None).result(REPLY_TIMEOUT_S)
        # A worker thread may wait for lightningd or a name server; a normal exit would wait for it.
        os._exit(0)


def _misuse(command: Command, args: tuple[Any, ...], kwargs: Json) -> RpcException | None:
    try:
        inspect.signature(command).bind(None, *args, **kwargs)
    except TypeError as error:
        return RpcException(str(error), RpcCode.INVALID_PARAMS)
    return None


def _reply(request: Request, done: "Future[Json]") -> None:
    problem = RpcException(_STOPPED, _INTERNAL_ERROR) if done.cancelled() else _problem(done)
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
        case ArgumentError() | ManagementError():
            return RpcException(str(error), RpcCode.INVALID_PARAMS)
        case StillStoredError():
            return RpcException(str(error), _INTERNAL_ERROR)
        case TimeoutError():
            return RpcException(_TOO_SLOW, _INTERNAL_ERROR)
        case RpcCallError():
            return RpcException(f"lightningd could not do this: {error.message}", error.code)
        case NodeError():
            return RpcException(f"lightningd could not do this: {error}", _INTERNAL_ERROR)
        case _:
            _log.error("a command failed", exc_info=error)
            return RpcException("internal error; see lightningd's log", _INTERNAL_ERROR)
