import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from nwc.cln.errors import NodeError
from nwc.wallet import notifier as notifier_module
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.hold_record import HoldRecord, HoldRecordState
from nwc.wallet.invoice_record import InvoiceRecord
from tests.unit.in_process import RELAY, START
from tests.unit.wallet.paying_node import make_invoice
from tests.unit.wallet.scene import NIP04_KIND, NIP44_KIND, Scene, settled

INVOICE = make_invoice()


async def test_a_paid_invoice_is_notified_once_in_both_encryptions(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    made = await scene.paid(shop, 1)
    await scene.handled(1)
    later = await scene.paid(shop, 2)
    await scene.handled(2)
    expected = [("shop", made), ("shop", later)]
    assert scene.notified(NIP44_KIND) == scene.notified(NIP04_KIND) == expected
    assert len(scene.pool.attempts) == 4
    assert scene.pending == []


async def test_a_notification_has_the_fields_of_lookup_invoice(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    record = InvoiceRecord({"order": 7}, 'a "long" text')
    made = await scene.paid(shop, 1, amount_msat=7000, record=record)
    await scene.handled(1)
    [(_, notification)] = scene.notifications()
    assert notification == await scene.world.lookup(shop, payment_hash=made)
    assert (notification["state"], notification["metadata"]) == ("settled", {"order": 7})


async def test_only_those_that_may_see_an_invoice_are_notified(scene: Scene) -> None:
    shop, other = scene.connect("shop"), scene.connect("other")
    owner = scene.connect("owner", View.NODE)
    scene.connect("deaf", View.NODE, notifications=False)
    await scene.start()
    of_shop = await scene.paid(shop, 1)
    of_other = await scene.paid(other, 1)
    of_owner = await scene.paid(owner, 1)
    offer = await scene.world.dev("dev-bolt12", label="offer")
    await scene.world.pay("offer")
    await scene.world.node.invoice(amount_msat=1, label=f"nwc:{shop.id}", description="", expiry=60)
    await scene.world.pay(f"nwc:{shop.id}")
    await scene.handled(5)
    notified = scene.notified()
    assert [row for row in notified if row[0] == "shop"] == [("shop", of_shop)]
    assert [row for row in notified if row[0] == "other"] == [("other", of_other)]
    assert [h for name, h in notified if name == "owner"][:4] == [
        of_shop,
        of_other,
        of_owner,
        offer["payment_hash"],
    ]
    assert len(notified) == 7
    assert scene.pending == []


async def test_invoices_paid_while_the_relay_was_away_are_notified_later(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(3)]
    await scene.handled(3)
    assert scene.pool.attempts == []
    assert scene.pending == [("shop", "1"), ("shop", "2"), ("shop", "3")]
    scene.pool.state = "connected"
    scene.notifier.relay_connected("wss://another.example")
    scene.notifier.relay_connected(RELAY)
    scene.notifier.relay_connected(RELAY)
    await scene.nothing_pending()
    assert (
        scene.notified()
        == scene.notified(NIP04_KIND)
        == [("shop", payment_hash) for payment_hash in made]
    )
    last = await scene.paid(shop, 9)
    await scene.handled(4)
    assert scene.notified()[3:] == [("shop", last)]


async def test_pending_notifications_survive_a_restart(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(2)]
    await scene.handled(2)
    await scene.restart()
    made.append(await scene.paid(shop, 2))
    await scene.handled(3)
    assert len(scene.pending) == 3
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("shop", payment_hash) for payment_hash in made]


async def test_a_relay_may_connect_before_the_pending_notifications_are_read(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = await scene.paid(shop, 1)
    await scene.handled(1)
    await scene.stop()
    scene.new_process()
    scene.relay_is_back()
    await scene.start()
    await scene.nothing_pending()
    assert scene.notified() == [("shop", made)]


async def test_an_unreachable_app_does_not_delay_others(scene: Scene) -> None:
    shop = scene.connect("shop")
    owner = scene.connect("owner", View.NODE)
    to_shop = shop.client_pubkey
    scene.pool.accepts = lambda event: event.tag("p") != to_shop
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(2)]
    await scene.handled(2)
    assert scene.notified() == [("owner", payment_hash) for payment_hash in made]
    assert scene.pending == [("shop", "1"), ("shop", "2")]
    assert owner.name == "owner"


async def test_a_notification_that_a_connected_relay_did_not_accept_is_retried(scene: Scene) -> None:
    """Nothing but the retry would send it: the relay stays connected."""
    shop = scene.connect("shop")
    scene.pool.accepts = lambda _event: len(scene.pool.attempts) > 2
    await scene.start()
    made = [await scene.paid(shop, 1)]
    await scene.pool.until(lambda: len(scene.pool.accepted) == 2)
    await scene.nothing_pending()
    made.append(await scene.paid(shop, 2))
    await scene.handled(2)
    await scene.nothing_pending()
    assert scene.notified() == [("shop", payment_hash) for payment_hash in made]


async def test_a_relay_that_accepts_one_kind_only_is_enough(scene: Scene) -> None:
    """The accepted event must not be sent again because the relay refuses the other one."""
    shop = scene.connect("shop")
    scene.pool.accepts = lambda event: event.kind == NIP44_KIND
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(3)]
    await scene.handled(3)
    scene.notifier.relay_connected(RELAY)
    await scene.restart()
    assert scene.notified() == [("shop", payment_hash) for payment_hash in made]
    assert scene.pending == []


