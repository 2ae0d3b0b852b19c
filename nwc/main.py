"""Builds the plugin from its parts, and runs it until lightningd stops it."""

import logging
from typing import Any

from nwc import commands, manifest
from nwc.runner import Command, NwcPlugin, Runner

FUNCTIONS: dict[str, Command] = {
    "nwc-connect": commands.connect,
    "nwc-list": commands.list_,
    "nwc-update": commands.update,
    "nwc-revoke": commands.revoke,
    "nwc-payments": commands.payments,
    "nwc-status": commands.status,
    "nwc-export": commands.export,
    "nwc-import": commands.import_,
    "nwc-forget": commands.forget,
}


def build_plugin(runner: Runner) -> NwcPlugin:
    """Return the plugin with the options, commands and subscriptions of nwc/manifest.py."""
    plugin = NwcPlugin(dynamic=True)
    for option in manifest.OPTIONS:
        plugin.add_option(
            option.name, option.default, option.description, opt_type=option.type, multi=option.multi
        )
    for command in manifest.COMMANDS:
        plugin.add_command(command, FUNCTIONS[command.name], runner)
    plugin.add_subscription("block_added", runner.on_block_added)
    plugin.add_subscription("shutdown", runner.on_shutdown)

    @plugin.init()
    def init(options: dict[str, Any], configuration: dict[str, Any], **_: Any) -> dict[str, Any]:
        return runner.start(options, configuration)

    return plugin


def main() -> None:
    """Run the plugin. Does not return."""
    logging.getLogger("nwc").setLevel(logging.INFO)
    runner = Runner()
    runner.exit_on_signals()
    build_plugin(runner).run()
    runner.exit()
