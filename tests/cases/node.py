"""What a case may do to the node under test. Implemented over the double and over real lightningd."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tests.support.waiting import PATIENCE_S

# Values for `plugin start`; a repeatable option takes several values with commas between them.
Options = Mapping[str, str | int]

# Cases ask faster than people; the cases about the limit set their own.
BASE_OPTIONS: Options = {"nwc-rate-limit": 1000}

PLUGIN = Path(__file__).resolve().parents[2] / "plugin.py"


SOCKET = "lightning-rpc"
_HIDDEN = "hidden"


def hidden_socket(directory: Path) -> str:
    """Rename lightningd's socket, and return its new name."""
    (directory / SOCKET).rename(directory / _HIDDEN)
    return _HIDDEN


def shown_socket(directory: Path) -> str:
    """Give lightningd's socket its name back, and return that."""
    if (directory / _HIDDEN).exists():
        (directory / _HIDDEN).rename(directory / SOCKET)
    return SOCKET


class NodeUnderTest(Protocol):
    """A lightningd that runs the plugin.

    Every method returns when what it says has happened, or raises after a bounded time.
    """

    @property
    def rpc(self) -> Any:
        """A LightningRpc of pyln-client; it serves one thread at a time, so ask for each anew."""

    @property
    def directory(self) -> Path:
        """The network's directory, where the RPC socket and all of the node's files are."""

    @property
    def plugin_pid(self) -> int:
        """The process id of the plugin."""

    def stop_plugin(self) -> None:
        """`plugin stop`, and wait until the process is gone."""

    def start_plugin(self, options: Options | None = None) -> None:
        """`plugin start` with these options; raises pyln's RpcError when the plugin disables itself."""

    def kill_plugin(self) -> None:
        """SIGKILL the plugin, and wait until lightningd has noticed. It is not started again."""

    def wait_until_plugin_died(self) -> None:
        """Wait until lightningd has noticed that the plugin ended by itself."""

    def restart_node(self) -> None:
        """Stop lightningd and start it with the same options; the plugin comes with it."""

    def hide_rpc_socket(self) -> None:
        """Take the RPC socket away from where the plugin looks for it; `rpc` still finds it."""

    def show_rpc_socket(self) -> None:
        """Put it back, if it is hidden."""

    def begin_anew(self) -> None:
        """Run again, with the plugin and without faults, whatever a test has left behind."""

    def pay(self, invoice: str, amount_msat: int | None = None) -> None:
        """Have an invoice of this node paid; the amount is for an invoice that names none."""

    def log_text(self) -> str:
        """Lightningd's whole log, at the level `debug`.

        The level `io` would show every byte of every RPC, the node's own secrets included.
        """

    def mark(self) -> int:
        """The present end of the log, for `since`."""

    def wait_for_log(self, regex: str, timeout: float = PATIENCE_S, since: int = 0) -> str:
        """Wait for a line of the log, from `since` on; lines that are there already count."""


class MakeNode(Protocol):
    """The fixture `make_node`: starts nodes of one's own, and ends them after the test."""

    def __call__(self, options: Options | None = None, plugin: Path = PLUGIN) -> NodeUnderTest:
        """Start a node with these options of the plugin (or of lightningd) on its command line."""
