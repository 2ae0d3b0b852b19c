"""Hold invoices on real nodes with Boltz's plugin `hold`: the payer sends each HTLC by hand.

`hold` is NWC_HOLD_PLUGIN, or `hold` on PATH.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest
from pyln.testing.utils import sync_blockheight

from nwc.wallet.hold_invoices import CANCEL_MARGIN, DEADLINE_MARGIN
from tests.support.alby_app import AlbyApp
from tests.support.channel import KIND_NOTIFICATION, Json
from tests.support.hold import HOLD, needs_hold
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, budget_of, wait_until_announced
from tests.wire.network import PUSHED_MSAT, PaidNode, line
from tests.wire.node import PLUGIN
from tests.wire.real_node import plugin_options
from tests.wire.test_alby_client import node_js  # noqa: F401 - a fixture

pytestmark = needs_hold

AMOUNT_MSAT = 50_000
CLTV = 150


@pytest.fixture(scope="module", name="lightningd_node")
def holding_node(node_kind: str, node_factory: Any, bitcoind: Any, relay: RestartableRelay) -> PaidNode:
    """A node with the plugin and with hold, which a neighbour pays."""
    plugins = {"plugin": [str(HOLD), str(PLUGIN)], "hold-grpc-port": -1}
    options = [{}, plugin_options(relay.url, plugins)]
    payer, receiver = line(node_factory, bitcoind, options, pushed_msat=PUSHED_MSAT)
    return PaidNode(receiver, payer)


class Escrow:
    """A hold invoice of an app, and its payer.

    Attributes:
        made: the answer of make_hold_invoice.

    """

    def __init__(self, app: ConnectedApp, node: PaidNode, **params: Any) -> None:
        self.app = app
        self.node = node
        self.preimage = secrets.token_hex(32)
        self.payment_hash = hashlib.sha256(bytes.fromhex(self.preimage)).hexdigest()
        given = {"amount": AMOUNT_MSAT, "payment_hash": self.payment_hash, **params}
        self.made = app.ask("make_hold_invoice", given).result

    def send(self, parts: Sequence[int] = (AMOUNT_MSAT,), cltv: int = CLTV, first: int = 1) -> None:
        """Let the payer send these parts, without waiting for them."""
        self.node.wait_for_channel()
        decoded = self.node.payer.rpc.decode(self.made["invoice"])
        for number, amount_msat in enumerate(parts, first):
            hop = {
                "id": self.node.id,
                "channel": self.node.channel["short_channel_id"],
                "amount_msat": amount_msat,
                "delay": cltv,
            }
            given = {
                "route": [hop],
                "payment_hash": self.payment_hash,
                "bolt11": self.made["invoice"],
                "payment_secret": decoded["payment_secret"],
                "amount_msat": AMOUNT_MSAT,
                "partid": number,
                "groupid": 1,
            }
            self.node.payer.rpc.call("sendpay", given)

    def settle(self) -> Any:
        return self.app.ask("settle_hold_invoice", {"preimage": self.preimage})

    def cancel(self) -> Any:
        return self.app.ask("cancel_hold_invoice", {"payment_hash": self.payment_hash})

    def lookup(self) -> Json:
        found: Json = self.app.ask("lookup_invoice", {"payment_hash": self.payment_hash}).result
        return found

    def wait_for(self, state: str) -> Json:
        """Wait until lookup_invoice shows this state."""
        return wait_until(
            lambda: found if (found := self.lookup())["state"] == state else {}, f"the state {state}"
        )

    def of_payer(self) -> set[str]:
        """Return the states of the payer's parts."""
        listed = self.node.payer.rpc.listsendpays(payment_hash=self.payment_hash)["payments"]
        return {part["status"] for part in listed}

    def wait_for_payer(self, status: str) -> None:
        wait_until(lambda: self.of_payer() == {status}, f"all parts to be {status}")

    def in_hold(self) -> str:
        """Return the state of the invoice in hold."""
        return str(self._listed()["state"])

    def wait_for_parts(self, number: int) -> None:
        wait_until(lambda: len(self._listed()["htlcs"]) == number, f"{number} parts in hold")

    def _listed(self) -> Json:
        listed: Json
        [listed] = self.node.rpc.listholdinvoices(payment_hash=self.payment_hash)["holdinvoices"]
        return listed


