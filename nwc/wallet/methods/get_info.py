"""get_info (NIP-47): the node, and what this connection may do."""

from typing import Any

from nwc.cln.node import Json
from nwc.wallet.context import Call, ChainTip, Wallet

# Numbers of the NIP-47 extension specs in use: notifications, list_transactions, metadata.
_EXTENSIONS = ("02", "05", "06")
_KEYSEND_EXTENSION = "04"

_NETWORKS = {"bitcoin": "mainnet", "testnet4": "testnet"}


async def get_info(
    wallet: Wallet, call: Call, methods: tuple[str, ...], notifications: tuple[str, ...]
) -> dict[str, Any]:
    """Describe the node and the connection.

    Args:
        wallet: what the handlers work with.
        call: has no parameters.
        methods: what this connection may call.
        notifications: what it is told of.

    Raises:
        NodeError: lightningd is away.

    """
    node = await wallet.node.info()
    info: dict[str, Any] = {
        "alias": node.get("alias", ""),
        "color": node.get("color", ""),
        "pubkey": node["id"],
        "network": _NETWORKS.get(node["network"], node["network"]),
        "block_height": node["blockheight"],
        "methods": list(methods),
        "notifications": list(notifications),
        "extensions": list(used_extensions(methods)),
    }
    info |= _block_hash(node, wallet.tip)
    if call.connection.lud16 is not None:
        info["lud16"] = call.connection.lud16
    return info


def used_extensions(methods: tuple[str, ...]) -> tuple[str, ...]:
    """Return the numbers of the NIP-47 extension specs in use for a connection with these methods."""
    return tuple(sorted((*_EXTENSIONS, *([_KEYSEND_EXTENSION] if "pay_keysend" in methods else []))))


def _block_hash(node: Json, tip: ChainTip) -> Json:
    """No RPC tells a block's hash without the block; the notification of a new block does."""
    return {"block_hash": tip.hash} if tip.height == node["blockheight"] else {}
