#!/usr/bin/env python3
"""The plugin itself, but at its end it gives what is short a minute, where it gives a second or two.

So a busy machine does not decide what is finished. Lightningd runs this instead of plugin.py.
"""

# ruff: noqa: E402 - sys.path first
import logging
import sys
from pathlib import Path

# Not this directory, whose modules have names that others have too.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from nwc import runner, service
from nwc.main import build_plugin
from nwc.nostr import relay

PATIENT_PLUGIN = Path(__file__)
END_PATIENCE_S = 60.0


def install() -> None:
    """Put all this in the place of what it is longer than."""
    service.FINISH_TIMEOUT_S = END_PATIENCE_S
    service.STOP_TIMEOUT_S = END_PATIENCE_S
    runner.REPLY_TIMEOUT_S = END_PATIENCE_S
    relay.FLUSH_TIMEOUT_S = END_PATIENCE_S


if __name__ == "__main__":
    install()
    logging.getLogger("nwc").setLevel(logging.INFO)
    ours = runner.Runner()
    ours.exit_on_signals()
    build_plugin(ours).run()
    ours.exit()
