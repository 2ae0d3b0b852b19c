#!/usr/bin/env python3
"""The plugin with long timeouts at its end: a minute instead of a second or two.

So what it still finishes does not depend on how busy the machine is. lightningd runs this instead of
plugin.py.
"""

# ruff: noqa: E402 - sys.path first
import logging
import sys
from pathlib import Path

# This directory must not be on the path: its modules' names clash with those of others.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from nwc import runner, service
from nwc.main import build_plugin
from nwc.nostr import relay

PATIENT_PLUGIN = Path(__file__)
END_PATIENCE_S = 60.0


def install() -> None:
    """Replace the plugin's timeouts by these."""
    service.FINISH_TIMEOUT_S = END_PATIENCE_S
    service.STOP_TIMEOUT_S = END_PATIENCE_S
    runner.REPLY_TIMEOUT_S = END_PATIENCE_S
    relay.FLUSH_TIMEOUT_S = END_PATIENCE_S


if __name__ == "__main__":
    install()
    logging.getLogger("nwc").setLevel(logging.INFO)
    plugin_runner = runner.Runner()
    plugin_runner.exit_on_signals()
    build_plugin(plugin_runner).run()
    plugin_runner.exit()
