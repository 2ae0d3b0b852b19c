"""How the service connects its parts. The parts have their own tests; tests/wire test the whole."""

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
from nwc.wallet.connections.record import Connection, ConnectionStore, Pairing, View
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

# No relay listens here.
RELAY = "ws://127.0.0.1:9"
APP = Connection(
    "app", CLIENT.public_key, (RELAY,), START, budget=Budget(BudgetKind.RECEIVED, since=START)
)
PENDING = ("nwc", "notifications", "pending", APP.client_pubkey)


class Scene:
    """An App over a node. There is no relay, so notifications stay pending in the datastore."""

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
        self.app = App(settings, self.node, ChainTip())
        self.service = Service(settings)
        self.service._node = self.node
        self.service._app = asyncio.get_running_loop().create_future()
        self.late: list[PaymentRecord] = []
        self.app.server.answer_payment = self._answer_late  # type: ignore[method-assign]

    async def _answer_late(self, client_pubkey: str, record: PaymentRecord) -> None:
        self.late.append(record)

    async def load(self) -> None:
        """Start the service; wait until the books are read and paid invoices are followed."""
        await self.service._load(self.app)
        await self.node.called(lambda: self.has_listed("nwc", "revoked"))
        await self.until_following()

    async def until_following(self) -> None:
        """Wait until paid invoices are followed."""

        def follows(method: str, params: dict[str, Any]) -> bool:
            return method == "waitanyinvoice" and "timeout" not in params

        await self.node.called(lambda: any(follows(*call) for call in self.node.calls))

    def has_listed(self, *key: str) -> bool:
        """Return True if lightningd was asked to list this key."""
        return ("listdatastore", {"key": list(key)}) in self.node.calls

    async def ledger(self) -> Ledger:
        return await self.app.payments.ledgers.of(APP.client_pubkey)

    async def until_handled(self, pay_index: int) -> None:
        """Wait until the stored position is at a paid invoice."""
        key = ("nwc", "notifications", "position")

        def position() -> str:
            return str(listdatastore(self.node.lightningd, key)["datastore"][0]["string"])

        await self.node.called(lambda: position() == str(pay_index))

    async def pending_notifications(self) -> list[str]:
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
    await scene.app.stop()
    scene.service._loop.close()


OFF = pytest.mark.parametrize("scene", [{"notifications": False}], indirect=True)


async def receive(scene: Scene, asking: Connection, number: int, amount_msat: int) -> None:
    made = await scene.world.invoice(asking, number, amount_msat=amount_msat)
    await scene.world.pay(made["label"])


async def test_a_received_payment_is_counted_and_notified(scene: Scene) -> None:
    await scene.load()
    await receive(scene, APP, 1, 5000)
    await scene.until_handled(1)
    await receive(scene, APP, 2, 7000)
    await scene.until_handled(2)
    ledger = await scene.ledger()
    assert (ledger.received_msat, ledger.received_pay_index) == (12_000, 2)
    assert await scene.pending_notifications() == ["1", "2"]


@OFF
async def test_a_received_payment_is_counted_without_notifications(scene: Scene) -> None:
    await scene.node.datastore_put((*PENDING, "7"), "1")
    await scene.load()
    await receive(scene, APP, 1, 5000)
    await scene.until_handled(1)
    assert (await scene.ledger()).received_msat == 5000
    assert await scene.pending_notifications() == []


async def test_payments_to_others_are_not_counted(scene: Scene) -> None:
    await scene.load()
    other = Connection("other", "a1" * 32, (RELAY,), START, view=View.NODE)
    await receive(scene, other, 1, 5000)
    await scene.node.invoice(amount_msat=1000, label="shop", description="", expiry=60)
    await scene.world.pay("shop")
    await scene.until_handled(2)
    assert await scene.ledger() == Ledger()
    assert await scene.pending_notifications() == []


