#!/usr/bin/env python3
"""Nostr Wallet Connect (NIP-47) for Core Lightning: what lightningd has to know of the plugin."""

# ruff: noqa: E402 - packages are looked for before they are imported
import logging
from pathlib import Path
from typing import Any

from nwc import bootstrap

bootstrap.require_packages(Path(__file__))

from nwc import commands
from nwc.cln import options
from nwc.runner import NwcPlugin, Runner

COMMANDS = (
    (
        "nwc-connect",
        commands.connect,
        "Make a connection for an app and show its URI, once. "
        "budget: what it may spend: nothing, an amount like 50000sat (a bare number is msat), received "
        "(what came in through it) or unlimited. "
        "renewal: never, daily, weekly, monthly or yearly. max_payment: the most for one payment. "
        "methods: all, or those it may call. expires: never, 30d, 12h or a date. "
        "relays: instead of nwc-relay. pubkey: of an app that keeps its own key. "
        "lud16: a lightning address to show the app. qr=true: show the URI as a QR code. "
        "view=node: it sees everything on the node. notifications=false: tell it of no payments.",
    ),
    ("nwc-list", commands.list_, "Show all connections, or the one with this name."),
    (
        "nwc-update",
        commands.update,
        "Change a connection's name, methods, expires, relays, view, notifications, budget, renewal or "
        "max_payment; what is not given stays. resume=true lets it pay again when its payments are "
        "suspended. methods=all, expires=never, budget=nothing and "
        "max_payment=none take away what was set.",
    ),
    (
        "nwc-revoke",
        commands.revoke,
        "End a connection at once; the app that has it can do nothing more. "
        "Payments under way still end.",
    ),
    (
        "nwc-status",
        commands.status,
        "Show the relays, the use of each connection, what was answered and what was rejected.",
    ),
)


def build_plugin(runner: Runner) -> NwcPlugin:
    """Return the plugin with its options, commands and subscriptions."""
    plugin = NwcPlugin(dynamic=True)
    plugin.add_option(options.RELAY, None, options.RELAY_DESCRIPTION, multi=True)
    for option in options.INTEGER_OPTIONS:
        plugin.add_option(option.name, option.default, option.description, opt_type="int")
    plugin.add_option(options.PAY_COMMAND, "auto", options.PAY_COMMAND_DESCRIPTION)
    plugin.add_option(options.NOTIFICATIONS, True, options.NOTIFICATIONS_DESCRIPTION, opt_type="bool")
    for name, command, help_text in COMMANDS:
        plugin.add_command(name, command, help_text, runner)
    plugin.add_subscription("block_added", runner.on_block_added)
    plugin.add_subscription("shutdown", runner.on_shutdown)

    @plugin.init()
    def init(options: dict[str, Any], configuration: dict[str, Any], **_: Any) -> dict[str, Any]:
        return runner.start(options, configuration)

    return plugin


if __name__ == "__main__":
    logging.getLogger("nwc").setLevel(logging.INFO)
    runner = Runner()
    runner.exit_on_signals()
    build_plugin(runner).run()
    runner.exit()
