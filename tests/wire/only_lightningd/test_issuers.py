"""`pay` with issuers of offers that change the invoice, never answer, or end after the invoice."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.blinded_path import payment_path
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.network import CAPACITY_SAT, line
from tests.wire.only_lightningd.hostile_line import OVERCHARGING_PLUGIN, SLOW_PLUGIN
from tests.wire.real_node import RealNode, plugin_options
from tests.wire.real_payee import RealPayee
from tests.wire.test_spending import books
from tests.wire.three_nodes import *  # noqa: F403

AMOUNT_MSAT = 100_000
# Long enough to kill a node.
DELAY_S = 5
# Where `xpay` lets each blinded path end.
XPAY_NODE_ID = "02" + "00" * 31 + "01"


@pytest.fixture(scope="module")  # type: ignore[no-redef]
def nodes(node_factory: Any, bitcoind: Any, relay: RestartableRelay) -> list[RealNode]:
    """The three nodes. A node warns one that sends it onion messages too fast."""
    everywhere = {"allow_warning": True}
    options = [{**plugin_options(relay.url), **everywhere}, everywhere, everywhere]
    return line(node_factory, bitcoind, options, pushed_msat=CAPACITY_SAT * 500)


@pytest.fixture
def app(connect: Connect) -> ConnectedApp:
    return connect(budget="1000sat")


@pytest.fixture
def overcharging(payee: RealPayee) -> Iterator[RealPayee]:
    """The payee, with a plugin that changes its invoices."""
    payee.rpc.plugin_start(str(OVERCHARGING_PLUGIN))
    yield payee
    payee.rpc.plugin_stop(str(OVERCHARGING_PLUGIN))


@pytest.mark.parametrize(
    ("offered_msat", "answered_msat"),
    [(AMOUNT_MSAT, AMOUNT_MSAT + 1), (0, 5 * AMOUNT_MSAT), (AMOUNT_MSAT, 1)],
    ids=["more", "much more than the payer has chosen", "less"],
)
def test_an_invoice_for_another_amount_is_not_paid(
    node: RealNode, app: ConnectedApp, overcharging: RealPayee, offered_msat: int, answered_msat: int
) -> None:
    overcharging.rpc.call("overcharge", {"amount_msat": answered_msat})
    before = len(node.rpc.call("listsendpays")["payments"])
    given = {"payment": overcharging.offer(offered_msat), "amount": AMOUNT_MSAT}
    assert app.ask("pay", given).code == "NOT_FOUND"
    assert len(node.rpc.call("listsendpays")["payments"]) == before
    assert books(node, app) == (0, 0)
    made = overcharging.rpc.listinvoices()["invoices"]
    assert answered_msat in {invoice["amount_msat"] for invoice in made}


def test_an_issuer_that_asks_for_the_right_amount_again_is_paid(
    node: RealNode, app: ConnectedApp, overcharging: RealPayee
) -> None:
    offer = overcharging.offer(AMOUNT_MSAT)
    overcharging.rpc.call("overcharge", {"amount_msat": 2 * AMOUNT_MSAT})
    assert app.ask("pay", {"payment": offer}).code == "NOT_FOUND"
    overcharging.rpc.call("overcharge", {"amount_msat": 0})
    assert app.ask("pay", {"payment": offer}).result["state"] == "settled"


def test_a_path_on_which_lightningd_aborts_is_not_paid(
    node: RealNode, app: ConnectedApp, overcharging: RealPayee
) -> None:
    path = payment_path([XPAY_NODE_ID, node.id], 0)
    overcharging.rpc.call("replace-path", {"path": path})
    answer = app.ask("pay", {"payment": overcharging.offer(AMOUNT_MSAT)})
    assert (answer.code, "a node that cannot exist" in answer.message) == ("NOT_FOUND", True)
    assert node.rpc.getinfo()["id"]
    assert books(node, app) == (0, 0)


def test_an_issuer_that_never_answers_is_not_found(
    node: RealNode, app: ConnectedApp, payee: RealPayee
) -> None:
    offer = payee.offer(AMOUNT_MSAT)
    os.kill(payee.pid, signal.SIGSTOP)
    try:
        answer = app.ask("pay", {"payment": offer})
    finally:
        os.kill(payee.pid, signal.SIGCONT)
    assert (answer.code, "nothing was paid" in answer.message) == ("NOT_FOUND", True)
    assert books(node, app) == (0, 0)


def test_an_issuer_that_ends_after_the_invoice_is_not_paid(
    node: RealNode, app: ConnectedApp, payee: RealPayee
) -> None:
    """The payment fails for certain, and the budget is free again."""
    node.rpc.plugin_start(str(SLOW_PLUGIN))
    node.rpc.call("delay-command", {"command": "pay", "seconds": DELAY_S})
    app.send(request := app.request("pay", {"payment": payee.offer(AMOUNT_MSAT)}))
    wait_until(
        lambda: node.rpc.call("delayed-commands", {"command": "pay"})["delayed"], "the payment to begin"
    )
    reserved_msat = books(node, app)[1]
    payee.pyln.daemon.kill()
    try:
        assert reserved_msat >= AMOUNT_MSAT
        answer = app.answer_to(request)
        assert answer.code == "PAYMENT_FAILED"
        assert books(node, app) == (0, 0)
        payments = node.rpc.call("listsendpays", {"status": "pending"})["payments"]
        assert payments == []
    finally:
        payee.start_node()
        node.rpc.plugin_stop(str(SLOW_PLUGIN))
