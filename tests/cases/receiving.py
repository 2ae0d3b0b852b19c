"""The receiving wallet: lookup_invoice, list_transactions, get_balance and notifications."""

import hashlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cases.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.cases.node import NodeUnderTest
from tests.cases.relays import info_events, relay_state, wait_until_back, wait_until_lost
from tests.support.app import NIP04, NIP44, Notification
from tests.support.channel import Json, RelaySocket, tag
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until

COFFEE = {"amount": 21_000, "description": "Kaffee ☕", "metadata": {"order": 7, "by": ["ü"]}}
UNKNOWN = "00" * 32
LONG = "long " * 300
NOT_FOUND = "there is no such invoice or payment"


def make(app: ConnectedApp, **params: Any) -> Json:
    """Make an invoice and return its transaction."""
    return app.ask("make_invoice", {**COFFEE, **params}).result


def make_paid(node: NodeUnderTest, app: ConnectedApp, **params: Any) -> Json:
    """Make an invoice, have it paid, and return its transaction of before."""
    made = make(app, **params)
    node.pay(made["invoice"])
    return made


def lookup(app: ConnectedApp, made: Json) -> Json:
    """Return what lookup_invoice says by payment hash."""
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
    """Make an invoice outside of NWC."""
    label = f"shop {time.monotonic_ns()}"
    made: Json = node.rpc.call(
        "invoice", {"amount_msat": 5000, "label": label, "description": description}
    )
    return made


def check_settled(shown: Json, made: Json, amount_msat: int | None = None) -> None:
    """Compare the transaction of a paid invoice with that of before.

    Args:
        shown: after the payment.
        made: before it, or after it by another way.
        amount_msat: what arrived, when that is another amount than before.

    """
    arrived_msat = made["amount"] if amount_msat is None else amount_msat
    changed = {"state", "amount", "preimage", "settled_at"}
    assert {k: v for k, v in shown.items() if k not in changed} == {
        k: v for k, v in made.items() if k not in changed
    }
    assert (shown["state"], shown["amount"]) == ("settled", arrived_msat)
    preimage = bytes.fromhex(shown["preimage"])
    assert hashlib.sha256(preimage).hexdigest() == made["payment_hash"]
    assert made["created_at"] <= shown["settled_at"] <= int(time.time()) + 1


# lookup_invoice

WAYS: dict[str, Callable[[Json], Json]] = {
    "hash": lambda made: {"payment_hash": made["payment_hash"]},
    "capitals": lambda made: {"payment_hash": made["payment_hash"].upper()},
    "invoice": lambda made: {"invoice": made["invoice"]},
    "invoice in a QR code": lambda made: {"invoice": f"LIGHTNING:{made['invoice'].upper()}"},
    "both": lambda made: {"payment_hash": made["payment_hash"], "invoice": made["invoice"]},
    "hash and null": lambda made: {"payment_hash": made["payment_hash"], "invoice": None},
}


@pytest.mark.parametrize("encryption", [NIP44, NIP04])
@pytest.mark.parametrize("way", WAYS)
def test_lookup(node: NodeUnderTest, app: ConnectedApp, way: str, encryption: str) -> None:
    made = make(app)
    params = WAYS[way](made)
    answer = app.ask("lookup_invoice", params, encryption=encryption)
    assert answer.body["result_type"] == "lookup_invoice"
    assert answer.result == made
    assert made["metadata"] == COFFEE["metadata"]
    assert made["state"] == "pending"
    assert not {"preimage", "settled_at"} & made.keys()
    node.pay(made["invoice"])
    check_settled(app.ask("lookup_invoice", params, encryption=encryption).result, made)


def test_lookup_of_any_amount(node: NodeUnderTest, app: ConnectedApp) -> None:
    """The amount is what arrived."""
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
def test_lookup_keeps_the_description(node: NodeUnderTest, app: ConnectedApp, params: Json) -> None:
    made = make(app, **params)
    assert made.get("description", "") == (params.get("description") or "")
    assert made.get("description_hash") == params.get("description_hash")
    assert lookup(app, made) == made
    node.pay(made["invoice"])
    check_settled(lookup(app, made), made)


def test_lookup_of_expired(app: ConnectedApp) -> None:
    made = make(app, expiry=1)
    shown = wait_until(
        lambda: found if (found := lookup(app, made))["state"] != "pending" else None, "the expiry"
    )
    assert shown == {**made, "state": "expired"}


