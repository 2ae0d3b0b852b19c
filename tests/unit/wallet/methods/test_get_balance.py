import time

import pytest

from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.record import View
from nwc.wallet.methods.get_balance import get_balance
from nwc.wallet.records import RecordError
from nwc.wallet.spending.ledger import Ledger
from nwc.wallet.spending.payment import Payment
from tests.unit.in_process import ALICE, BOB, World, call, connection

OWN, NODE = connection(ALICE), connection(BOB, View.NODE)
UNLIMITED = Budget(BudgetKind.UNLIMITED)
PENDING = Payment("07" * 32, 0, "pay_invoice", "nip04", 0, 1000, 50, "5a" * 32, None, None)


async def put_channels(world: World, *channels: tuple[str, int | None]) -> None:
    listed = [
        {"peer_id": "02" * 33, "state": state, "peer_connected": True}
        | ({} if spendable is None else {"spendable_msat": spendable})
        for state, spendable in channels
    ]
    await world.dev("dev-channels", channels=listed)


async def balance(world: World, budget: Budget, view: View = View.OWN, **ledger: object) -> int:
    """Return the balance of a connection with this budget and ledger."""
    asking = connection(ALICE, view, budget=budget)
    if ledger:
        stored = Ledger(**ledger)  # type: ignore[arg-type]
        await world.wallet.payments.ledgers.change(asking.client_pubkey, lambda _: stored)
    answer = await get_balance(world.wallet, call(asking, {}))
    assert answer.keys() == {"balance"}
    return int(answer["balance"])


@pytest.mark.parametrize(
    ("channels", "spendable"),
    [
        ([], 0),
        ([("CHANNELD_NORMAL", 5)], 5),
        ([("CHANNELD_NORMAL", 5), ("CHANNELD_NORMAL", 70), ("ONCHAIN", 900)], 75),
        ([("CHANNELD_AWAITING_LOCKIN", 5), ("CHANNELD_SHUTTING_DOWN", 6), ("OPENINGD", None)], 0),
        ([("CHANNELD_NORMAL", None)], 0),
        ([("CHANNELD_AWAITING_SPLICE", 5), ("CHANNELD_NORMAL", 70)], 75),
    ],
)
async def test_the_balance_is_what_usable_channels_can_send(
    world: World, channels: list[tuple[str, int | None]], spendable: int
) -> None:
    await put_channels(world, *channels)
    assert await get_balance(world.wallet, call(NODE, {})) == {"balance": spendable}
    assert await get_balance(world.wallet, call(OWN, {})) == {"balance": 0}
    assert await balance(world, UNLIMITED) == spendable


async def test_channels_of_disconnected_peers_do_not_count(world: World) -> None:
    channel = {"peer_id": "02" * 33, "state": "CHANNELD_NORMAL", "spendable_msat": 5}
    away = {**channel, "peer_connected": False}
    await world.dev("dev-channels", channels=[{**channel, "peer_connected": True}, away])
    assert await get_balance(world.wallet, call(NODE, {})) == {"balance": 5}


async def test_the_balance_of_a_receiver_takes_no_call_of_lightningd(world: World) -> None:
    await get_balance(world.wallet, call(OWN, {}))
    assert world.node.calls == []


@pytest.mark.parametrize("view", View)
async def test_the_balance_is_at_most_the_rest_of_the_budget(world: World, view: View) -> None:
    """Also with `view=node`: the balance is what the connection can spend."""
    await put_channels(world, ("CHANNELD_NORMAL", 10_000))
    for amount_msat, expected in [(9999, 9999), (10_000, 10_000), (10_001, 10_000), (1, 1)]:
        assert await balance(world, Budget(BudgetKind.AMOUNT, amount_msat), view) == expected


async def test_spent_and_pending_amounts_reduce_the_balance(world: World) -> None:
    await put_channels(world, ("CHANNELD_NORMAL", 100_000))
    reservations = {PENDING.request_id: PENDING}
    budget = Budget(BudgetKind.AMOUNT, 5000)
    assert await balance(world, budget, spent_msat=300, reservations=reservations) == 5000 - 300 - 1050
    assert await balance(world, UNLIMITED) == 100_000


async def test_a_new_period_renews_the_balance(world: World) -> None:
    await put_channels(world, ("CHANNELD_NORMAL", 100_000))
    now = int(time.time())
    budget = Budget(BudgetKind.AMOUNT, 5000, Renewal.DAILY, now - 86_400)
    assert await balance(world, budget, period_started_at=now - 86_400, spent_msat=5000) == 5000


async def test_a_used_up_budget_gives_a_balance_of_zero(world: World) -> None:
    """Also if the budget was lowered below what is spent. lightningd is not asked for its channels."""
    assert await balance(world, Budget(BudgetKind.AMOUNT, 5000), spent_msat=5000) == 0
    assert await balance(world, Budget(BudgetKind.AMOUNT, 4000)) == 0
    assert {name for name, _ in world.node.calls} == {"listdatastore", "datastore"}


async def test_a_budget_of_received_money_gives_what_is_left_of_it(world: World) -> None:
    await put_channels(world, ("CHANNELD_NORMAL", 8000))
    budget = Budget(BudgetKind.RECEIVED)
    assert await balance(world, budget) == 0
    assert await balance(world, budget, received_msat=7000, total_spent_msat=500) == 6500
    assert await balance(world, budget, received_msat=9000) == 8000


async def test_the_cap_on_one_payment_does_not_lower_the_balance(world: World) -> None:
    await put_channels(world, ("CHANNELD_NORMAL", 8000))
    assert await balance(world, Budget(BudgetKind.UNLIMITED, max_payment_msat=10)) == 8000


async def test_a_damaged_ledger_gives_an_error(world: World) -> None:
    asking = connection(ALICE, budget=UNLIMITED)
    await world.node.datastore_put(("nwc", "ledgers", asking.client_pubkey), "{}")
    with pytest.raises(RecordError):
        await get_balance(world.wallet, call(asking, {}))