async def test_switching_notifications_off_deletes_the_pending_ones(scene: Scene) -> None:
    """They are not sent when notifications are on again."""
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.paid(shop, 1)
    await scene.pays(shop, 1)
    await scene.handled(1)
    assert len(scene.pending) == 2
    await scene.stop()
    scene.new_process(notifications=False)
    await scene.start()
    assert scene.pending == []
    assert scene.position == 1
    await scene.paid(shop, 3)
    await scene.pays(shop, 3)
    await scene.handled(2)
    assert scene.pending == []
    scene.pool.state = "connected"
    await scene.restart()
    made = await scene.paid(shop, 2)
    await scene.handled(3)
    assert scene.notified() == [("shop", made)]


async def test_pending_notifications_of_a_revoked_connection_are_deleted(scene: Scene) -> None:
    shop, other = scene.connect("shop"), scene.connect("other")
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.paid(shop, 1)
    made = await scene.paid(other, 1)
    await scene.handled(2)
    scene.connections.remove(scene.live("shop"))
    scene.notifier.relay_connected(RELAY)
    await scene.restart()
    assert scene.pending == [("other", "2")]
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("other", made)]


@pytest.mark.parametrize("name", ["9" * 5000, "x", "sent-x-y", ""])
async def test_a_pending_name_that_means_nothing_is_deleted(scene: Scene, name: str) -> None:
    shop = scene.connect("shop")
    await scene.node.datastore_put(("nwc", "notifications", "pending", shop.client_pubkey, name), "1")
    await scene.start()
    await scene.nothing_pending()
    made = await scene.paid(shop, 1)
    await scene.handled(1)
    assert scene.notified() == [("shop", made)]


async def test_the_view_at_the_time_of_sending_counts(scene: Scene) -> None:
    """An app that may no longer see the node's payments gets no pending notification of them."""
    shop = scene.connect("shop")
    owner = scene.connect("owner", View.NODE)
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.paid(shop, 1)
    made = await scene.paid(owner, 1)
    await scene.handled(2)
    live = scene.live("owner")
    changed = Connection(owner.name, owner.client_pubkey, owner.relays, START, view=View.OWN)
    live.record = changed
    scene.relay_is_back()
    await scene.nothing_pending()
    assert [row for row in scene.notified() if row[0] == "owner"] == [("owner", made)]


