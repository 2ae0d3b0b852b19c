"""A limit on the fee that only the routes which are left exceed, after a part was sent.

l1, with the plugin, can pay l3 through l2, which is cheap but has nothing left to forward, and through
l4, which is expensive. l1 learns the first only by trying.
"""

from typing import Any

import pytest

from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect
from tests.wire.network import CAPACITY_SAT, line
from tests.wire.only_lightningd.hostile_line import ask_patiently, parts, spendable_msat
from tests.wire.real_node import RealNode, plugin_options
from tests.wire.test_spending import books

AMOUNT_MSAT = 1_000_000
# The fee of l2: 1 msat and 10 ppm.
CHEAP_MSAT = 1 + AMOUNT_MSAT // 100_000
EXPENSIVE_BASE_MSAT = 2_000_000


@pytest.fixture(scope="module")
def nodes(node_factory: Any, bitcoind: Any, relay: RestartableRelay) -> list[RealNode]:
    """l1 → l2 → l3 and l1 → l4 → l3."""
    options = [plugin_options(relay.url, {"allow-deprecated-apis": True}), {}, {}]
    nodes = line(node_factory, bitcoind, options)
    l1, l2, l3 = nodes
    l4 = node_factory.get_node(may_reconnect=True)
    node_factory.join_nodes([l1.pyln, l4], fundamount=CAPACITY_SAT)
    node_factory.join_nodes([l4, l3.pyln], fundamount=CAPACITY_SAT)
    bitcoind.generate_block(6)
    l4.rpc.setchannel(l3.id, feebase=EXPENSIVE_BASE_MSAT, enforcedelay=0)
    drained = l3.rpc.invoice(spendable_msat(l2), "drain", "what l2 can forward")
    l2.pay(drained["bolt11"])

    def is_known() -> bool:
        fees = [channel["base_fee_millisatoshi"] for channel in l1.rpc.listchannels()["channels"]]
        return len(fees) == 8 and EXPENSIVE_BASE_MSAT in fees

    wait_until(is_known, "the gossip of all channels")
    return nodes


def test_a_limit_is_not_called_exceeded_after_a_part_was_sent(
    nodes: list[RealNode], connect: Connect
) -> None:
    node, _, payee = nodes
    app = connect(node=node, budget="unlimited")
    # Of a payment that almost fits, `pay` sends a part that does fit, so only 0 is certainly too low.
    for max_fee, code in ((0, "FEE_LIMIT_EXCEEDED"), (CHEAP_MSAT, "PAYMENT_FAILED")):
        invoice = payee.rpc.invoice(AMOUNT_MSAT, code, "")
        params = {"invoice": invoice["bolt11"], "max_fee": max_fee}
        assert ask_patiently(node, app, "pay_invoice", params).code == code
        assert bool(parts(node, invoice["payment_hash"])) == (code == "PAYMENT_FAILED")
    assert books(node, app) == (0, 0)