async def test_a_payment_whose_notification_fails_is_counted_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lightningd fails after the amount is counted, so counting and notifying are retried."""
    monkeypatch.setattr("nwc.wallet.paid_invoices.RETRY_FIRST_S", 0)
    await scene.load()

    async def fail_once(method: str, params: dict[str, Any]) -> None:
        if method == "datastore" and "pending" in params["key"]:
            scene.node.before = None
            await scene.world.dev("dev-fail", method="datastore", code=-1, message="busy", times=1)

    scene.node.before = fail_once
    await receive(scene, APP, 1, 5000)
    await scene.until_handled(1)
    assert (await scene.ledger()).received_msat == 5000
    assert await scene.pending_notifications() == ["1"]


@OFF
async def test_a_sent_payment_is_not_notified_without_notifications(scene: Scene) -> None:
    await scene.load()
    await scene.app.notifier.payment_sent(APP.id, settled(1))
    assert await scene.pending_notifications() == []


async def test_a_payment_sent_before_the_start_is_notified(scene: Scene) -> None:
    """Its notification is stored once lightningd accepts it. Only then does the ledger forget it."""
    record = settled(1, created_at=int(time.time()))
    request_id = record.payment.request_id
    await scene.app.payments.records.keep(APP.id, record)
    await scene.app.payments.ledgers.change(
        APP.client_pubkey, lambda _: Ledger(total_spent_msat=1007, unannounced=(request_id,))
    )

    async def fail_once(method: str, params: dict[str, Any]) -> None:
        if method == "datastore" and "pending" in params["key"]:
            scene.node.before = None
            await scene.world.dev("dev-fail", method="datastore", code=-1, message="busy", times=1)

    scene.node.before = fail_once
    await scene.load()
    ledgers = scene.app.payments.ledgers
    await scene.node.called(lambda: not ledgers.known(APP.client_pubkey).unannounced)
    assert await scene.pending_notifications() == [f"sent-{APP.id}-{request_id}"]


async def test_pending_payments_are_followed_once(scene: Scene) -> None:
    """Even if lightningd fails during the start, each is answered once."""
    payment = settled(1).payment
    await scene.app.payments.ledgers.change(
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
    await scene.app.payments.stop()
    ended = await scene.app.payments.records.get(APP.id, payment.request_id)
    assert ended is not None
    assert ended.is_settled
    assert failures < 0
    assert [record.payment.request_id for record in scene.late] == [payment.request_id]
    assert (await scene.ledger()).total_spent_msat == 1000


async def test_a_connection_with_a_damaged_ledger_can_be_revoked(scene: Scene) -> None:
    """The ledger is kept: it may have pending payments."""
    key = ("nwc", "ledgers", APP.client_pubkey)
    await scene.node.datastore_put(key, "{}")
    await scene.load()
    await scene.app.manager.revoke("app")
    assert len(scene.app.connections) == 0
    assert await scene.node.datastore_get(key) == "{}"


OTHER = replace(APP, name="other", client_pubkey=KeyPair.from_secret(bytes([7]) * 32).public_key)


@pytest.fixture
def refuse_changes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | None], None]:
    """Return a function that makes lightningd refuse changes of records; None ends this."""
    monkeypatch.setattr(manager, "_RETRY_FIRST_S", 0.01)
    faults: list[Exception | None] = [None]

    async def fail(method: str, params: Any) -> None:
        if method in ("datastore", "deldatastore") and "connections" in params["key"] and faults[-1]:
            raise faults[-1]

    def begin(fault: Exception | None) -> None:
        faults.append(fault)
        # A deletion that can succeed has enough time, even on a busy machine.
        monkeypatch.setattr(manager, "_DELETION_PATIENCE_S", PATIENCE_S if fault is None else 0.01)

    scene.node.before = fail
    return begin


def served(scene: Scene, record: Connection) -> bool:
    return scene.app.connections.of_client(record.client_pubkey) is not None


def names(scene: Scene) -> list[str]:
    listed = listdatastore(scene.node.lightningd, ("nwc", "connections"))["datastore"]
    return [json.loads(entry["string"])["name"] for entry in listed]


@pytest.mark.parametrize(
    "fault", [NodeUnavailableError("away"), RpcCallError("deldatastore", -1, "disk full")]
)
async def test_a_connection_is_revoked_at_once_and_deleted_when_lightningd_can(
    scene: Scene, refuse_changes: Callable[..., None], caplog: pytest.LogCaptureFixture, fault: NodeError
) -> None:
    """An owner who revokes may be losing money."""
    caplog.set_level("INFO")
    await scene.load()
    await receive(scene, APP, 1, 5000)
    refuse_changes(fault)
    for _ in range(2):
        with pytest.raises(StillStoredError, match="'app' is revoked, but"):
            await scene.app.manager.revoke("app")
        assert not served(scene, APP)
    assert "connection 'app' is revoked, but" in caplog.text
    assert "'app' revoked" not in caplog.text
    with pytest.raises(ManagementError, match=r"pubkey: .*being deleted"):
        await scene.app.manager.create(replace(APP, name="again"))
    with pytest.raises(ManagementError, match=r"name: .*being deleted"):
        await scene.app.manager.create(replace(OTHER, name="app"))
    refuse_changes(None)
    await until(lambda: "'app' revoked" in caplog.text)
    assert names(scene) == []
    await scene.app.manager.create(APP)
    assert (await scene.ledger()).received_msat == 0


async def test_others_can_be_revoked_while_a_deletion_fails(
    scene: Scene, refuse_changes: Callable[..., None]
) -> None:
    await ConnectionStore(scene.node).create(OTHER)
    await scene.load()
    refuse_changes(RpcCallError("deldatastore", -1, "disk full"))
    for record in (APP, OTHER):
        with pytest.raises(StillStoredError):
            await scene.app.manager.revoke(record.name)
        assert not served(scene, record)


@pytest.mark.parametrize("later", [-1, 1])
async def test_of_two_connections_with_one_name_the_newer_is_served(
    scene: Scene, caplog: pytest.LogCaptureFixture, later: int
) -> None:
    """The older one may be a connection whose deletion failed."""
    other = replace(OTHER, name="app", created_at=START + later)
    await ConnectionStore(scene.node).create(other)
    await scene.load()
    newest, older = (other, APP) if later > 0 else (APP, other)
    assert served(scene, newest)
    assert not served(scene, older)
    assert f"connection {older.id} is not served: a newer one has the same name" in caplog.text


async def test_a_pending_change_does_not_bring_a_revoked_connection_back(scene: Scene) -> None:
    await scene.load()
    is_stored = asyncio.Event()

    async def hang(method: str, _: Any) -> None:
        if method == "datastore":
            await is_stored.wait()

    scene.node.before = hang
    changing = asyncio.create_task(
        scene.app.manager.change("app", lambda old: replace(old, name="renamed"))
    )
    await asyncio.sleep(0)
    revoking = asyncio.create_task(scene.app.manager.revoke("app"))
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
async def test_a_later_change_does_not_bring_a_removed_budget_back(
    scene: Scene, more: dict[str, Any], problem: str
) -> None:
    """A change that begins while another is being stored starts from its result."""
    await scene.load()
    await commands.update(scene.app, "app", budget="50000sat", renewal="weekly")
    is_storing, is_stored = asyncio.Event(), asyncio.Event()

    async def hang(method: str, _: Any) -> None:
        if method == "datastore":
            is_storing.set()
            await is_stored.wait()

    scene.node.before = hang
    removing = asyncio.create_task(commands.update(scene.app, "app", budget="nothing"))
    await is_storing.wait()
    changing = asyncio.create_task(commands.update(scene.app, "app", **more))
    await asyncio.sleep(0)
    is_stored.set()
    await removing
    if problem:
        with pytest.raises(commands.ArgumentError, match=problem):
            await changing
    else:
        await changing
    [live] = scene.app.connections.all()
    assert live.record.budget == Budget()
    assert json.loads(str(await stored(scene, APP)))["budget"]["kind"] == "nothing"


async def test_names_that_differ_in_their_normal_form_are_both_served(scene: Scene) -> None:
    """Earlier versions stored such names. Both connections can be revoked."""
    composed = replace(OTHER, name="café")
    decomposed = replace(APP, name="cafe\u0301")
    await ConnectionStore(scene.node).replace(decomposed)
    await ConnectionStore(scene.node).create(composed)
    await scene.load()
    assert scene.app.manager.find("café").record == composed
    assert scene.app.manager.find("cafe\u0301").record == decomposed
    both = [asyncio.create_task(scene.app.manager.revoke(r.name)) for r in (composed, decomposed)]
    assert [(await task).record for task in both] == [composed, decomposed]
    assert names(scene) == []


async def test_a_repeated_revoke_finds_a_name_in_another_form(
    scene: Scene, refuse_changes: Callable[[Exception | None], None]
) -> None:
    await ConnectionStore(scene.node).replace(replace(APP, name="café"))
    await scene.load()
    refuse_changes(NodeUnavailableError("away"))
    for form in ("cafe\u0301", "café"):
        with pytest.raises(StillStoredError):
            await scene.app.manager.revoke(form)
    refuse_changes(None)
    assert (await scene.app.manager.revoke("cafe\u0301")).record.name == "café"


async def test_a_stored_name_can_be_changed_to_its_normal_form(scene: Scene) -> None:
    await ConnectionStore(scene.node).replace(replace(APP, name="cafe\u0301"))
    await scene.load()
    await scene.app.manager.change("café", lambda old: replace(old, name="café"))
    assert names(scene) == ["café"]
    with pytest.raises(ManagementError, match="there is a connection 'café' already"):
        await scene.app.manager.create(replace(OTHER, name="café"))


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
        monkeypatch.setattr(scene.app.payments.payer, command, send)

    writing = asyncio.Event()
    scene.node.before = hang
    paying = asyncio.create_task(scene.app.payments.pay(rich, settled(1).payment, CommandParams()))
    await writing.wait()
    revoking = asyncio.create_task(scene.app.manager.revoke("other"))
    await asyncio.sleep(0)
    is_stored.set()
    with pytest.raises(Nip47Error, match="this connection is revoked or has expired") as caught:
        await paying
    assert caught.value.code == "UNAUTHORIZED"
    await revoking


async def test_a_revoked_connection_leaves_no_ledger(scene: Scene) -> None:
    await scene.load()
    await receive(scene, APP, 1, 5000)
    await scene.until_handled(1)
    key = ("nwc", "ledgers", APP.client_pubkey)
    assert await scene.node.datastore_get(key)
    await scene.app.manager.revoke("app")
    assert await scene.node.datastore_get(key) is None
    with pytest.raises(Nip47Error, match="revoked"):
        scene.app.payments._budget_of(APP.client_pubkey, START)


async def test_a_command_has_a_timeout(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It continues after the timeout, since it must not be left half done."""
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", 0.05)
    may_finish, done = asyncio.Event(), asyncio.Event()

    async def command(app: App) -> None:
        await may_finish.wait()
        done.set()

    with pytest.raises(TimeoutError):  # lightningd has not answered yet
        await scene.service._in_time(command)
    await scene.load()
    with pytest.raises(TimeoutError):
        await scene.service._in_time(command)
    may_finish.set()
    async with asyncio.timeout(PATIENCE_S):
        await done.wait()