@pytest.fixture
def escrow_app(connect: Connect, node: PaidNode) -> ConnectedApp:
    wait_until(lambda: "open" in node.rpc.call("nwc-status")["hold_invoices"], "hold to be noticed")
    return connect(budget="received")


def notified(escrow: Escrow) -> list[str]:
    """Return the types of the notifications of an invoice so far, without their copies in NIP-04."""
    escrow.app.ask("get_info")  # its answer comes after everything published before
    return [
        one.type
        for one in escrow.app.notifications()
        if one.event["kind"] == KIND_NOTIFICATION
        and one.transaction["payment_hash"] == escrow.payment_hash
    ]


def received_msat(escrow: Escrow) -> int:
    """Return what the connection has received, which is its budget."""
    return int(budget_of(escrow.node, escrow.app.name)["granted_msat"])


def accepted(app: ConnectedApp, node: PaidNode, **params: Any) -> Escrow:
    """Return a hold invoice that is paid and accepted."""
    escrow = Escrow(app, node)
    escrow.send(**params)
    escrow.wait_for("accepted")
    return escrow


def start_hold(node: PaidNode) -> None:
    node.rpc.call("plugin", {"subcommand": "start", "plugin": str(HOLD), "hold-grpc-port": -1})


def mine(bitcoind: Any, node: PaidNode, blocks: int) -> None:
    bitcoind.generate_block(blocks)
    sync_blockheight(bitcoind, [node.pyln, node.payer.pyln])  # type: ignore[no-untyped-call]


def test_a_hold_invoice_is_paid_accepted_and_settled(escrow_app: ConnectedApp, node: PaidNode) -> None:
    info = escrow_app.ask("get_info").result
    assert "make_hold_invoice" in info["methods"]
    assert "hold_invoice_accepted" in info["notifications"]
    assert "03" in info["extensions"]
    escrow = Escrow(escrow_app, node, description="escrow", metadata={"order": 7})
    assert escrow.lookup() == escrow.made
    assert escrow.made["state"] == "pending"
    escrow.send()
    shown = escrow.wait_for("accepted")
    height = node.rpc.getinfo()["blockheight"]
    assert shown["settle_deadline"] == pytest.approx(height + CLTV - DEADLINE_MARGIN, abs=1)
    wait_until(lambda: notified(escrow) == ["hold_invoice_accepted"], "the notification")
    assert received_msat(escrow) == 0
    assert escrow.settle().result == {}
    assert escrow.settle().result == {}
    escrow.wait_for_payer("complete")
    settled = escrow.lookup()
    assert (settled["state"], settled["preimage"]) == ("settled", escrow.preimage)
    assert received_msat(escrow) == AMOUNT_MSAT
    assert notified(escrow) == ["hold_invoice_accepted", "payment_received"]
    listed = escrow_app.ask("list_transactions", {}).result
    assert [row["payment_hash"] for row in listed["transactions"]] == [escrow.payment_hash]


def test_alby_settles_what_a_second_node_has_paid(
    escrow_app: ConnectedApp,
    node: PaidNode,
    node_js: str,  # noqa: F811
) -> None:
    escrow = Escrow(escrow_app, node)
    with AlbyApp(node_js, escrow_app.uri) as alby:
        alby.subscribe("hold_invoice_accepted")
        escrow.send()
        shown = alby.wait_for_notification(escrow.payment_hash)
        assert shown["notification"]["amount"] == AMOUNT_MSAT
        assert alby.call("settleHoldInvoice", {"preimage": escrow.preimage}) == {}
    escrow.wait_for_payer("complete")


@pytest.mark.parametrize("is_paid", [True, False])
def test_a_hold_invoice_is_cancelled(escrow_app: ConnectedApp, node: PaidNode, is_paid: bool) -> None:
    escrow = accepted(escrow_app, node) if is_paid else Escrow(escrow_app, node)
    assert escrow.cancel().result == {}
    assert escrow.cancel().result == {}
    assert escrow.lookup()["state"] == "failed"
    if is_paid:
        escrow.wait_for_payer("failed")
    assert escrow.settle().code == "OTHER"
    assert received_msat(escrow) == 0


