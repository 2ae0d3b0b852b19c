"""Nodes in a line with channels between them, for payments from one node to another."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from pyln.testing.utils import sync_blockheight

from tests.support.channel import Json
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.node import Options
from tests.wire.real_node import RealNode, plugin_options

CAPACITY_SAT = 1_000_000
# What the receiver of `paid_node` can send at first.
PUSHED_MSAT = 300_000_000
# More than the opener pays for the funding transaction.
_OPENING_FEE_SAT = 100_000


def line(
    node_factory: Any,
    bitcoind: Any,
    options: Sequence[Options],
    *,
    capacity_sat: int = CAPACITY_SAT,
    pushed_msat: int = 0,
) -> list[RealNode]:
    """Start nodes and open a channel from each to the next: l1 → l2 → l3 …

    Every channel is announced and usable, and every node knows all channels and nodes. Fees are
    lightningd's defaults: 1 msat and 10 ppm.

    Args:
        node_factory, bitcoind: pyln-testing's fixtures.
        options: the command line options of each node.
        capacity_sat: of each channel.
        pushed_msat: what the far side of each channel has at first.

    """
    # Tests restart nodes. Without `may_reconnect` pyln-testing counts each reconnection as an error.
    opts = [{"may_reconnect": True, **given} for given in options]
    nodes = node_factory.get_nodes(len(opts), opts=opts)
    _fund(bitcoind, nodes[:-1], capacity_sat)
    for near, far in pairwise(nodes):
        near.rpc.connect(far.info["id"], "localhost", far.port)
    opened = [
        near.rpc.fundchannel(far.info["id"], capacity_sat, push_msat=pushed_msat)["txid"]
        for near, far in pairwise(nodes)
    ]
    # Channels are announced after six blocks.
    bitcoind.generate_block(6, wait_for_mempool=opened)
    sync_blockheight(bitcoind, nodes)  # type: ignore[no-untyped-call]
    line = [RealNode(node) for node in nodes]
    wait_until(lambda: all(_knows_all(node, len(line)) for node in line), "channels and their gossip")
    return line


def second_channel(bitcoind: Any, near: RealNode, far: RealNode, capacity_sat: int) -> None:
    """Open a second channel between neighbours, and wait until it can be used."""
    _fund(bitcoind, [near.pyln], capacity_sat)
    opened = near.rpc.fundchannel(far.id, capacity_sat)["txid"]
    bitcoind.generate_block(6, wait_for_mempool=opened)

    def is_open() -> bool:
        channels = near.rpc.listpeerchannels(far.id)["channels"]
        states = [channel["state"] for channel in channels if channel["reestablished"]]
        return states == ["CHANNELD_NORMAL"] * 2

    wait_until(is_open, "the second channel")


def _fund(bitcoind: Any, nodes: Sequence[Any], capacity_sat: int) -> None:
    for node in nodes:
        address = node.rpc.newaddr("bech32")["bech32"]
        bitcoind.rpc.sendtoaddress(address, (capacity_sat + _OPENING_FEE_SAT) / 10**8)
    bitcoind.generate_block(1)
    sync_blockheight(bitcoind, nodes)  # type: ignore[no-untyped-call]
    wait_until(lambda: all(map(_has_deposit, nodes)), "the deposits")


def _has_deposit(node: Any) -> bool:
    outputs = node.rpc.listfunds()["outputs"]
    return any(output["amount_msat"] > _OPENING_FEE_SAT * 1000 for output in outputs)


def _knows_all(node: RealNode, length: int) -> bool:
    own = node.rpc.listpeerchannels()["channels"]
    # Each channel is announced in both directions.
    gossip = [channel for channel in node.rpc.listchannels()["channels"] if channel["active"]]
    named = [known for known in node.rpc.listnodes()["nodes"] if "alias" in known]
    return (
        all(channel["state"] == "CHANNELD_NORMAL" for channel in own)
        and len(gossip) == 2 * (length - 1)
        and len(named) == length
    )


class PaidNode(RealNode):
    """A node whose invoices a neighbour pays over their channel.

    Args:
        receiver: the node with the plugin.
        payer: the neighbour.

    """

    def __init__(self, receiver: RealNode, payer: RealNode) -> None:
        super().__init__(receiver.pyln)
        self.payer = payer

    def pay(self, invoice: str, amount_msat: int | None = None) -> None:
        """Wait until the channel can be used, and let the neighbour pay."""
        self.wait_for_channel()
        self.payer.pay(invoice, amount_msat)

    def wait_for_channel(self) -> None:
        """Let the neighbour connect again, as after a restart, and wait until it can send."""
        self.payer.rpc.connect(self.id, "127.0.0.1", self.pyln.port)
        wait_until(lambda: self.channel.get("reestablished"), "the channel to be reestablished")

    @property
    def channel(self) -> Json:
        """The channel as the neighbour's `listpeerchannels` shows it."""
        channel: Json
        [channel] = self.payer.rpc.listpeerchannels(self.id)["channels"]
        return channel


@pytest.fixture(scope="module", name="lightningd_node")
def paid_node(node_kind: str, node_factory: Any, bitcoind: Any, relay: RestartableRelay) -> PaidNode:
    """A node with the plugin that a neighbour pays; importing it overrides `lightningd_node`."""
    options = [{}, plugin_options(relay.url)]
    payer, receiver = line(node_factory, bitcoind, options, pushed_msat=PUSHED_MSAT)
    return PaidNode(receiver, payer)