async def test_a_stop_leaves_no_template(scene: Scene) -> None:
    await scene.load()
    await scene.app.wallet.templates.get(1000)
    assert await scene.node.invoice_by_label("nwc:template:0")
    await scene.app.stop()
    assert await scene.node.invoice_by_label("nwc:template:0") is None


async def test_a_stop_without_lightningd_leaves_the_template(scene: Scene) -> None:
    await scene.load()
    await scene.app.wallet.templates.get(1000)
    scene.node.away = True
    await scene.app.stop()
    scene.node.away = False
    assert await scene.node.invoice_by_label("nwc:template:0"), "the next start deletes it"


async def test_a_slow_start_is_logged_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        scene.service._log_failure(NodeUnavailableError("listdatastore: away"))
    logged = [record for record in caplog.records if record.levelname != "DEBUG"]
    assert [record.message for record in logged] == [
        "the connections are not loaded yet: listdatastore: away"
    ]
    assert logged[0].levelname == "INFO"


# Changes of a connection whose answer is lost


@pytest.fixture
def lose_next_answer(scene: Scene) -> Callable[[], None]:
    """Return a function that drops the answer to the next write to the datastore."""
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


async def test_a_connection_whose_creation_failed_is_deleted(
    scene: Scene, lose_next_answer: Callable[[], None]
) -> None:
    await scene.load()
    record = replace(APP, name="another", client_pubkey=KeyPair.generate().public_key)
    lose_next_answer()
    with pytest.raises(NodeUnavailableError):
        await scene.app.manager.create(record)
    assert await stored(scene, record)
    with pytest.raises(ManagementError, match="being deleted"):
        await scene.app.manager.create(record)
    await until(lambda: not scene.app.manager._in_doubt)
    await scene.app.manager.create(record)
    assert await stored(scene, record) == record.to_json()