async def test_a_connection_whose_notifications_are_switched_off_gets_no_pending_ones(
    scene: Scene,
) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.paid(shop, 1)
    await scene.handled(1)
    changed = Connection("shop", shop.client_pubkey, shop.relays, START, notifications=False)
    scene.live("shop").record = changed
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.pool.attempts == []


async def test_an_app_gets_only_the_types_that_it_has_asked_for(scene: Scene) -> None:
    shop = scene.connect("shop", budget=UNLIMITED, notification_types=("payment_received",))
    await scene.start()
    await scene.pays(shop, 2)
    await scene.notifier.hold_invoice(shop.id, hold_record())
    received = await scene.paid(shop, 1)
    await scene.handled(1)
    assert scene.notified() == [("shop", received)]


async def test_an_expired_connection_is_not_notified(scene: Scene) -> None:
    gone = scene.connect("gone", expires_at=START + 1)
    owner = scene.connect("owner", View.NODE, expires_at=2**40)
    await scene.start()
    made = await scene.paid(gone, 1)
    await scene.handled(1)
    assert scene.notified() == [("owner", made)]
    assert scene.pending == []
    assert owner.expires_at == 2**40


async def test_an_invoice_deleted_before_its_notification_does_not_block_the_next(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    first = await scene.world.invoice(shop, 1)
    await scene.world.pay(first["label"])
    made = await scene.paid(shop, 2)
    await scene.handled(2)
    await scene.node.delete_invoice(first["label"], "paid")
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("shop", made)]


async def test_the_oldest_pending_notifications_are_dropped_beyond_the_limit(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier_module, "MAX_PENDING_PER_CONNECTION", 3)
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(5)]
    await scene.handled(5)
    assert scene.pending == [("shop", "3"), ("shop", "4"), ("shop", "5")]
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("shop", payment_hash) for payment_hash in made[2:]]


