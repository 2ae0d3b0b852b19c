"""Payments that another node sends over a channel, and what apps see of them.

The tests of test_receiving.py with a payment run here too. There the node pays itself, which needs no
channel.
"""

import hashlib
from concurrent.futures import Executor
from typing import Any

import pytest

from tests.support.channel import Json
from tests.support.lightningd_version import runs_since
from tests.support.waiting import PATIENCE_S, wait_until
from tests.wire import test_receiving as receiving
from tests.wire.fixtures import Connect, ConnectedApp, fresh_name, wait_until_announced
from tests.wire.network import PUSHED_MSAT, PaidNode, paid_node  # noqa: F401
from tests.wire.real_payee import PAYEE_PLUGIN
from tests.wire.test_receiving import (
    check_not_notified,
    check_notified_once,
    check_settled,
    listed,
    lookup,
    make,
)

TEXT = 'Ein "Kaffee" ☕\nfür \\ Jürgen'

test_lookup_shows_the_amount_received = receiving.test_lookup_shows_the_amount_received
test_lookup_shows_description_and_hash = receiving.test_lookup_shows_description_and_hash
test_lookup_hides_invoices_of_others = receiving.test_lookup_hides_invoices_of_others
test_list_shows_unpaid_invoices_on_request = receiving.test_list_shows_unpaid_invoices_on_request
test_list_hides_invoices_of_others = receiving.test_list_hides_invoices_of_others
test_metadata_survives_a_restart = receiving.test_metadata_survives_a_restart
test_an_app_is_notified_once_of_a_payment = receiving.test_an_app_is_notified_once_of_a_payment
test_a_notification_is_sent_to_all_relays = receiving.test_a_notification_is_sent_to_all_relays
test_notifications_follow_the_view = receiving.test_notifications_follow_the_view
test_an_app_is_notified_after_a_stop = receiving.test_an_app_is_notified_after_a_stop
test_an_app_is_notified_after_a_kill = receiving.test_an_app_is_notified_after_a_kill
test_an_app_is_notified_after_a_node_restart = receiving.test_an_app_is_notified_after_a_node_restart
test_an_app_is_notified_after_a_relay_failure = receiving.test_an_app_is_notified_after_a_relay_failure
test_an_app_is_notified_after_both_were_down = receiving.test_an_app_is_notified_after_both_were_down
test_an_app_can_be_without_notifications = receiving.test_an_app_can_be_without_notifications
test_a_node_can_be_without_notifications = receiving.test_a_node_can_be_without_notifications
test_a_deleted_invoice_is_not_announced = receiving.test_a_deleted_invoice_is_not_announced


@pytest.fixture
def whole(connect: Connect) -> ConnectedApp:
    """An app that sees the whole node's transactions."""
    return connect(view="node")


# Amounts


def send_parts(node: PaidNode, invoice: str, *parts_msat: int) -> None:
    """Pay with HTLCs of these amounts in msat, whatever the amount of the invoice."""
    asked = node.payer.rpc.decode(invoice)
    common = {
        "payment_hash": asked["payment_hash"],
        "payment_secret": asked["payment_secret"],
        "amount_msat": sum(parts_msat),
        "groupid": 1,
    }
    hop = {
        "id": node.id,
        "channel": node.channel["short_channel_id"],
        "delay": asked["min_final_cltv_expiry"] + 1,
    }
    for partid, part_msat in enumerate(parts_msat, 1):
        part = {"route": [{**hop, "amount_msat": part_msat}], "partid": partid}
        node.payer.rpc.call("sendpay", {**common, **part})
    for partid in range(1, len(parts_msat) + 1):
        waited = {"payment_hash": asked["payment_hash"], "partid": partid, "groupid": 1}
        assert node.payer.rpc.call("waitsendpay", waited)["status"] == "complete"


