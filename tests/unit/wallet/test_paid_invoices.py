"""Following paid invoices, with a notifier that tells of them."""

import asyncio

import pytest

from nwc.cln.errors import NodeUnavailableError
from nwc.cln.node import Json
from nwc.wallet import paid_invoices
from nwc.wallet.paid_invoices import PaidInvoices
from tests.unit.wallet.scene import FOR_EVER, Scene, crash_at


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
    await scene.stop()
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
    stopping = asyncio.create_task(scene.stop(FOR_EVER))
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
    await scene.stop(0.01)
    assert scene.position == 0
    scene.pool.holds.set()
    await scene.restart()
    await scene.dealt_with(1)
    assert scene.told() == [("shop", made)]


async def test_crash_while_telling(scene: Scene) -> None:
    shop = scene.connect("shop")
    await scene.start()
    scene.pool.holds.clear()
    made = await scene.paid(shop, 1)
    await scene.pool.until(lambda: len(scene.pool.attempts) == 2)
    await scene.stop()
    assert scene.position == 0
    scene.pool.holds.set()
    await scene.restart()
    await scene.dealt_with(1)
    assert scene.told() == [("shop", made)]


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
    assert scene.aside == [("shop", "1")]
    await scene.restart()
    await scene.dealt_with(1)
    scene.relay_is_back()
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


async def test_one_after_the_other(scene: Scene) -> None:
    """The next is dealt with when the one before is; what fails is tried again."""
    begun: list[int] = []
    failing = 2

    async def deal_with(invoice: Json) -> None:
        nonlocal failing
        begun.append(invoice["pay_index"])
        if len(begun) > 1 and failing:
            failing -= 1
            raise NodeUnavailableError("datastore: away")

    scene.paid_invoices = PaidInvoices(scene.node, deal_with)
    shop = scene.connect("shop")
    await scene.start()
    for number in range(3):
        await scene.paid(shop, number)
    await scene.dealt_with(3)
    assert begun == [1, 2, 2, 2, 3]


async def test_lightningd_is_away_at_the_start(scene: Scene) -> None:
    shop = scene.connect("shop")
    for method in ("sql", "datastore", "listdatastore"):
        await scene.world.dev("dev-fail", method=method, code=-1, message="busy", times=2)
    scene.paid_invoices.start()
    await scene.dealt_with(0)
    made = await scene.paid(shop, 1)
    await scene.dealt_with(1)
    assert scene.told() == [("shop", made)]


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "null", "9" * 19, "9" * 5000])
async def test_a_damaged_position(scene: Scene, text: str) -> None:
    """What was paid before is history then, as at the first start."""
    shop = scene.connect("shop")
    for number in range(2):
        await scene.paid(shop, number)
    await scene.node.datastore_put(("nwc", "notifications", "position"), text)
    await scene.start()
    assert scene.position == 2
    made = await scene.paid(shop, 2)
    await scene.dealt_with(3)
    assert scene.told() == [("shop", made)]


async def test_waiting_goes_longer_and_longer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
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
    await scene.dealt_with(1)
    assert delays == [1.0, 2.0, 4.0, 5.0, 5.0]


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
