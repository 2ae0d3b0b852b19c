"""Receiving: lookup_invoice, list_transactions, get_balance and notifications."""

import hashlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.app import NIP04, NIP44, Notification
from tests.support.channel import Json, RelaySocket, tag
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.test_relays import info_events, relay_state, wait_until_back, wait_until_lost

COFFEE = {"amount": 21_000, "description": "Kaffee ☕", "metadata": {"order": 7, "by": ["ü"]}}
UNKNOWN = "00" * 32
LONG = "long " * 300
NOT_FOUND = "there is no such invoice or payment"


def make(app: ConnectedApp, **params: Any) -> Json:
    """Make an invoice and return its transaction."""
    return app.ask("make_invoice", {**COFFEE, **params}).result


def make_paid(node: NodeUnderTest, app: ConnectedApp, **params: Any) -> Json:
    """Make an invoice, have it paid, and return its transaction before the payment."""
    made = make(app, **params)
    node.pay(made["invoice"])
    return made


def lookup(app: ConnectedApp, made: Json) -> Json:
    """Return the result of lookup_invoice by payment hash."""
    return app.ask("lookup_invoice", {"payment_hash": made["payment_hash"]}).result


def listed(app: ConnectedApp, **params: Any) -> Json:
    """Return the result of list_transactions."""
    result = app.ask("list_transactions", params).result
    assert set(result) == {"transactions", "total_count"}
    return result


def descriptions(app: ConnectedApp, **params: Any) -> list[str]:
    """Return the descriptions of the transactions on a page."""
    return [row["description"] for row in listed(app, **params)["transactions"]]


def make_foreign(node: NodeUnderTest, description: str) -> Json:
    """Make an invoice with CLN's `invoice`, without NWC; return its result."""
    label = f"shop {time.monotonic_ns()}"
    made: Json = node.rpc.call(
        "invoice", {"amount_msat": 5000, "label": label, "description": description}
    )
    return made


def check_settled(shown: Json, made: Json, amount_msat: int | None = None) -> None:
    """Check that the payment of an invoice has changed its transaction as it should.

    Args:
        shown: the transaction after the payment.
        made: the transaction before it, or after it from another method.
        amount_msat: the amount received, if it is not that of `made`.

    """
    received_msat = made["amount"] if amount_msat is None else amount_msat
    changed = {"state", "amount", "preimage", "settled_at"}
    assert {k: v for k, v in shown.items() if k not in changed} == {
        k: v for k, v in made.items() if k not in changed
    }
    assert (shown["state"], shown["amount"]) == ("settled", received_msat)
    preimage = bytes.fromhex(shown["preimage"])
    assert hashlib.sha256(preimage).hexdigest() == made["payment_hash"]
    assert made["created_at"] <= shown["settled_at"] <= int(time.time()) + 1


# lookup_invoice

LOOK_UP_BY: dict[str, Callable[[Json], Json]] = {
    "hash": lambda made: {"payment_hash": made["payment_hash"]},
    "capitals": lambda made: {"payment_hash": made["payment_hash"].upper()},
    "invoice": lambda made: {"invoice": made["invoice"]},
    "invoice in a QR code": lambda made: {"invoice": f"LIGHTNING:{made['invoice'].upper()}"},
    "both": lambda made: {"payment_hash": made["payment_hash"], "invoice": made["invoice"]},
    "hash and null": lambda made: {"payment_hash": made["payment_hash"], "invoice": None},
}


@pytest.mark.parametrize("encryption", [NIP44, NIP04])
@pytest.mark.parametrize("by", LOOK_UP_BY)
def test_lookup_shows_the_invoice_before_and_after_payment(
    node: NodeUnderTest, app: ConnectedApp, by: str, encryption: str
) -> None:
    made = make(app)
    params = LOOK_UP_BY[by](made)
    answer = app.ask("lookup_invoice", params, encryption=encryption)
    assert answer.body["result_type"] == "lookup_invoice"
    assert answer.result == made
    assert made["metadata"] == COFFEE["metadata"]
    assert made["state"] == "pending"
    assert not {"preimage", "settled_at"} & made.keys()
    node.pay(made["invoice"])
    check_settled(app.ask("lookup_invoice", params, encryption=encryption).result, made)


