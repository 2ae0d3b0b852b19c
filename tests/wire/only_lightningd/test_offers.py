"""Offers of a node without public channels: the blinded path to it has a fee, which the node sets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyln.client import RpcError

from tests.support.channel import Json
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect
from tests.wire.real_node import RealNode, plugin_options
from tests.wire.real_payee import RealPayee
from tests.wire.shared import shared
from tests.wire.test_spending import books

AMOUNT_MSAT = 100_000
# Of the node in between: 1 msat and 10 ppm.
BLINDED_FEE_MSAT = 2


@pytest.fixture(scope="module")
def nodes(node_factory: Any, relay: RestartableRelay, plugin_file: Path) -> list[RealNode]:
    """Three nodes in a line: l1, with the plugin, → l2 → l3, the second channel not announced."""
    ours = plugin_options(relay.url, {"plugin": str(plugin_file)})
    opts = [{"may_reconnect": True, **given} for given in (ours, {}, {})]
    payer, middle, payee = node_factory.get_nodes(3, opts=opts)
    node_factory.join_nodes([payer, middle], wait_for_announce=True)
    middle.fundchannel(payee, announce_channel=False)
    # A node makes a blinded path only from peers that it knows to be reachable.
    wait_until(lambda: payee.rpc.listchannels()["channels"], "gossip of the announced channel")
    # It needs to be able to receive, and to get the updates of the channel.
    wait_until(lambda: _has_update(payee), "the update of the unannounced channel")
    return [RealNode(node) for node in (payer, middle, payee)]


def _has_update(node: Any) -> bool:
    [channel] = node.rpc.listpeerchannels()["channels"]
    return "remote" in channel.get("updates", {})


@pytest.fixture(scope="module")
def lightningd_node(node_kind: str, nodes: list[RealNode], plugin_file: Path) -> Iterator[RealNode]:
    with shared(RealNode(nodes[0].pyln, plugin_file)) as node:
        yield node


@pytest.fixture
def payee(nodes: list[RealNode]) -> RealPayee:
    return RealPayee(nodes[2].pyln)


def test_the_fee_of_a_blinded_path_is_counted_and_limited(
    node: RealNode, payee: RealPayee, connect: Connect
) -> None:
    app = connect(budget="1000sat")
    result = app.ask("pay", {"payment": payee.offer(AMOUNT_MSAT), "max_fee": BLINDED_FEE_MSAT}).result
    assert (result["state"], result["fees_paid"]) == ("settled", BLINDED_FEE_MSAT)
    for observer in (app, connect(view="node")):
        shown = observer.ask("lookup_invoice", {"payment_hash": result["payment_hash"]}).result
        assert (shown["amount"], shown["fees_paid"]) == (AMOUNT_MSAT, BLINDED_FEE_MSAT)
    refused = app.ask("pay", {"payment": payee.offer(AMOUNT_MSAT), "max_fee": BLINDED_FEE_MSAT - 1})
    assert refused.code == "FEE_LIMIT_EXCEEDED"
    assert books(node, app) == (AMOUNT_MSAT + BLINDED_FEE_MSAT, 0)


def test_lightningd_itself_does_not_limit_that_fee(node: RealNode, payee: RealPayee) -> None:
    """If this fails, `pay` counts it: then it must get the whole limit (nwc/cln/payer.py)."""
    invoice = node.rpc.call("fetchinvoice", {"offer": payee.offer(AMOUNT_MSAT)})["invoice"]
    paid = node.rpc.call("pay", [invoice, None, None, None, None, 20, None, None, None, None, 0])
    assert paid["amount_sent_msat"] == AMOUNT_MSAT + BLINDED_FEE_MSAT


def test_xpay_limits_that_fee(node: RealNode, payee: RealPayee) -> None:
    invoice = node.rpc.call("fetchinvoice", {"offer": payee.offer(AMOUNT_MSAT)})["invoice"]
    given: Json = {"invstring": invoice, "maxfee": BLINDED_FEE_MSAT - 1}
    with pytest.raises(RpcError):
        node.rpc.call("xpay", given)
    paid = node.rpc.call("xpay", {**given, "maxfee": BLINDED_FEE_MSAT})
    assert paid["amount_sent_msat"] == AMOUNT_MSAT + BLINDED_FEE_MSAT