async def test_a_failed_change_is_undone(scene: Scene, lose_next_answer: Callable[[], None]) -> None:
    """Otherwise it would take effect at the next start."""
    await scene.load()
    lose_next_answer()
    with pytest.raises(NodeUnavailableError):
        await scene.app.manager.change(
            "app", lambda old: replace(old, budget=Budget(BudgetKind.UNLIMITED))
        )
    assert await stored(scene, APP) != APP.to_json()
    await until(lambda: not scene.app.manager._in_doubt)
    assert await stored(scene, APP) == APP.to_json()


# Before the books are read


@pytest.fixture
def end_failure(scene: Scene) -> Callable[[], None]:
    """Make lightningd fail to list the books; return a function that ends this."""

    async def fail(method: str, params: Any) -> None:
        if method == "listdatastore" and params["key"][:2] in (["nwc", "ledgers"], ["nwc", "payments"]):
            raise NodeUnavailableError("listdatastore: OverflowError")

    def mend() -> None:
        scene.node.before = None

    scene.node.before = fail
    return mend


async def test_a_connection_can_be_revoked_before_the_books_are_read(
    scene: Scene, end_failure: Callable[[], None]
) -> None:
    await scene.service._load(scene.app)
    shown = await commands.list_(scene.app, "app")
    assert "still reading its books" in shown["connections"][0]["budget"]["warning"]
    assert "still reading its books" in (await commands.status(scene.app))["warning"]
    assert (await commands.revoke(scene.app, "app"))["revoked"]
    assert names(scene) == []
    assert not scene.app.payments.is_started
    end_failure()
    await scene.node.called(lambda: scene.app.payments.is_started)
    assert "warning" not in await commands.status(scene.app)


