"""Hold invoices as an app and the owner see them, on the double, which plays the plugin `hold`."""

import hashlib
import secrets
from typing import Any

import pytest
from pyln.client import RpcError

from tests.support.alby_app import AlbyApp, AlbyError
from tests.support.channel import KIND_NOTIFICATION, Json
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, budget_of, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.test_alby_client import node_js  # noqa: F401 - a fixture
from tests.wire.test_relays import info_events

AMOUNT_MSAT = 21_000
METHODS = {"make_hold_invoice", "settle_hold_invoice", "cancel_hold_invoice"}


@pytest.fixture
def hold(node: NodeUnderTest) -> NodeUnderTest:
    """The node, with `hold`."""
    node.rpc.call("dev-hold", {"there": True})
    return node


class Escrow:
    """A hold invoice of an app."""

    def __init__(self, app: ConnectedApp, node: NodeUnderTest) -> None:
        self.app, self.node = app, node
        self.preimage = secrets.token_hex(32)
        self.payment_hash = hashlib.sha256(bytes.fromhex(self.preimage)).hexdigest()
        self.made = self.ask("make_hold_invoice", amount=AMOUNT_MSAT, payment_hash=self.payment_hash)

    def ask(self, method: str, **params: Any) -> Json:
        return self.app.ask(method, params).result

    def pay(self) -> None:
        """Pay the invoice, and wait until it is accepted."""
        self.node.rpc.call("dev-hold-pay", {"payment_hash": self.payment_hash})
        wait_until(lambda: self.state() == "accepted", "the invoice to be accepted")

    def state(self) -> str:
        return str(self.ask("lookup_invoice", payment_hash=self.payment_hash)["state"])

    def in_hold(self) -> str:
        listed = self.node.rpc.call("listholdinvoices", {"payment_hash": self.payment_hash})
        return str(listed["holdinvoices"][0]["state"])

    def notified(self) -> list[str]:
        self.app.ask("get_info")  # its answer comes after everything published before
        events = self.app.notifications()
        return [one.type for one in events if one.event["kind"] == KIND_NOTIFICATION]


def listed(node: NodeUnderTest, app: ConnectedApp, relay: RestartableRelay) -> set[str]:
    """Return the methods of hold invoices that nwc-list, get_info and the info event list alike."""
    [shown] = node.rpc.call("nwc-list", {"name": app.name})["connections"]
    info = app.ask("get_info").result
    assert ("03" in info["extensions"]) is ("hold_invoice_accepted" in info["notifications"])
    assert set(info["methods"]) == set(shown["methods"])
    [event] = info_events(relay.url, app.wallet_pubkey)
    assert set(event["content"].split()) - {"notifications"} == set(info["methods"])
    return METHODS & set(info["methods"])


def test_the_methods_are_listed_while_hold_is_there(
    hold: NodeUnderTest, app: ConnectedApp, relay: RestartableRelay
) -> None:
    Escrow(app, hold)
    wait_until_announced(hold, app.name)
    assert listed(hold, app, relay) == METHODS
    hold.rpc.call("dev-hold", {"there": False})
    assert app.ask("settle_hold_invoice", {"preimage": "00" * 32}).code == "NOT_IMPLEMENTED"
    wait_until_announced(hold, app.name)
    assert listed(hold, app, relay) == set()


@pytest.mark.parametrize("how", ["stop", "kill", "restart"])
def test_an_escrow_survives_a_restart_at_each_step(
    hold: NodeUnderTest, connect: Connect, how: str
) -> None:
    app = connect(budget="received")

    def restart() -> None:
        match how:
            case "stop":
                hold.stop_plugin()
                hold.start_plugin()
            case "kill":
                hold.kill_plugin()
                hold.start_plugin()
            case "restart":
                hold.restart_node()
        wait_until_announced(hold, app.name)

    escrow = Escrow(app, hold)
    restart()
    escrow.pay()
    wait_until(lambda: escrow.notified() == ["hold_invoice_accepted"], "the notification")
    restart()
    assert escrow.ask("settle_hold_invoice", preimage=escrow.preimage) == {}
    restart()
    assert escrow.ask("settle_hold_invoice", preimage=escrow.preimage) == {}
    assert escrow.notified() == ["hold_invoice_accepted", "payment_received"]
    assert escrow.state() == "settled"
    assert budget_of(hold, app.name)["granted_msat"] == AMOUNT_MSAT


