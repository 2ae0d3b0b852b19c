"""One plugin process and the protocol with it, after lightningd/plugin.c.

States: AWAITING_MANIFEST → NEEDS_INIT → AWAITING_INIT → ACTIVE. `kill` ends each of them for good:
`plugin start` makes a new Plugin. A pending request is then answered with lightningd's "Plugin
terminated".
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tests.double.jsonio import Json, JsonError, JsonSplitter, dumps, token
from tests.double.options import Given, Option, OptionError, declare
from tests.double.params import PLUGIN_TERMINATED

if TYPE_CHECKING:
    from tests.double.plugin_host import PluginHost

STARTUP_TIMEOUT = 60
READ_SIZE = 1 << 20
Notify = Callable[[Json], None]


class PluginState(Enum):
    """The stage of a plugin; the values are lightningd's words."""

    AWAITING_MANIFEST = "before replying to getmanifest"
    NEEDS_INIT = "before we sent init"
    AWAITING_INIT = "before replying to init"
    ACTIVE = "during normal operation"


class PluginGone(Exception):
    """The plugin ended while a caller waited for it."""


class Plugin:
    """A plugin from its start to its end."""

    def __init__(self, host: "PluginHost", path: Path, started: Mapping[str, Given]) -> None:
        self.host = host
        self.path = path
        self.started_options = started
        self.state = PluginState.AWAITING_MANIFEST
        self.dynamic = False
        self.options: list[Option] = []
        self.methods: dict[str, str] = {}
        self.subscriptions: list[str] = []
        self.gone = asyncio.Event()
        self.reason = ""
        self._pending: dict[str, tuple[asyncio.Future[Json], Notify | None]] = {}
        self._process: asyncio.subprocess.Process
        self._reader: asyncio.Task[None]

    @property
    def name(self) -> str:
        """The name in logs."""
        return self.path.name

    def log(self, level: str, message: str) -> None:
        """Write to the log as this plugin."""
        self.host.node.log.add(level, f"plugin-{self.name}", message)

    async def start(self) -> None:
        """Start the process and read its manifest.

        Raises:
            PluginGone: it ended, disabled itself or has a manifest that lightningd refuses.
            OSError: it cannot be executed.

        """
        version = self.host.node.settings.version
        environment = {**os.environ, "LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": version}
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            self.path, stdin=pipe, stdout=pipe, env=environment
        )
        self.host.node.log.add("debug", "plugin-manager", f"started({self._process.pid}) {self.path}")
        self._reader = asyncio.create_task(self._read())
        reply = await self._ask("getmanifest", {"allow-deprecated-apis": False})
        result = reply.get("result")
        if not isinstance(result, dict):
            self.give_up("unusual", f"Invalid/missing result tok in '{token(reply)}'")
        if "disable" in result:
            self.give_up("info", f"disabled itself: {result['disable']}")
        try:
            self._take_manifest(result)
        except OptionError as error:
            self.give_up("unusual", str(error))
        self.state = PluginState.NEEDS_INIT

    async def init(self, options: Json, configuration: Json) -> None:
        """Configure the plugin. As in lightningd, an error as answer counts as success.

        Raises:
            PluginGone: it ended or disabled itself.

        """
        self.state = PluginState.AWAITING_INIT
        reply = await self._ask("init", {"options": options, "configuration": configuration})
        result = reply.get("result")
        if isinstance(result, dict) and "disable" in result:
            self.give_up("debug", f"disabled itself at init: {result['disable']}")
        self.state = PluginState.ACTIVE

    async def request(self, request: Json, prefix: str = "", notify: Notify | None = None) -> Json:
        """Send a request with an id of ours and return the reply, which has that id too."""
        prefix = f"{prefix}/" if prefix else ""
        id_ = f"{prefix}cln:{request['method']}#{self.host.next_id()}"
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._pending[id_] = (future, notify)
        self._send({**request, "id": id_})
        return await future

    def notify(self, topic: str, params: Json) -> bool:
        """Send a notification if the plugin subscribed to it; return True if it did."""
        is_subscribed = topic in self.subscriptions or ("*" in self.subscriptions and topic != "log")
        if self.state is not PluginState.ACTIVE or not is_subscribed:
            return False
        self._send({"jsonrpc": "2.0", "method": topic, "params": params})
        return True

    def kill(self, level: str, reason: str) -> None:
        """Kill the process and answer its pending requests with an error."""
        if self.gone.is_set():
            return
        self.log(level, f"Killing plugin: {reason}")
        self.reason = reason
        if self._process.returncode is None:
            self._process.kill()
        self.host.forget(self)
        self.gone.set()
        message = "Plugin terminated before replying to RPC call."
        error = {"code": PLUGIN_TERMINATED, "message": message}
        for id_, (future, _) in self._pending.items():
            if not future.done():
                future.set_result({"jsonrpc": "2.0", "id": id_, "error": error})

    def give_up(self, level: str, reason: str) -> NoReturn:
        """Kill the plugin and raise PluginGone."""
        self.kill(level, reason)
        raise PluginGone(reason)

    async def wait(self) -> None:
        """Wait until the killed process has ended."""
        await self._process.wait()
        await self._reader

    def drop_requests(self) -> None:
        """Cancel all pending requests, because lightningd is shutting down."""
        for future, _ in self._pending.values():
            future.cancel()
        self._pending.clear()

    async def _ask(self, method: str, params: Json) -> Json:
        request = {"jsonrpc": "2.0", "method": method, "params": params}
        try:
            reply = await asyncio.wait_for(self.request(request), STARTUP_TIMEOUT)
        except TimeoutError:
            self.give_up("unusual", f"timed out {self.state.value}")
        if self.gone.is_set():
            raise PluginGone(self.reason)
        return reply

    def _send(self, message: Json) -> None:
        # Does not wait for the plugin to read: unread messages stay in the buffer.
        if self._process.stdin and not self.gone.is_set():
            self._process.stdin.write(dumps(message))

    async def _read(self) -> None:
        assert self._process.stdout
        splitter = JsonSplitter()
        while data := await self._process.stdout.read(READ_SIZE):
            try:
                for message in splitter.feed(data):
                    self._receive(message)
            except JsonError as error:
                self.kill("unusual", str(error))
        self.kill("debug" if self.host.closing else "info", f"exited {self.state.value}")

    def _receive(self, message: Json) -> None:
        if self.gone.is_set():
            return
        if "id" in message:
            future, _ = self._pending.pop(token(message["id"]), (None, None))
            if future and not future.done():
                future.set_result(message)
        elif not {"method", "params"} <= message.keys():
            text = f'Malformed JSON-RPC notification missing "method" or "params": {token(message)}'
            self.kill("unusual", text)
        else:
            self._receive_notification(message)

    def _receive_notification(self, message: Json) -> None:
        method, params = message["method"], message["params"]
        if method == "log":
            self._receive_log(params)
        elif method in ("message", "progress"):
            _, notify = self._pending.get(token(params.get("id")), (None, None))
            if notify:
                notify(message)
        else:
            text = (
                f'Plugin attempted to send a notification to topic "{method}" it hasn\'t '
                "declared in its manifest, not forwarding to subscribers."
            )
            self.log("unusual", text)

    def _receive_log(self, params: Json) -> None:
        level = str(params.get("level", "info")).lower()
        if not isinstance(params.get("message"), str):
            text = 'Log notification from plugin doesn\'t have a string "message" field'
            self.kill("unusual", text)
        elif level not in ("trace", "debug", "info", "unusual", "broken", "warn", "error"):
            text = f'Unknown log-level {level}, valid values are "trace", "debug", "info", '
            self.kill("unusual", text + '"warn", or "error".')
        else:
            self.log(level, params["message"])

    def _take_manifest(self, manifest: Json) -> None:
        self.dynamic = manifest.get("dynamic", False)
        if not manifest.get("nonnumericids", True):
            raise OptionError("Plugin does not allow nonnumericids")
        for member in ("options", "rpcmethods"):
            if not isinstance(manifest.get(member), list):
                raise OptionError(f'"result.{member}" is not an array')
        for declared in manifest["options"]:
            option = declare(declared, str(self.path))
            if self.host.has_option(option.name):
                raise OptionError(f'Option "{option.name}" already registered')
            self.options.append(option)
        for method in manifest["rpcmethods"]:
            self._take_method(method)
        self.subscriptions = manifest.get("subscriptions", [])
        self._check_started_options()

    def _take_method(self, method: Json) -> None:
        name, usage = method.get("name"), method.get("usage")
        if not isinstance(name, str) or not isinstance(usage, str):
            raise OptionError('"usage" not provided by plugin')
        if self.host.node.has_method(name):
            message = "a method with that name is already registered"
            raise OptionError(f'Could not register method "{name}", {message}')
        self.methods[name] = usage

    def _check_started_options(self) -> None:
        declared = {option.name: option for option in self.options}
        for name, values in self.started_options.items():
            if name not in declared:
                raise OptionError(f"unknown parameter {name}")
            if declared[name].type != "flag":  # lightningd ignores a flag's value
                declared[name].check(values[0])