async def test_apps_receive_before_the_books_are_read(
    scene: Scene, end_failure: Callable[[], None]
) -> None:
    """The amount is counted too, and is still there when the books are read."""
    await scene.service._load(scene.app)
    await scene.until_following()
    call = Call(f"{1:064x}", {"amount": 5000}, APP)
    made = await make_invoice(scene.app.wallet, call)
    scene.node.before = None
    ledgers = scene.app.payments.ledgers
    await scene.world.pay(request_label(APP.id, call.request_id))
    await scene.until_handled(1)
    assert made["invoice"]
    assert (await ledgers.of(APP.client_pubkey)).received_msat == 5000


async def test_payments_to_an_unserved_connection_are_counted(scene: Scene) -> None:
    """Another version of the plugin wrote its record and may let it spend this amount."""
    key = ("nwc", "connections", APP.client_pubkey)
    await scene.node.datastore_put(key, '{"version":99}')
    await scene.load()
    assert not served(scene, APP)
    await receive(scene, APP, 1, 5000)
    await scene.until_handled(1)
    assert (await scene.ledger()).received_msat == 5000


async def test_the_payments_of_a_revoked_connection_are_read_at_the_next_start(scene: Scene) -> None:
    await scene.app.payments.records.keep(APP.id, settled(1, created_at=int(time.time())))
    await scene.load()
    await scene.app.manager.revoke("app")
    again = Scene(scene.node.lightningd)
    await again.load()
    await again.node.called(lambda: again.has_listed("nwc", "payments", APP.id))
    await until(lambda: again.app.payments.records.count_settled(APP.id) == 1)
    await again.app.stop()
    again.service._loop.close()


# Pairing


async def test_the_state_of_a_pairing_is_dropped_at_the_first_request(
    scene: Scene, lose_next_answer: Callable[[], None]
) -> None:
    """If it cannot be stored, the next request tries again."""
    await scene.load()
    manager = scene.app.manager
    paired = replace(OTHER, pairing=Pairing.WALLETAUTH, state="9f2c4a")
    live = await manager.create(paired)
    lose_next_answer()
    manager.note_request(live)
    await until(lambda: not manager._found)
    assert live.record == paired
    await until(lambda: not manager._in_doubt)
    assert await stored(scene, paired) == paired.to_json()
    for _ in range(3):
        manager.note_request(live)
    await until(lambda: not manager._found)
    assert live.record == replace(paired, state=None)
    assert await stored(scene, paired) == live.record.to_json()


async def test_the_state_is_not_dropped_from_another_connection_with_the_name(scene: Scene) -> None:
    await scene.load()
    first = await scene.app.manager.create(replace(OTHER, state="9f2c4a"))
    await scene.app.manager.revoke(OTHER.name)
    key = KeyPair.generate().public_key
    second = await scene.app.manager.create(replace(OTHER, client_pubkey=key, state="5a5a5a"))
    scene.app.manager.note_request(first)
    await until(lambda: not scene.app.manager._found)
    assert second.record.state == "5a5a5a"
