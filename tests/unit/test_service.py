"""How the service wires its parts; the parts are tested by themselves, the whole through relays."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from nwc import commands
from nwc import service as module
from nwc.cln.errors import NodeError, NodeUnavailableError, RpcCallError
from nwc.nip47.errors import Nip47Error
from nwc.nostr.keys import KeyPair
from nwc.options import Settings
from nwc.service import App, Service
from nwc.wallet import notifier
from nwc.wallet.connections import manager
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.connections.manager import ManagementError, StillStoredError
from nwc.wallet.connections.record import Connection, ConnectionStore, View
from nwc.wallet.context import Call, ChainTip
from nwc.wallet.labels import request_label
from nwc.wallet.methods.make_invoice import make_invoice
from nwc.wallet.spending import sender as sender_module
from nwc.wallet.spending.ledger import Ledger
from nwc.wallet.spending.payment import CommandParams, PaymentRecord
from tests.double.datastore import listdatastore
from tests.double.node import Node as Double
from tests.support.waiting import PATIENCE_S
from tests.unit.helpers import CLIENT, until
from tests.unit.in_process import START, World
from tests.unit.wallet.scene import settled

# Nobody listens there.
RELAY = "ws://127.0.0.1:9"
APP = Connection(
    "app", CLIENT.public_key, (RELAY,), START, budget=Budget(BudgetKind.RECEIVED, since=START)
)
PENDING = ("nwc", "notifications", "pending", APP.client_pubkey)


class Scene:
    """A core over a node; what is told is put aside, since there is no relay."""

    def __init__(self, lightningd: Double, *, notifications: bool = True) -> None:
        self.world = World(lightningd)
        self.node = self.world.node
        settings = Settings(
            "rpc",
            (RELAY,),
            3600,
            120,
            20,
            notifications=notifications,
            proxy=None,
            always_use_proxy=False,
        )
        self.core = App(settings, self.node, ChainTip())
        self.service = Service(settings)
        self.service._node = self.node
        self.service._core = asyncio.get_running_loop().create_future()
        self.late: list[PaymentRecord] = []
        self.core.server.answer_payment = self._answer_late  # type: ignore[method-assign]

    async def _answer_late(self, client_pubkey: str, record: PaymentRecord) -> None:
        self.late.append(record)

    async def load(self) -> None:
        """Start, and wait until the books are read and paid invoices are followed."""
        await self.service._load(self.core)
        await self.node.called(lambda: self.lists("nwc", "revoked"))
        await self.follows()

    async def follows(self) -> None:
        """Wait until paid invoices are followed."""

        def follows(method: str, params: dict[str, Any]) -> bool:
            return method == "waitanyinvoice" and "timeout" not in params

        await self.node.called(lambda: any(follows(*call) for call in self.node.calls))

    def lists(self, *key: str) -> bool:
        """Tell whether lightningd was asked to list this key."""
        return ("listdatastore", {"key": list(key)}) in self.node.calls

    async def ledger(self) -> Ledger:
        return await self.core.payments.ledgers.of(APP.client_pubkey)

    async def dealt_with(self, pay_index: int) -> None:
        """Wait until the position is at a payment."""
        key = ("nwc", "notifications", "position")

        def position() -> str:
            return str(listdatastore(self.node.lightningd, key)["datastore"][0]["string"])

        await self.node.called(lambda: position() == str(pay_index))

    async def aside(self) -> list[str]:
        return await self.node.datastore_keys(PENDING)


@pytest.fixture
async def scene(
    lightningd: Double, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Scene]:
    for name in ("RETRY_FIRST_S", "RETRY_MAX_S"):
        monkeypatch.setattr(module, name, 0)
    monkeypatch.setattr(sender_module, "_POLL_FIRST_S", 0)
    monkeypatch.setattr(notifier, "PATIENCE_S", 0)
    scene = Scene(lightningd, **getattr(request, "param", {}))
    await ConnectionStore(scene.node).create(APP)
    yield scene
    await scene.core.stop()
    scene.service._loop.close()


OFF = pytest.mark.parametrize("scene", [{"notifications": False}], indirect=True)


async def paid(scene: Scene, asking: Connection, number: int, amount_msat: int) -> None:
    made = await scene.world.invoice(asking, number, amount_msat=amount_msat)
    await scene.world.pay(made["label"])


async def test_what_is_received_is_counted_and_told(scene: Scene) -> None:
    await scene.load()
    await paid(scene, APP, 1, 5000)
    await scene.dealt_with(1)
    await paid(scene, APP, 2, 7000)
    await scene.dealt_with(2)
    ledger = await scene.ledger()
    assert (ledger.received_msat, ledger.received_pay_index) == (12_000, 2)
    assert await scene.aside() == ["1", "2"]


@OFF
async def test_what_is_received_is_counted_without_notifications(scene: Scene) -> None:
    await scene.node.datastore_put((*PENDING, "7"), "1")
    await scene.load()
    await paid(scene, APP, 1, 5000)
    await scene.dealt_with(1)
    assert (await scene.ledger()).received_msat == 5000
    assert await scene.aside() == []


async def test_what_others_received_is_not_counted(scene: Scene) -> None:
    await scene.load()
    other = Connection("other", "a1" * 32, (RELAY,), START, view=View.NODE)
    await paid(scene, other, 1, 5000)
    await scene.node.invoice(amount_msat=1000, label="shop", description="", expiry=60)
    await scene.world.pay("shop")
    await scene.dealt_with(2)
    assert await scene.ledger() == Ledger()
    assert await scene.aside() == []


async def test_what_cannot_be_told_is_counted_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightningd fails between counting and putting aside; both are tried again."""
    monkeypatch.setattr("nwc.wallet.paid_invoices.RETRY_FIRST_S", 0)
    await scene.load()

    async def fail_once(method: str, params: dict[str, Any]) -> None:
        if method == "datastore" and "pending" in params["key"]:
            scene.node.before = None
            await scene.world.dev("dev-fail", method="datastore", code=-1, message="busy", times=1)

    scene.node.before = fail_once
    await paid(scene, APP, 1, 5000)
    await scene.dealt_with(1)
    assert (await scene.ledger()).received_msat == 5000
    assert await scene.aside() == ["1"]