def test_lookup_shows_the_amount_received(node: NodeUnderTest, app: ConnectedApp) -> None:
    """The amount shown is the amount received."""
    made = make(app, amount=0)
    assert lookup(app, made)["amount"] == 0
    node.pay(made["invoice"], 12_345)
    check_settled(lookup(app, made), made, 12_345)


@pytest.mark.parametrize(
    "params",
    [
        {"description": None, "description_hash": "5a" * 32},
        {"description": "not the preimage", "description_hash": "5a" * 32},
        {"description": LONG, "description_hash": hashlib.sha256(LONG.encode()).hexdigest()},
        {"description": LONG, "description_hash": "5a" * 32},
        {"description": None, "metadata": None},
    ],
    ids=["bare hash", "hash and text", "long", "hash and long", "nothing"],
)
def test_lookup_shows_description_and_hash(node: NodeUnderTest, app: ConnectedApp, params: Json) -> None:
    made = make(app, **params)
    assert made.get("description", "") == (params.get("description") or "")
    assert made.get("description_hash") == params.get("description_hash")
    assert lookup(app, made) == made
    node.pay(made["invoice"])
    check_settled(lookup(app, made), made)


def test_lookup_shows_an_expired_invoice(app: ConnectedApp) -> None:
    made = make(app, expiry=1)
    shown = wait_until(
        lambda: found if (found := lookup(app, made))["state"] != "pending" else None, "the expiry"
    )
    assert shown == {**made, "state": "expired"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "payment_hash: this or invoice must be given"),
        ({"payment_hash": "", "invoice": ""}, "payment_hash: this or invoice must be given"),
        ({"payment_hash": "00"}, "payment_hash: must be"),
        ({"invoice": "lnbc1"}, "invoice: must be a BOLT11 invoice"),
        ({"invoice": "l" * 20_000}, "invoice: must be"),
    ],
    ids=str,
)
def test_lookup_refuses_wrong_values(app: ConnectedApp, params: Json, message: str) -> None:
    answer = app.ask("lookup_invoice", params)
    assert answer.code == "OTHER"
    assert answer.message.startswith(message)


def test_lookup_does_not_find_an_unknown_invoice(app: ConnectedApp) -> None:
    answer = app.ask("lookup_invoice", {"payment_hash": UNKNOWN})
    assert (answer.code, answer.message) == ("NOT_FOUND", NOT_FOUND)


def test_lookup_hides_invoices_of_others(node: NodeUnderTest, connect: Connect) -> None:
    """Invoices of other connections or of the owner are not found, paid or not."""
    own, other, observer = connect(), connect(), connect(view="node")
    made = make(other)
    foreign = make_foreign(node, "of the shop")
    refusals = []
    for is_paid in (False, True):
        for hidden in (made, foreign):
            invoice = hidden.get("invoice") or hidden["bolt11"]
            if is_paid:
                node.pay(invoice)
            refusals += [
                own.ask("lookup_invoice", {"payment_hash": hidden["payment_hash"]}).error,
                own.ask("lookup_invoice", {"invoice": invoice}).error,
            ]
            state = "settled" if is_paid else "pending"
            assert lookup(observer, hidden)["state"] == state
    assert refusals == [{"code": "NOT_FOUND", "message": NOT_FOUND}] * 8
    check_settled(lookup(observer, made), made)
    shown = lookup(observer, foreign)
    assert (shown["type"], shown["state"], shown["amount"]) == ("incoming", "settled", 5000)
    assert (shown["description"], shown["metadata"]) == ("of the shop", {})