@pytest.mark.parametrize(
    ("asked_msat", "parts_msat"),
    [(21_000, [30_500]), (21_000, [11_000, 10_000]), (21_000, [20_000, 20_000]), (0, [1]), (0, [5, 7])],
    ids=["overpaid", "two parts", "overpaid in two parts", "any amount", "any amount in two parts"],
)
def test_a_transaction_shows_the_amount_that_arrived(
    node: PaidNode, app: ConnectedApp, asked_msat: int, parts_msat: list[int]
) -> None:
    made = make(app, amount=asked_msat)
    send_parts(node, made["invoice"], *parts_msat)
    arrived = sum(parts_msat)
    check_settled(lookup(app, made), made, arrived)
    [row] = listed(app)["transactions"]
    check_settled(row, made, arrived)
    notifications = app.wait_for_notifications(made["payment_hash"])
    assert [n.transaction for n in notifications] == [row, row]
    check_notified_once(node, app, row)


# Killed at the wrong moment


def test_an_htlc_accepted_while_lightningd_starts_is_notified_once(
    node: PaidNode, app: ConnectedApp, executor: Executor
) -> None:
    """lightningd is killed before it accepts the payment, and accepts it early in its next start."""
    made = make(app)
    node.rpc.plugin_start(str(PAYEE_PLUGIN))
    node.rpc.call("htlcs", {"mode": "hold"})
    paying = executor.submit(node.pay, made["invoice"])
    wait_until(lambda: is_held(node, made), "the HTLC")
    assert lookup(app, made)["state"] == "pending"
    node.kill_node()
    assert not paying.done()
    node.start_node()
    node.wait_for_channel()
    paying.result(PATIENCE_S)
    wait_until_announced(node, app.name)
    check_notified_once(node, app, made)


def is_held(node: PaidNode, made: Json) -> bool:
    """Return True if the HTLC has arrived and waits for its answer."""
    states = {htlc["payment_hash"]: htlc["state"] for htlc in channel_of(node)["htlcs"]}
    return states.get(made["payment_hash"]) == "RCVD_ADD_ACK_REVOCATION"


# Invoices and payments that were not made over NWC

FIELDS = {
    "type": str,
    "state": str,
    "invoice": str,
    "payment_hash": str,
    "amount": int,
    "fees_paid": int,
    "created_at": int,
    "expires_at": int,
    "metadata": dict,
    "description": str,
}
FIELDS_OF_SETTLED = {**FIELDS, "preimage": str, "settled_at": int}


def check_seen(node: PaidNode, whole: ConnectedApp, own: ConnectedApp, payment_hash: str) -> Json:
    """Assert that a payment is shown everywhere alike to `whole`, and nowhere to `own`; return it."""
    hash_ = {"payment_hash": payment_hash}
    shown = lookup(whole, hash_)
    assert {name: type(value) for name, value in shown.items()} == FIELDS_OF_SETTLED
    assert (shown["type"], shown["state"], shown["fees_paid"]) == ("incoming", "settled", 0)
    assert (shown["payment_hash"], shown["metadata"]) == (payment_hash, {})
    assert hashlib.sha256(bytes.fromhex(shown["preimage"])).hexdigest() == payment_hash
    assert shown["created_at"] <= shown["settled_at"] <= shown["expires_at"]
    assert listed(whole, type="incoming", limit=1)["transactions"] == [shown]
    notifications = whole.wait_for_notifications(payment_hash)
    assert [n.transaction for n in notifications] == [shown, shown]
    assert sorted(n.event["kind"] for n in notifications) == [23196, 23197]

    assert own.ask("lookup_invoice", hash_).code == "NOT_FOUND"
    assert listed(own, unpaid=True) == {"transactions": [], "total_count": 0}
    check_not_notified(node, whole, own)
    assert len(whole.wait_for_notifications(payment_hash)) == 2
    return shown


def fetch(node: PaidNode, offer: Json, **params: Any) -> str:
    """Return an invoice that the neighbour fetches for a new offer of the node (BOLT12)."""
    made = node.rpc.call("offer", {"description": fresh_name(), **offer})
    fetched = node.payer.rpc.call("fetchinvoice", {"offer": made["bolt12"], **params})
    return str(fetched["invoice"])