@OFF
async def test_what_is_sent_is_not_told_without_notifications(scene: Scene) -> None:
    await scene.load()
    await scene.core.notifier.payment_sent(APP.id, settled(1))
    assert await scene.aside() == []


async def test_what_was_sent_before_the_start_is_told(scene: Scene) -> None:
    """It is put aside when lightningd takes it, and then known as told."""
    record = settled(1, created_at=int(time.time()))
    request_id = record.payment.request_id
    await scene.core.payments.records.keep(APP.id, record)
    await scene.core.payments.ledgers.change(
        APP.client_pubkey, lambda _: Ledger(total_spent_msat=1007, unannounced=(request_id,))
    )

    async def fail_once(method: str, params: dict[str, Any]) -> None:
        if method == "datastore" and "pending" in params["key"]:
            scene.node.before = None
            await scene.world.dev("dev-fail", method="datastore", code=-1, message="busy", times=1)

    scene.node.before = fail_once
    await scene.load()
    ledgers = scene.core.payments.ledgers
    await scene.node.called(lambda: not ledgers.known(APP.client_pubkey).unannounced)
    assert await scene.aside() == [f"sent-{APP.id}-{request_id}"]


async def test_payments_under_way_are_followed_once(scene: Scene) -> None:
    """Also when lightningd fails in the middle of the start: each is answered once."""
    payment = settled(1).payment
    await scene.core.payments.ledgers.change(
        APP.client_pubkey, lambda _: Ledger(reservations={payment.request_id: payment})
    )
    fields = {"payment_hash": payment.payment_hash, "preimage": "aa" * 32}
    await scene.world.payment({"status": "pending"}, **fields)
    failures = 3

    async def fail_often(method: str, params: dict[str, Any]) -> None:
        nonlocal failures
        if method == "listdatastore" and params.get("key", [])[:2] == ["nwc", "notifications"]:
            failures -= 1
            scene.node.away = failures >= 0
        else:
            scene.node.away = False

    scene.node.before = fail_often
    await scene.load()
    scene.node.before = None
    assert (await scene.ledger()).reservations
    await scene.world.payment({"status": "complete"}, **fields)
    await until(lambda: bool(scene.late))
    await scene.core.payments.stop()
    ended = await scene.core.payments.records.get(APP.id, payment.request_id)
    assert ended is not None
    assert ended.is_settled
    assert failures < 0
    assert [record.payment.request_id for record in scene.late] == [payment.request_id]
    assert (await scene.ledger()).total_spent_msat == 1000