def test_an_app_of_the_same_node_cannot_pay_it(hold: NodeUnderTest, connect: Connect) -> None:
    escrow, payer = Escrow(connect(), hold), connect(budget="unlimited")
    assert payer.ask("pay_invoice", {"invoice": escrow.made["invoice"]}).body["error"] is not None
    assert escrow.state() == "pending"
    assert budget_of(hold, payer.name)["spent_msat"] == 0


def test_revoking_cancels_the_open_invoices(hold: NodeUnderTest, connect: Connect) -> None:
    app = connect()
    escrows = [Escrow(app, hold), Escrow(app, hold)]
    escrows[0].pay()
    shown = hold.rpc.call("nwc-revoke", {"name": app.name})
    assert shown["hold_invoices_cancelled"] == 2
    assert [escrow.in_hold() for escrow in escrows] == ["cancelled", "cancelled"]


def test_what_cannot_be_cancelled_at_once_is_cancelled_later(hold: Any, connect: Connect) -> None:
    app = connect()
    escrow = Escrow(app, hold)
    hold.fail("cancelholdinvoice", -32700, "no")
    shown = hold.rpc.call("nwc-revoke", {"name": app.name})
    assert "1 hold invoices of this connection are not cancelled yet" in shown["warning"]
    wait_until(lambda: escrow.in_hold() == "cancelled", "the next poll")


def test_forgetting_everything_cancels_the_open_invoices(hold: NodeUnderTest, app: ConnectedApp) -> None:
    escrow = Escrow(app, hold)
    escrow.pay()
    assert hold.rpc.call("nwc-forget", {"confirm": True})["forgotten"]
    assert escrow.in_hold() == "cancelled"


def test_nothing_is_deleted_while_an_invoice_cannot_be_cancelled(hold: Any, app: ConnectedApp) -> None:
    escrow = Escrow(app, hold)
    escrow.pay()
    hold.fail("cancelholdinvoice", -32700, "no")
    with pytest.raises(RpcError, match="1 hold invoices cannot be cancelled"):
        hold.rpc.call("nwc-forget", {"confirm": True})
    assert hold.rpc.listdatastore(["nwc", "holds"])["datastore"] != []
    assert hold.rpc.call("nwc-forget", {"confirm": True})["forgotten"]
    assert escrow.in_hold() == "cancelled"


def test_everything_is_forgotten_if_hold_is_gone(hold: NodeUnderTest, app: ConnectedApp) -> None:
    Escrow(app, hold).pay()
    hold.rpc.call("dev-hold", {"there": False})
    assert hold.rpc.call("nwc-forget", {"confirm": True})["forgotten"]
    assert hold.rpc.listdatastore(["nwc", "holds"])["datastore"] == []


def test_alby_makes_settles_and_cancels(
    hold: NodeUnderTest,
    node_js: str,  # noqa: F811
    app: ConnectedApp,
) -> None:
    escrow = Escrow(app, hold)
    with AlbyApp(node_js, app.uri) as alby:
        assert set(alby.call("getWalletServiceInfo")["capabilities"]) > METHODS
        alby.subscribe("hold_invoice_accepted")
        given = {"amount": AMOUNT_MSAT, "description": "escrow", "payment_hash": "5a" * 32}
        made = alby.call("makeHoldInvoice", given)
        assert (made["state"], made["payment_hash"]) == ("pending", "5a" * 32)
        assert alby.call("cancelHoldInvoice", {"payment_hash": "5a" * 32}) == {}
        assert alby.call("lookupInvoice", {"payment_hash": "5a" * 32})["state"] == "failed"
        with pytest.raises(AlbyError, match="it is not paid yet"):
            alby.call("settleHoldInvoice", {"preimage": escrow.preimage})
        escrow.pay()
        shown = alby.wait_for_notification(escrow.payment_hash)
        assert shown["notification_type"] == "hold_invoice_accepted"
        assert shown["notification"]["settle_deadline"] > 0
        assert alby.call("settleHoldInvoice", {"preimage": escrow.preimage}) == {}
    assert escrow.state() == "settled"
