"""get_budget: how much of the budget is used; a method of getAlby's SDK and of apps built on it."""

import time
from typing import Any

from nwc.wallet.connections.budget import BudgetKind
from nwc.wallet.context import Call, Wallet


async def get_budget(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return the used and the total budget, in msat. A pending payment counts with the most it can cost.

    An empty object stands for no limit. A connection that only receives has a budget of 0.

    Raises:
        NodeError: lightningd is unavailable.

    """
    budget = call.connection.budget
    if budget.kind is BudgetKind.UNLIMITED:
        return {}
    ledger = await wallet.payments.ledgers.of(call.connection.client_pubkey)
    now = time.time()
    answer: dict[str, Any] = {
        "used_budget": ledger.spent_at(budget, now) + ledger.reserved_msat,
        "total_budget": ledger.granted(budget),
        "renewal_period": budget.renewal,
    }
    renews_at = budget.renews_at(now)
    return answer if renews_at is None else {**answer, "renews_at": renews_at}