async def test_a_connection_with_a_damaged_ledger_can_be_revoked(scene: Scene) -> None:
    """The ledger stays: nobody can tell what is under way."""
    key = ("nwc", "ledgers", APP.client_pubkey)
    await scene.node.datastore_put(key, "{}")
    await scene.load()
    await scene.core.manager.revoke("app")
    assert len(scene.core.connections) == 0
    assert await scene.node.datastore_get(key) == "{}"


OTHER = replace(APP, name="other", client_pubkey=KeyPair.from_secret(bytes([7]) * 32).public_key)


@pytest.fixture
def refusing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | None], None]:
    """Return what has lightningd fail to change records, None to end that."""
    monkeypatch.setattr(manager, "_RETRY_FIRST_S", 0.01)
    faults: list[Exception | None] = [None]

    async def fail(method: str, params: Any) -> None:
        if method in ("datastore", "deldatastore") and "connections" in params["key"] and faults[-1]:
            raise faults[-1]

    def begin(fault: Exception | None) -> None:
        faults.append(fault)
        # What is to succeed has time for it, however busy the machine is.
        monkeypatch.setattr(manager, "_DELETION_PATIENCE_S", PATIENCE_S if fault is None else 0.01)

    scene.node.before = fail
    return begin


def served(scene: Scene, record: Connection) -> bool:
    return scene.core.connections.of_client(record.client_pubkey) is not None


def names(scene: Scene) -> list[str]:
    listed = listdatastore(scene.node.lightningd, ("nwc", "connections"))["datastore"]
    return [json.loads(entry["string"])["name"] for entry in listed]


@pytest.mark.parametrize(
    "fault", [NodeUnavailableError("away"), RpcCallError("deldatastore", -1, "disk full")]
)
async def test_revoked_at_once_and_deleted_when_lightningd_can(
    scene: Scene, refusing: Callable[..., None], caplog: pytest.LogCaptureFixture, fault: NodeError
) -> None:
    """An owner who revokes may be losing money."""
    caplog.set_level("INFO")
    await scene.load()
    await paid(scene, APP, 1, 5000)
    refusing(fault)
    for _ in range(2):
        with pytest.raises(StillStoredError, match="'app' is revoked, but"):
            await scene.core.manager.revoke("app")
        assert not served(scene, APP)
    assert "connection 'app' is revoked, but" in caplog.text
    assert "'app' revoked" not in caplog.text
    with pytest.raises(ManagementError, match=r"pubkey: .*being deleted"):
        await scene.core.manager.create(replace(APP, name="again"))
    with pytest.raises(ManagementError, match=r"name: .*being deleted"):
        await scene.core.manager.create(replace(OTHER, name="app"))
    refusing(None)
    await until(lambda: "'app' revoked" in caplog.text)
    assert names(scene) == []
    await scene.core.manager.create(APP)
    assert (await scene.ledger()).received_msat == 0


async def test_others_can_be_revoked_meanwhile(scene: Scene, refusing: Callable[..., None]) -> None:
    await ConnectionStore(scene.node).create(OTHER)
    await scene.load()
    refusing(RpcCallError("deldatastore", -1, "disk full"))
    for record in (APP, OTHER):
        with pytest.raises(StillStoredError):
            await scene.core.manager.revoke(record.name)
        assert not served(scene, record)


