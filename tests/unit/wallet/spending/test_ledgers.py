"""The ledgers in the datastore: one change at a time, and no change is lost."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from nwc.cln.errors import NodeError, NodeUnavailableError, RpcCallError, RpcCode
from nwc.cln.node import DatastoreKey, Json
from nwc.wallet.records import RecordError
from nwc.wallet.spending.ledger import Ledger, parse_ledger
from nwc.wallet.spending.ledgers import Ledgers
from tests.unit.wallet.spending.simulation import SimulatedLightningd, Trouble
from tests.unit.wallet.spending.values import KEY, OTHER_KEY, START, amount, payment

NAME, OTHER_NAME = ("nwc", "ledgers", KEY), ("nwc", "ledgers", OTHER_KEY)


@pytest_asyncio.fixture
async def lightningd() -> SimulatedLightningd:
    return SimulatedLightningd(asyncio.get_running_loop())


@pytest.fixture
def ledgers(lightningd: SimulatedLightningd) -> Ledgers:
    return Ledgers(lightningd)


def spend(msat: int) -> Callable[[Ledger], Ledger]:
    return lambda ledger: replace(ledger, spent_msat=ledger.spent_msat + msat)


def stored(lightningd: SimulatedLightningd, key: str = KEY) -> Ledger:
    return parse_ledger(lightningd.datastore["nwc", "ledgers", key][0])


def writes(lightningd: SimulatedLightningd) -> list[tuple[str, int | None]]:
    return [(given["mode"], given.get("generation")) for given in lightningd.called("datastore")]


async def test_each_write_names_the_generation_it_replaces(lightningd: SimulatedLightningd) -> None:
    ledgers = Ledgers(lightningd)
    for _ in range(3):
        await ledgers.change(KEY, spend(5))
    assert writes(lightningd) == [("must-create", None), ("must-replace", 0), ("must-replace", 1)]
    assert stored(lightningd).spent_msat == 15
    assert len(lightningd.called("listdatastore")) == 1, "read once, then known"


async def test_an_unchanged_ledger_is_not_written(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    assert await ledgers.change(KEY, lambda ledger: ledger) == Ledger()
    assert not lightningd.datastore


async def test_a_change_that_raises_changes_nothing(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    def refuse(_: Ledger) -> Ledger:
        raise ValueError

    with pytest.raises(ValueError):
        await ledgers.change(KEY, refuse)
    assert not lightningd.datastore
    await ledgers.change(KEY, spend(5))  # the lock is free again


async def test_changes_of_one_ledger_happen_one_after_another(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    await asyncio.gather(*(ledgers.change(KEY, spend(1)) for _ in range(20)))
    assert stored(lightningd).spent_msat == 20
    assert len(writes(lightningd)) == 20, "no write was refused and repeated"


async def test_changes_of_different_ledgers_do_not_wait_for_each_other(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(method: str, given: Json) -> None:
        if method == "datastore" and given["key"] == list(NAME):
            held.set()
            await go_on.wait()

    lightningd.gate = hold
    waiting = asyncio.create_task(ledgers.change(KEY, spend(1)))
    await held.wait()
    await ledgers.change(OTHER_KEY, spend(2))
    assert stored(lightningd, OTHER_KEY).spent_msat == 2
    assert not waiting.done()
    go_on.set()
    assert (await waiting).spent_msat == 1


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(("trouble", "made"), [(Trouble.AWAY, 0), (Trouble.LOST, 5)])
async def test_after_a_lost_answer_the_ledger_is_read_again(
    lightningd: SimulatedLightningd, ledgers: Ledgers, exists: bool, trouble: Trouble, made: int
) -> None:
    if exists:
        await ledgers.change(KEY, spend(1))
    else:
        await ledgers.of(KEY)
    lightningd.troubles.append(trouble)
    with pytest.raises(NodeUnavailableError):
        await ledgers.change(KEY, spend(5))
    assert ledgers.known(KEY).spent_msat == exists, "as last seen"
    assert (await ledgers.of(KEY)).spent_msat == made + exists
    assert (await ledgers.change(KEY, spend(100))).spent_msat == made + exists + 100


async def test_a_refused_write_is_raised(lightningd: SimulatedLightningd, ledgers: Ledgers) -> None:
    lightningd.troubles.extend([Trouble.NONE, Trouble.REFUSED])
    with pytest.raises(RpcCallError):
        await ledgers.change(KEY, spend(5))
    assert (await ledgers.change(KEY, spend(5))).spent_msat == 5


@pytest.mark.parametrize("exists", [False, True])
async def test_a_change_by_others_is_seen_before_it_is_replaced(
    lightningd: SimulatedLightningd, ledgers: Ledgers, exists: bool
) -> None:
    """Such as a write from before a crash that lightningd makes late."""
    if exists:
        await ledgers.change(KEY, spend(1))
    else:
        await ledgers.of(KEY)
    await Ledgers(lightningd).change(KEY, spend(10))
    assert (await ledgers.change(KEY, spend(100))).spent_msat == 110 + exists


async def test_a_record_deleted_by_others_is_created_again(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    await ledgers.change(KEY, spend(1))
    del lightningd.datastore[NAME]
    assert (await ledgers.change(KEY, spend(5))).spent_msat == 5


async def test_a_change_is_given_up_if_others_always_write_first(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    async def intrude(method: str, given: Json) -> None:
        if method == "datastore":
            text, generation = lightningd.datastore.get(NAME, (Ledger().to_json(), 0))
            lightningd.datastore[NAME] = (text, generation + 1)

    lightningd.gate = intrude
    with pytest.raises(RpcCallError) as error:
        await ledgers.change(KEY, spend(1))
    assert error.value.code == RpcCode.DATASTORE_UPDATE_WRONG_GENERATION
    assert stored(lightningd).spent_msat == 0


async def test_a_cancelled_change_is_not_overwritten_unseen(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    """lightningd may make the change after all, so the next one must see it."""
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(method: str, given: Json) -> None:
        if method == "datastore" and not held.is_set():
            held.set()
            await go_on.wait()

    lightningd.gate = hold
    asking = asyncio.create_task(ledgers.change(KEY, spend(1)))
    await held.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert (await ledgers.of(KEY)).spent_msat == 0
    go_on.set()
    assert (await ledgers.change(KEY, spend(10))).spent_msat == 11


@pytest.mark.parametrize("text", ["", "{}", '{"version":2}', "\ud800"])
async def test_a_ledger_that_cannot_be_read_is_neither_used_nor_replaced(
    lightningd: SimulatedLightningd, ledgers: Ledgers, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    lightningd.datastore[NAME] = (text, 3)
    lightningd.datastore[OTHER_NAME] = (Ledger(spent_msat=7).to_json(), 0)
    assert await ledgers.load() == {OTHER_KEY: Ledger(spent_msat=7)}
    assert "cannot spend" in caplog.text
    for _ in range(2):
        with pytest.raises(RecordError):
            await ledgers.change(KEY, spend(1))
        with pytest.raises(RecordError):
            await ledgers.of(KEY)
    assert lightningd.datastore[NAME] == (text, 3), "unchanged"
    assert (await ledgers.change(OTHER_KEY, spend(1))).spent_msat == 8


async def test_load_returns_the_stored_ledgers(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    ledger = Ledger().reserve(payment(), amount(1000), START)
    lightningd.datastore[NAME] = (ledger.to_json(), 3)
    assert await ledgers.load() == {KEY: ledger}
    assert ledgers.known(KEY) == ledger
    assert ledgers.known(OTHER_KEY) == Ledger()


async def test_load_asks_once_and_keeps_the_generations(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    lightningd.datastore[NAME] = (Ledger(spent_msat=1).to_json(), 3)
    lightningd.datastore[OTHER_NAME] = (Ledger(spent_msat=2).to_json(), 8)
    assert len(await ledgers.load()) == 2
    await ledgers.change(KEY, spend(1))
    await ledgers.change(OTHER_KEY, spend(1))
    assert len(lightningd.called("listdatastore")) == 1
    assert writes(lightningd) == [("must-replace", 3), ("must-replace", 8)]


async def test_load_can_be_repeated_after_lightningd_was_away(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    lightningd.datastore[NAME] = (Ledger(spent_msat=7).to_json(), 0)
    lightningd.troubles.append(Trouble.AWAY)
    with pytest.raises(NodeError):
        await ledgers.load()
    assert (await ledgers.load())[KEY].spent_msat == 7


# Deleting


async def test_a_ledger_is_deleted_only_if_it_may_be(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    await ledgers.change(KEY, spend(1))
    await ledgers.forget(KEY, lambda _: False)
    assert stored(lightningd).spent_msat == 1
    await ledgers.forget(KEY, lambda ledger: ledger.spent_msat == 1)
    assert not lightningd.datastore
    await ledgers.forget(KEY, lambda _: True)
    assert (await ledgers.change(KEY, spend(5))).spent_msat == 5


@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.LOST])
async def test_after_a_deletion_without_an_answer_the_ledger_is_read_again(
    lightningd: SimulatedLightningd, ledgers: Ledgers, trouble: Trouble
) -> None:
    await ledgers.change(KEY, spend(1))
    lightningd.troubles.append(trouble)
    with pytest.raises(NodeUnavailableError):
        await ledgers.forget(KEY, lambda _: True)
    assert (await ledgers.of(KEY)).spent_msat == (1 if trouble is Trouble.AWAY else 0)


async def test_a_late_deletion_spares_the_ledger_of_a_new_connection(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    """lightningd may delete long after we stopped waiting, when the key has a connection again."""
    await ledgers.change(KEY, spend(1))
    lightningd.troubles.append(Trouble.AWAY)
    with pytest.raises(NodeUnavailableError):
        await ledgers.forget(KEY, lambda _: True)
    [late] = lightningd.called("deldatastore")
    await ledgers.change(KEY, spend(5))
    with pytest.raises(RpcCallError):
        await lightningd.call("deldatastore", **late)
    assert stored(lightningd).spent_msat == 6


async def test_a_change_during_load_is_kept(lightningd: SimulatedLightningd, ledgers: Ledgers) -> None:
    """lightningd has made its list, and the change is written before the list arrives."""
    await Ledgers(lightningd).change(KEY, spend(1))
    listed, go_on = asyncio.Event(), asyncio.Event()
    entries = lightningd.datastore_entries

    async def hold(key: DatastoreKey) -> dict[str, tuple[str, int]]:
        found = await entries(key)
        listed.set()
        await go_on.wait()
        return found

    lightningd.datastore_entries = hold  # type: ignore[method-assign]
    loading = asyncio.create_task(ledgers.load())
    await listed.wait()
    await ledgers.change(KEY, spend(2))
    go_on.set()
    assert (await loading)[KEY].spent_msat == 3
    assert (await ledgers.change(KEY, spend(4))).spent_msat == 7
    assert stored(lightningd).spent_msat == 7


async def test_a_ledger_that_changes_meanwhile_is_not_deleted(
    lightningd: SimulatedLightningd, ledgers: Ledgers
) -> None:
    """The ledger is checked and deleted in one step, so a change comes either before or after."""
    await ledgers.change(KEY, spend(1))
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(method: str, given: Json) -> None:
        if method == "datastore":
            held.set()
            await go_on.wait()

    lightningd.gate = hold
    changing = asyncio.create_task(ledgers.change(KEY, spend(1)))
    await held.wait()
    forgetting = asyncio.create_task(ledgers.forget(KEY, lambda ledger: ledger.spent_msat < 2))
    go_on.set()
    await asyncio.gather(changing, forgetting)
    assert stored(lightningd).spent_msat == 2
