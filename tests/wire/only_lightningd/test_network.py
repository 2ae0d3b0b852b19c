"""A line of nodes, and an invoice that is paid through the node in the middle."""

from typing import Any

import pytest

from tests.support.restartable_relay import RestartableRelay
from tests.wire.fixtures import Connect
from tests.wire.network import CAPACITY_SAT, line
from tests.wire.real_node import RealNode, plugin_options
from tests.wire.test_receiving import check_settled, lookup, make

AMOUNT_MSAT = 100_000_000
# The fee of the node in the middle: 1 msat and 10 ppm.
FEE_MSAT = 1 + AMOUNT_MSAT // 100_000
PUSHED_MSAT = CAPACITY_SAT * 1000 // 2


@pytest.fixture(scope="module")
def nodes(node_factory: Any, bitcoind: Any, relay: RestartableRelay) -> list[RealNode]:
    """l1 → l2 → l3, with the plugin on l3."""
    options = [{}, {}, plugin_options(relay.url)]
    return line(node_factory, bitcoind, options, pushed_msat=PUSHED_MSAT)


def test_every_node_can_pay_every_other(nodes: list[RealNode]) -> None:
    """Each side of a channel has half of its capacity."""
    for number, (payer, payee) in enumerate([(0, 2), (2, 0), (0, 1), (1, 0), (1, 2), (2, 1)]):
        made = nodes[payee].rpc.invoice(AMOUNT_MSAT, f"line {number}", "")
        paid = nodes[payer].rpc.call("xpay", {"invstring": made["bolt11"]})
        fee_msat = FEE_MSAT if abs(payer - payee) == 2 else 0
        assert paid["amount_sent_msat"] - paid["amount_msat"] == fee_msat


def test_an_invoice_paid_through_another_node_is_settled_without_fees(
    nodes: list[RealNode], connect: Connect
) -> None:
    payer, _, node = nodes
    app = connect(node=node)
    made = make(app, amount=AMOUNT_MSAT)
    payer.pay(made["invoice"])
    shown = lookup(app, made)
    check_settled(shown, made)
    assert shown["fees_paid"] == 0
    notifications = app.wait_for_notifications(made["payment_hash"])
    assert [n.transaction for n in notifications] == [shown, shown]
