"""nwc-forget over the test double of lightningd, without relays."""

# ruff: noqa: F811 - the fixture `scene`
import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from nwc import commands, origin
from nwc.cln.errors import NodeError, NodeUnavailableError
from nwc.commands.forget import _BY_HAND, _BY_RECKLESS, _GO_ON
from nwc.wallet import stored_data
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.connections.manager import ManagementError
from nwc.wallet.connections.record import Connection
from nwc.wallet.spending.payment import CommandParams, Payment
from tests.double.datastore import _below
from tests.unit.helpers import STRANGER
from tests.unit.in_process import START
from tests.unit.test_service import APP, RELAY, Scene, receive, scene  # noqa: F401
from tests.unit.wallet.scene import settled

OTHER = Connection("other", STRANGER.public_key, (RELAY,), START)


def keys(scene: Scene) -> list[tuple[str, ...]]:
    """Return the keys of all records of the plugin."""
    return [key for key, _, _ in _below(scene.node.lightningd, ("nwc",))]


async def fill(scene: Scene) -> None:
    """Store records of each kind."""
    node, records = scene.node, scene.app.payments.records
    await scene.app.connect(OTHER)
    await receive(scene, APP, 1, 5000)
    await scene.until_handled(1)
    for number in range(1, 21):
        await records.keep(APP.id, settled(number))
    await node.datastore_put(("nwc", "payments", APP.id, "77" * 32), settled(99).to_json())
    for number in range(3):
        key = ("nwc", "invoices", APP.id, f"{number:064x}", "record")
        await node.datastore_put(key, '{"version":1,"metadata":{"a":1}}')
    await node.datastore_put(("nwc", "late_payments"), '{"version":1,"first_index":1}')
    await node.datastore_put(("nwc", "refused", APP.client_pubkey), '{"version":1,"until":5}')
    await node.datastore_put(("nwc", "stops", APP.client_pubkey), "x")
    await node.datastore_put(("nwc", "revoked", "66" * 8), "1")
    await node.datastore_put(("nwc", "of a newer version", "a", "b", "c"), "x")
    await node.datastore_put(("another plugin", "x"), "stays")


async def test_without_confirmation_nothing_is_deleted(scene: Scene) -> None:
    await scene.load()
    await fill(scene)
    before = keys(scene)
    for confirm in (None, False, "false"):
        shown = await commands.forget(scene.app, confirm)
    assert keys(scene) == before
    assert shown["forgotten"] is False
    assert shown["connections"] == ["app", "other"]
    assert shown["records"] == {
        "connections": 2,
        "invoices": 3,
        "late_payments": 1,
        "ledgers": 1,
        "notifications": 2,
        "of a newer version": 1,
        "payments": 21,
        "refused": 1,
        "revoked": 1,
        "stops": 1,
    }
    assert sum(shown["records"].values()) == len(before)
    assert shown["bytes"] > 5000
    assert "nwc-forget confirm=true" in shown["next"]
    assert "warning" not in shown


async def test_it_ends_all_connections_and_deletes_everything(scene: Scene) -> None:
    await scene.load()
    await fill(scene)
    stored = len(keys(scene))
    shown = await commands.forget(scene.app, confirm=True)
    assert shown == {
        "forgotten": True,
        "connections_ended": 2,
        "records_deleted": stored,
        "next": _BY_HAND,
    }
    assert keys(scene) == []
    assert await scene.node.datastore_get(("another plugin", "x")) == "stays"
    assert len(scene.app.connections) == 0
    assert (await commands.forget(scene.app))["records"] == {}