def test_two_parts_are_accepted_together(escrow_app: ConnectedApp, node: PaidNode) -> None:
    escrow = Escrow(escrow_app, node)
    escrow.send([AMOUNT_MSAT - 20_000])
    escrow.wait_for_parts(1)
    assert escrow.in_hold() == "unpaid"
    refused = escrow.settle()
    assert (refused.code, escrow.of_payer()) == ("OTHER", {"pending"})
    escrow.send([20_000], first=2)
    escrow.wait_for("accepted")
    assert escrow.settle().result == {}
    escrow.wait_for_payer("complete")
    assert received_msat(escrow) == AMOUNT_MSAT


def test_a_part_alone_fails_in_the_end(escrow_app: ConnectedApp, node: PaidNode) -> None:
    escrow = Escrow(escrow_app, node)
    escrow.send([1000])
    escrow.wait_for_payer("failed")  # hold waits for 10 seconds on regtest
    assert notified(escrow) == []
    assert escrow.lookup()["state"] == "pending"


def test_an_expired_invoice_is_cancelled(escrow_app: ConnectedApp, node: PaidNode) -> None:
    escrow = Escrow(escrow_app, node, expiry=1)
    escrow.wait_for("expired")
    wait_until(lambda: escrow.in_hold() == "cancelled", "hold to be told")
    escrow.send()
    escrow.wait_for_payer("failed")


def test_only_its_own_connection_finds_an_invoice(
    escrow_app: ConnectedApp, node: PaidNode, connect: Connect
) -> None:
    escrow = accepted(escrow_app, node)
    stranger = connect()
    settle = stranger.ask("settle_hold_invoice", {"preimage": escrow.preimage})
    cancel = stranger.ask("cancel_hold_invoice", {"payment_hash": escrow.payment_hash})
    again = stranger.ask("make_hold_invoice", {"amount": 1000, "payment_hash": escrow.payment_hash})
    assert (settle.code, cancel.code, again.code) == ("NOT_FOUND", "NOT_FOUND", "OTHER")
    other = Escrow(escrow_app, node)
    assert other.settle().code == "OTHER"
    assert escrow.lookup()["state"] == "accepted"
    assert escrow.settle().result == {}


def test_a_payment_hash_of_the_node_is_refused(escrow_app: ConnectedApp, node: PaidNode) -> None:
    made = escrow_app.ask("make_invoice", {"amount": 1000}).result
    refused = escrow_app.ask("make_hold_invoice", {"amount": 1000, "payment_hash": made["payment_hash"]})
    assert refused.message == "payment_hash: must be a new one; this node knows it already"


def test_revoking_cancels_the_open_invoices(
    escrow_app: ConnectedApp, node: PaidNode, connect: Connect
) -> None:
    app = connect()
    escrow, unpaid = accepted(app, node), Escrow(app, node)
    shown = node.rpc.call("nwc-revoke", {"name": app.name})
    assert shown["hold_invoices_cancelled"] == 2
    escrow.wait_for_payer("failed")
    assert (escrow.in_hold(), unpaid.in_hold()) == ("cancelled", "cancelled")


def test_an_accepted_invoice_survives_a_restart_of_the_plugin(
    escrow_app: ConnectedApp, node: PaidNode
) -> None:
    escrow = accepted(escrow_app, node)
    wait_until(lambda: notified(escrow) == ["hold_invoice_accepted"], "the notification")
    node.kill_plugin()
    node.start_plugin()
    wait_until_announced(node, escrow_app.name)
    assert escrow.settle().result == {}
    escrow.wait_for_payer("complete")
    assert received_msat(escrow) == AMOUNT_MSAT
    assert notified(escrow) == ["hold_invoice_accepted", "payment_received"]


def test_what_is_settled_while_the_plugin_is_down_is_counted(
    escrow_app: ConnectedApp, node: PaidNode
) -> None:
    escrow = accepted(escrow_app, node)
    node.kill_plugin()
    node.rpc.settleholdinvoice(preimage=escrow.preimage)
    node.start_plugin()
    wait_until_announced(node, escrow_app.name)
    escrow.wait_for("settled")
    assert received_msat(escrow) == AMOUNT_MSAT


