"""A node, a relay, connections and the parts that notify them, which tests start, stop and crash."""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

from nwc.cln.node import Json
from nwc.nip47.encryption import Cipher, Encryption
from nwc.nip47.rate_limit import RateLimit
from nwc.nostr.event import Event
from nwc.nostr.keys import KeyPair
from nwc.nostr.pool import RelayPool
from nwc.nostr.relay_health import RelayInfo
from nwc.nostr.session import Published
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection
from nwc.wallet.hold_record import HoldRecords
from nwc.wallet.notifier import Notifier
from nwc.wallet.paid_invoices import PaidInvoices
from nwc.wallet.spending.payment import Payment, PaymentRecord, PaymentState
from nwc.wallet.spending.payment_records import PaymentRecords
from tests.double.datastore import listdatastore
from tests.double.node import Node as Double
from tests.unit.in_process import RELAY, START, World

NIP44_KIND, NIP04_KIND = 23197, 23196
FOR_EVER = 10  # seconds until a test fails
# The type of the transaction in each type of notification.
TYPES = {
    "hold_invoice_accepted": "incoming",
    "hold_invoice_canceled": "incoming",
    "payment_received": "incoming",
    "payment_sent": "outgoing",
}

Verdict = Callable[[Event], bool]


class FakePool(RelayPool):
    """One relay, which accepts the events that the test wants.

    Attributes:
        state: of the relay, as nwc-list shows it.
        accepts: decides on each event; may be replaced at any time.
        holds: while it is not set, publishing does not return.
        attempts: all published events.
        accepted: the accepted ones.

    """

    def __init__(self) -> None:
        self.state = "connected"
        self.accepts: Verdict = lambda _event: True
        self.holds = asyncio.Event()
        self.holds.set()
        self.attempts: list[Event] = []
        self.accepted: list[Event] = []
        self._changed = asyncio.Condition()

    def info(self, urls: Iterable[str] | None = None) -> list[RelayInfo]:
        return [RelayInfo(url, self.state, 1, 0, None, 0, 0, {}, 0, None) for url in urls or ()]

    async def publish_to_any(self, event: Event, urls: Iterable[str], timeout_s: float) -> bool:
        verdicts = await self.publish(event, urls, timeout_s)
        return any(verdict.accepted for verdict in verdicts.values())

    async def publish(
        self, event: Event, urls: Iterable[str], timeout_s: float, signer: KeyPair | None = None
    ) -> dict[str, Published]:
        self.attempts.append(event)
        async with self._changed:
            self._changed.notify_all()
        await self.holds.wait()
        accepted = self.state == "connected" and self.accepts(event)
        if accepted:
            self.accepted.append(event)
        async with self._changed:
            self._changed.notify_all()
        return {url: Published(event.id, accepted, "") for url in urls}

    async def until(self, is_reached: Callable[[], bool]) -> None:
        """Wait until a condition on the published events is true."""
        async with asyncio.timeout(FOR_EVER), self._changed:
            await self._changed.wait_for(is_reached)


