"""get_budget: what of the connection's budget is used, as getAlby's SDK and the apps built on it ask."""

import time
from typing import Any

from nwc.wallet.connections.budget import BudgetKind
from nwc.wallet.context import Call, Wallet


async def get_budget(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return used and total budget in msat; payments under way count with the most they can cost.

    An empty object stands for no bound. A connection that only receives has a budget of 0.

    Raises:
        NodeError: lightningd is away.

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
