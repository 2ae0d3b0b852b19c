#!/usr/bin/env python3
"""The plugin with a record of every host name it resolves and every address it connects to.

lightningd runs this instead of plugin.py. Python's audit hooks (PEP 578) report both, whichever library
is used. Tests read the record with tests/support/network_watch.py.
"""

# ruff: noqa: E402 - sys.path first
import logging
import socket
import sys
from pathlib import Path
from typing import Any

# This directory must not be on the path: its modules' names clash with those of others.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from nwc.main import build_plugin
from nwc.runner import Runner
from tests.support.network_watch import CONNECTS, LOOKUPS

LOOKUP_EVENTS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


class WatchedRunner(Runner):
    """Starts the record as soon as lightningd has named its directory."""

    def start(self, options: dict[str, Any], configuration: dict[str, Any]) -> dict[str, Any]:
        directory = Path(configuration["lightning-dir"])
        (directory / LOOKUPS).touch()

        def record(file: str, line: str) -> None:
            with (directory / file).open("a") as lines:
                lines.write(f"{line}\n")

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event in LOOKUP_EVENTS:
                record(LOOKUPS, str(args[0]))
            elif event == "socket.connect" and args[0].family != socket.AF_UNIX:
                host, port, *_ = args[1]
                record(CONNECTS, f"{host} {port}")

        sys.addaudithook(hook)
        return super().start(options, configuration)


if __name__ == "__main__":
    logging.getLogger("nwc").setLevel(logging.INFO)
    runner = WatchedRunner()
    build_plugin(runner).run()
    runner.exit()