class Scene:
    """A node, a relay, connections, and the parts under test."""

    def __init__(self, lightningd: Double) -> None:
        self.world = World(lightningd)
        self.node = self.world.node
        self.pool = FakePool()
        self.connections = ConnectionRegistry()
        self.clients: dict[str, KeyPair] = {}
        self.new_process()

    def new_process(self, *, notifications: bool = True) -> None:
        """Create new parts, as a start of the plugin does."""
        self.records = PaymentRecords(self.node)
        self.holds = HoldRecords(self.node)
        self.notifier = Notifier(
            self.node,
            self.pool,
            self.connections,
            self.records,
            self.holds,
            is_enabled=notifications,
        )
        self.paid_invoices = PaidInvoices(self.node, self.notifier.payment_received)

    def connect(self, name: str, view: View = View.OWN, **fields: Any) -> Connection:
        """Create a connection that is being served."""
        client, wallet = KeyPair.generate(), KeyPair.generate()
        record = Connection(name, client.public_key, (RELAY,), START, view=view, **fields)
        cipher = Cipher(wallet, client.public_key)
        self.connections.add(LiveConnection(record, wallet, cipher, RateLimit(1, 1, 0)))
        self.clients[name] = client
        return record

    def live(self, name: str) -> LiveConnection:
        """Return the connection with this name."""
        live = self.connections.named(name)
        assert live is not None
        return live

    async def start(self) -> None:
        """Start, and wait until the next paid invoice is waited for."""
        before = len(self.node.calls)
        await self.records.load([])
        await self.notifier.load()
        self.paid_invoices.start()

        def is_waiting(method: str, params: Json) -> bool:
            return method == "waitanyinvoice" and "timeout" not in params

        await self.node.called(
            lambda: any(is_waiting(*call) for call in self.node.calls[before:]), FOR_EVER
        )

    async def stop(self, timeout_s: float = 0) -> None:
        """Stop. Without a timeout everything is interrupted, as in a crash."""
        await asyncio.gather(self.paid_invoices.stop(timeout_s), self.notifier.stop(timeout_s))

    async def restart(self) -> None:
        """Crash, and start again."""
        await self.stop()
        self.new_process()
        await self.start()

    def relay_is_back(self) -> None:
        """Let the relay reconnect."""
        self.pool.state = "connected"
        self.notifier.relay_connected(RELAY)

    async def paid(self, asking: Connection, number: int, **fields: Any) -> str:
        """Make an invoice of a connection, pay it, and return its payment hash."""
        made = await self.world.invoice(asking, number, **fields)
        await self.world.pay(made["label"])
        return str(made["payment_hash"])

    async def pays(self, asking: Connection, number: int, **fields: Any) -> str:
        """Settle a payment of a connection, notify of it, and return its payment hash."""
        record = settled(number, **fields)
        await self.records.keep(asking.id, record)
        await self.notifier.payment_sent(asking.id, record)
        return str(record.payment.payment_hash)

    async def handled(self, pay_index: int) -> None:
        """Wait until the paid invoice with this `pay_index` is handled."""
        await self.node.called(lambda: self.position == pay_index, FOR_EVER)

    async def nothing_pending(self) -> None:
        """Wait until no notification is pending."""
        await self.node.called(lambda: not self.pending, FOR_EVER)

    @property
    def position(self) -> int | None:
        """The stored `pay_index` of the last handled invoice, None before the first start."""
        listed = self._listed("position")
        return int(listed[0]["string"]) if listed else None

    @property
    def pending(self) -> list[tuple[str, str]]:
        """The connection and the stored name of each pending notification."""
        names = {client.public_key: name for name, client in self.clients.items()}
        return [
            (names[entry["key"][3]], listed["key"][4])
            for entry in self._listed("pending")
            for listed in self._listed("pending", entry["key"][3])
        ]

    def _listed(self, *key: str) -> list[Json]:
        root = ("nwc", "notifications", *key)
        listed: list[Json] = listdatastore(self.node.lightningd, root)["datastore"]
        return listed

    def notified(self, kind: int = NIP44_KIND) -> list[tuple[str, str]]:
        """Return connection and payment hash of all accepted notifications of a kind, in order."""
        return [(name, row["payment_hash"]) for name, row in self.notifications(kind)]

    def notifications(self, kind: int = NIP44_KIND) -> list[tuple[str, Json]]:
        """Return connection and transaction of all accepted notifications of a kind, in order."""
        scheme = {NIP44_KIND: Encryption.NIP44_V2, NIP04_KIND: Encryption.NIP04}[kind]
        read = []
        for event in self.pool.accepted:
            if event.kind == kind:
                [name] = [n for n, c in self.clients.items() if event.tag("p") == c.public_key]
                body = json.loads(
                    Cipher(self.clients[name], event.pubkey).decrypt(scheme, event.content)
                )
                assert TYPES[body["notification_type"]] == body["notification"]["type"]
                read.append((name, body["notification"]))
        return read


def settled(number: int, **fields: Any) -> PaymentRecord:
    """Return the record of a settled payment."""
    payment = Payment(
        **{
            "request_id": f"{number:064x}",
            "request_created_at": START,
            "method": "pay_invoice",
            "encryption": "nip44_v2",
            "created_at": START + 1,
            "amount_msat": 1000,
            "max_fee_msat": 10,
            "payment_hash": f"{number:064x}",
            "invoice": None,
            "destination": "02" * 33,
            **fields,
        }
    )
    return PaymentRecord(payment, PaymentState.SETTLED, START + 9, 1007, "aa" * 32)


async def crash_at(scene: Scene, is_moment: Callable[[str, Json], bool]) -> None:
    """Crash the plugin just before it makes a certain call."""
    reached, never = asyncio.Event(), asyncio.Event()

    async def before(method: str, params: Json) -> None:
        if is_moment(method, params):
            reached.set()
            await never.wait()

    scene.node.before = before
    async with asyncio.timeout(FOR_EVER):
        await reached.wait()
    await scene.stop()
    scene.node.before = None
