"""get_balance (NIP-47): what this connection can spend now, in msat."""

from typing import Any

from nwc.wallet.connections import View
from nwc.wallet.context import Call, Wallet


async def get_balance(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return the balance. A connection that only receives can spend nothing; with `view=node` it is
    shown what the node can spend.

    Raises:
        NodeError: lightningd is away.

    """
    if call.connection.view is View.OWN:
        return {"balance": 0}
    return {"balance": await wallet.node.spendable_msat()}
