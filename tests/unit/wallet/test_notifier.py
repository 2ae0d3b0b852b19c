import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from nwc.cln.node import Json
from nwc.nip47.encryption import Cipher, Encryption
from nwc.nip47.rate_limit import RateLimit
from nwc.nostr.event import Event
from nwc.nostr.keys import KeyPair
from nwc.nostr.pool import RelayPool
from nwc.nostr.relay import RelayInfo
from nwc.nostr.session import Published
from nwc.wallet import notifier as notifier_module
from nwc.wallet.connections import Connection, View
from nwc.wallet.invoice_record import InvoiceRecord
from nwc.wallet.live import LiveConnection, LiveConnections
from nwc.wallet.notifier import Notifier
from tests.double.datastore import listdatastore
from tests.double.node import Node as Double
from tests.unit.in_process import RELAY, START, World

NIP44_KIND, NIP04_KIND = 23197, 23196
FOR_EVER = 10  # seconds until a test gives up

Verdict = Callable[[Event], bool]


class FakePool(RelayPool):
    """One relay, that takes what the test lets it.

    Attributes:
        state: of the relay.
        takes: decides on each event; may be replaced at any time.
        holds: while not set, publishing does not end.
        attempts: all events that were published, taken or not.
        taken: those that were taken.

    """

    def __init__(self) -> None:
        self.state = "connected"
        self.takes: Verdict = lambda _event: True
        self.holds = asyncio.Event()
        self.holds.set()
        self.attempts: list[Event] = []
        self.taken: list[Event] = []
        self._changed = asyncio.Condition()

    def info(self, urls: Iterable[str] | None = None) -> list[RelayInfo]:
        return [RelayInfo(url, self.state, 1, 0, None, 0, 0, None) for url in urls or ()]

    async def publish_to_any(self, event: Event, urls: Iterable[str], timeout_s: float) -> bool:
        verdicts = await self.publish(event, urls, timeout_s)
        return any(verdict.accepted for verdict in verdicts.values())

    async def publish(self, event: Event, urls: Iterable[str], timeout_s: float) -> dict[str, Published]:
        self.attempts.append(event)
        async with self._changed:
            self._changed.notify_all()
        await self.holds.wait()
        accepted = self.state == "connected" and self.takes(event)
        if accepted:
            self.taken.append(event)
        async with self._changed:
            self._changed.notify_all()
        return {url: Published(event.id, accepted, "") for url in urls}

    async def until(self, is_reached: Callable[[], bool]) -> None:
        """Wait until a condition that some publication brings about holds."""
        async with asyncio.timeout(FOR_EVER), self._changed:
            await self._changed.wait_for(is_reached)


