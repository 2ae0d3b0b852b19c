"""lightningd ends while an app's payment is in flight.

The first time nothing changes. The second time within an hour, that app's payments are suspended until
the owner resumes them. Since v26.06 a payee can stop lightningd through a keysend: one stop is enough.
"""

from tests.support.channel import Json
from tests.support.lightningd_version import runs_since
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.only_lightningd.hostile_line import *  # noqa: F403
from tests.wire.only_lightningd.hostile_line import is_usable, parts
from tests.wire.real_node import RealNode
from tests.wire.real_payee import RealPayee
from tests.wire.test_spending import pay


def test_an_app_is_suspended_when_lightningd_ended_twice_during_its_payments(
    node: RealNode, payee: RealPayee, connect: Connect
) -> None:
    app, other = connect(budget="1000sat"), connect(budget="1000sat")
    payee.hold()
    for count in (1, 2):
        invoice = payee.invoice(1000)
        app.send(app.request("pay_invoice", {"invoice": invoice["bolt11"]}))
        wait_until(lambda count=count: payee.held() == count, "the payment to be held")  # type: ignore[misc]
        since = node.mark()
        node.kill_node()
        node.start_node()
        for each in (app, other):
            wait_until_announced(node, each.name)
        wait_until(lambda: all(map(is_usable, node.rpc.listpeerchannels()["channels"])), "the channels")
    node.wait_for_log(f"payments of '{app.name}' are suspended", since=since)
    payee.release()
    invoice = payee.invoice(1000)
    refused = pay(app, invoice)
    assert (refused.code, "suspended" in refused.message) == ("RESTRICTED", True), refused.message
    keysend = app.ask("pay_keysend", {"amount": 1000, "pubkey": payee.id})
    assert keysend.code == "RESTRICTED"
    assert parts(node, invoice["payment_hash"]) == []
    assert "payments_suspended_at" in described(node, app)
    assert "payments_suspended_at" not in described(node, other)
    assert app.ask("make_invoice", {"amount": 1000}).result["state"] == "pending"
    assert pay(other, payee.invoice(1000)).result["fees_paid"] == 1
    node.rpc.call("nwc-update", {"name": app.name, "resume": True})
    assert "payments_suspended_at" not in described(node, app)
    assert pay(app, invoice).result["fees_paid"] == 1


def test_one_end_of_lightningd_during_a_keysend_suspends_an_app_since_v26_06(
    node: RealNode, payee: RealPayee, connect: Connect
) -> None:
    app = connect(budget="1000sat")
    payee.hold()
    app.send(app.request("pay_keysend", {"amount": 1000, "pubkey": payee.id}))
    wait_until(lambda: payee.held() == 1, "the payment to be held")
    node.kill_node()
    node.start_node()
    wait_until_announced(node, app.name)
    payee.release()
    assert ("payments_suspended_at" in described(node, app)) is runs_since("26.06")


def described(node: RealNode, app: ConnectedApp) -> Json:
    """Return a connection as nwc-list shows it."""
    [shown] = node.rpc.call("nwc-list", {"name": app.name})["connections"]
    described: Json = shown
    return described
