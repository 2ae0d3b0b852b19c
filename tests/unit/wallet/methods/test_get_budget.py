import json
import time
from dataclasses import replace
from typing import Any

import pytest

from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.methods.get_budget import get_budget
from nwc.wallet.records import RecordError
from nwc.wallet.spending.ledger import Ledger
from nwc.wallet.spending.payment import Payment
from tests.unit.in_process import ALICE, START, World, call, connection

WEEK_S = 604_800
NOW = START + 3600
WEEKLY = Budget(BudgetKind.AMOUNT, 50_000, Renewal.WEEKLY, START)
PENDING = Payment(
    request_id="07" * 32,
    request_created_at=START,
    method="pay_invoice",
    encryption="nip44_v2",
    created_at=START,
    amount_msat=1000,
    max_fee_msat=50,
    payment_hash="5a" * 32,
    invoice=None,
    destination=None,
)
USED = Ledger(
    period_started_at=START,
    spent_msat=3000,
    total_spent_msat=4000,
    received_msat=9000,
    received_pay_index=5,
    reservations={PENDING.request_id: PENDING},
)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, NOW)


def set_clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr(time, "time", lambda: now)


async def shown(world: World, budget: Budget, ledger: Ledger | None = None) -> dict[str, Any]:
    """Ask as a connection with this budget and ledger."""
    asking = connection(ALICE, budget=budget)
    if ledger is not None:
        await world.wallet.payments.ledgers.change(asking.client_pubkey, lambda _: ledger)
    answer = await get_budget(world.wallet, call(asking, {}))
    as_json: dict[str, Any] = json.loads(json.dumps(answer))
    assert as_json == answer
    return as_json


async def test_an_unused_budget_has_nothing_used(world: World) -> None:
    assert await shown(world, WEEKLY) == {
        "used_budget": 0,
        "total_budget": 50_000,
        "renewal_period": "weekly",
        "renews_at": START + WEEK_S,
    }


async def test_a_pending_payment_counts_with_the_most_it_can_cost(world: World) -> None:
    assert (await shown(world, WEEKLY, USED))["used_budget"] == 3000 + 1050


async def test_a_new_period_renews_all_but_the_pending_payments(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, START + WEEK_S)
    assert await shown(world, WEEKLY, USED) == {
        "used_budget": 1050,
        "total_budget": 50_000,
        "renewal_period": "weekly",
        "renews_at": START + 2 * WEEK_S,
    }


async def test_a_budget_without_a_renewal_has_no_renews_at(world: World) -> None:
    budget = Budget(BudgetKind.AMOUNT, 50_000, since=START)
    assert await shown(world, budget, USED) == {
        "used_budget": 4050,
        "total_budget": 50_000,
        "renewal_period": "never",
    }


async def test_a_received_budget_is_what_was_received(world: World) -> None:
    assert await shown(world, Budget(BudgetKind.RECEIVED, since=START), USED) == {
        "used_budget": 4000 + 1050,
        "total_budget": 9000,
        "renewal_period": "never",
    }


async def test_an_unlimited_budget_is_an_empty_object(world: World) -> None:
    assert await shown(world, Budget(BudgetKind.UNLIMITED, since=START), USED) == {}


async def test_a_connection_that_only_receives_has_a_budget_of_zero(world: World) -> None:
    expected = {"used_budget": 0, "total_budget": 0, "renewal_period": "never"}
    assert await shown(world, Budget()) == expected


@pytest.mark.parametrize("renewal", [Renewal.DAILY, Renewal.MONTHLY, Renewal.YEARLY])
async def test_each_renewal_is_named(world: World, renewal: Renewal) -> None:
    answer = await shown(world, replace(WEEKLY, renewal=renewal))
    assert answer["renewal_period"] == renewal
    assert answer["renews_at"] > NOW


async def test_a_damaged_ledger_raises(world: World) -> None:
    """It is unknown how much is used. The client gets INTERNAL."""
    asking = connection(ALICE, budget=WEEKLY)
    await world.node.datastore_put(("nwc", "ledgers", asking.client_pubkey), "{}")
    with pytest.raises(RecordError):
        await get_budget(world.wallet, call(asking, {}))
