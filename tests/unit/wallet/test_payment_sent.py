"""payment_sent of the notifier; test_notifier.py has what it shares with payment_received."""

import json
import logging
from typing import Any

import pytest

from nwc.cln.errors import NodeError
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.connections.record import Connection, View
from tests.unit.in_process import START
from tests.unit.wallet.scene import NIP04_KIND, NIP44_KIND, Scene, settled

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
