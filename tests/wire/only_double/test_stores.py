"""Limits for one app: tasks and pending payments; tests/wire/test_stores.py has those of records."""

from nwc.wallet.server import MAX_TASKS_PER_CONNECTION
from nwc.wallet.spending.pending_payments import MAX_PER_CONNECTION, MAX_SHARED
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_for_the_next_second, wait_until
from tests.wire.double_node import DoubleNode
from tests.wire.double_payee import DoublePayee
from tests.wire.fixtures import Connect, wait_until_announced
from tests.wire.test_spending import pay


def test_only_apps_whose_relay_confirms_no_answers_are_ignored(
    node: DoubleNode, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """Each has as many unconfirmed answers as an app may have, so its next request is ignored."""
    honest = connect()
    apps = [connect(relays=[scripted_relay.url], channels=[scripted_relay]) for _ in range(7)]
    scripted_relay.on_event = lambda *_: None
    before = ignored(node)
    for app in apps:
        for _ in range(MAX_TASKS_PER_CONNECTION + 1):
            app.send(app.request())
    wait_until(lambda: ignored(node) == before + len(apps), "one request of each app to be ignored")
    assert honest.ask("get_info").result["pubkey"]


def ignored(node: DoubleNode) -> int:
    """Return how many requests were ignored because of an overload."""
    return int(node.rpc.call("nwc-status")["events_ignored"].get("overloaded", 0))


def test_a_connection_without_pending_payments_can_always_pay(
    node: DoubleNode, payee: DoublePayee, connect: Connect
) -> None:
    """Four apps have all the pending payments they can; another can pay, also after a restart."""
    apps = [connect(budget="unlimited") for _ in range(4)]
    held = 0
    for app in apps:
        for _ in range(min(MAX_PER_CONNECTION, MAX_SHARED + len(apps) - held)):
            invoice = payee.invoice(1000)
            plan = {"payment_hash": invoice["payment_hash"], "hold": True}
            node.rpc.call("dev-payment-plan", plan)
            app.send(app.request("pay_invoice", {"invoice": invoice["bolt11"]}))
            held += 1
    assert held == MAX_SHARED + len(apps)
    wait_until(lambda: payee.held() == held, "all to be held")
    assert pay(apps[-1], payee.invoice(1000)).code == "RATE_LIMITED"
    other = connect(budget="unlimited")
    assert pay(other, payee.invoice(1000)).result["preimage"]
    node.kill_plugin()
    node.start_plugin()
    wait_until_announced(node, other.name)
    # After a restart, a request that is not newer than the last refused one is refused too.
    wait_for_the_next_second()
    assert pay(apps[-1], payee.invoice(1000)).code == "RATE_LIMITED"
    assert pay(other, payee.invoice(1000)).result["preimage"]
