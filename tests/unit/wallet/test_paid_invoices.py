"""Paid invoices are handled once, in order; here by a notifier."""

import asyncio

import pytest

from nwc.cln.errors import NodeUnavailableError
from nwc.cln.node import Json
from nwc.wallet import paid_invoices
from nwc.wallet.labels import request_label
from nwc.wallet.paid_invoices import PaidInvoices, Receipts
from tests.unit.wallet.scene import FOR_EVER, Scene, crash_at


async def test_invoices_paid_before_the_first_start_are_not_notified(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.paid(shop, 1)
    await scene.start()
    assert scene.position == 1
    new = await scene.paid(shop, 2)
    await scene.handled(2)
    assert scene.notified() == [("shop", new)]


async def test_invoices_paid_while_the_plugin_was_stopped_are_notified_once(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    await scene.stop()
    made = [await scene.paid(shop, n) for n in range(3)]
    await scene.restart()
    await scene.handled(3)
    await scene.restart()
    assert scene.notified() == [("shop", payment_hash) for payment_hash in made]


async def test_a_stop_lets_the_current_invoice_finish(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    scene.pool.holds.clear()
    made = await scene.paid(shop, 1)
    await scene.pool.until(lambda: len(scene.pool.attempts) == 2)
    stopping = asyncio.create_task(scene.stop(FOR_EVER))
    await asyncio.wait([stopping], timeout=0)
    scene.pool.holds.set()
    await stopping
    assert scene.position == 1
    await scene.restart()
    last = await scene.paid(shop, 2)
    await scene.handled(2)
    assert scene.notified() == [("shop", made), ("shop", last)]


@pytest.mark.parametrize("timeout_s", [0, 0.01], ids=["crash", "stop"])
async def test_a_stop_or_crash_while_notifying_loses_nothing(scene: Scene, timeout_s: float) -> None:
    """A stop does not wait for a relay for ever."""
    shop = scene.connect("shop")
    await scene.start()
    scene.pool.holds.clear()
    made = await scene.paid(shop, 1)
    await scene.pool.until(lambda: len(scene.pool.attempts) == 2)
    await scene.stop(timeout_s)
    assert scene.position == 0
    scene.pool.holds.set()
    await scene.restart()
    await scene.handled(1)
    assert scene.notified() == [("shop", made)]


def is_position(method: str, params: Json) -> bool:
    return method == "datastore" and params["key"][2] == "position"


async def test_a_crash_before_the_position_is_stored_notifies_twice(scene: Scene) -> None:
    """Delivery is at least once."""
    shop = scene.connect("shop")
    await scene.start()
    made = await scene.paid(shop, 1)
    await crash_at(scene, is_position)
    assert scene.position == 0
    await scene.restart()
    await scene.handled(1)
    await scene.restart()
    assert scene.notified() == [("shop", made)] * 2


async def test_a_crash_between_pending_and_position_notifies_once(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = await scene.paid(shop, 1)
    await crash_at(scene, is_position)
    assert scene.pending == [("shop", "1")]
    await scene.restart()
    await scene.handled(1)
    scene.relay_is_back()
    await scene.nothing_pending()
    later = await scene.paid(shop, 2)
    await scene.handled(2)
    await scene.nothing_pending()
    assert scene.notified() == [("shop", made), ("shop", later)]


async def test_a_crash_before_the_notification_is_stored_loses_nothing(scene: Scene) -> None:
    shop = scene.connect("shop")
    scene.pool.state = "disconnected"
    await scene.start()
    made = await scene.paid(shop, 1)
    await crash_at(scene, lambda method, params: method == "datastore" and "pending" in params["key"])
    assert scene.pending == []
    scene.pool.state = "connected"
    await scene.restart()
    await scene.handled(1)
    assert scene.notified() == [("shop", made)]


async def test_failed_calls_are_retried(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    for method in ("waitanyinvoice", "datastore", "listdatastore"):
        await scene.world.dev("dev-fail", method=method, code=-1, message="busy", times=3)
    made = await scene.world.invoice(shop, 1)
    await scene.world.pay(made["label"])
    await scene.handled(1)
    # Without a stored position the app is notified again.
    assert set(scene.notified()) == {("shop", made["payment_hash"])}


async def test_invoices_are_handled_one_after_another(scene: Scene) -> None:
    """A failed one is retried before the next is handled."""
    handled: list[int] = []
    failing = 2

    async def handle(invoice: Json) -> None:
        nonlocal failing
        handled.append(invoice["pay_index"])
        if len(handled) > 1 and failing:
            failing -= 1
            raise NodeUnavailableError("datastore: away")

    scene.paid_invoices = PaidInvoices(scene.node, handle)
    shop = scene.connect("shop")
    await scene.start()
    for number in range(3):
        await scene.paid(shop, number)
    await scene.handled(3)
    assert handled == [1, 2, 2, 2, 3]


async def test_a_start_while_lightningd_fails_is_retried(scene: Scene) -> None:
    shop = scene.connect("shop")
    for method in ("sql", "datastore", "listdatastore"):
        await scene.world.dev("dev-fail", method=method, code=-1, message="busy", times=2)
    scene.paid_invoices.start()
    await scene.handled(0)
    made = await scene.paid(shop, 1)
    await scene.handled(1)
    assert scene.notified() == [("shop", made)]


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "null", "9" * 19, "9" * 5000])
async def test_a_damaged_position_counts_as_none(scene: Scene, text: str) -> None:
    """As at the first start, invoices paid before are not notified."""
    shop = scene.connect("shop")
    for number in range(2):
        await scene.paid(shop, number)
    await scene.node.datastore_put(("nwc", "notifications", "position"), text)
    await scene.start()
    assert scene.position == 2
    made = await scene.paid(shop, 2)
    await scene.handled(3)
    assert scene.notified() == [("shop", made)]


async def test_the_delay_between_retries_doubles_up_to_a_limit(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    async def sleep(delay: float) -> None:
        delays.append(delay)

    monkeypatch.setattr(paid_invoices, "RETRY_FIRST_S", 1.0)
    monkeypatch.setattr(paid_invoices, "RETRY_MAX_S", 5.0)
    monkeypatch.setattr("nwc.wallet.paid_invoices.asyncio.sleep", sleep)
    await scene.world.dev("dev-fail", method="waitanyinvoice", code=-1, message="busy", times=5)
    shop = scene.connect("shop")
    await scene.start()
    await scene.paid(shop, 1)
    await scene.handled(1)
    assert delays == [1.0, 2.0, 4.0, 5.0, 5.0]


async def test_a_node_without_sql_has_a_first_position(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.world.dev("dev-fail", method="sql", code=-32601, message="Unknown command", times=9)
    await scene.paid(shop, 1)
    await scene.start()
    assert scene.position == 1
    made = await scene.paid(shop, 2)
    await scene.handled(2)
    assert scene.notified() == [("shop", made)]


class Books:
    """Records what Receipts counts and has notified."""

    def __init__(self, scene: Scene, unserved: dict[str, str]) -> None:
        self.counted: list[tuple[str, int, int]] = []
        self.notified: list[int] = []
        self.receipts = Receipts(
            scene.connections, unserved_key=unserved.get, count=self._count, notify=self._notify
        )

    async def _count(self, client_pubkey: str, amount_msat: int, pay_index: int) -> None:
        self.counted.append((client_pubkey, amount_msat, pay_index))

    async def _notify(self, invoice: Json) -> None:
        self.notified.append(invoice["pay_index"])


def paid_row(connection_id: str, pay_index: int) -> Json:
    label = request_label(connection_id, "ab" * 32)
    return {"label": label, "amount_received_msat": 1000, "pay_index": pay_index}


async def test_a_paid_invoice_is_counted_for_its_connection(scene: Scene) -> None:
    shop = scene.connect("shop")
    books = Books(scene, {"f" * 16: "ff" * 32})
    await books.receipts.take(paid_row(shop.id, 1))
    await books.receipts.take(paid_row("f" * 16, 2))  # stored, but not served
    await books.receipts.take(paid_row("0" * 16, 3))
    await books.receipts.take({"label": "by hand", "pay_index": 4})
    assert books.counted == [(shop.client_pubkey, 1000, 1), ("ff" * 32, 1000, 2)]
    assert books.notified == [1, 2, 3, 4]


async def test_an_unreadable_row_does_not_block_the_next(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    shop = scene.connect("shop")
    books = Books(scene, {})
    bad: list[Json] = [{}, {"label": 5}, {"label": paid_row(shop.id, 1)["label"]}]
    for row in (*bad, paid_row(shop.id, 1)):
        await books.receipts.take(row)
    assert sum(record.levelname == "ERROR" for record in caplog.records) == len(bad)
    assert books.counted == [(shop.client_pubkey, 1000, 1)]
