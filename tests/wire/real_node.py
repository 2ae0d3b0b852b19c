"""A node of pyln-testing with the interface of the tests (tests/wire/node.py)."""

import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.support.processes import command_line, family
from tests.support.waiting import PATIENCE_S, wait_until
from tests.wire.node import BASE_OPTIONS, PLUGIN, HasRpcSocket, Options

STOP_TIMEOUT_S = 30


class RealNode(HasRpcSocket):
    """A running lightningd.

    Args:
        lightning_node: a started LightningNode of pyln-testing.
        plugin: the path of the plugin on its command line.

    Attributes:
        pyln: the LightningNode.

    """

    def __init__(self, lightning_node: Any, plugin: Path = PLUGIN) -> None:
        self.pyln = lightning_node
        self._plugin = plugin
        # That of the network, inside the lightning directory.
        self.directory = Path(lightning_node.daemon.lightning_dir) / "regtest"

    @property
    def id(self) -> str:
        """The node's public key."""
        return str(self.pyln.info["id"])

    @property
    def pid(self) -> int:
        """The process id of lightningd."""
        return int(self.pyln.daemon.proc.pid)

    @property
    def plugin_pid(self) -> int:
        """The process id of the plugin."""
        [pid] = self._plugin_pids()
        return pid

    def _plugin_pids(self) -> list[int]:
        """Return the process id of the plugin, none if it does not run."""
        children = family(self.pid)[1:]
        return [int(p.pid) for p in children if str(self._plugin) in command_line(p)[:3]]

    def stop_plugin(self) -> None:
        """Stop the plugin with `plugin stop`, and wait until its process has ended."""
        pid = self.plugin_pid
        self.rpc.plugin_stop(str(self._plugin))
        wait_until_gone(pid)

    def start_plugin(self, options: Options | None = None) -> None:
        """Start the plugin with `plugin start` and these options."""
        self.rpc.call("plugin", {"subcommand": "start", "plugin": str(self._plugin), **(options or {})})

    def kill_plugin(self) -> None:
        """Kill the plugin with SIGKILL, and wait until lightningd has noticed."""
        os.kill(self.plugin_pid, signal.SIGKILL)
        self.wait_until_plugin_died()

    def wait_until_plugin_died(self) -> None:
        """Wait until lightningd has noticed that the plugin has ended."""
        wait_until(lambda: not self._lists_plugin(), "lightningd to notice that the plugin died")

    def restart_node(self) -> None:
        """Stop lightningd, and start it again with the same options."""
        self.pyln.restart(timeout=STOP_TIMEOUT_S)

    def kill_node(self) -> None:
        """Kill lightningd with SIGKILL, and wait until the plugin, if it runs, has ended too."""
        pids = self._plugin_pids()
        self.pyln.daemon.kill()
        for pid in pids:
            wait_until_gone(pid)

    def start_node(self) -> None:
        """Start lightningd again after it was killed or stopped."""
        self.pyln.start()

    def begin_anew(self) -> None:
        """Start lightningd or the plugin again, if a test has left it stopped."""
        self.show_rpc_socket()
        if self.pyln.daemon.proc.poll() is not None:
            self.start_node()
        elif not self._lists_plugin():
            self.start_plugin()

    def pay(self, invoice: str, amount_msat: int | None = None) -> None:
        """Let the node pay its own invoice, which needs no channel."""
        amount = {} if amount_msat is None else {"amount_msat": amount_msat}
        self.rpc.call("xpay", {"invstring": invoice, **amount})

    def log_text(self) -> str:
        """lightningd's whole log."""
        return Path(self.pyln.daemon.stdout_filename).read_text(encoding="utf-8", errors="replace")

    def mark(self) -> int:
        """The number of lines that the log has now."""
        return len(self.log_text().splitlines())

    def wait_for_log(self, regex: str, timeout: float = PATIENCE_S, since: int = 0) -> str:
        """Return the first line of the log that matches, from line `since` on, once there is one."""
        pattern = re.compile(regex)

        def found() -> str:
            lines = self.log_text().splitlines()[since:]
            return next((line for line in lines if pattern.search(line)), "")

        return wait_until(found, f"a line of the log like {regex!r}", timeout)

    def _lists_plugin(self) -> bool:
        return any(p["name"] == str(self._plugin) for p in self.rpc.plugin_list()["plugins"])


def wait_until_gone(pid: int) -> None:
    """Wait until a process has ended, even if nobody has asked for its exit code."""

    def is_gone() -> bool:
        try:
            return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    wait_until(is_gone, f"process {pid} to end")


def plugin_options(relay_url: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the options of a node that runs the plugin with this relay."""
    base = {"plugin": str(PLUGIN), "nwc-relay": relay_url, **BASE_OPTIONS}
    return {**base, **(options or {})}
