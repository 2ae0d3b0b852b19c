"""The double itself: owns the parts, runs commands, starts and stops."""

import asyncio
import hashlib
import inspect
import os
import secrets
import signal
import stat
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from coincurve import PrivateKey

from tests.double import hold, rpc_methods
from tests.double.jsonio import Json
from tests.double.log import Log
from tests.double.options import OptionError
from tests.double.params import LIGHTNINGD, METHOD_NOT_FOUND, BadParam, RpcError, parse_params
from tests.double.paying import Payer
from tests.double.plugin_host import PluginHost
from tests.double.rpc_server import RpcServer
from tests.double.settings import Settings
from tests.double.sql import Mirror
from tests.double.state import State
from tests.double.wait import Waiters


@dataclass
class Fault:
    """What dev-delay, dev-fail and dev-answer have set for a method.

    Attributes:
        delay: by which answers are late, in seconds.
        error: the error of the next `times` calls.
        answer: the text that the next `answers` calls get instead; None closes the connection only.

    """

    delay: float = 0.0
    error: RpcError | None = None
    times: int = 0
    answer: str | None = None
    answers: int = 0


class Node:
    """A running double."""

    def __init__(self, settings: Settings) -> None:
        settings.network_directory.mkdir(parents=True, exist_ok=True)
        # As lightningd does; plugins start here too.
        os.chdir(settings.network_directory)
        self.settings = settings
        self.log = Log(settings.log_file)
        self.state = State(settings.network_directory / "lightningd.sqlite3")
        seed = self.state.secret("hsm_secret", secrets.token_bytes(32))
        self.key = hashlib.sha256(b"node key" + seed).digest()
        self.id = PrivateKey(self.key).public_key.format().hex()
        self.state.db.execute(hold.SCHEMA)
        self.commands = rpc_methods.commands_of(settings)
        if self.state.get(hold.IS_THERE):
            self.commands |= hold.COMMANDS
        self.plugins = PluginHost(self)
        self.server = RpcServer(self)
        self.stopping = asyncio.Event()
        self.stopped = asyncio.Event()
        self.fault: dict[str, Fault] = {}
        self.invoice_waiters: set[asyncio.Future[Json]] = set()
        self.waiters = Waiters(self.state)
        self.payer = Payer(self)
        self.keysends: list[Json] = []
        self.pay_commands: list[str] = []
        self.unreachable: set[str] = set()
        self.mirror = Mirror(self.state)

    async def run(self) -> int:
        """Run until `stop` or SIGTERM, and return the exit code."""
        self._stop_on_signals()
        try:
            await self.plugins.read_manifests()
        except (OptionError, OSError) as error:
            self.log.add("broken", "lightningd", f"{error}")
            await self.plugins.shut_down()
            return 1
        await self.server.listen()
        await self.plugins.configure()
        name = f"alias DOUBLE and lightningd {self.settings.version}"
        self.log.add("info", "lightningd", f"Server started with public key {self.id}, {name}")
        await self.stopping.wait()
        self.server.stop_listening()
        await self.plugins.shut_down()
        self.stopped.set()
        await self.server.close()
        self.close()
        return 0

    def close(self) -> None:
        """Close the databases."""
        self.mirror.close()
        self.state.close()

    async def call(self, method: str, given: Json) -> Json:
        """Run one of our own commands in one transaction and return its result.

        Raises:
            RpcError: the command fails, or does not exist.

        """
        command = self.commands.get(method)
        if not command:
            raise RpcError(METHOD_NOT_FOUND, f"Unknown command '{method}'")
        handler, *params = command
        async with self.faults(method):
            try:
                result = handler(self, **parse_params(params, given))
            except BaseException as error:
                self.state.rollback()
                self._explain(method, error)
                raise
            self.state.commit(method)
            return await result if inspect.isawaitable(result) else result

    @asynccontextmanager
    async def faults(self, method: str) -> AsyncIterator[None]:
        """Fail or delay the call in the body as the dev methods have set.

        Raises:
            RpcError: dev-fail has set one.

        """
        fault = self.fault.get(method, Fault())
        if fault.error and fault.times:
            fault.times -= 1
            raise fault.error
        yield
        if fault.delay:
            await asyncio.sleep(fault.delay)

    def fault_of(self, method: str) -> Fault:
        """Return the fault of a method, for the caller to change."""
        return self.fault.setdefault(method, Fault())

    def has_method(self, name: str) -> bool:
        """Return True if the double or a plugin has this command."""
        return name in self.commands or self.plugins.find(name) is not None

    def features(self) -> Json:
        """Return our feature bits, for getinfo and `init`."""
        init, node = "800898880a8a59a1", "808898880a8a59a1"
        return {"init": init, "node": node, "channel": "", "invoice": "02000002024100"}

    def abort(self, reason: str) -> None:
        """End the process as a failed assertion in lightningd does."""
        self.log.add("broken", "lightningd", reason)
        os.abort()

    def _explain(self, method: str, error: BaseException) -> None:
        if isinstance(error, BadParam):
            self.log.add("info", "jsonrpc", error.detail)
        elif not isinstance(error, RpcError):
            text = "".join(traceback.format_exception(error)).rstrip()
            self.log.add("broken", "lightningd", f"bug in the double's {method}: {text}")
            raise RpcError(LIGHTNINGD, f"bug in the double: {error}") from error

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        if stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
            # A pipe's end becomes readable when its reader has gone.
            loop.add_reader(sys.stdout.fileno(), self.stopping.set)