def test_lookup_of_two_that_disagree(app: ConnectedApp) -> None:
    first, second = make(app), make(app)
    params = {"payment_hash": first["payment_hash"], "invoice": second["invoice"]}
    answer = app.ask("lookup_invoice", params)
    assert answer.code == "OTHER"
    assert answer.message == "payment_hash: must be the invoice's if both are given"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "payment_hash: this or invoice must be given"),
        ({"payment_hash": "", "invoice": ""}, "payment_hash: this or invoice must be given"),
        ({"payment_hash": "00"}, "payment_hash: must be"),
        ({"payment_hash": 7}, "payment_hash: must be"),
        ({"payment_hash": "x" * 64}, "payment_hash: must be"),
        ({"invoice": "lnbc1"}, "invoice: must be a BOLT11 invoice"),
        ({"invoice": 7}, "invoice: must be"),
        ({"invoice": "l" * 20_000}, "invoice: must be"),
    ],
    ids=str,
)
def test_lookup_wrongly(app: ConnectedApp, params: Json, message: str) -> None:
    answer = app.ask("lookup_invoice", params)
    assert answer.code == "OTHER"
    assert answer.message.startswith(message)


def test_lookup_of_nothing(app: ConnectedApp) -> None:
    answer = app.ask("lookup_invoice", {"payment_hash": UNKNOWN})
    assert (answer.code, answer.message) == ("NOT_FOUND", NOT_FOUND)


def test_lookup_of_others(node: NodeUnderTest, connect: Connect) -> None:
    """What another connection made, or its owner, is as good as not there; paid or not."""
    own, other, whole = connect(), connect(), connect(view="node")
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
            assert lookup(whole, hidden)["state"] == state
    assert refusals == [{"code": "NOT_FOUND", "message": NOT_FOUND}] * 8
    check_settled(lookup(whole, made), made)
    shown = lookup(whole, foreign)
    assert (shown["type"], shown["state"], shown["amount"]) == ("incoming", "settled", 5000)
    assert (shown["description"], shown["metadata"]) == ("of the shop", {})


# list_transactions


def test_list(node: NodeUnderTest, app: ConnectedApp) -> None:
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


def test_list_by_pages(node: NodeUnderTest, app: ConnectedApp) -> None:
    names = [str(n) for n in range(25)]
    for name in names:
        make(app, description=name)
    newest = names[::-1]
    assert descriptions(app, unpaid=True) == newest[:20]
    for limit, offset in [(0, 0), (1, 0), (3, 0), (3, 3), (3, 24), (3, 25), (100, 0), (10**6, 5)]:
        page = listed(app, unpaid=True, limit=limit, offset=offset)
        shown = [row["description"] for row in page["transactions"]]
        assert shown == newest[offset : offset + (limit or 20)]
        assert page["total_count"] == 25
    assert listed(app, limit=3)["total_count"] == 0


def test_list_by_time(app: ConnectedApp) -> None:
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


def test_list_ends_before_it_is_too_long(app: ConnectedApp) -> None:
    for n in range(6):
        long = {"description": f"{n}" + "x" * 4000, "metadata": {"a": "é" * 4000}}
        make(app, **long, description_hash=None)
    page = listed(app, unpaid=True)
    assert [row["description"][0] for row in page["transactions"]] == ["5", "4", "3"]
    assert page["total_count"] == 6
    rest = listed(app, unpaid=True, offset=3)
    assert [row["description"][0] for row in rest["transactions"]] == ["2", "1", "0"]


def test_list_of_others(node: NodeUnderTest, connect: Connect) -> None:
    own, other, whole = connect(), connect(), connect(view="node")
    first = make_paid(node, own, description="mine")
    second = make_paid(node, other, description="theirs")
    third = make_foreign(node, "of the shop")
    node.pay(third["bolt11"])
    assert descriptions(own, unpaid=True) == ["mine"]
    assert descriptions(other) == ["theirs"]
    seen = listed(whole, type="incoming", limit=3)
    hashes = [row["payment_hash"] for row in seen["transactions"]]
    assert hashes == [made["payment_hash"] for made in (third, second, first)]
    assert seen["total_count"] >= 3


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": "20"}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"limit": True}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 2**63}, "offset"),
        ({"from": "yesterday"}, "from"),
        ({"from": -1}, "from"),
        ({"until": 2**64}, "until"),
        ({"unpaid": "yes"}, "unpaid"),
        ({"unpaid_incoming": 1}, "unpaid_incoming"),
        ({"type": "sideways"}, "type"),
        ({"type": 7}, "type"),
    ],
    ids=str,
)
def test_list_wrongly(app: ConnectedApp, params: Json, field: str) -> None:
    answer = app.ask("list_transactions", params)
    assert answer.code == "OTHER"
    assert answer.message.startswith(f"{field}: must be")