async def test_a_pending_notification_may_be_dropped_while_it_is_being_sent(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its sending must not remove another one."""
    monkeypatch.setattr(notifier_module, "MAX_PENDING_PER_CONNECTION", 2)
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(2)]
    await scene.handled(2)
    scene.pool.state = "connected"
    scene.pool.holds.clear()
    scene.notifier.relay_connected(RELAY)
    await scene.pool.until(lambda: len(scene.pool.attempts) == 2)
    made.append(await scene.paid(shop, 2))
    await scene.handled(3)
    assert scene.pending == [("shop", "2"), ("shop", "3")]
    scene.pool.holds.set()
    await scene.nothing_pending()
    assert scene.notified() == [("shop", payment_hash) for payment_hash in made]


async def test_a_description_too_long_for_a_notification_does_not_prevent_it(scene: Scene) -> None:
    scene.connect("owner", View.NODE)
    await scene.start()
    for n in range(2):
        label, text = f"lnurl {n}", "x" * 100_000
        await scene.node.invoice(
            amount_msat=1000, label=label, description=text, expiry=60, deschashonly=True
        )
        await scene.world.pay(label)
    await scene.handled(2)
    assert len(scene.notified()) == 2


# payment_sent

UNLIMITED = Budget(BudgetKind.UNLIMITED)
# Signed by the key of BOLT11's examples: "Please consider supporting this project".
DONATION = (
    "lnbc1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2u"
    "rsdae8g6twvus8g6rfwvs8qun0dfjkxaq8rkx3yf5tcsyz3d73gafnh3cax9rn449d9p5uxz9ezhhypd0elx87sjle52x86fux2yp"
    "atgddc6k63n7erqz25le42c4u4ecky03ylcqca784w"
)


def pending_name(app: Connection, number: int) -> tuple[str, str]:
    """Return the stored name of a pending notification to the connection that made the payment."""
    return app.name, f"sent-{app.id}-{number:064x}"


async def test_a_payment_is_notified_in_both_encryptions(scene: Scene) -> None:
    app = scene.connect("app", budget=UNLIMITED)
    await scene.start()
    payment_hash = await scene.pays(app, 7, metadata={"order": 7}, invoice=DONATION)
    for kind in (NIP44_KIND, NIP04_KIND):
        [(name, notification)] = scene.notifications(kind)
        assert name == "app"
        assert notification == {
            "type": "outgoing",
            "state": "settled",
            "invoice": DONATION,
            "description": "Please consider supporting this project",
            "payment_hash": payment_hash,
            "preimage": "aa" * 32,
            "amount": 1000,
            "fees_paid": 7,
            "created_at": START + 1,
            "settled_at": START + 9,
            "expires_at": 1496314658 + 3600,
            "metadata": {"order": 7},
        }
    assert len(scene.pool.attempts) == 2
    assert scene.pending == []


async def test_only_those_that_may_see_a_payment_are_notified(scene: Scene) -> None:
    app = scene.connect("app", budget=UNLIMITED)
    other = scene.connect("other", budget=UNLIMITED)
    scene.connect("owner", View.NODE)
    scene.connect("deaf", View.NODE, notifications=False, budget=UNLIMITED)
    scene.connect("gone", View.NODE, expires_at=START + 1)
    silent = scene.connect("silent", notifications=False, budget=UNLIMITED)
    await scene.start()
    of_app = await scene.pays(app, 1)
    of_other = await scene.pays(other, 2)
    of_silent = await scene.pays(silent, 3)
    assert sorted(scene.notified()) == [
        ("app", of_app),
        ("other", of_other),
        ("owner", of_app),
        ("owner", of_other),
        ("owner", of_silent),
    ]
    assert scene.pending == []


async def test_who_sees_the_node_is_notified_of_payments_of_a_revoked_connection(scene: Scene) -> None:
    app = scene.connect("app", budget=UNLIMITED)
    owner = scene.connect("owner", View.NODE)
    await scene.start()
    scene.connections.remove(scene.live("app"))
    made = [await scene.pays(app, 1)]
    scene.pool.state = "disconnected"
    made.append(await scene.pays(app, 2))
    assert scene.pending == [("owner", pending_name(app, 2)[1])]
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [(owner.name, payment_hash) for payment_hash in made]


async def test_payments_made_while_the_relay_was_away_are_notified_later(scene: Scene) -> None:
    app = scene.connect("app", budget=UNLIMITED)
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.pays(app, number) for number in (3, 2, 1)]
    assert scene.pool.attempts == []
    assert scene.pending == [pending_name(app, number) for number in (1, 2, 3)]
    scene.relay_is_back()
    await scene.nothing_pending()
    expected = [("app", payment_hash) for payment_hash in made]
    assert scene.notified() == scene.notified(NIP04_KIND) == expected


async def test_a_notification_that_no_relay_accepted_is_retried(scene: Scene) -> None:
    """The relay stays connected all the time."""
    app = scene.connect("app", budget=UNLIMITED)
    scene.pool.accepts = lambda _event: len(scene.pool.attempts) > 2
    await scene.start()
    made = await scene.pays(app, 1)
    await scene.pool.until(lambda: len(scene.pool.accepted) == 2)
    await scene.nothing_pending()
    assert scene.notified() == [("app", made)]


async def test_a_payment_is_notified_once_after_a_restart(scene: Scene) -> None:
    app = scene.connect("app", budget=UNLIMITED)
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.pays(app, 1, metadata={"a": 1})]
    await scene.restart()
    assert scene.pending == [pending_name(app, 1)]
    made.append(await scene.pays(app, 2))
    await scene.restart()
    scene.relay_is_back()
    await scene.nothing_pending()
    await scene.restart()
    scene.relay_is_back()
    last = await scene.pays(app, 3)
    assert scene.notified() == [("app", payment_hash) for payment_hash in (*made, last)]
    assert scene.notifications()[0][1]["metadata"] == {"a": 1}


async def test_notifications_come_in_the_order_of_events(scene: Scene) -> None:
    app = scene.connect("app", budget=UNLIMITED)
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.paid(app, 10)]
    await scene.handled(1)
    made.append(await scene.pays(app, 1))
    made.append(await scene.paid(app, 11))
    await scene.handled(2)
    made.append(await scene.pays(app, 2))
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("app", payment_hash) for payment_hash in made]


async def test_after_a_restart_received_payments_are_notified_first(scene: Scene) -> None:
    app = scene.connect("app", budget=UNLIMITED)
    scene.pool.state = "disconnected"
    await scene.start()
    sent = [await scene.pays(app, number) for number in (1, 2)]
    received = [await scene.paid(app, number) for number in range(10, 21)]
    await scene.handled(11)
    await scene.restart()
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("app", payment_hash) for payment_hash in (*received, *sent)]


async def test_a_notification_that_is_stored_twice_is_sent_once(scene: Scene) -> None:
    """As after a crash before the payment was marked as announced."""
    app = scene.connect("app", budget=UNLIMITED)
    scene.pool.state = "disconnected"
    await scene.start()
    made = await scene.pays(app, 1)
    await scene.pays(app, 1)
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("app", made)]


DAMAGED: dict[str, str] = {
    "empty": "",
    "no JSON": "{",
    "no object": "[]",
    "another version": json.dumps({**json.loads(settled(1).to_json()), "version": 9}),
    "a field of another type": json.dumps({**json.loads(settled(1).to_json()), "payment": 5}),
    "no state": json.dumps({**json.loads(settled(1).to_json()), "state": "lost"}),
}


@pytest.mark.parametrize("is_restarted", [True, False])
@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
async def test_a_damaged_record_does_not_delay_others(
    scene: Scene, caplog: pytest.LogCaptureFixture, text: str, is_restarted: bool
) -> None:
    app = scene.connect("app", budget=UNLIMITED)
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.pays(app, 1)
    made = await scene.pays(app, 2)
    [key] = [entry.key for entry in scene.records.all() if entry.request_id == f"{1:064x}"]
    await scene.node.datastore_put(key, text)
    if is_restarted:
        await scene.restart()
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("app", made)]
    assert f"could not build the notification for payment {pending_name(app, 1)[1]}" in caplog.text


async def test_a_deleted_record_does_not_delay_others(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    app = scene.connect("app", budget=UNLIMITED)
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.pays(app, 1)
    made = await scene.pays(app, 2)
    await scene.records.delete(app.id, f"{1:064x}")
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("app", made)]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("name", ["sent", "sent-x", "sent-a-b-c", "x", "-1"])
async def test_a_name_of_another_version_does_not_delay_others(scene: Scene, name: str) -> None:
    app = scene.connect("app", budget=UNLIMITED)
    key = ("nwc", "notifications", "pending", app.client_pubkey)
    await scene.node.datastore_put((*key, name), "1")
    await scene.start()
    await scene.nothing_pending()
    made = await scene.pays(app, 1)
    await scene.nothing_pending()
    assert scene.notified() == [("app", made)]


@pytest.mark.parametrize(
    "changes", [{"notifications": False}, {"expires_at": START + 1}, {"view": View.OWN}], ids=str
)
async def test_who_may_no_longer_see_a_payment_is_not_notified(
    scene: Scene, changes: dict[str, Any]
) -> None:
    """The connection as it is when the notification is sent counts."""
    app = scene.connect("app", budget=UNLIMITED)
    owner = scene.connect("owner", View.NODE)
    scene.pool.state = "disconnected"
    await scene.start()
    made = await scene.pays(app, 1)
    assert len(scene.pending) == 2
    fields = {"view": View.NODE, **changes}
    changed = Connection(owner.name, owner.client_pubkey, owner.relays, START, **fields)
    scene.live("owner").record = changed
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("app", made)]


async def test_payment_sent_raises_if_the_notification_cannot_be_stored(scene: Scene) -> None:
    """The caller retries."""
    app = scene.connect("app", budget=UNLIMITED)
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.records.keep(app.id, settled(1))
    await scene.world.dev("dev-fail", method="datastore", code=-1, message="busy", times=1)
    with pytest.raises(NodeError):
        await scene.notifier.payment_sent(app.id, settled(1))
    await scene.notifier.payment_sent(app.id, settled(1))
    scene.relay_is_back()
    await scene.nothing_pending()
    assert scene.notified() == [("app", settled(1).payment.payment_hash)]


async def test_the_notification_of_a_keysend_has_its_records(scene: Scene) -> None:
    """It has no invoice. The records for the payee are in its metadata."""
    app = scene.connect("app", budget=UNLIMITED)
    await scene.start()
    records = {"tlv_records": [{"type": 7629169, "value": "00ff"}]}
    await scene.pays(app, 1, method="pay_keysend", metadata=records)
    [(_, notification)] = scene.notifications()
    assert (notification["invoice"], notification["description"]) == ("", "")
    assert notification["metadata"] == records
    assert "expires_at" not in notification


# Hold invoices


def hold_record(**fields: Any) -> HoldRecord:
    state = HoldRecordState.ACCEPTED
    record = HoldRecord("5a" * 32, "0" * 64, INVOICE, 144, 1000, START, START + 60, "", None, state)
    return replace(record, settle_deadline=200, **fields)


SETTLED = {
    "state": HoldRecordState.SETTLED,
    "received_msat": 1000,
    "preimage": "07" * 32,
    "settled_at": START,
}


async def test_only_its_connection_is_notified_of_an_accepted_hold_invoice(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.connect("other")
    scene.connect("owner", View.NODE)
    await scene.start()
    await scene.notifier.hold_invoice(shop.id, hold_record())
    [(name, row)] = scene.notifications()
    assert (name, row["state"], row["settle_deadline"]) == ("shop", "accepted", 200)
    await scene.notifier.hold_invoice(shop.id, hold_record(**SETTLED))
    states = [(name, row["state"]) for name, row in scene.notifications()[1:]]
    assert sorted(states) == [("owner", "settled"), ("shop", "settled")]
    await scene.notifier.hold_invoice(shop.id, hold_record(state=HoldRecordState.CANCELLED))
    await scene.notifier.hold_invoice(shop.id, hold_record(state=HoldRecordState.EXPIRED))
    assert [(name, row["state"]) for name, row in scene.notifications()[3:]] == [("shop", "failed")]


@pytest.mark.parametrize("is_settled", [True, False])
async def test_a_hold_invoice_that_cannot_be_settled_any_more_is_not_notified(
    scene: Scene, is_settled: bool
) -> None:
    """The notification waits for the relay, and its invoice ends meanwhile."""
    shop = scene.connect("shop")
    await scene.start()
    scene.pool.state = "disconnected"
    await scene.holds.put(shop.id, hold_record())
    await scene.notifier.hold_invoice(shop.id, hold_record())
    if is_settled:
        await scene.holds.put(shop.id, hold_record(**SETTLED))
        await scene.notifier.hold_invoice(shop.id, hold_record(**SETTLED))
    else:
        await scene.holds.put(shop.id, hold_record(state=HoldRecordState.CANCELLED))
    await scene.restart()
    scene.relay_is_back()
    await scene.nothing_pending()
    states = [row["state"] for _, row in scene.notifications()]
    assert states == (["settled"] if is_settled else [])


async def test_a_pending_notification_of_an_accepted_hold_invoice_survives_a_restart(
    scene: Scene,
) -> None:
    shop = scene.connect("shop")
    await scene.start()
    scene.pool.state = "disconnected"
    await scene.holds.put(shop.id, hold_record())
    await scene.notifier.hold_invoice(shop.id, hold_record())
    await scene.restart()
    scene.relay_is_back()
    await scene.nothing_pending()
    assert [row["state"] for _, row in scene.notifications()] == ["accepted"]
