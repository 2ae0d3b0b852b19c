"""What a test may do with the node under test. The double and real lightningd each implement it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pyln.client import LightningRpc

from tests.support.waiting import PATIENCE_S

# Options for `plugin start`; commas separate the values of a repeatable option.
Options = Mapping[str, str | int]

# Tests send more requests than the default allows. Those about the rate limit set their own.
BASE_OPTIONS: Options = {"nwc-rate-limit": 1000}

PLUGIN = Path(__file__).resolve().parents[2] / "plugin.py"


SOCKET = "lightning-rpc"
_HIDDEN = "hidden"


class HasRpcSocket:
    """A node whose RPC socket a test can hide from the plugin."""

    directory: Path

    @property
    def rpc(self) -> Any:
        """A new LightningRpc. pyln-testing's own sends a `check` before each call."""
        hidden = self.directory / _HIDDEN
        socket = hidden if hidden.exists() else self.directory / SOCKET
        return LightningRpc(str(socket))  # type: ignore[no-untyped-call]

    def hide_rpc_socket(self) -> None:
        """Move the RPC socket away from where the plugin looks for it."""
        (self.directory / SOCKET).rename(self.directory / _HIDDEN)

    def show_rpc_socket(self) -> None:
        """Move the RPC socket back."""
        if (self.directory / _HIDDEN).exists():
            (self.directory / _HIDDEN).rename(self.directory / SOCKET)


class NodeUnderTest(Protocol):
    """A lightningd that runs the plugin.

    Every method returns when its work is done, or raises after a bounded time.
    """

    @property
    def rpc(self) -> Any:
        """A new LightningRpc of pyln-client; it serves one thread at a time, so get one for each."""

    @property
    def directory(self) -> Path:
        """The network's directory, with the RPC socket and all files of the node."""

    @property
    def plugin_pid(self) -> int:
        """The plugin's process id."""

    def stop_plugin(self) -> None:
        """Run `plugin stop`, and wait until the process has ended."""

    def start_plugin(self, options: Options | None = None) -> None:
        """Run `plugin start` with these options; raise pyln's RpcError if the plugin disables itself."""

    def kill_plugin(self) -> None:
        """Send SIGKILL to the plugin, and wait until lightningd has noticed. Nothing restarts it."""

    def wait_until_plugin_died(self) -> None:
        """Wait until lightningd has noticed that the plugin has ended by itself."""

    def restart_node(self) -> None:
        """Stop lightningd, and start it and the plugin with the same options."""

    def kill_node(self) -> None:
        """Send SIGKILL to lightningd, and wait until the plugin has ended too."""

    def start_node(self) -> None:
        """Start lightningd again after it was killed."""

    def hide_rpc_socket(self) -> None:
        """Move the RPC socket to where the plugin does not find it; `rpc` still does."""

    def show_rpc_socket(self) -> None:
        """Move the RPC socket back if it is hidden."""

    def begin_anew(self) -> None:
        """Restore a node that runs the plugin without faults, whatever state a test has left."""

    def pay(self, invoice: str, amount_msat: int | None = None) -> None:
        """Have an invoice of this node paid; give the amount if the invoice has none."""

    def log_text(self) -> str:
        """Return lightningd's whole log, at the level `debug`.

        The level `io` would show every byte of every RPC, the node's own secrets included.
        """

    def mark(self) -> int:
        """Return the current end of the log, for `since`."""

    def wait_for_log(self, regex: str, timeout: float = PATIENCE_S, since: int = 0) -> str:
        """Return the first line of the log from `since` on that matches; wait for it if needed."""


class MakeNode(Protocol):
    """The fixture `make_node`: starts nodes for one test, and ends them after it."""

    def __call__(self, options: Options | None = None, plugin: Path = PLUGIN) -> NodeUnderTest:
        """Start a node with these options, of the plugin or of lightningd, on its command line."""