# get_balance


def test_balance(node: NodeUnderTest, connect: Connect) -> None:
    """Who only receives has nothing to spend, however much it received."""
    own, whole = connect(), connect(view="node")
    make_paid(node, own)
    answer = own.ask("get_balance")
    assert answer.body["result_type"] == "get_balance"
    assert answer.result == {"balance": 0}
    wait_until(lambda: whole.ask("get_balance").result == spendable(node), "the node's balance")


def spendable(node: NodeUnderTest) -> Json:
    """Return what get_balance has to answer who sees everything, once no payment is under way."""
    channels = node.rpc.call("listpeerchannels")["channels"]
    usable = [channel for channel in channels if channel["state"] == "CHANNELD_NORMAL"]
    return {"balance": sum(channel["spendable_msat"] for channel in usable)}


def test_balance_of_one_that_pays(node: NodeUnderTest, connect: Connect) -> None:
    """What it can spend now: of its budget, and of what the node has."""
    whole, unlimited = connect(view="node"), connect(budget="unlimited")
    spendable = whole.ask("get_balance").result["balance"]
    assert unlimited.ask("get_balance").result == {"balance": spendable}
    for view in ("own", "node"):
        app = connect(budget=1000, view=view)
        assert app.ask("get_balance").result == {"balance": min(1000, spendable)}
    rich = connect(budget="1000000btc")
    assert rich.ask("get_balance").result == {"balance": spendable}


def test_what_is_received_can_be_spent(node: NodeUnderTest, connect: Connect) -> None:
    """With budget=received; each invoice once, also one paid while the plugin was away."""
    app, other = connect(budget="received"), connect(budget="received")
    whole = connect(view="node")
    assert app.ask("get_budget").result["total_budget"] == 0
    assert app.ask("get_balance").result == {"balance": 0}
    wait_until_dealt_with(node, make_paid(node, app))
    gone = make(app, amount=0)
    node.stop_plugin()
    node.pay(gone["invoice"], 12_345)
    node.start_plugin()
    wait_until_announced(node, app.name)
    wait_until_dealt_with(node, gone)
    node.pay(make_foreign(node, "of the shop")["bolt11"])
    wait_until_dealt_with(node, make_paid(node, whole))
    budget = {"used_budget": 0, "renewal_period": "never"}
    assert app.ask("get_budget").result == {**budget, "total_budget": 33_345}
    spendable = whole.ask("get_balance").result["balance"]
    assert app.ask("get_balance").result == {"balance": min(33_345, spendable)}
    [shown] = node.rpc.call("nwc-list", [app.name])["connections"]
    assert (shown["budget"]["granted_msat"], shown["budget"]["left_msat"]) == (33_345, 33_345)
    assert other.ask("get_budget").result == {**budget, "total_budget": 0}


def test_a_budget_of_what_was_received_before(node: NodeUnderTest, connect: Connect) -> None:
    """What came in while the connection only received counts when it is given such a budget."""
    app = connect()
    wait_until_dealt_with(node, make_paid(node, app))
    assert app.ask("get_balance").result == {"balance": 0}
    node.rpc.call("nwc-update", {"name": app.name, "budget": "received"})
    assert app.ask("get_budget").result["total_budget"] == 21_000


# Metadata


def test_metadata_survives(node: NodeUnderTest, app: ConnectedApp) -> None:
    """In lookup, list and notification; after a restart too."""
    made = make(app)
    assert lookup(app, made)["metadata"] == COFFEE["metadata"]
    node.stop_plugin()
    node.start_plugin()
    wait_until_announced(node, app.name)
    node.pay(made["invoice"])
    told = app.wait_for_notifications(made["payment_hash"])
    [row] = listed(app)["transactions"]
    for shown in (*(n.transaction for n in told), row, lookup(app, made)):
        assert shown["metadata"] == COFFEE["metadata"]