async def test_the_command_that_removes_the_plugin_fits_its_installation(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await scene.load()
    monkeypatch.setattr(origin, "find_origin", lambda: origin.Origin(origin.RECKLESS, Path("/x")))
    assert (await commands.forget(scene.app, confirm=True))["next"] == _BY_RECKLESS


async def test_later_payments_and_sweeps_store_nothing(scene: Scene) -> None:
    """An earlier invoice is paid, and the hourly sweeps look for late payments."""
    await scene.load()
    made = await scene.world.invoice(APP, 1, amount_msat=5000)
    await commands.forget(scene.app, confirm=True)
    await scene.world.pay(made["label"])
    await scene.app._unless_forgotten(scene.app.payments.records.sweep)
    await scene.app._unless_forgotten(scene.app.late_payments.sweep)
    for _ in range(100):  # the payment would be handled within these iterations
        await asyncio.sleep(0)
    assert keys(scene) == []


async def test_a_new_connection_with_the_same_key_starts_empty(scene: Scene) -> None:
    """No earlier budget, payment, suspension or refusal is left."""
    await scene.load()
    await fill(scene)
    await commands.forget(scene.app, confirm=True)
    await commands.connect(scene.app, "again", pubkey=APP.client_pubkey, budget="received")
    payments = scene.app.payments
    assert (await scene.ledger()).received_msat == 0
    await payments.records.ready(APP.id)
    assert payments.records.between(APP.id, None, None, settled_only=False) == []
    assert not payments.breaker.is_suspended(APP.client_pubkey)
    assert not payments.refusals.is_refused(APP.client_pubkey, 5)
    live = scene.app.connections.named("again")
    assert live is not None
    await scene.node.called(lambda: ("nwc", "notifications", "position") in keys(scene))
    await receive(scene, live.record, 2, 7000)
    await scene.until_handled(2)
    assert (await scene.ledger()).received_msat == 7000


async def test_it_is_refused_while_payments_are_pending(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.load()
    await fill(scene)
    held = asyncio.Event()

    async def send(*_: Any, **__: Any) -> Any:
        held.set()
        await asyncio.Event().wait()

    spending = Connection(
        "spending", "ab" * 32, (RELAY,), START, budget=Budget(BudgetKind.UNLIMITED, since=START)
    )
    scene.app.connections.add(await scene.app.manager._live(spending))
    wanted = Payment("55" * 32, START, "pay_keysend", "nip44_v2", START, 1000, 10, None, None, "02" * 33)
    monkeypatch.setattr(scene.app.payments.payer, "keysend", send)
    paying = asyncio.create_task(scene.app.payments.pay(spending, wanted, CommandParams()))
    await held.wait()
    before = keys(scene)
    assert (await commands.forget(scene.app))["pending_payments"] == 1
    with pytest.raises(ManagementError, match="1 payments are pending"):
        await commands.forget(scene.app, confirm=True)
    assert keys(scene) == before
    assert len(scene.app.connections) == 3
    paying.cancel()


async def test_it_is_refused_before_the_books_are_read(scene: Scene) -> None:
    await scene.app.manager.load()
    with pytest.raises(ManagementError, match="still reading"):
        await commands.forget(scene.app, confirm=True)
    assert keys(scene)


async def test_the_next_call_deletes_the_rest_after_a_timeout(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await scene.load()
    await fill(scene)
    stored = len(keys(scene))

    async def hang_at_the_payments(method: str, params: Any) -> None:
        if method == "deldatastore" and params["key"][1] == "payments":
            await asyncio.Event().wait()

    scene.node.before = hang_at_the_payments
    monkeypatch.setattr(stored_data.StoredData.delete_all, "__defaults__", (0.2,))
    shown = await commands.forget(scene.app, confirm=True)
    assert (shown["forgotten"], shown["connections_ended"], shown["next"]) == (False, 2, _GO_ON)
    assert not any(key[1] == "connections" for key in keys(scene))
    scene.node.before = None
    monkeypatch.undo()
    rest = await commands.forget(scene.app, confirm=True)
    assert (rest["forgotten"], rest["connections_ended"]) == (True, 0)
    assert shown["records_deleted"] + rest["records_deleted"] == stored
    assert keys(scene) == []


@pytest.mark.parametrize("at", [1, 2, 9, 30])
async def test_the_next_call_deletes_the_rest_after_a_fault(scene: Scene, at: int) -> None:
    await scene.load()
    await fill(scene)
    left = at

    async def fail(method: str, _: Any) -> None:
        nonlocal left
        left -= method == "deldatastore"
        if left <= 0:
            raise NodeUnavailableError("away")

    scene.node.before = fail
    with pytest.raises(NodeError):
        await commands.forget(scene.app, confirm=True)
    scene.node.before = None
    assert len(scene.app.connections) == 0
    assert (await commands.forget(scene.app, confirm=True))["forgotten"]
    assert keys(scene) == []


async def test_a_listing_that_fails_is_named(scene: Scene) -> None:
    """Such as one that is longer than the plugin accepts. The rest is deleted."""
    await scene.load()
    await fill(scene)
    key = ["nwc", "payments", APP.id]

    async def fail(method: str, params: Any) -> None:
        if method == "listdatastore" and params["key"] == key:
            raise NodeUnavailableError("listdatastore: OverflowError")

    scene.node.before = fail
    assert "there is more" in (await commands.forget(scene.app))["warning"]
    shown = await commands.forget(scene.app, confirm=True)
    assert shown["forgotten"] is False
    assert shown["could_not_be_listed"] == [key]
    assert {stored[:3] for stored in keys(scene)} == {tuple(key)}


async def test_a_record_that_is_stored_meanwhile_is_deleted(scene: Scene) -> None:
    await scene.load()
    await fill(scene)
    late = iter([("nwc", "invoices", APP.id, "88" * 32, "record")])

    async def store_one_more(method: str, params: Any) -> None:
        if method == "deldatastore" and params["key"][1] == "stops" and (key := next(late, None)):
            await scene.node.datastore_put(key, json.dumps({"version": 1, "metadata": None}))

    scene.node.before = store_one_more
    assert (await commands.forget(scene.app, confirm=True))["forgotten"]
    assert keys(scene) == []


async def test_a_connection_is_made_only_after_the_deletion(scene: Scene) -> None:
    """Otherwise it would be served without a record."""
    await scene.load()
    making: list[asyncio.Task[Any]] = []

    async def connect(method: str, _: Any) -> None:
        if method == "deldatastore" and not making:
            making.append(asyncio.create_task(commands.connect(scene.app, "late")))
            await asyncio.sleep(0)

    scene.node.before = connect
    assert (await commands.forget(scene.app, confirm=True))["connections_ended"] == 1
    await making[0]
    assert any(key[1] == "connections" for key in keys(scene))
