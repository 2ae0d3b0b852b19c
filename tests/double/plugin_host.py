"""All plugins: their start and stop, options, methods and notifications.

After lightningd/plugin.c and lightningd/plugin_control.c.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.double.jsonio import Json, token
from tests.double.options import Given, Option, OptionError, given_values
from tests.double.params import INVALID_PARAMS, PLUGIN_ERROR, RpcError
from tests.double.plugin import Plugin, PluginGone, PluginState

if TYPE_CHECKING:
    from tests.double.node import Node

STOP_TIMEOUT = 30
TOPICS = frozenset(
    {
        *("balance_snapshot", "block_added", "channel_open_failed", "channel_opened"),
        *("channel_state_changed", "coin_movement", "connect", "custommsg", "disconnect"),
        *("deprecated_oneshot", "forward_event", "invoice_creation", "invoice_payment", "log"),
        *("onionmessage_forward_fail", "openchannel_peer_sigs", "plugin_started"),
        *("plugin_stopped", "sendpay_failure", "sendpay_success", "shutdown", "warning", "*"),
    }
)


class PluginHost:
    """The running plugins."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.plugins: list[Plugin] = []
        self.closing = False
        self._startup = True
        self._last_id = -1
        self._dying: set[asyncio.Task[None]] = set()

    def next_id(self) -> int:
        """Return the number of the next request to a plugin."""
        self._last_id += 1
        return self._last_id

    async def read_manifests(self) -> None:
        """Start the plugins of the command line.

        Raises:
            OptionError: no plugin has declared an option, or its value is of the wrong type.
            OSError: a plugin cannot be executed.

        """
        started = [self._register(path, {}) for path in self.node.settings.plugins]
        results = await asyncio.gather(*(p.start() for p in started), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, PluginGone):
                raise result
        options = {option.name: option for option in self._options()}
        for name, values in self.node.settings.plugin_options.items():
            if name not in options:
                raise OptionError(f"--{name}: unrecognized option")
            try:
                for value in values:
                    options[name].check(value)
            except OptionError as error:
                raise OptionError(f"--{name}: {error}") from error

    async def configure(self) -> None:
        """Send `init` to the plugins of the command line."""
        await asyncio.gather(*(self._init(p) for p in list(self.plugins)), return_exceptions=True)
        self._startup = False

    def find(self, method: str) -> Plugin | None:
        """Return the plugin that has a method; None if there is none."""
        return next((p for p in self.plugins if method in p.methods), None)

    def has_option(self, name: str) -> bool:
        """Return True if a plugin has declared this option."""
        return any(option.name == name for option in self._options())

    def notify(self, topic: str, event: Json) -> None:
        """Send a notification to the plugins that subscribed to it."""
        for plugin in self.plugins:
            plugin.notify(topic, {topic: event})

    def forget(self, plugin: Plugin) -> None:
        """Remove a killed plugin with its methods and options."""
        self.plugins.remove(plugin)
        task = asyncio.create_task(plugin.wait())
        self._dying.add(task)
        task.add_done_callback(self._dying.discard)

    async def shut_down(self) -> None:
        """End all plugins: notify subscribers of `shutdown`, kill the others and the slow ones."""
        self.closing = True
        for plugin in list(self.plugins):
            plugin.drop_requests()
            if not plugin.notify("shutdown", {"shutdown": {}}):
                plugin.kill("debug", "lightningd shuts down")
        ends = [asyncio.create_task(plugin.gone.wait()) for plugin in self.plugins]
        if ends:
            await asyncio.wait(ends, timeout=self.node.settings.shutdown_timeout_s)
        for plugin in list(self.plugins):
            message = f"{plugin.name}: failed to self-terminate in time, killing."
            self.node.log.add("debug", "lightningd", message)
            plugin.kill("debug", "lightningd shuts down")
        await asyncio.gather(*self._dying)

    def configs(self) -> Json:
        """Return the plugins' options for listconfigs; None for an option without a value."""
        return {
            option.name: option.as_config(*self._given(plugin, option))
            for plugin in self.plugins
            for option in plugin.options
        }

    def _options(self) -> Iterator[Option]:
        for plugin in self.plugins:
            yield from plugin.options

    def _given(self, plugin: Plugin, option: Option) -> tuple[Given, Sequence[str]]:
        return given_values(option, self.node.settings.plugin_options, plugin.started_options)

    def _register(self, path: Path, options: Mapping[str, Given]) -> Plugin:
        plugin = Plugin(self, path, options)
        self.plugins.append(plugin)
        return plugin

    async def _init(self, plugin: Plugin) -> None:
        self._warn_of_topics(plugin)
        values = {o.name: o.as_init(self._given(plugin, o)[0]) for o in plugin.options}
        options = {name: value for name, value in values.items() if value is not None}
        await plugin.init(options, self._configuration())

    def _warn_of_topics(self, plugin: Plugin) -> None:
        for topic in plugin.subscriptions:
            if topic not in TOPICS:
                plugin.log("unusual", f"topic '{topic}' is not a known notification topic")

    def _configuration(self) -> Json:
        settings = self.node.settings
        configuration = {
            "lightning-dir": str(settings.network_directory),
            "rpc-file": "lightning-rpc",
            "startup": self._startup,
            "network": settings.network,
        }
        if settings.proxy:
            configuration["proxy"] = settings.proxy_address()
            configuration["torv3-enabled"] = True
            configuration["always_use_proxy"] = settings.always_use_proxy
        bolt12 = {"bolt12_offer": "", "bolt12_invreq": "", "bolt12_invoice": "020000"}
        features = {**self.node.features(), **bolt12, "channel_type": "08800000800000"}
        configuration["feature_set"] = features
        return configuration

    # The `plugin` command.

    async def start_plugin(self, path: str, options: Mapping[str, Given]) -> Json:
        """Run `plugin start`."""
        real = self._executable(path)
        if any(plugin.path == real for plugin in self.plugins):
            raise RpcError(INVALID_PARAMS, f"{path}: already registered")
        plugin = self._register(real, options)
        try:
            await plugin.start()
            if not plugin.dynamic:
                plugin.give_up("info", "Not a dynamic plugin")
            await self._init(plugin)
        except PluginGone as error:
            raise RpcError(PLUGIN_ERROR, f"{real}: {error}") from error
        except OSError as error:
            self.plugins.remove(plugin)
            raise RpcError(PLUGIN_ERROR, f"{path}: opening pipe: {error.strerror}") from error
        return self.list_plugins("start")

    def _executable(self, path: str) -> Path:
        for candidate in (path, self.node.settings.directory / "plugins" / path):
            if os.access(candidate, os.X_OK):
                return Path(candidate).resolve()
        message = f"{candidate} is not executable: No such file or directory"
        raise RpcError(INVALID_PARAMS, message)

    async def stop_plugin(self, name: str) -> Json:
        """Run `plugin stop`."""
        plugin = next((p for p in self.plugins if _same_plugin(p.path, name)), None)
        if not plugin:
            raise RpcError(INVALID_PARAMS, f"Could not find plugin {name}")
        if not plugin.dynamic:
            message = f"{name} cannot be managed when lightningd is up"
            raise RpcError(INVALID_PARAMS, message)
        if plugin.notify("shutdown", {"shutdown": {}}):
            try:
                await asyncio.wait_for(plugin.gone.wait(), STOP_TIMEOUT)
            except TimeoutError:
                plugin.log("unusual", "Timeout on shutdown: killing anyway")
        plugin.kill("info", "stopped by lightningd via RPC")
        return {"command": "stop", "result": f"Successfully stopped {plugin.name}."}

    def list_plugins(self, command: str) -> Json:
        """Run `plugin list`."""
        listed = [
            {
                "name": str(plugin.path),
                "active": plugin.state is PluginState.ACTIVE,
                "dynamic": plugin.dynamic,
            }
            for plugin in self.plugins
        ]
        return {"command": command, "plugins": listed}


def _same_plugin(path: Path, name: str) -> bool:
    return path == Path(name).resolve() if "/" in name else path.name == name


def start_options(given: Json) -> dict[str, Given]:
    """Return the options of `plugin start`; they can only be given by name."""
    if isinstance(given, list):
        if len(given) > 2:
            raise RpcError(INVALID_PARAMS, "Extra parameters must be in object")
        return {}
    fixed = ("subcommand", "plugin")
    return {name: [token(value)] for name, value in given.items() if name not in fixed}