def check_bolt12(node: PaidNode, shown: Json, invoice: str) -> None:
    read = node.payer.rpc.decode(invoice)
    assert shown["invoice"] == invoice
    assert shown["payment_hash"] == read["invoice_payment_hash"]
    assert shown["amount"] == read["invoice_amount_msat"]
    assert shown["description"] == read.get("offer_description", "")
    assert shown["created_at"] == read["invoice_created_at"]
    assert shown["expires_at"] == read["invoice_created_at"] + read["invoice_relative_expiry"]


OFFERS: dict[str, tuple[Json, Json]] = {
    "amount": ({"amount": 5000, "description": TEXT}, {}),
    "any amount": ({"amount": "any", "description": TEXT}, {"amount_msat": 4321}),
    "more than asked": ({"amount": 5000}, {"amount_msat": 5432}),
    "note": ({"amount": 5000}, {"payer_note": "thanks"}),
    "several": ({"amount": 5000, "quantity_max": 5}, {"quantity": 3}),
    "long": ({"amount": 5000, "description": "lang " * 400}, {}),
    "expires": ({"amount": 5000, "absolute_expiry": 4_000_000_000}, {}),
}


@pytest.mark.parametrize(("offer", "params"), OFFERS.values(), ids=OFFERS.keys())
def test_a_paid_bolt12_invoice_is_shown_to_apps_that_see_the_node(
    node: PaidNode, whole: ConnectedApp, app: ConnectedApp, offer: Json, params: Json
) -> None:
    invoice = fetch(node, offer, **params)
    node.pay(invoice)
    payment_hash = node.payer.rpc.decode(invoice)["invoice_payment_hash"]
    check_bolt12(node, check_seen(node, whole, app, payment_hash), invoice)


def test_an_unpaid_bolt12_invoice_is_shown_as_pending(
    node: PaidNode, whole: ConnectedApp, app: ConnectedApp
) -> None:
    invoice = fetch(node, {"amount": 5000})
    payment_hash = node.payer.rpc.decode(invoice)["invoice_payment_hash"]
    shown = lookup(whole, {"payment_hash": payment_hash})
    assert {name: type(value) for name, value in shown.items()} == FIELDS
    assert shown["state"] == "pending"
    check_bolt12(node, shown, invoice)
    assert listed(whole, unpaid=True, limit=1)["transactions"] == [shown]
    assert app.ask("lookup_invoice", {"payment_hash": payment_hash}).code == "NOT_FOUND"
    assert listed(app, unpaid=True)["total_count"] == 0


def test_a_bolt12_invoice_is_listed_by_its_time(node: PaidNode, whole: ConnectedApp) -> None:
    """It is the newest invoice of the node: no BOLT11 invoice comes after it."""
    invoice = fetch(node, {"amount": 5000})
    node.pay(invoice)
    read = node.payer.rpc.decode(invoice)
    at = read["invoice_created_at"]
    for bounds, is_listed in [
        ({"until": at}, True),
        ({"from": at}, True),
        ({"from": at, "until": at}, True),
        ({"until": at + 3600}, True),
        ({"until": at - 1}, False),
        ({"from": at + 1}, False),
    ]:
        page = listed(whole, type="incoming", limit=100, **bounds)
        hashes = [row["payment_hash"] for row in page["transactions"]]
        assert (read["invoice_payment_hash"] in hashes) == is_listed, bounds


def test_a_received_bolt12_refund_is_shown_to_apps_that_see_the_node(
    node: PaidNode, whole: ConnectedApp, app: ConnectedApp
) -> None:
    """The neighbour makes the invoice request, and the node answers it with an invoice."""
    wanted = {"amount": 6000, "description": TEXT}
    request = node.payer.rpc.call("invoicerequest", wanted)["bolt12"]
    sent = node.rpc.call("sendinvoice", {"invreq": request, "label": fresh_name()})
    assert sent["status"] == "paid"
    check_bolt12(node, check_seen(node, whole, app, sent["payment_hash"]), sent["bolt12"])