# Notifications


def check_told_once(node: NodeUnderTest, app: ConnectedApp, *made: Json) -> list[Notification]:
    """Check that an app is told of payments once in each kind, in their order, and of no others.

    Payments are told in the order of lightningd's numbers, so after one more nothing else is to come.
    """
    last = make_paid(node, app, description="the last")
    app.wait_for_notifications(last["payment_hash"])
    told = app.notifications()
    hashes = [entry["payment_hash"] for entry in (*made, last)]
    for kind in (23197, 23196):
        of_kind = [n for n in told if n.event["kind"] == kind]
        assert [n.transaction["payment_hash"] for n in of_kind] == hashes
    assert len(told) == 2 * len(hashes)
    assert {n.type for n in told} == {"payment_received"}
    for notification in told[:-2]:
        [of] = [m for m in made if m["payment_hash"] == notification.transaction["payment_hash"]]
        check_settled(notification.transaction, of)
        assert notification.transaction == lookup(app, of)
    return told


def check_told_nothing(node: NodeUnderTest, witness: ConnectedApp, app: ConnectedApp) -> None:
    """Check that an app was told of nothing.

    All are told of one payment before any is told of the next, and answers take the same way.
    """
    for _ in range(2):
        last = make_paid(node, witness)
        witness.wait_for_notifications(last["payment_hash"])
    app.ask("get_info")
    assert app.notifications() == []


def wait_until_dealt_with(node: NodeUnderTest, made: Json) -> None:
    """Wait until the plugin has written down that a payment is told.

    Lightningd takes no more calls when it stops: what is told and not yet written down is told again.
    """
    hash_ = {"payment_hash": made["payment_hash"]}
    [invoice] = node.rpc.call("listinvoices", hash_)["invoices"]
    key = {"key": ["nwc", "notifications", "position"]}

    def position() -> int:
        [record] = node.rpc.call("listdatastore", key)["datastore"]
        return int(record["string"])

    wait_until(lambda: position() >= invoice["pay_index"], "the position")


def test_told(node: NodeUnderTest, app: ConnectedApp) -> None:
    before = int(time.time())
    made = make_paid(node, app)
    for notification in app.wait_for_notifications(made["payment_hash"]):
        assert before <= notification.event["created_at"] <= int(time.time())
    check_told_once(node, app, made)