@pytest.mark.parametrize("later", [-1, 1])
async def test_the_newest_has_a_name_that_two_have(
    scene: Scene, caplog: pytest.LogCaptureFixture, later: int
) -> None:
    """The older can be one that could not be deleted."""
    other = replace(OTHER, name="app", created_at=START + later)
    await ConnectionStore(scene.node).create(other)
    await scene.load()
    newest, older = (other, APP) if later > 0 else (APP, other)
    assert served(scene, newest)
    assert not served(scene, older)
    assert f"connection {older.id} is not served: a newer one has the same name" in caplog.text


async def test_a_change_under_way_does_not_bring_it_back(scene: Scene) -> None:
    await scene.load()
    is_stored = asyncio.Event()

    async def hang(method: str, _: Any) -> None:
        if method == "datastore":
            await is_stored.wait()

    scene.node.before = hang
    changing = asyncio.create_task(
        scene.core.manager.change("app", lambda old: replace(old, name="renamed"))
    )
    await asyncio.sleep(0)
    revoking = asyncio.create_task(scene.core.manager.revoke("app"))
    await asyncio.sleep(0)
    assert not served(scene, APP)
    is_stored.set()
    with pytest.raises(ManagementError, match="revoked meanwhile"):
        await changing
    await revoking
    assert names(scene) == []


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"max_payment": "5sat"}, "max_payment: needs a budget"),
    ({"renewal": "daily"}, "renewal: only a budget that is an amount can renew"),
    ({"methods": "pay_invoice"}, "methods: pay_invoice needs a budget"),
    ({"max_payment": "none"}, ""),
    ({"renewal": "never"}, ""),
]


@pytest.mark.parametrize(("more", "problem"), CHANGES, ids=str)
async def test_a_budget_taken_away_stays_away(scene: Scene, more: dict[str, Any], problem: str) -> None:
    """A change that begins while another is being stored goes on from what that leaves."""
    await scene.load()
    await commands.update(scene.core, "app", budget="50000sat", renewal="weekly")
    is_storing, is_stored = asyncio.Event(), asyncio.Event()

    async def hang(method: str, _: Any) -> None:
        if method == "datastore":
            is_storing.set()
            await is_stored.wait()

    scene.node.before = hang
    taking = asyncio.create_task(commands.update(scene.core, "app", budget="nothing"))
    await is_storing.wait()
    changing = asyncio.create_task(commands.update(scene.core, "app", **more))
    await asyncio.sleep(0)
    is_stored.set()
    await taking
    if problem:
        with pytest.raises(commands.ArgumentError, match=problem):
            await changing
    else:
        await changing
    [live] = scene.core.connections.all()
    assert live.record.budget == Budget()
    assert json.loads(str(await stored(scene, APP)))["budget"]["kind"] == "nothing"


async def test_names_stored_by_earlier_versions(scene: Scene) -> None:
    """Two names could differ by their normal form alone; each is served and can be revoked."""
    composed = replace(OTHER, name="café")
    decomposed = replace(APP, name="cafe\u0301")
    await ConnectionStore(scene.node).replace(decomposed)
    await ConnectionStore(scene.node).create(composed)
    await scene.load()
    assert scene.core.manager.find("café").record == composed
    assert scene.core.manager.find("cafe\u0301").record == decomposed
    both = [asyncio.create_task(scene.core.manager.revoke(r.name)) for r in (composed, decomposed)]
    assert [(await task).record for task in both] == [composed, decomposed]
    assert names(scene) == []


async def test_revoke_finds_a_name_in_another_form_again(
    scene: Scene, refusing: Callable[[Exception | None], None]
) -> None:
    await ConnectionStore(scene.node).replace(replace(APP, name="café"))
    await scene.load()
    refusing(NodeUnavailableError("away"))
    for form in ("cafe\u0301", "café"):
        with pytest.raises(StillStoredError):
            await scene.core.manager.revoke(form)
    refusing(None)
    assert (await scene.core.manager.revoke("cafe\u0301")).record.name == "café"