# list_transactions


def test_list_shows_unpaid_invoices_on_request(node: NodeUnderTest, app: ConnectedApp) -> None:
    assert listed(app) == {"transactions": [], "total_count": 0}
    made = [make(app, description=str(n)) for n in range(3)]
    assert listed(app) == {"transactions": [], "total_count": 0}
    node.pay(made[1]["invoice"])
    only = listed(app)
    assert only["total_count"] == 1
    check_settled(only["transactions"][0], made[1])
    assert only["transactions"][0]["metadata"] == COFFEE["metadata"]
    assert only["transactions"][0] == lookup(app, made[1])

    everything = listed(app, unpaid=True)
    assert everything["total_count"] == 3
    assert everything["transactions"] == [lookup(app, entry) for entry in reversed(made)]
    assert listed(app, unpaid_incoming=True) == everything
    assert listed(app, unpaid_outgoing=True) == only
    assert listed(app, type="incoming") == only
    assert listed(app, type="outgoing", unpaid=True) == {"transactions": [], "total_count": 0}


def test_list_has_pages(node: NodeUnderTest, app: ConnectedApp) -> None:
    names = [str(n) for n in range(55)]
    for name in names:
        make(app, description=name)
    newest = names[::-1]
    assert descriptions(app, unpaid=True) == newest[:50]
    for limit, offset in [(0, 0), (1, 0), (3, 0), (3, 3), (3, 54), (3, 55), (100, 40), (10**6, 5)]:
        page = listed(app, unpaid=True, limit=limit, offset=offset)
        shown = [row["description"] for row in page["transactions"]]
        assert shown == newest[offset : offset + (limit or 50)]
        assert page["total_count"] == 55
    assert listed(app, limit=3)["total_count"] == 0


def test_list_can_be_limited_by_time(app: ConnectedApp) -> None:
    first = make(app, description="first")
    wait_until(lambda: time.time() >= first["created_at"] + 1, "the next second")
    second = make(app, description="second")
    at, later = first["created_at"], second["created_at"]
    assert later > at
    assert descriptions(app, unpaid=True, until=at) == ["first"]
    assert descriptions(app, unpaid=True, **{"from": at + 1}) == ["second"]
    assert descriptions(app, unpaid=True, **{"from": at, "until": later}) == ["second", "first"]
    assert descriptions(app, unpaid=True, **{"from": later + 1}) == []
    assert listed(app, unpaid=True, until=at - 1)["total_count"] == 0


def test_list_ends_before_the_answer_is_too_long(app: ConnectedApp) -> None:
    for n in range(6):
        long = {"description": f"{n}" + "x" * 4000, "metadata": {"a": "é" * 4000}}
        make(app, **long, description_hash=None)
    page = listed(app, unpaid=True)
    assert [row["description"][0] for row in page["transactions"]] == ["5", "4", "3"]
    assert page["total_count"] == 6
    rest = listed(app, unpaid=True, offset=3)
    assert [row["description"][0] for row in rest["transactions"]] == ["2", "1", "0"]


def test_list_hides_invoices_of_others(node: NodeUnderTest, connect: Connect) -> None:
    own, other, observer = connect(), connect(), connect(view="node")
    first = make_paid(node, own, description="mine")
    second = make_paid(node, other, description="theirs")
    third = make_foreign(node, "of the shop")
    node.pay(third["bolt11"])
    assert descriptions(own, unpaid=True) == ["mine"]
    assert descriptions(other) == ["theirs"]
    seen = listed(observer, type="incoming", limit=3)
    hashes = [row["payment_hash"] for row in seen["transactions"]]
    assert hashes == [made["payment_hash"] for made in (third, second, first)]
    assert seen["total_count"] >= 3


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": -1}, "limit"),
        ({"offset": 2**63}, "offset"),
        ({"from": "yesterday"}, "from"),
        ({"until": 2**64}, "until"),
        ({"unpaid": "yes"}, "unpaid"),
        ({"unpaid_incoming": 1}, "unpaid_incoming"),
        ({"type": "sideways"}, "type"),
    ],
    ids=str,
)
def test_list_refuses_wrong_values(app: ConnectedApp, params: Json, field: str) -> None:
    answer = app.ask("list_transactions", params)
    assert answer.code == "OTHER"
    assert answer.message.startswith(f"{field}: must be")


