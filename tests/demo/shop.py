"""A second real node for the demonstration: it has a channel with the first, and sells for an offer."""

from pathlib import Path
from typing import Any

from pyln.client import LightningRpc

from tests.support.node import RegtestNode
from tests.support.ports import free_port
from tests.support.processes import ChildProcess
from tests.support.running import Running
from tests.support.waiting import wait_until

# So that nodes follow the chain within a second, not within half a minute.
FAST = {"developer": None, "dev-bitcoind-poll": "1"}
CAPACITY_SAT = 1_000_000
# Until a mining reward can be spent, and until a channel is open.
_MATURITY, _DEPTH = 101, 6
# bitcoind knows no fee rates on a new chain.
_FEERATE = "1000perkw"
_PATIENCE_S = 60


class Shop(Running):
    """lightningd on the chain of a customer's node, which opens a channel to it.

    Args:
        customer: a running node that was started with the options FAST.
        directory: the lightning directory of the shop.

    """

    def __init__(self, customer: RegtestNode, directory: Path) -> None:
        super().__init__()
        self._customer = customer
        self._directory = directory

    @property
    def rpc(self) -> Any:
        """A LightningRpc."""
        return LightningRpc(str(self._directory / "regtest" / "lightning-rpc"))  # type: ignore[no-untyped-call]

    def offer(self, amount_msat: int, description: str) -> str:
        """Return a new BOLT12 offer."""
        given = {"amount": amount_msat, "description": description}
        return str(self.rpc.call("offer", given)["bolt12"])

    def _start(self) -> None:
        port = free_port()
        options = [f"--{name}" if value is None else f"--{name}={value}" for name, value in FAST.items()]
        command = [
            "lightningd",
            "--network=regtest",
            f"--lightning-dir={self._directory}",
            f"--addr=127.0.0.1:{port}",
            "--autolisten=false",
            "--disable-dns",
            *options,
            *self._customer.bitcoind.lightningd_options,
        ]
        process = self._running.enter_context(ChildProcess(command))
        process.wait_for("Server started with public key", _PATIENCE_S)
        self._open_channel(port)

    def _open_channel(self, port: int) -> None:
        customer, bitcoind = self._customer.rpc, self._customer.bitcoind
        bitcoind.mine(1, customer.newaddr("bech32")["bech32"])
        bitcoind.mine(_MATURITY)
        wait_until(lambda: _has_money(customer), "the customer's money", _PATIENCE_S)
        shop_id = self.rpc.getinfo()["id"]
        customer.connect(shop_id, "127.0.0.1", port)
        customer.fundchannel(shop_id, CAPACITY_SAT, feerate=_FEERATE)
        bitcoind.mine(_DEPTH)
        wait_until(lambda: _is_open(customer) and _is_open(self.rpc), "the channel", _PATIENCE_S)


def _has_money(rpc: Any) -> bool:
    return any(output["status"] == "confirmed" for output in rpc.listfunds()["outputs"])


def _is_open(rpc: Any) -> bool:
    channels = rpc.listpeerchannels()["channels"]
    return any(channel["state"] == "CHANNELD_NORMAL" for channel in channels)
