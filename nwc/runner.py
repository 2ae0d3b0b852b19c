"""The main thread, which is pyln's: starts the service, and replies to commands when they are done."""

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
from nwc.wallet.connections.manager import ManagementError, StillStoredError

# JSON-RPC 2.0: internal error.
_INTERNAL_ERROR = -32603

_TOO_SLOW = "lightningd did not answer in time; the command may still be carried out, see nwc-list"
_STOPPED = "the plugin was stopped; the command may have been carried out, see nwc-list"

# lightning-cli takes the first text with such a sign, and then all, for name=value.
_HOW_TO_GIVE_EQUALS_SIGNS = (
    "a value that has a '=' must be given by name, as in lightning-cli -k nwc-list name='a=b'"
)

_HOW_TO_CORRECT = "Correct the option in lightningd's configuration and restart lightningd"

# At the end, for replies that lightningd has not read yet.
REPLY_TIMEOUT_S = 0.5

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)

Json = dict[str, Any]
Command = Callable[..., Coroutine[Any, Any, Json]]


class NwcPlugin(Plugin):
    """pyln's plugin with readable errors, and with nothing secret in the log.

    pyln would add a traceback to each error, and log one if an argument is missing.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, PluginLogHandler):
                logs.set_up(handler)
                # pyln sends warnings as "info", which lightningd shows nowhere but in its log.
                handler.levels[logging.WARNING] = "warn"

    def add_command(self, declared: DeclaredCommand, command: Command, runner: "Runner") -> None:
        """Register a command. Its parameters after the first are those of lightning-cli."""
        self.methods[declared.name] = _Command(declared, runner.background(command))

    def run(self) -> None:
        """Handle messages of lightningd until it closes stdin.

        A message that Python cannot parse is ignored: it would end the plugin. lightningd passes on what
        the owner types, such as a number of 5,000 digits.
        """
        while True:
            try:
                return super().run()
            except (ValueError, RecursionError) as error:
                _log.warning("ignored a message of lightningd: unreadable (%s)", type(error).__name__)

    def _exec_func(self, func: Callable[..., Any], request: Request) -> Any:
        try:
            return super()._exec_func(func, request)
        except Exception:
            # pyln would log the exception with its message.
            _log.exception("%s failed", request.method)
            raise RpcException("internal error; see lightningd's log", _INTERNAL_ERROR) from None

    def _write_locked(self, obj: Any) -> None:
        if isinstance(obj.get("error"), dict):
            obj["error"].pop("traceback", None)
        super()._write_locked(obj)


class _Command(Method):
    """A method whose usage is the declared one, not the signature of the function that starts it."""

    def __init__(self, declared: DeclaredCommand, start: Callable[..., None]) -> None:
        super().__init__(declared.name, start, MethodType.RPCMETHOD, description=declared.description)
        self.background = True
        self._declared = declared

    def get_usage(self) -> str:
        """Return the usage as lightningd's help shows it."""
        return self._declared.usage


class Runner:
    """Starts the service when lightningd sends `init`. Only `exit` blocks, for a moment."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._ending = threading.Lock()
        self._replies = ThreadPoolExecutor(1, "nwc-reply")

    def start(self, options: Json, configuration: Json) -> Json:
        """Start the service and return the answer to `init`."""
        try:
            settings = parse_settings(options, configuration)
        except OptionError as error:
            # lightningd itself logs the reason only at level debug.
            _log.warning("the plugin is disabled: %s. %s", error, _HOW_TO_CORRECT)
            return {"disable": f"nwc: {error}"}
        if warning := versions.warning_of(versions.running_version()):
            _log.warning("%s", warning)
        self._service = Service(settings)
        self._service.start()
        return {}

    def background(self, command: Command) -> Callable[..., None]:
        """Return the function that pyln calls for a command. It starts the command and does not wait."""

        def start(request: Request, *args: Any, **kwargs: Any) -> None:
            problem = _misuse(command, args, kwargs)
            if problem is not None or self._service is None:
                request.set_exception(problem or RpcException("the plugin is not initialised"))
                return
            if self._ending.locked():  # the command would be cut off
                request.set_exception(RpcException(_STOPPED, _INTERNAL_ERROR))
                return
            done = self._service.run(lambda app: command(app, *args, **kwargs))
            # Not in the loop: lightningd may be slow to read megabytes, of thousands of connections.
            done.add_done_callback(lambda done: self._replies.submit(_reply, request, done))

        return start

    def on_block_added(self, **notification: Any) -> None:
        """Pass on a new block. Before v24.08 of lightningd the key was `block`."""
        block = notification.get("block_added") or notification.get("block")
        if self._service is not None and isinstance(block, dict):
            self._service.block_added(block["height"], block["hash"])

    def on_shutdown(self, **_: Any) -> None:
        """End the process: lightningd is stopping."""
        self.exit()

    def exit_on_signals(self) -> None:
        """End the process in the same way on SIGTERM and SIGINT. Call this before starting threads.

        A service manager may signal all processes of a service, and a terminal does.
        """
        # A signal handler would interrupt the main thread, and could wait for a lock that it holds.
        signal.pthread_sigmask(signal.SIG_BLOCK, _END_SIGNALS)
        threading.Thread(target=self._exit_on_signal, name="nwc-signals", daemon=True).start()

    def _exit_on_signal(self) -> None:
        signal.sigwait(_END_SIGNALS)
        self.exit()

    def exit(self) -> None:
        """Stop the service and end the process. Does not return."""
        self._ending.acquire()  # blocks for ever if another thread is ending the process
        if self._service is not None:
            self._service.stop()
        with suppress(TimeoutError):  # wait for the replies before this one, if lightningd still reads
            self._replies.submit(lambda: None).result(REPLY_TIMEOUT_S)
        # A normal exit would wait for worker threads, which may wait for lightningd or a name server.
        os._exit(0)


def _misuse(command: Command, args: tuple[Any, ...], kwargs: Json) -> RpcException | None:
    signature = inspect.signature(command)
    unknown = [repr(name) for name in kwargs if name not in signature.parameters]
    if unknown:
        text = f"got an unexpected keyword argument {unknown[0]:.80}; {_HOW_TO_GIVE_EQUALS_SIGNS}"
        return RpcException(text, RpcCode.INVALID_PARAMS)
    try:
        signature.bind(None, *args, **kwargs)
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
    """Return the error of a command as lightning-cli shows it, None if the command succeeded."""
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