class Scene:
    """A node, a relay, connections, and the notifier that is started and stopped."""

    def __init__(self, lightningd: Double) -> None:
        self.world = World(lightningd)
        self.node = self.world.node
        self.pool = FakePool()
        self.connections = LiveConnections()
        self.clients: dict[str, KeyPair] = {}
        self.notifier = self.new_notifier()

    def new_notifier(self) -> Notifier:
        """What a start of the plugin makes."""
        self.notifier = Notifier(self.node, self.pool, self.connections)
        return self.notifier

    def connect(self, name: str, view: View = View.OWN, **fields: Any) -> Connection:
        """Make a connection that is served."""
        client, wallet = KeyPair.generate(), KeyPair.generate()
        record = Connection(name, client.public_key, (RELAY,), START, view=view, **fields)
        cipher = Cipher(wallet, client.public_key)
        self.connections.add(LiveConnection(record, wallet, cipher, RateLimit(1, 1, 0)))
        self.clients[name] = client
        return record

    def live(self, name: str) -> LiveConnection:
        live = self.connections.named(name)
        assert live is not None
        return live

    async def start(self) -> None:
        """Start, and wait until it follows."""
        before = len(self.node.calls)
        self.notifier.start()

        def follows(method: str, params: Json) -> bool:
            return method == "waitanyinvoice" and "timeout" not in params

        await self.node.called(
            lambda: any(follows(*call) for call in self.node.calls[before:]), FOR_EVER
        )

    async def restart(self) -> None:
        """As a crash: what is under way is cut off."""
        await self.notifier.stop()
        self.new_notifier()
        await self.start()

    async def paid(self, asking: Connection, number: int, **fields: Any) -> str:
        """Make an invoice of a connection and pay it; returns its payment hash."""
        made = await self.world.invoice(asking, number, **fields)
        await self.world.pay(made["label"])
        return str(made["payment_hash"])

    async def dealt_with(self, pay_index: int) -> None:
        """Wait until the position is at a payment."""
        await self.node.called(lambda: self.position == pay_index, FOR_EVER)

    async def nothing_aside(self) -> None:
        """Wait until nothing is put aside."""
        await self.node.called(lambda: not self.aside, FOR_EVER)

    @property
    def position(self) -> int | None:
        listed = self._listed("position")
        return int(listed[0]["string"]) if listed else None

    @property
    def aside(self) -> list[tuple[str, int]]:
        """Connection and number of what is put aside."""
        names = {client.public_key: name for name, client in self.clients.items()}
        return sorted(
            (names[entry["key"][3]], int(listed["key"][4]))
            for entry in self._listed("pending")
            for listed in self._listed("pending", entry["key"][3])
        )

    def _listed(self, *key: str) -> list[Json]:
        root = ("nwc", "notifications", *key)
        listed: list[Json] = listdatastore(self.node.lightningd, root)["datastore"]
        return listed

    def told(self, kind: int = NIP44_KIND) -> list[tuple[str, str]]:
        """Connection and payment hash of every notification a client could read, in order."""
        return [(name, row["payment_hash"]) for name, row in self.notifications(kind)]

    def notifications(self, kind: int = NIP44_KIND) -> list[tuple[str, Json]]:
        scheme = {NIP44_KIND: Encryption.NIP44_V2, NIP04_KIND: Encryption.NIP04}[kind]
        read = []
        for event in self.pool.taken:
            if event.kind == kind:
                [name] = [n for n, c in self.clients.items() if event.tag("p") == c.public_key]
                body = json.loads(
                    Cipher(self.clients[name], event.pubkey).decrypt(scheme, event.content)
                )
                assert body["notification_type"] == "payment_received"
                read.append((name, body["notification"]))
        return read


