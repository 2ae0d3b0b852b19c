#!/usr/bin/env python3
"""Nostr Wallet Connect (NIP-47) for Core Lightning: puts the plugin together and starts it."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

# Python does it itself, but not with PYTHONSAFEPATH.
if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))


def _say_that_files_are_missing() -> NoReturn:
    reason = (
        "nwc: the folder nwc is missing beside plugin.py: copy all files, or make a link to plugin.py"
    )
    if os.environ.get("LIGHTNINGD_PLUGIN") == "1":
        getmanifest = json.loads("".join(iter(lambda: sys.stdin.readline().strip(), "")) or "{}")
        answer = {"jsonrpc": "2.0", "id": getmanifest.get("id"), "result": {"disable": reason}}
        print(json.dumps(answer) + "\n", flush=True)
    sys.exit(reason)


try:
    from nwc import bootstrap, manifest
except ImportError:
    _say_that_files_are_missing()

if __name__ == "__main__":  # not where a test imports this: it may go on in another Python
    bootstrap.require_packages(Path(__file__))

with bootstrap.import_errors_disable(Path(__file__)):
    from nwc import commands
    from nwc.runner import Command, NwcPlugin, Runner

FUNCTIONS: "dict[str, Command]" = {
    "nwc-connect": commands.connect,
    "nwc-list": commands.list_,
    "nwc-update": commands.update,
    "nwc-revoke": commands.revoke,
    "nwc-status": commands.status,
    "nwc-export": commands.export,
    "nwc-import": commands.import_,
    "nwc-forget": commands.forget,
}


def build_plugin(runner: Runner) -> NwcPlugin:
    """Return the plugin with its options, commands and subscriptions, as nwc/manifest.py has them."""
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
    def init(options: "dict[str, Any]", configuration: "dict[str, Any]", **_: Any) -> "dict[str, Any]":
        return runner.start(options, configuration)

    return plugin


if __name__ == "__main__":
    logging.getLogger("nwc").setLevel(logging.INFO)
    runner = Runner()
    runner.exit_on_signals()
    build_plugin(runner).run()
    runner.exit()
