"""get_balance (NIP-47): what this connection can spend now, in msat."""

import time
from typing import Any

from nwc.wallet.connections.record import View
from nwc.wallet.context import Call, Wallet


async def get_balance(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return the balance: what the node can send, and no more than what is left of the budget.

    A connection that only receives can spend nothing; with `view=node` it is shown what the node has.

    Raises:
        NodeError: lightningd is away.

    """
    connection = call.connection
    if not connection.budget.can_spend:
        shows_node = connection.view is View.NODE
        return {"balance": (await wallet.node.sendable()).total_msat if shows_node else 0}
    ledger = await wallet.payments.ledgers.of(connection.client_pubkey)
    left = ledger.left(connection.budget, time.time())
    if left == 0:
        return {"balance": 0}
    sendable_msat = (await wallet.node.sendable()).total_msat
    return {"balance": sendable_msat if left is None else min(sendable_msat, left)}