@pytest.fixture
async def scene(lightningd: Double, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(notifier_module, "RETRY_FIRST_S", 0)
    monkeypatch.setattr(notifier_module, "RETRY_MAX_S", 0)
    scene = Scene(lightningd)
    yield scene
    await scene.notifier.stop()


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


async def test_what_was_paid_before_the_first_start_is_history(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.paid(shop, 1)
    await scene.start()
    assert scene.position == 1
    new = await scene.paid(shop, 2)
    await scene.dealt_with(2)
    assert scene.told() == [("shop", new)]


async def test_paid_while_the_plugin_was_stopped(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    await scene.notifier.stop()
    made = [await scene.paid(shop, n) for n in range(3)]
    await scene.restart()
    await scene.dealt_with(3)
    await scene.restart()
    assert scene.told() == [("shop", payment_hash) for payment_hash in made]


async def test_a_stop_lets_what_has_begun_come_to_its_end(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    scene.pool.holds.clear()
    made = await scene.paid(shop, 1)
    await scene.pool.until(lambda: len(scene.pool.attempts) == 2)
    stopping = asyncio.create_task(scene.notifier.stop(FOR_EVER))
    await asyncio.wait([stopping], timeout=0)
    scene.pool.holds.set()
    await stopping
    assert scene.position == 1
    await scene.restart()
    last = await scene.paid(shop, 2)
    await scene.dealt_with(2)
    assert scene.told() == [("shop", made), ("shop", last)]


async def test_a_stop_waits_for_no_relay_for_ever(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    scene.pool.holds.clear()
    made = await scene.paid(shop, 1)
    await scene.pool.until(lambda: len(scene.pool.attempts) == 2)
    await scene.notifier.stop(0.01)
    assert scene.position == 0
    scene.pool.holds.set()
    await scene.restart()
    await scene.dealt_with(1)
    assert scene.told() == [("shop", made)]


async def test_paid_while_the_relay_was_away(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = [await scene.paid(shop, n) for n in range(3)]
    await scene.dealt_with(3)
    assert scene.pool.attempts == []
    assert scene.aside == [("shop", 1), ("shop", 2), ("shop", 3)]
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
    scene.pool.state = "connected"
    scene.notifier.relay_connected(RELAY)
    await scene.nothing_aside()
    assert scene.told() == [("shop", payment_hash) for payment_hash in made]


async def test_relay_is_there_before_the_plugin_has_read_what_is_aside(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = await scene.paid(shop, 1)
    await scene.dealt_with(1)
    await scene.notifier.stop()
    scene.pool.state = "connected"
    scene.new_notifier().relay_connected(RELAY)
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
    assert scene.aside == [("shop", 1), ("shop", 2)]
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


async def test_crash_while_telling(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    scene.pool.holds.clear()
    made = await scene.paid(shop, 1)
    await scene.pool.until(lambda: len(scene.pool.attempts) == 2)
    await scene.notifier.stop()
    assert scene.position == 0
    scene.pool.holds.set()
    await scene.restart()
    await scene.dealt_with(1)
    assert scene.told() == [("shop", made)]


async def crash_at(scene: Scene, is_moment: Callable[[str, Json], bool]) -> None:
    """Let the plugin die the moment it is about to make a certain call."""
    reached, never = asyncio.Event(), asyncio.Event()

    async def before(method: str, params: Json) -> None:
        if is_moment(method, params):
            reached.set()
            await never.wait()

    scene.node.before = before
    async with asyncio.timeout(FOR_EVER):
        await reached.wait()
    await scene.notifier.stop()
    scene.node.before = None


def is_position(method: str, params: Json) -> bool:
    return method == "datastore" and params["key"][2] == "position"


async def test_crash_before_the_position_is_kept(scene: Scene) -> None:
    """Told twice is what may happen here; told never is what may not."""
    shop = scene.connect("shop")
    await scene.start()
    made = await scene.paid(shop, 1)
    await crash_at(scene, is_position)
    assert scene.position == 0
    await scene.restart()
    await scene.dealt_with(1)
    await scene.restart()
    assert scene.told() == [("shop", made)] * 2


async def test_crash_between_putting_aside_and_position(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = await scene.paid(shop, 1)
    await crash_at(scene, is_position)
    assert scene.aside == [("shop", 1)]
    await scene.restart()
    await scene.dealt_with(1)
    scene.pool.state = "connected"
    scene.notifier.relay_connected(RELAY)
    await scene.nothing_aside()
    later = await scene.paid(shop, 2)
    await scene.dealt_with(2)
    await scene.nothing_aside()
    assert scene.told() == [("shop", made), ("shop", later)]


async def test_crash_before_putting_aside(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = await scene.paid(shop, 1)
    await crash_at(scene, lambda method, params: method == "datastore" and "pending" in params["key"])
    assert scene.aside == []
    scene.pool.state = "connected"
    await scene.restart()
    await scene.dealt_with(1)
    assert scene.told() == [("shop", made)]


async def test_switched_off_and_on(scene: Scene) -> None:
    """What is paid while notifications are off is not told later."""
    shop = scene.connect("shop")
    await scene.start()
    await scene.notifier.stop()
    await scene.new_notifier().forget()
    assert scene._listed("position") == []
    await scene.notifier.forget()
    await scene.paid(shop, 1)
    await scene.restart()
    assert scene.position == 1
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
    assert scene.aside == [("other", 2)]
    scene.pool.state = "connected"
    scene.notifier.relay_connected(RELAY)
    await scene.nothing_aside()
    assert scene.told() == [("other", made)]


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
    scene.pool.state = "connected"
    scene.notifier.relay_connected(RELAY)
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
    scene.pool.state = "connected"
    scene.notifier.relay_connected(RELAY)
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
    scene.pool.state = "connected"
    scene.notifier.relay_connected(RELAY)
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
    assert scene.aside == [("shop", 3), ("shop", 4), ("shop", 5)]
    scene.pool.state = "connected"
    scene.notifier.relay_connected(RELAY)
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
    assert scene.aside == [("shop", 2), ("shop", 3)]
    scene.pool.holds.set()
    await scene.nothing_aside()
    assert scene.told() == [("shop", payment_hash) for payment_hash in made]


async def test_lightningd_fails_for_a_while(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    for method in ("waitanyinvoice", "datastore", "listdatastore"):
        await scene.world.dev("dev-fail", method=method, code=-1, message="busy", times=3)
    made = await scene.world.invoice(shop, 1)
    await scene.world.pay(made["label"])
    await scene.dealt_with(1)
    # What was told when the position could not be kept is told again.
    assert set(scene.told()) == {("shop", made["payment_hash"])}


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


async def test_node_without_sql(scene: Scene) -> None:
    """Its first position is found all the same."""
    shop = scene.connect("shop")
    await scene.world.dev("dev-fail", method="sql", code=-32601, message="Unknown command", times=9)
    await scene.paid(shop, 1)
    await scene.start()
    assert scene.position == 1
    made = await scene.paid(shop, 2)
    await scene.dealt_with(2)
    assert scene.told() == [("shop", made)]