# get_balance


def test_the_balance_of_a_receiving_connection_is_zero(node: NodeUnderTest, connect: Connect) -> None:
    """A connection that only receives can spend nothing, however much it has received."""
    own, observer = connect(), connect(view="node")
    make_paid(node, own)
    answer = own.ask("get_balance")
    assert answer.body["result_type"] == "get_balance"
    assert answer.result == {"balance": 0}
    wait_until(lambda: observer.ask("get_balance").result == spendable(node), "the node's balance")


def spendable(node: NodeUnderTest) -> Json:
    """Return the result of get_balance with view=node, once no payment is pending."""
    channels = node.rpc.call("listpeerchannels")["channels"]
    usable = [channel for channel in channels if channel["state"] == "CHANNELD_NORMAL"]
    return {"balance": sum(channel["spendable_msat"] for channel in usable)}


def test_the_balance_of_a_paying_connection_is_what_it_can_spend(
    node: NodeUnderTest, connect: Connect
) -> None:
    """The balance is what the budget allows, at most what the node has."""
    observer, unlimited = connect(view="node"), connect(budget="unlimited")
    spendable = observer.ask("get_balance").result["balance"]
    assert unlimited.ask("get_balance").result == {"balance": spendable}
    for view in ("own", "node"):
        app = connect(budget=1000, view=view)
        assert app.ask("get_balance").result == {"balance": min(1000, spendable)}
    rich = connect(budget="1000000btc")
    assert rich.ask("get_balance").result == {"balance": spendable}


def test_a_received_budget_grows_with_each_payment(node: NodeUnderTest, connect: Connect) -> None:
    """Each paid invoice counts once, even if it is paid while the plugin is down."""
    app, other = connect(budget="received"), connect(budget="received")
    observer = connect(view="node")
    assert app.ask("get_budget").result["total_budget"] == 0
    assert app.ask("get_balance").result == {"balance": 0}
    wait_until_recorded(node, make_paid(node, app))
    paid_meanwhile = make(app, amount=0)
    node.stop_plugin()
    node.pay(paid_meanwhile["invoice"], 12_345)
    node.start_plugin()
    wait_until_announced(node, app.name)
    wait_until_recorded(node, paid_meanwhile)
    node.pay(make_foreign(node, "of the shop")["bolt11"])
    wait_until_recorded(node, make_paid(node, observer))
    budget = {"used_budget": 0, "renewal_period": "never"}
    assert app.ask("get_budget").result == {**budget, "total_budget": 33_345}
    spendable = observer.ask("get_balance").result["balance"]
    assert app.ask("get_balance").result == {"balance": min(33_345, spendable)}
    [shown] = node.rpc.call("nwc-list", [app.name])["connections"]
    assert (shown["budget"]["granted_msat"], shown["budget"]["left_msat"]) == (33_345, 33_345)
    assert other.ask("get_budget").result == {**budget, "total_budget": 0}


def test_a_received_budget_counts_earlier_payments(node: NodeUnderTest, connect: Connect) -> None:
    """Payments received before the update count too."""
    app = connect()
    wait_until_recorded(node, make_paid(node, app))
    assert app.ask("get_balance").result == {"balance": 0}
    node.rpc.call("nwc-update", {"name": app.name, "budget": "received"})
    assert app.ask("get_budget").result["total_budget"] == 21_000


# Metadata