def test_told_on_all_relays(
    node: NodeUnderTest, relay: RestartableRelay, own_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect(relays=[relay.url, own_relay.url])
    made = make_paid(node, app)
    app.wait_for_notifications(made["payment_hash"])
    app.ask("get_info")  # which waits for the answer on both
    first, second = (
        sorted(event["id"] for event in channel.received.all(lambda e: e["kind"] in (23196, 23197)))
        for channel in app.channels
    )
    assert first == second
    assert len(first) == 2


def test_told_of_its_own(node: NodeUnderTest, connect: Connect) -> None:
    """A connection with view=node is told of everything, others of what was made through them."""
    app, other, whole = connect(), connect(), connect(view="node")
    made = make_paid(node, app)
    foreign = make_foreign(node, "of the shop")
    node.pay(foreign["bolt11"])
    told = whole.wait_for_notifications(foreign["payment_hash"])
    assert {n.transaction["description"] for n in told} == {"of the shop"}
    assert len(whole.wait_for_notifications(made["payment_hash"])) == 2
    check_told_once(node, app, made)
    check_told_nothing(node, whole, other)


def test_view_can_change(node: NodeUnderTest, connect: Connect) -> None:
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


def test_paid_while_the_plugin_is_stopped(node: NodeUnderTest, app: ConnectedApp) -> None:
    made = [make(app) for _ in range(3)]
    node.pay(made[0]["invoice"])
    app.wait_for_notifications(made[0]["payment_hash"])
    node.stop_plugin()
    node.pay(made[1]["invoice"])
    node.pay(made[2]["invoice"])
    node.start_plugin()
    wait_until_announced(node, app.name)
    check_told_once(node, app, *made)


def test_paid_while_the_plugin_is_dead(node: NodeUnderTest, app: ConnectedApp) -> None:
    made = make(app)
    node.kill_plugin()
    node.pay(made["invoice"])
    node.start_plugin()
    wait_until_announced(node, app.name)
    check_told_once(node, app, made)


def test_paid_while_lightningd_restarts(node: NodeUnderTest, app: ConnectedApp) -> None:
    """Just before it stops and just after it is back, before the plugin is ready."""
    made = [make(app) for _ in range(2)]
    node.pay(made[0]["invoice"])
    wait_until_dealt_with(node, made[0])
    node.restart_node()
    node.pay(made[1]["invoice"])
    wait_until_announced(node, app.name)
    check_told_once(node, app, *made)


def test_paid_while_the_relay_is_away(
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
        check_told_once(node, app, made)


def test_paid_while_relay_and_plugin_are_away(node: NodeUnderTest, connect: Connect) -> None:
    """What the first start could not tell is told after the second. The relay misses nothing."""
    with ScriptedRelay() as relay:
        app = connect(relays=relay.url, channels=[relay])
        made = [make(app) for _ in range(3)]
        node.stop_plugin()
        node.pay(made[0]["invoice"])
        assert app.notifications() == []
    node.start_plugin()
    wait_until(lambda: relay_state(node, relay.url)["state"] == "disconnected", "no relay")
    node.pay(made[1]["invoice"])
    key = ["nwc", "notifications", "pending", app.pubkey]
    wait_until(
        lambda: len(node.rpc.call("listdatastore", {"key": key})["datastore"]) == 2, "both put aside"
    )
    node.kill_plugin()
    node.pay(made[2]["invoice"])
    with ScriptedRelay(relay.port) as again:
        app.channels = (again,)
        node.start_plugin()
        wait_until_announced(node, app.name)
        check_told_once(node, app, *made)
        wait_until(
            lambda: not node.rpc.call("listdatastore", {"key": key})["datastore"], "nothing is left"
        )


def test_connection_without_notifications(
    node: NodeUnderTest, relay: RestartableRelay, connect: Connect
) -> None:
    app, witness = connect(notifications=False), connect(view="node")
    made = make_paid(node, app)
    witness.wait_for_notifications(made["payment_hash"])
    check_told_nothing(node, witness, app)
    assert lookup(app, made)["state"] == "settled"
    assert app.ask("get_info").result["notifications"] == []
    [info] = info_events(relay.url, app.wallet_pubkey)
    assert tag(info, "notifications") is None
    assert "notifications" not in info["content"].split()
    node.rpc.call("nwc-update", {"name": app.name, "notifications": True})
    check_told_once(node, app)


def test_node_without_notifications(node: NodeUnderTest, connect: Connect) -> None:
    """nwc-notifications=false; what is paid meanwhile is not told later either."""
    with ScriptedRelay() as relay:
        app = connect(relays=relay.url, channels=[relay])
        whole = connect(relays=relay.url, channels=[relay], view="node")
        node.stop_plugin()
        node.start_plugin({"nwc-notifications": "false"})
        try:
            wait_until_announced(node, whole.name)
            made = make_paid(node, app)
            assert lookup(app, made)["state"] == "settled"
            for each in (app, whole):
                assert each.ask("get_info").result["notifications"] == []
                info = relay.received.all(lambda e: e["kind"] == 13194)[-1]
                assert tag(info, "notifications") is None
        finally:
            node.stop_plugin()
            node.start_plugin()
        wait_until_announced(node, app.name)
        told_of = whole.ask("get_info").result["notifications"]
        assert told_of == ["payment_received", "payment_sent"]
        check_told_once(node, app)
        hashes = {n.transaction["payment_hash"] for n in whole.notifications()}
        assert made["payment_hash"] not in hashes


def test_deleted_before_it_was_told(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """What its owner has deleted meanwhile is not told, and holds back nothing."""
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    gone, stays = make(app), make(app)
    node.stop_plugin()
    for made in (gone, stays):
        node.pay(made["invoice"])
    [stored] = node.rpc.call("listinvoices", {"payment_hash": gone["payment_hash"]})["invoices"]
    node.rpc.call("delinvoice", {"label": stored["label"], "status": "paid"})
    node.start_plugin()
    wait_until_announced(node, app.name)
    check_told_once(node, app, stays)
    assert app.ask("lookup_invoice", {"payment_hash": gone["payment_hash"]}).code == "NOT_FOUND"
