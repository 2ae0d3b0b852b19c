"""get_info (NIP-47): the node, and what this connection may do."""

from typing import Any

from nwc.cln.node import Json
from nwc.wallet.connections.permissions import allowed_methods, sent_notifications, used_extensions
from nwc.wallet.context import Call, ChainTip, Wallet

_NETWORKS = {"bitcoin": "mainnet", "testnet4": "testnet"}


async def get_info(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return a description of the node and of the connection's permissions.

    Raises:
        NodeError: lightningd is unavailable.

    """
    node = await wallet.node.info()
    has_hold = wallet.hold_invoices.plugin.is_available
    notifications = sent_notifications(call.connection, wallet.notifications, has_hold=has_hold)
    info: dict[str, Any] = {
        "alias": node.get("alias", ""),
        "color": node.get("color", ""),
        "pubkey": node["id"],
        "network": _NETWORKS.get(node["network"], node["network"]),
        "block_height": node["blockheight"],
        "methods": list(allowed_methods(call.connection, has_hold=has_hold)),
        "notifications": list(notifications),
        "extensions": list(used_extensions(call.connection, has_hold=has_hold)),
        # As Alby Hub: apps show the name. Its id is a number, but its clients take any type.
        "metadata": {"id": call.connection.id, "name": call.connection.name},
    }
    info |= _block_hash(node, wallet.tip)
    if call.connection.lud16 is not None:
        info["lud16"] = call.connection.lud16
    return info


def _block_hash(node: Json, tip: ChainTip) -> Json:
    """Return the hash of the node's newest block, if known.

    No RPC returns a block's hash without the whole block; the notification `block_added` has it.
    """
    return {"block_hash": tip.hash} if tip.height == node["blockheight"] else {}