def test_metadata_survives_a_restart(node: NodeUnderTest, app: ConnectedApp) -> None:
    """It is in lookup_invoice, list_transactions and notifications."""
    made = make(app)
    assert lookup(app, made)["metadata"] == COFFEE["metadata"]
    node.stop_plugin()
    node.start_plugin()
    wait_until_announced(node, app.name)
    node.pay(made["invoice"])
    notifications = app.wait_for_notifications(made["payment_hash"])
    [row] = listed(app)["transactions"]
    for shown in (*(n.transaction for n in notifications), row, lookup(app, made)):
        assert shown["metadata"] == COFFEE["metadata"]


# Notifications


def check_notified_once(node: NodeUnderTest, app: ConnectedApp, *made: Json) -> list[Notification]:
    """Check that an app is notified of payments once in each kind, in order, and of no others.

    Notifications come in the order of `pay_index`, so that of one more payment is the last.
    """
    last = make_paid(node, app, description="the last")
    app.wait_for_notifications(last["payment_hash"])
    notifications = app.notifications()
    hashes = [entry["payment_hash"] for entry in (*made, last)]
    for kind in (23197, 23196):
        of_kind = [n for n in notifications if n.event["kind"] == kind]
        assert [n.transaction["payment_hash"] for n in of_kind] == hashes
    assert len(notifications) == 2 * len(hashes)
    assert {n.type for n in notifications} == {"payment_received"}
    for notification in notifications[:-2]:
        [of] = [m for m in made if m["payment_hash"] == notification.transaction["payment_hash"]]
        check_settled(notification.transaction, of)
        assert notification.transaction == lookup(app, of)
    return notifications


def check_not_notified(node: NodeUnderTest, witness: ConnectedApp, app: ConnectedApp) -> None:
    """Check that an app was not notified.

    The plugin notifies all apps of one payment before any of the next. Answers use the same socket.
    """
    for _ in range(2):
        last = make_paid(node, witness)
        witness.wait_for_notifications(last["payment_hash"])
    app.ask("get_info")
    assert app.notifications() == []


def wait_until_recorded(node: NodeUnderTest, made: Json) -> None:
    """Wait until the plugin has recorded that apps were notified of a payment.

    A lightningd that stops accepts no more calls. Without the record the payment is announced again.
    """
    hash_ = {"payment_hash": made["payment_hash"]}
    [invoice] = node.rpc.call("listinvoices", hash_)["invoices"]
    key = {"key": ["nwc", "notifications", "position"]}

    def position() -> int:
        [record] = node.rpc.call("listdatastore", key)["datastore"]
        return int(record["string"])

    wait_until(lambda: position() >= invoice["pay_index"], "the position to be recorded")


def test_an_app_is_notified_once_of_a_payment(node: NodeUnderTest, app: ConnectedApp) -> None:
    before = int(time.time())
    made = make_paid(node, app)
    for notification in app.wait_for_notifications(made["payment_hash"]):
        assert before <= notification.event["created_at"] <= int(time.time())
    check_notified_once(node, app, made)


def test_a_received_uri_is_paid_and_announced_like_an_invoice(
    node: NodeUnderTest, app: ConnectedApp
) -> None:
    result = app.ask("receive", COFFEE).result
    assert set(result) == {"bip321", "transaction_id"}
    invoice = result["bip321"].removeprefix("bitcoin:?lightning=")
    made = lookup(app, {"payment_hash": result["transaction_id"]})
    assert (made["invoice"], made["state"]) == (invoice, "pending")
    assert {name: made[name] for name in COFFEE} == COFFEE
    node.pay(invoice)
    check_settled(lookup(app, made), made)
    check_notified_once(node, app, made)


def test_a_uri_without_an_amount_takes_what_the_payer_sends(
    node: NodeUnderTest, app: ConnectedApp
) -> None:
    result = app.ask("receive", {"amount": None}).result
    node.pay(result["bip321"].removeprefix("bitcoin:?lightning="), 30_500)
    assert lookup(app, {"payment_hash": result["transaction_id"]})["amount"] == 30_500