def test_a_received_keysend_is_shown_to_apps_that_see_the_node(
    node: PaidNode, whole: ConnectedApp, app: ConnectedApp
) -> None:
    """lightningd makes an invoice for such a payment itself."""
    node.wait_for_channel()
    command = "xkeysend" if runs_since("26.06") else "keysend"
    sent = node.payer.rpc.call(command, {"destination": node.id, "amount_msat": 7000})
    payment_hash = hashlib.sha256(bytes.fromhex(sent["payment_preimage"])).hexdigest()
    shown = check_seen(node, whole, app, payment_hash)
    assert (shown["amount"], shown["preimage"]) == (7000, sent["payment_preimage"])
    assert shown["description"] == "keysend"


INVOICES: dict[str, Json] = {
    "amount": {"amount_msat": 5000, "description": TEXT},
    "no description": {"amount_msat": 5000, "description": ""},
    "any amount": {"amount_msat": "any", "description": TEXT},
    "own preimage": {"amount_msat": 5000, "description": TEXT, "preimage": "ab" * 32},
    "odd label": {"amount_msat": 5000, "description": TEXT, "label": 'Stand "7"\\ ☕\t'},
    "label like ours": {"amount_msat": 5000, "description": TEXT, "label": "nwc:0123:4567"},
}


@pytest.mark.parametrize("wanted", INVOICES.values(), ids=INVOICES.keys())
def test_a_paid_invoice_of_the_command_line_is_shown_to_apps_that_see_the_node(
    node: PaidNode, whole: ConnectedApp, app: ConnectedApp, wanted: Json
) -> None:
    made = node.rpc.call("invoice", {"label": fresh_name(), **wanted})
    is_any = wanted["amount_msat"] == "any"
    node.pay(made["bolt11"], 1234 if is_any else None)
    shown = check_seen(node, whole, app, made["payment_hash"])
    read = node.payer.rpc.decode(made["bolt11"])
    assert (shown["invoice"], shown["description"]) == (made["bolt11"], wanted["description"])
    assert shown["amount"] == (1234 if is_any else 5000)
    assert (shown["created_at"], shown["expires_at"]) == (read["created_at"], made["expires_at"])


def test_a_hashed_description_of_the_command_line_is_shown_in_full(
    node: PaidNode, whole: ConnectedApp, app: ConnectedApp
) -> None:
    text = "lang " * 400
    wanted = {"amount_msat": 5000, "label": fresh_name(), "description": text, "deschashonly": True}
    made = node.rpc.call("invoice", wanted)
    node.pay(made["bolt11"])
    shown = lookup(whole, made)
    assert shown["description"] == text
    assert shown["description_hash"] == hashlib.sha256(text.encode()).hexdigest()
    assert {
        n.transaction["description"] for n in whole.wait_for_notifications(made["payment_hash"])
    } == {text}
    assert app.ask("lookup_invoice", {"payment_hash": made["payment_hash"]}).code == "NOT_FOUND"


# Balance


def test_balance_follows_the_channel(node: PaidNode, whole: ConnectedApp, app: ConnectedApp) -> None:
    """An app that sees the node is shown what its channel can send; one that only receives sees 0."""
    wait_until_quiet(node)
    before = check_balance(node, whole)
    assert before >= PUSHED_MSAT // 2
    node.pay(make(app, amount=50_000_000)["invoice"])
    wait_until_quiet(node)
    assert check_balance(node, whole) == before + 50_000_000
    assert app.ask("get_balance").result == {"balance": 0}


def wait_until_quiet(node: PaidNode) -> None:
    """Wait until neither side has an HTLC left."""
    wait_until(lambda: not (channel_of(node)["htlcs"] or node.channel["htlcs"]), "no HTLC to be left")


def channel_of(node: PaidNode) -> Json:
    channel: Json
    [channel] = node.rpc.listpeerchannels()["channels"]
    return channel


def check_balance(node: PaidNode, whole: ConnectedApp) -> int:
    balance = whole.ask("get_balance").result["balance"]
    assert type(balance) is int
    assert balance == channel_of(node)["spendable_msat"]
    return balance
