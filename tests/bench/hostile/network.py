"""Three lightningd nodes in a line on one regtest chain.

The payer, which runs the plugin, has two channels to the middle node. That has one to the payee.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from pyln.client import LightningRpc

from tests.support.bitcoind import Bitcoind
from tests.support.channel import Json
from tests.support.node import PLUGIN, OptionValue
from tests.support.ports import free_port
from tests.support.processes import ROOT, ChildProcess, command_line, family
from tests.support.running import Running
from tests.support.waiting import wait_until

PAYEE_PLUGIN = ROOT / "tests" / "support" / "payee_plugin.py"
CAPACITY_SAT = 1_000_000
_START_TIMEOUT_S = 60
# Coinbase outputs can be spent after 100 blocks.
_MATURE = 101
_ANNOUNCED = 6
# Regtest has no traffic to estimate fees from. Fast gossip and polling save time. --developer turns off
# deprecated commands, which real nodes have.
_DEVELOPER = ("--developer", "--dev-fast-gossip", "--allow-deprecated-apis=true")
_OPTIONS = ("--network=regtest", "--force-feerates=1000", *_DEVELOPER)
_FAST = ("--dev-bitcoind-poll=1", "--disable-dns", "--log-level=info", "--autolisten=false")


class Lightningd:
    """A lightningd of the network.

    Args:
        directory: the lightning directory.
        chain: the options to reach bitcoind.
        plugin: a plugin to load at the start.
        options: options for lightningd or the plugin.

    """

    def __init__(
        self,
        directory: Path,
        chain: Sequence[str],
        plugin: Path | None = None,
        options: Mapping[str, OptionValue] | None = None,
    ) -> None:
        directory.mkdir()
        self._directory = directory
        self._plugin = plugin
        self.port = free_port()
        given = [f"--{name}={value}" for name, value in (options or {}).items()]
        command = ["lightningd", f"--lightning-dir={directory}", f"--addr=127.0.0.1:{self.port}"]
        loaded = [f"--plugin={plugin}"] if plugin else []
        # The plugins run `python3`, which has to be the Python that runs this.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.process = ChildProcess(
            [*command, *_OPTIONS, *_FAST, *chain, *loaded, *given], {"PATH": path}
        )

    def wait_until_started(self) -> None:
        """Wait until it answers RPC."""
        self.process.wait_for("Server started with public key", _START_TIMEOUT_S)

    @property
    def rpc(self) -> Any:
        """A LightningRpc; Any, because its type hints fail strict checking."""
        return LightningRpc(str(self._directory / "regtest" / "lightning-rpc"))  # type: ignore[no-untyped-call]

    @property
    def id(self) -> str:
        """The node's public key."""
        return str(self.rpc.getinfo()["id"])

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def plugin_pid(self) -> int:
        """The process id of the plugin; 0 if it does not run."""
        pids = [p.pid for p in family(self.pid) if str(self._plugin) in command_line(p)[:3]]
        return int(pids[-1]) if pids else 0

    def rss(self, program: str = "") -> int:
        """Return the memory of lightningd and its plugins, or only of one program, in bytes."""
        return sum(_rss(process) for process in family(self.pid) if program in ("", _name(process)))


def _rss(process: Any) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


def _name(process: Any) -> str:
    with suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


class Network(Running):
    """The nodes; entering it starts and connects them.

    Args:
        directory: the directory of all files.
        options: the options of the plugin.

    Attributes:
        payer, middle, payee: the nodes.

    """

    payer: Lightningd
    middle: Lightningd
    payee: Lightningd
    _bitcoind: Bitcoind

    def __init__(self, directory: Path, options: Mapping[str, OptionValue]) -> None:
        super().__init__()
        self._directory = directory
        self._options = options

    def _start(self) -> None:
        self._bitcoind = self._running.enter_context(Bitcoind(self._directory / "bitcoind"))
        self._bitcoind.mine(1)
        chain = self._bitcoind.lightningd_options
        self.payer = self._node("payer", chain, PLUGIN, self._options)
        self.middle = self._node("middle", chain)
        self.payee = self._node("payee", chain, PAYEE_PLUGIN)
        for node in (self.payer, self.middle, self.payee):
            node.wait_until_started()
        for node in (self.payer, self.middle):
            self._bitcoind.mine(1, node.rpc.newaddr("bech32")["bech32"])
        self._bitcoind.mine(_MATURE)
        for near, far, pushed in (
            (self.payer, self.middle, 0),
            (self.payer, self.middle, CAPACITY_SAT * 500),
            (self.middle, self.payee, CAPACITY_SAT * 500),
        ):
            self._open(near, far, pushed)

    def _node(self, name: str, chain: Sequence[str], *more: Any) -> Lightningd:
        node = Lightningd(self._directory / name, chain, *more)
        self._running.enter_context(node.process)
        return node

    def _open(self, near: Lightningd, far: Lightningd, pushed_msat: int) -> None:
        """Open an announced channel, and wait until both ends and the payer can use it."""
        wait_until(lambda: _has_funds(near), "funds", _START_TIMEOUT_S)
        near.rpc.connect(far.id, "127.0.0.1", far.port)
        near.rpc.fundchannel(far.id, CAPACITY_SAT, push_msat=pushed_msat)
        self._bitcoind.mine(_ANNOUNCED)
        wait_until(lambda: _is_usable(near, far), "a channel", _START_TIMEOUT_S)
        opened = len(_channels(near, far))
        wait_until(lambda: self._payer_knows(near) >= opened, "its announcement", _START_TIMEOUT_S)

    def _payer_knows(self, source: Lightningd) -> int:
        """Return how many announced channels of a node the payer knows."""
        return len(self.payer.rpc.call("listchannels", {"source": source.id})["channels"])


def _channels(near: Lightningd, far: Lightningd) -> list[Json]:
    channels: list[Json] = near.rpc.listpeerchannels(far.id)["channels"]
    return channels


def _is_usable(near: Lightningd, far: Lightningd) -> bool:
    return all(channel["state"] == "CHANNELD_NORMAL" for channel in _channels(near, far))


def _has_funds(node: Lightningd) -> bool:
    outputs = node.rpc.listfunds()["outputs"]
    return any(o["status"] == "confirmed" and not o["reserved"] for o in outputs)