def test_receive_refuses_wrong_values(app: ConnectedApp) -> None:
    answer = app.ask("receive", {"amount": -1})
    assert answer.code == "BAD_REQUEST"
    assert answer.message.startswith("amount: must be ")


def test_a_notification_is_sent_to_all_relays(
    node: NodeUnderTest, relay: RestartableRelay, own_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect(relays=[relay.url, own_relay.url])
    made = make_paid(node, app)
    app.wait_for_notifications(made["payment_hash"])
    app.ask("get_info")  # waits for the answer on both relays
    first, second = (
        sorted(event["id"] for event in channel.received.all(lambda e: e["kind"] in (23196, 23197)))
        for channel in app.channels
    )
    assert first == second
    assert len(first) == 2


def test_notifications_follow_the_view(node: NodeUnderTest, connect: Connect) -> None:
    """A connection with view=node is notified of all payments, others of those to their own invoices."""
    app, other, observer = connect(), connect(), connect(view="node")
    made = make_paid(node, app)
    foreign = make_foreign(node, "of the shop")
    node.pay(foreign["bolt11"])
    received = observer.wait_for_notifications(foreign["payment_hash"])
    assert {n.transaction["description"] for n in received} == {"of the shop"}
    assert len(observer.wait_for_notifications(made["payment_hash"])) == 2
    check_notified_once(node, app, made)
    check_not_notified(node, observer, other)


def test_a_change_of_view_changes_what_an_app_sees(node: NodeUnderTest, connect: Connect) -> None:
    app, other = connect(), connect()
    node.rpc.call("nwc-update", {"name": other.name, "view": "node"})
    made = make_paid(node, app)
    other.wait_for_notifications(made["payment_hash"])
    assert lookup(other, made)["state"] == "settled"
    node.rpc.call("nwc-update", {"name": other.name, "view": "own"})
    assert other.ask("lookup_invoice", {"payment_hash": made["payment_hash"]}).code == "NOT_FOUND"
    before = len(other.notifications())
    for _ in range(2):
        app.wait_for_notifications(make_paid(node, app)["payment_hash"])
    other.ask("get_info")
    assert len(other.notifications()) == before == 2


def test_an_app_is_notified_after_a_stop(node: NodeUnderTest, app: ConnectedApp) -> None:
    made = [make(app) for _ in range(3)]
    node.pay(made[0]["invoice"])
    app.wait_for_notifications(made[0]["payment_hash"])
    node.stop_plugin()
    node.pay(made[1]["invoice"])
    node.pay(made[2]["invoice"])
    node.start_plugin()
    wait_until_announced(node, app.name)
    check_notified_once(node, app, *made)


def test_an_app_is_notified_after_a_kill(node: NodeUnderTest, app: ConnectedApp) -> None:
    made = make(app)
    node.kill_plugin()
    node.pay(made["invoice"])
    node.start_plugin()
    wait_until_announced(node, app.name)
    check_notified_once(node, app, made)


def test_an_app_is_notified_after_a_node_restart(node: NodeUnderTest, app: ConnectedApp) -> None:
    """One invoice is paid just before it stops, one just after its start, before the plugin is ready."""
    made = [make(app) for _ in range(2)]
    node.pay(made[0]["invoice"])
    wait_until_recorded(node, made[0])
    node.restart_node()
    node.pay(made[1]["invoice"])
    wait_until_announced(node, app.name)
    check_notified_once(node, app, *made)


def test_an_app_is_notified_after_a_relay_failure(
    node: NodeUnderTest, own_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect(relays=own_relay.url)
    made = make(app)
    own_relay.kill()
    wait_until_lost(node, own_relay)
    node.pay(made["invoice"])
    own_relay.start()
    with RelaySocket(own_relay.url, app.answer_filter) as socket:
        app.channels = (socket,)
        wait_until_back(node, own_relay)
        wait_until_announced(node, app.name)
        check_notified_once(node, app, made)


def test_an_app_is_notified_after_both_were_down(node: NodeUnderTest, connect: Connect) -> None:
    """Relay and plugin: what the first start cannot send without a relay is sent after the second."""
    with ScriptedRelay() as relay:
        app = connect(relays=relay.url, channels=[relay])
        made = [make(app) for _ in range(3)]
        node.stop_plugin()
        node.pay(made[0]["invoice"])
        assert app.notifications() == []
    node.start_plugin()
    wait_until(lambda: relay_state(node, relay.url)["state"] == "disconnected", "the relay to be lost")
    node.pay(made[1]["invoice"])
    key = ["nwc", "notifications", "pending", app.pubkey]
    wait_until(
        lambda: len(node.rpc.call("listdatastore", {"key": key})["datastore"]) == 2,
        "both notifications to be stored",
    )
    node.kill_plugin()
    node.pay(made[2]["invoice"])
    with ScriptedRelay(relay.port) as again:
        app.channels = (again,)
        node.start_plugin()
        wait_until_announced(node, app.name)
        check_notified_once(node, app, *made)
        wait_until(
            lambda: not node.rpc.call("listdatastore", {"key": key})["datastore"],
            "the stored notifications to be deleted",
        )


def test_an_app_can_be_without_notifications(
    node: NodeUnderTest, relay: RestartableRelay, connect: Connect
) -> None:
    app, witness = connect(notifications=False), connect(view="node")
    made = make_paid(node, app)
    witness.wait_for_notifications(made["payment_hash"])
    check_not_notified(node, witness, app)
    assert lookup(app, made)["state"] == "settled"
    assert app.ask("get_info").result["notifications"] == []
    [info] = info_events(relay.url, app.wallet_pubkey)
    assert tag(info, "notifications") is None
    assert "notifications" not in info["content"].split()
    node.rpc.call("nwc-update", {"name": app.name, "notifications": True})
    check_notified_once(node, app)


def test_a_node_can_be_without_notifications(node: NodeUnderTest, connect: Connect) -> None:
    """With nwc-notifications=false nobody is notified, and not later either."""
    with ScriptedRelay() as relay:
        app = connect(relays=relay.url, channels=[relay])
        observer = connect(relays=relay.url, channels=[relay], view="node")
        node.stop_plugin()
        node.start_plugin({"nwc-notifications": "false"})
        try:
            wait_until_announced(node, observer.name)
            made = make_paid(node, app)
            assert lookup(app, made)["state"] == "settled"
            for each in (app, observer):
                assert each.ask("get_info").result["notifications"] == []
                info = relay.received.all(lambda e: e["kind"] == 13194)[-1]
                assert tag(info, "notifications") is None
        finally:
            node.stop_plugin()
            node.start_plugin()
        wait_until_announced(node, app.name)
        offered = observer.ask("get_info").result["notifications"]
        assert offered == ["payment_received", "payment_sent"]
        check_notified_once(node, app)
        hashes = {n.transaction["payment_hash"] for n in observer.notifications()}
        assert made["payment_hash"] not in hashes


def test_a_deleted_invoice_is_not_announced(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """An invoice that its owner has deleted is not announced, and delays no other notification."""
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    deleted, kept = make(app), make(app)
    node.stop_plugin()
    for made in (deleted, kept):
        node.pay(made["invoice"])
    [stored] = node.rpc.call("listinvoices", {"payment_hash": deleted["payment_hash"]})["invoices"]
    node.rpc.call("delinvoice", {"label": stored["label"], "status": "paid"})
    node.start_plugin()
    wait_until_announced(node, app.name)
    check_notified_once(node, app, kept)
    assert app.ask("lookup_invoice", {"payment_hash": deleted["payment_hash"]}).code == "NOT_FOUND"