async def test_a_stored_name_can_be_changed_to_its_normal_form(scene: Scene) -> None:
    await ConnectionStore(scene.node).replace(replace(APP, name="cafe\u0301"))
    await scene.load()
    await scene.core.manager.change("café", lambda old: replace(old, name="café"))
    assert names(scene) == ["café"]
    with pytest.raises(ManagementError, match="there is a connection 'café' already"):
        await scene.core.manager.create(replace(OTHER, name="café"))


async def test_nothing_is_paid_once_it_is_revoked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what lightningd was writing down for it."""
    rich = replace(OTHER, budget=Budget(BudgetKind.UNLIMITED))
    await ConnectionStore(scene.node).create(rich)
    await scene.load()
    is_stored = asyncio.Event()

    async def hang(method: str, params: Any) -> None:
        if method == "datastore" and "ledgers" in params["key"]:
            writing.set()
            await is_stored.wait()

    async def send(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was sent")

    for command in ("pay_invoice", "keysend"):
        monkeypatch.setattr(scene.core.payments.payer, command, send)

    writing = asyncio.Event()
    scene.node.before = hang
    paying = asyncio.create_task(scene.core.payments.pay(rich, settled(1).payment, CommandParams()))
    await writing.wait()
    revoking = asyncio.create_task(scene.core.manager.revoke("other"))
    await asyncio.sleep(0)
    is_stored.set()
    with pytest.raises(Nip47Error, match="this connection is revoked or has expired") as caught:
        await paying
    assert caught.value.code == "UNAUTHORIZED"
    await revoking


async def test_a_revoked_connection_leaves_no_ledger(scene: Scene) -> None:
    await scene.load()
    await paid(scene, APP, 1, 5000)
    await scene.dealt_with(1)
    key = ("nwc", "ledgers", APP.client_pubkey)
    assert await scene.node.datastore_get(key)
    await scene.core.manager.revoke("app")
    assert await scene.node.datastore_get(key) is None
    with pytest.raises(Nip47Error, match="revoked"):
        scene.core.payments._budget_of(APP.client_pubkey, START)


async def test_a_command_does_not_wait_for_ever(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on, though: what it has begun must not be left half done."""
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", 0.05)
    goes_on, done = asyncio.Event(), asyncio.Event()

    async def command(core: App) -> None:
        await goes_on.wait()
        done.set()

    with pytest.raises(TimeoutError):  # lightningd has not answered yet
        await scene.service._in_time(command)
    await scene.load()
    with pytest.raises(TimeoutError):
        await scene.service._in_time(command)
    goes_on.set()
    async with asyncio.timeout(PATIENCE_S):
        await done.wait()


async def test_a_stop_leaves_no_template(scene: Scene) -> None:
    await scene.load()
    await scene.core.wallet.templates.get(1000)
    assert await scene.node.invoice_by_label("nwc:template:0")
    await scene.core.stop()
    assert await scene.node.invoice_by_label("nwc:template:0") is None


async def test_a_stop_while_lightningd_is_away(scene: Scene) -> None:
    await scene.load()
    await scene.core.wallet.templates.get(1000)
    scene.node.away = True
    await scene.core.stop()
    scene.node.away = False
    assert await scene.node.invoice_by_label("nwc:template:0"), "it goes at the next start"


async def test_a_slow_start_is_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        scene.service._note_not_loaded(NodeUnavailableError("listdatastore: away"))
    told = [record for record in caplog.records if record.levelname != "DEBUG"]
    assert [record.message for record in told] == ["connections are not loaded yet: listdatastore: away"]
    assert told[0].levelname == "INFO"


# A change of a connection whose answer is lost


@pytest.fixture
def lost(scene: Scene) -> Callable[[], None]:
    """Return what has the answer to the next write to the datastore get lost."""
    call = scene.node.call

    async def lose(method: str, **params: Any) -> Any:
        answer = await call(method, **params)
        if method == "datastore":
            scene.node.call = call  # type: ignore[method-assign]
            raise NodeUnavailableError("datastore: lost")
        return answer

    def lose_next() -> None:
        scene.node.call = lose  # type: ignore[method-assign]

    return lose_next


