"""get_balance (NIP-47): how much this connection can spend now, in msat."""

import time
from typing import Any

from nwc.wallet.connections.record import View
from nwc.wallet.context import Call, Wallet


async def get_balance(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return the balance: what the node can send, but at most the rest of the connection's budget.

    A connection that only receives has a balance of 0, or with `view=node`, the node's balance.

    Raises:
        NodeError: lightningd is unavailable.

    """
    connection = call.connection
    if not connection.budget.can_spend:
        shows_node = connection.view is View.NODE
        return {"balance": (await wallet.node.sendable()).total_msat if shows_node else 0}
    ledger = await wallet.payments.ledgers.of(connection.client_pubkey)
    left_msat = ledger.left(connection.budget, time.time())
    if left_msat == 0:
        return {"balance": 0}
    sendable_msat = (await wallet.node.sendable()).total_msat
    return {"balance": sendable_msat if left_msat is None else min(sendable_msat, left_msat)}
