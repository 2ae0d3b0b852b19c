#!/usr/bin/env python3
"""The plugin with short timeouts: it waits seconds for lightningd, not half a minute.

lightningd runs this instead of plugin.py.
"""

# ruff: noqa: E402 - sys.path first
import logging
import sys
from dataclasses import replace
from pathlib import Path

# This directory must not be on the path: its modules' names clash with those of others.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from nwc import service
from nwc.cln import node
from nwc.main import build_plugin
from nwc.runner import Runner
from nwc.wallet.connections import manager
from nwc.wallet.dispatch import METHODS

IMPATIENT_PLUGIN = Path(__file__)
READ_PATIENCE_S = 1.5
RPC_PATIENCE_S = 3.0
DELETION_PATIENCE_S = 2.0
# Long enough for a slow machine.
COMMAND_PATIENCE_S = 6.0


def install() -> None:
    """Replace the plugin's timeouts by these."""
    service.COMMAND_TIMEOUT_S = COMMAND_PATIENCE_S
    manager._DELETION_PATIENCE_S = DELETION_PATIENCE_S
    node._OTHER = replace(node._OTHER, timeout_s=RPC_PATIENCE_S)
    for name, bounds in node.BOUNDS.items():
        if bounds.timeout_s is not None:
            node.BOUNDS[name] = replace(bounds, timeout_s=RPC_PATIENCE_S)
    for name, method in METHODS.items():
        if method.timeout_s is not None:
            METHODS[name] = replace(method, timeout_s=READ_PATIENCE_S)


if __name__ == "__main__":
    install()
    logging.getLogger("nwc").setLevel(logging.INFO)
    runner = Runner()
    runner.exit_on_signals()
    build_plugin(runner).run()
    runner.exit()
