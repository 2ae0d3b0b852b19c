"""A node with the plugin: real lightningd and bitcoind on regtest, or the test double."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from pyln.client import LightningRpc

from tests.double.process import LightningdDouble
from tests.support.bitcoind import Bitcoind
from tests.support.ports import free_port
from tests.support.processes import ROOT, ChildProcess, command_line, family
from tests.support.running import Running
from tests.support.waiting import wait_until

PLUGIN = ROOT / "plugin.py"
BLOCKS = 5
STOP_TIMEOUT_S = 60
REAL_PROGRAMS = ("lightningd", "lightning-cli", "bitcoind", "bitcoin-cli")

# An option's value; a list repeats the option.
OptionValue = str | list[str] | None


class Node(Protocol):
    """The interface that the real node and the double have in common."""

    directory: Path

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def rpc(self) -> Any: ...

    @property
    def pid(self) -> int: ...

    @property
    def plugin_pid(self) -> int: ...

    @property
    def socket(self) -> Path: ...

    def restart(self) -> None: ...


def lightning_cli(node: Node, *arguments: str) -> list[str]:
    """Return a command line of lightning-cli for a real node or a double."""
    if isinstance(node, RegtestNode):
        return ["lightning-cli", f"--lightning-dir={node.directory}", *arguments]
    return ["lightning-cli", f"--rpc-file={node.socket}", *arguments]


def missing_programs() -> list[str]:
    """Return the programs that a real node needs and that are not on PATH."""
    return [program for program in REAL_PROGRAMS if shutil.which(program) is None]


def node_with_plugin(directory: Path, options: Mapping[str, OptionValue]) -> Node:
    """Return a node with the plugin, which starts when it is entered.

    It is a real node if all its programs are on PATH, otherwise the double.
    """
    if missing_programs():
        return LightningdDouble(directory, PLUGIN, options)
    return RegtestNode(directory, PLUGIN, options)


class RegtestNode(Running):
    """lightningd with one plugin and a bitcoind of its own, on a chain of a few blocks.

    Args:
        directory: the lightning directory; that of bitcoind is inside.
        plugin: the plugin's executable.
        options: options of lightningd or the plugin.

    Attributes:
        bitcoind: there once the node has started.

    """

    bitcoind: Bitcoind

    def __init__(
        self, directory: Path, plugin: Path, options: Mapping[str, OptionValue] | None = None
    ) -> None:
        super().__init__()
        self.directory = directory
        self.plugin = plugin
        self.options = dict(options or {})
        self._command: list[str] = []
        self._lightningd: ChildProcess | None = None

    @property
    def socket(self) -> Path:
        """lightningd's RPC socket."""
        return self.directory / "regtest" / "lightning-rpc"

    @property
    def rpc(self) -> Any:
        """A LightningRpc. Its type is Any because pyln's own hints fail strict checking."""
        return LightningRpc(str(self.socket))  # type: ignore[no-untyped-call]

    @property
    def pid(self) -> int:
        """The process id of lightningd."""
        assert self._lightningd
        return self._lightningd.pid

    @property
    def plugin_pid(self) -> int:
        """The process id of the plugin."""
        pids = [p.pid for p in family(self.pid) if str(self.plugin) in command_line(p)[:3]]
        return int(pids[-1])

    def restart(self) -> None:
        """Stop lightningd by its RPC, and start it again in the same directory with the same options."""
        assert self._lightningd
        self.rpc.stop()
        self._lightningd.wait(STOP_TIMEOUT_S)
        self._start_lightningd()

    def _start(self) -> None:
        self.bitcoind = self._running.enter_context(Bitcoind(self.directory / "bitcoind"))
        self.bitcoind.mine(BLOCKS)
        # lightning-cli reads this file as well.
        (self.directory / "config").write_text("network=regtest\n")
        self._command = [
            "lightningd",
            f"--lightning-dir={self.directory}",
            f"--addr=127.0.0.1:{free_port()}",
            "--autolisten=false",
            "--disable-dns",
            *self.bitcoind.lightningd_options,
            f"--plugin={self.plugin}",
            *_as_arguments(self.options),
        ]
        self._start_lightningd()

    def _start_lightningd(self) -> None:
        # The plugin is run by `python3`, which must be the interpreter of the tests.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._lightningd = self._running.enter_context(ChildProcess(self._command, {"PATH": path}))
        self._lightningd.wait_for("Server started with public key", 60)
        # In v26.06 `waitblockheight` can return before getinfo has the height.
        rpc = self.rpc
        wait_until(lambda: rpc.getinfo()["blockheight"] >= BLOCKS, "lightningd follows bitcoind")


def _as_arguments(options: Mapping[str, OptionValue]) -> list[str]:
    arguments = []
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        arguments += [f"--{name}" if one is None else f"--{name}={one}" for one in values]
    return arguments
