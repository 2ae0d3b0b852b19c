"""The general commands of lightningd, and the table of all commands."""

import hmac
from typing import TYPE_CHECKING, Any

from tests.double import (
    channels,
    datastore,
    decoding,
    dev_methods,
    hold,
    invoices,
    offers,
    params,
    pay_commands,
    payments,
    plans,
    signing,
    sql,
    wait,
)
from tests.double.jsonio import Json
from tests.double.params import INVALID_PARAMS, METHOD_NOT_FOUND, Param, RpcError, opt, usage
from tests.double.plugin_host import start_options
from tests.double.settings import Settings

if TYPE_CHECKING:
    from tests.double.node import Node

FIRST_BLOCK = 101


def getinfo(node: "Node") -> Json:
    """Return the facts about the node."""
    return {
        "id": node.id,
        "alias": "DOUBLE",
        "color": node.id[:6],
        "num_peers": 0,
        "num_pending_channels": 0,
        "num_active_channels": 0,
        "num_inactive_channels": 0,
        "address": [],
        "binding": [],
        "version": node.settings.version,
        "blockheight": FIRST_BLOCK + int(node.state.get("blocks") or 0),
        "network": node.settings.network,
        "fees_collected_msat": 0,
        "lightning-dir": str(node.settings.network_directory),
        "our_features": node.features(),
    }


def help_(node: "Node", command: str | None) -> Json:
    """List all commands, or one, with parameters."""
    usages = {
        name: pay_commands.usage_of(name, node.settings) or usage(spec)
        for name, (_, *spec) in node.commands.items()
    }
    for plugin in node.plugins.plugins:
        usages.update(plugin.methods)
    if command is not None and command not in usages:
        raise RpcError(METHOD_NOT_FOUND, f"Unknown command {command}")
    names = sorted(usages) if command is None else [command]
    entries = [{"command": f"{name} {usages[name]}"} for name in names]
    return {"help": entries, "format-hint": "simple"}


def makesecret(node: "Node", hex: bytes | None, string: str | None) -> Json:
    """Derive a secret from the node's."""
    secret = hmac.digest(node.key, datastore.content(hex, string), "sha256")
    return {"secret": secret.hex()}


def listconfigs(node: "Node", config: str | None) -> Json:
    """Return the options in effect and their sources."""
    settings = node.settings
    source = "cmdline" if settings.proxy else "default"
    configs: dict[str, Json] = {
        "network": {"value_str": settings.network, "source": "cmdline"},
        "lightning-dir": {"value_str": str(settings.directory), "source": "cmdline"},
        "rpc-file": {"value_str": "lightning-rpc", "source": "default"},
        "log-level": {"value_str": "debug", "source": "cmdline"},
        "always-use-proxy": {"value_bool": settings.always_use_proxy, "source": source},
    }
    proxy = {"value_str": settings.proxy, "source": source}
    configs["proxy"] = proxy if settings.proxy else None
    configs.update(node.plugins.configs())
    if config is not None:
        if config not in configs:
            raise params.BadParam("config", "Unknown config option", config)
        configs = {config: configs[config]}
    return {"configs": {name: value for name, value in configs.items() if value is not None}}


async def stop(node: "Node") -> Json:
    """End the double; answer when the plugins have ended."""
    node.log.add("unusual", "lightningd", "JSON-RPC shutdown")
    node.stopping.set()
    await node.stopped.wait()
    return {"result": "Shutdown complete"}


async def plugin(node: "Node", given: Json) -> Json:
    """Start, stop or list plugins."""
    by_name = dict(zip(("subcommand", "plugin"), given, strict=False))
    by_name = by_name if isinstance(given, list) else given
    if "subcommand" not in by_name:
        raise RpcError(INVALID_PARAMS, "missing required parameter: subcommand")
    subcommand = by_name["subcommand"]
    if subcommand == "list":
        return node.plugins.list_plugins("list")
    if subcommand not in ("start", "stop"):
        raise RpcError(INVALID_PARAMS, f"Unknown subcommand '{subcommand}'")
    if "plugin" not in by_name:
        raise RpcError(INVALID_PARAMS, "missing required parameter: plugin")
    if subcommand == "start":
        return await node.plugins.start_plugin(by_name["plugin"], start_options(given))
    return await node.plugins.stop_plugin(by_name["plugin"])


def listfunds(node: "Node", **_ignored: Json) -> Json:
    """Return empty lists: the double has no wallet."""
    return {"outputs": [], "channels": []}


_COMMANDS: dict[str, tuple[Any, ...]] = {
    "getinfo": (getinfo,),
    "help": (help_, opt("command", params.string)),
    "makesecret": (makesecret, opt("hex", params.binary), opt("string", params.string)),
    "listconfigs": (listconfigs, opt("config", params.string)),
    "stop": (stop,),
    "plugin": (plugin, params.ANYTHING),
    "notifications": (getinfo, Param("enable", params.boolean)),  # rpc_server.py answers it
    "listfunds": (listfunds, opt("spent", params.boolean)),
    **invoices.COMMANDS,
    **datastore.COMMANDS,
    **payments.COMMANDS,
    **plans.COMMANDS,
    **channels.COMMANDS,
    **decoding.COMMANDS,
    **offers.COMMANDS,
    **signing.COMMANDS,
    **wait.COMMANDS,
    **sql.COMMANDS,
    **dev_methods.COMMANDS,
    **hold.DEV_COMMANDS,
}


def commands_of(settings: Settings) -> dict[str, tuple[Any, ...]]:
    """Return, for the version that the double plays, the handler and the parameters of each command.

    A handler gets the node, and every parameter by name.
    """
    commands = {**_COMMANDS, **pay_commands.commands_of(settings)}
    return commands if settings.is_since("26.06") else _without(commands, "createproof")


def _without(commands: dict[str, tuple[Any, ...]], name: str) -> dict[str, tuple[Any, ...]]:
    return {known: command for known, command in commands.items() if known != name}