async def stored(scene: Scene, record: Connection) -> str | None:
    return await scene.node.datastore_get(("nwc", "connections", record.client_pubkey))


async def test_a_connection_that_nobody_was_shown(scene: Scene, lost: Callable[[], None]) -> None:
    await scene.load()
    record = replace(APP, name="another", client_pubkey=KeyPair.generate().public_key)
    lost()
    with pytest.raises(NodeUnavailableError):
        await scene.core.manager.create(record)
    assert await stored(scene, record)
    with pytest.raises(ManagementError, match="being deleted"):
        await scene.core.manager.create(record)
    await until(lambda: not scene.core.manager._in_doubt)
    await scene.core.manager.create(record)
    assert await stored(scene, record) == record.to_json()


async def test_a_change_that_was_refused(scene: Scene, lost: Callable[[], None]) -> None:
    """It does not come to be after the next start."""
    await scene.load()
    lost()
    with pytest.raises(NodeUnavailableError):
        await scene.core.manager.change(
            "app", lambda old: replace(old, budget=Budget(BudgetKind.UNLIMITED))
        )
    assert await stored(scene, APP) != APP.to_json()
    await until(lambda: not scene.core.manager._in_doubt)
    assert await stored(scene, APP) == APP.to_json()


# While the books are not read


@pytest.fixture
def unread(scene: Scene) -> Callable[[], None]:
    """Have lightningd fail to list the books; returns what ends that."""

    async def fail(method: str, params: Any) -> None:
        if method == "listdatastore" and params["key"][:2] in (["nwc", "ledgers"], ["nwc", "payments"]):
            raise NodeUnavailableError("listdatastore: OverflowError")

    def mend() -> None:
        scene.node.before = None

    scene.node.before = fail
    return mend


async def test_the_owner_can_end_a_connection_while_the_books_are_not_read(
    scene: Scene, unread: Callable[[], None]
) -> None:
    await scene.service._load(scene.core)
    shown = await commands.list_(scene.core, "app")
    assert "still reading its books" in shown["connections"][0]["budget"]["warning"]
    assert "still reading its books" in (await commands.status(scene.core))["warning"]
    assert (await commands.revoke(scene.core, "app"))["revoked"]
    assert names(scene) == []
    assert not scene.core.payments.is_started
    unread()
    await scene.node.called(lambda: scene.core.payments.is_started)
    assert "warning" not in await commands.status(scene.core)


async def test_apps_receive_while_the_books_are_not_read(
    scene: Scene, unread: Callable[[], None]
) -> None:
    """What comes in is counted too, and is there when the books are read."""
    await scene.service._load(scene.core)
    await scene.follows()
    call = Call(f"{1:064x}", {"amount": 5000}, APP)
    made = await make_invoice(scene.core.wallet, call)
    scene.node.before = None
    ledgers = scene.core.payments.ledgers
    await scene.world.pay(request_label(APP.id, call.request_id))
    await scene.dealt_with(1)
    assert made["invoice"]
    assert (await ledgers.of(APP.client_pubkey)).received_msat == 5000


async def test_what_a_connection_that_is_not_served_receives_is_counted(scene: Scene) -> None:
    """Its record is of another version of the plugin; with that one it may spend what came in."""
    key = ("nwc", "connections", APP.client_pubkey)
    await scene.node.datastore_put(key, '{"version":99}')
    await scene.load()
    assert not served(scene, APP)
    await paid(scene, APP, 1, 5000)
    await scene.dealt_with(1)
    assert (await scene.ledger()).received_msat == 5000


async def test_the_payments_of_a_revoked_connection_are_read_after_a_start(scene: Scene) -> None:
    await scene.core.payments.records.keep(APP.id, settled(1, created_at=int(time.time())))
    await scene.load()
    await scene.core.manager.revoke("app")
    again = Scene(scene.node.lightningd)
    await again.load()
    await again.node.called(lambda: again.lists("nwc", "payments", APP.id))
    await until(lambda: again.core.payments.records.count_settled(APP.id) == 1)
    await again.core.stop()
    again.service._loop.close()
