import pytest

from nwc.wallet import notifier as notifier_module
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.invoice_record import InvoiceRecord
from tests.unit.in_process import RELAY, START
from tests.unit.wallet.scene import NIP04_KIND, NIP44_KIND, Scene


async def test_told_once_in_both_encryptions(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    made = await scene.paid(shop, 1)
    await scene.dealt_with(1)
    later = await scene.paid(shop, 2)
    await scene.dealt_with(2)
    expected = [("shop", made), ("shop", later)]
    assert scene.told(NIP44_KIND) == scene.told(NIP04_KIND) == expected
    assert len(scene.pool.attempts) == 4
    assert scene.aside == []


async def test_told_as_lookup_tells(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    record = InvoiceRecord({"order": 7}, 'a "long" text')
    made = await scene.paid(shop, 1, amount_msat=7000, record=record)
    await scene.dealt_with(1)
    [(_, notification)] = scene.notifications()
    assert notification == await scene.world.lookup(shop, payment_hash=made)
    assert (notification["state"], notification["metadata"]) == ("settled", {"order": 7})


async def test_everyone_it_concerns_and_no_one_else(scene: Scene) -> None:
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
    await scene.dealt_with(5)
    told = scene.told()
    assert [row for row in told if row[0] == "shop"] == [("shop", of_shop)]
    assert [row for row in told if row[0] == "other"] == [("other", of_other)]
    assert [h for name, h in told if name == "owner"][:4] == [
        of_shop,
        of_other,
        of_owner,
        offer["payment_hash"],
    ]
    assert len(told) == 7
    assert scene.aside == []


async def test_paid_while_the_relay_was_away(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(3)]
    await scene.dealt_with(3)
    assert scene.pool.attempts == []
    assert scene.aside == [("shop", "1"), ("shop", "2"), ("shop", "3")]
    scene.pool.state = "connected"
    scene.notifier.relay_connected("wss://another.example")
    scene.notifier.relay_connected(RELAY)
    scene.notifier.relay_connected(RELAY)
    await scene.nothing_aside()
    assert scene.told() == scene.told(NIP04_KIND) == [("shop", payment_hash) for payment_hash in made]
    last = await scene.paid(shop, 9)
    await scene.dealt_with(4)
    assert scene.told()[3:] == [("shop", last)]


async def test_relay_away_and_plugin_restarted(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(2)]
    await scene.dealt_with(2)
    await scene.restart()
    made.append(await scene.paid(shop, 2))
    await scene.dealt_with(3)
    assert len(scene.aside) == 3
    scene.relay_is_back()
    await scene.nothing_aside()
    assert scene.told() == [("shop", payment_hash) for payment_hash in made]


async def test_relay_is_there_before_the_plugin_has_read_what_is_aside(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = await scene.paid(shop, 1)
    await scene.dealt_with(1)
    await scene.stop()
    scene.new_process()
    scene.relay_is_back()
    await scene.start()
    await scene.nothing_aside()
    assert scene.told() == [("shop", made)]


async def test_one_away_does_not_hold_up_the_others(scene: Scene) -> None:
    shop = scene.connect("shop")
    owner = scene.connect("owner", View.NODE)
    to_shop = shop.client_pubkey
    scene.pool.takes = lambda event: event.tag("p") != to_shop
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(2)]
    await scene.dealt_with(2)
    assert scene.told() == [("owner", payment_hash) for payment_hash in made]
    assert scene.aside == [("shop", "1"), ("shop", "2")]
    assert owner.name == "owner"


async def test_a_relay_that_is_slow_once_is_tried_again(scene: Scene) -> None:
    """It has stayed connected all the time: nothing else would call for another try."""
    shop = scene.connect("shop")
    scene.pool.takes = lambda _event: len(scene.pool.attempts) > 2
    await scene.start()
    made = [await scene.paid(shop, 1)]
    await scene.pool.until(lambda: len(scene.pool.taken) == 2)
    await scene.nothing_aside()
    made.append(await scene.paid(shop, 2))
    await scene.dealt_with(2)
    await scene.nothing_aside()
    assert scene.told() == [("shop", payment_hash) for payment_hash in made]


async def test_a_relay_for_one_of_the_kinds_only(scene: Scene) -> None:
    """It would refuse the other for ever; the first must not come again and again for that."""
    shop = scene.connect("shop")
    scene.pool.takes = lambda event: event.kind == NIP44_KIND
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(3)]
    await scene.dealt_with(3)
    scene.notifier.relay_connected(RELAY)
    await scene.restart()
    assert scene.told() == [("shop", payment_hash) for payment_hash in made]
    assert scene.aside == []


async def test_switched_off_and_on(scene: Scene) -> None:
    """What was put aside when notifications are switched off is not told when they are on again."""
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.paid(shop, 1)
    await scene.pays(shop, 1)
    await scene.dealt_with(1)
    assert len(scene.aside) == 2
    await scene.stop()
    scene.new_process()
    await scene.notifier.forget()
    assert scene.aside == []
    assert scene.position == 1
    await scene.notifier.forget()
    scene.pool.state = "connected"
    await scene.restart()
    made = await scene.paid(shop, 2)
    await scene.dealt_with(2)
    assert scene.told() == [("shop", made)]


async def test_what_was_aside_for_a_revoked_connection_is_forgotten(scene: Scene) -> None:
    shop, other = scene.connect("shop"), scene.connect("other")
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.paid(shop, 1)
    made = await scene.paid(other, 1)
    await scene.dealt_with(2)
    scene.connections.remove(scene.live("shop"))
    scene.notifier.relay_connected(RELAY)
    await scene.restart()
    assert scene.aside == [("other", "2")]
    scene.relay_is_back()
    await scene.nothing_aside()
    assert scene.told() == [("other", made)]


@pytest.mark.parametrize("name", ["9" * 5000, "x", "sent-x-y", ""])
async def test_put_aside_under_a_name_of_nothing(scene: Scene, name: str) -> None:
    shop = scene.connect("shop")
    await scene.node.datastore_put(("nwc", "notifications", "pending", shop.client_pubkey, name), "1")
    await scene.start()
    await scene.nothing_aside()
    made = await scene.paid(shop, 1)
    await scene.dealt_with(1)
    assert scene.told() == [("shop", made)]


async def test_view_is_that_of_the_moment_of_telling(scene: Scene) -> None:
    """An app that may no longer see the node's payments is not told of them late."""
    shop = scene.connect("shop")
    owner = scene.connect("owner", View.NODE)
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.paid(shop, 1)
    made = await scene.paid(owner, 1)
    await scene.dealt_with(2)
    live = scene.live("owner")
    changed = Connection(owner.name, owner.client_pubkey, owner.relays, START, view=View.OWN)
    scene.connections.update(live, changed)
    scene.relay_is_back()
    await scene.nothing_aside()
    assert [row for row in scene.told() if row[0] == "owner"] == [("owner", made)]


async def test_switched_off_for_a_connection_while_something_is_aside(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    await scene.paid(shop, 1)
    await scene.dealt_with(1)
    changed = Connection("shop", shop.client_pubkey, shop.relays, START, notifications=False)
    scene.connections.update(scene.live("shop"), changed)
    scene.relay_is_back()
    await scene.nothing_aside()
    assert scene.pool.attempts == []


async def test_an_expired_connection_is_told_nothing(scene: Scene) -> None:
    gone = scene.connect("gone", expires_at=START + 1)
    owner = scene.connect("owner", View.NODE, expires_at=2**40)
    await scene.start()
    made = await scene.paid(gone, 1)
    await scene.dealt_with(1)
    assert scene.told() == [("owner", made)]
    assert scene.aside == []
    assert owner.expires_at == 2**40


async def test_deleted_before_it_could_be_told(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    first = await scene.world.invoice(shop, 1)
    await scene.world.pay(first["label"])
    made = await scene.paid(shop, 2)
    await scene.dealt_with(2)
    await scene.node.delete_invoice(first["label"], "paid")
    scene.relay_is_back()
    await scene.nothing_aside()
    assert scene.told() == [("shop", made)]


async def test_no_more_is_put_aside_than_there_is_room_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier_module, "MAX_PENDING_PER_CONNECTION", 3)
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(5)]
    await scene.dealt_with(5)
    assert scene.aside == [("shop", "3"), ("shop", "4"), ("shop", "5")]
    scene.relay_is_back()
    await scene.nothing_aside()
    assert scene.told() == [("shop", payment_hash) for payment_hash in made[2:]]


async def test_room_is_made_while_the_oldest_is_being_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one was taken off the list meanwhile: its place belongs to another."""
    monkeypatch.setattr(notifier_module, "MAX_PENDING_PER_CONNECTION", 2)
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(2)]
    await scene.dealt_with(2)
    scene.pool.state = "connected"
    scene.pool.holds.clear()
    scene.notifier.relay_connected(RELAY)
    await scene.pool.until(lambda: len(scene.pool.attempts) == 2)
    made.append(await scene.paid(shop, 2))
    await scene.dealt_with(3)
    assert scene.aside == [("shop", "2"), ("shop", "3")]
    scene.pool.holds.set()
    await scene.nothing_aside()
    assert scene.told() == [("shop", payment_hash) for payment_hash in made]


async def test_a_text_too_long_for_a_notification(scene: Scene) -> None:
    scene.connect("owner", View.NODE)
    await scene.start()
    for n in range(2):
        label, text = f"lnurl {n}", "x" * 100_000
        await scene.node.invoice(
            amount_msat=1000, label=label, description=text, expiry=60, deschashonly=True
        )
        await scene.world.pay(label)
    await scene.dealt_with(2)
    assert len(scene.told()) == 2