def test_an_accepted_invoice_survives_a_restart_of_lightningd(
    escrow_app: ConnectedApp, node: PaidNode
) -> None:
    escrow = accepted(escrow_app, node)
    node.restart_node()
    node.wait_for_channel()
    wait_until_announced(node, escrow_app.name)
    wait_until(lambda: escrow.settle().body.get("error") is None, "lightningd to be ready")
    escrow.wait_for_payer("complete")
    assert received_msat(escrow) == AMOUNT_MSAT


def test_a_settlement_that_lightningd_did_not_get_is_not_counted(
    escrow_app: ConnectedApp, node: PaidNode
) -> None:
    """lightningd is killed after hold has stored the preimage, and before lightningd has."""
    escrow = accepted(escrow_app, node)
    node.kill_node()
    payment_hash, preimage = bytes.fromhex(escrow.payment_hash), bytes.fromhex(escrow.preimage)
    with sqlite3.connect(node.directory / "hold" / "hold.sqlite3") as hold:
        changes = "state = 'paid', preimage = ? WHERE payment_hash = ?"
        hold.execute(f"UPDATE invoices SET {changes}", (preimage, payment_hash))
        of_invoice = "invoice_id = (SELECT id FROM invoices WHERE payment_hash = ?)"
        hold.execute(f"UPDATE htlcs SET state = 'paid' WHERE {of_invoice}", (payment_hash,))
    node.start_node()
    node.wait_for_channel()
    wait_until_announced(node, escrow_app.name)
    escrow.wait_for("failed")
    escrow.wait_for_payer("failed")
    assert received_msat(escrow) == 0
    types = ["hold_invoice_accepted", "hold_invoice_canceled"]
    wait_until(lambda: notified(escrow) == types, "the notification")


def test_a_restart_of_hold_loses_the_payment_and_counts_nothing(
    escrow_app: ConnectedApp, node: PaidNode
) -> None:
    """lightningd fails the HTLCs of a hook's plugin that ends; hold still says accepted."""
    escrow = accepted(escrow_app, node)
    node.rpc.plugin_stop(str(HOLD))
    escrow.wait_for_payer("failed")
    assert escrow.settle().code == "NOT_IMPLEMENTED"
    start_hold(node)
    assert escrow.settle().code == "OTHER"
    assert received_msat(escrow) == 0
    assert escrow.lookup()["state"] == "failed"
    assert escrow.in_hold() == "cancelled"


def test_a_part_that_was_failed_with_hold_is_not_taken_for_money(
    escrow_app: ConnectedApp, node: PaidNode
) -> None:
    """hold still counts it after its restart, and accepts the invoice when the rest arrives."""
    escrow = Escrow(escrow_app, node)
    escrow.send([AMOUNT_MSAT - 1000])
    escrow.wait_for_parts(1)
    node.rpc.plugin_stop(str(HOLD))
    escrow.wait_for_payer("failed")
    start_hold(node)
    escrow.send([1000], first=2)
    escrow.wait_for_parts(2)
    assert escrow.settle().code == "OTHER"
    escrow.wait_for_payer("failed")
    assert escrow.lookup()["state"] == "failed"


def test_an_invoice_is_cancelled_before_its_deadline(
    escrow_app: ConnectedApp, node: PaidNode, bitcoind: Any
) -> None:
    escrow = accepted(escrow_app, node)
    deadline = escrow.lookup()["settle_deadline"]
    height = node.rpc.getinfo()["blockheight"]
    mine(bitcoind, node, deadline - CANCEL_MARGIN - 1 - height)
    assert escrow.lookup()["state"] == "accepted"
    mine(bitcoind, node, 1)
    escrow.wait_for("failed")
    escrow.wait_for_payer("failed")
    assert escrow.settle().code == "OTHER"
    node.wait_for_log("is cancelled: nobody has settled it")
    types = ["hold_invoice_accepted", "hold_invoice_canceled"]
    wait_until(lambda: notified(escrow) == types, "the notification")
    assert received_msat(escrow) == 0
