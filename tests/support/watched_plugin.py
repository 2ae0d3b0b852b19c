#!/usr/bin/env python3
"""The plugin itself, but every name it has resolved and every address it connects to is written down.

Lightningd runs this instead of plugin.py. Python itself reports both (PEP 578, audit hooks), whatever
library asks. Tests read them with tests/support/network_watch.py.
"""

# ruff: noqa: E402 - sys.path first
import logging
import socket
import sys
from pathlib import Path
from typing import Any

# Not this directory, whose modules have names that others have too.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from nwc.main import build_plugin
from nwc.runner import Runner
from tests.support.network_watch import CONNECTS, LOOKUPS

LOOKUP_EVENTS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


class WatchedRunner(Runner):
    """Begins to watch when it knows where to write."""

    def start(self, options: dict[str, Any], configuration: dict[str, Any]) -> dict[str, Any]:
        directory = Path(configuration["lightning-dir"])
        (directory / LOOKUPS).touch()

        def note(file: str, what: object) -> None:
            with (directory / file).open("a") as lines:
                lines.write(f"{what}\n")

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event in LOOKUP_EVENTS:
                note(LOOKUPS, args[0])
            elif event == "socket.connect" and args[0].family != socket.AF_UNIX:
                host, port, *_ = args[1]
                note(CONNECTS, f"{host} {port}")

        sys.addaudithook(hook)
        return super().start(options, configuration)


if __name__ == "__main__":
    logging.getLogger("nwc").setLevel(logging.INFO)
    runner = WatchedRunner()
    build_plugin(runner).run()
    runner.exit()
