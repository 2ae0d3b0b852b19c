"""What the plugin reads of the channels that `listpeerchannels` shows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# HTLCs can be added to these: lightningd's `channel_state_can_add_htlc`.
_STATES = ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE")
# An incoming HTLC stays in this state until it is fulfilled or failed. lightningd stores the preimage in
# the same transaction as the next state (`fulfill_htlc`).
_HELD = "RCVD_ADD_ACK_REVOCATION"


@dataclass(frozen=True, slots=True)
class Sendable:
    """How much the node can send now.

    Attributes:
        total_msat: over all channels together.
        largest_msat: over the channel that can send most.

    """

    total_msat: int
    largest_msat: int


@dataclass(frozen=True, slots=True)
class HeldHtlc:
    """An incoming HTLC that is neither fulfilled nor failed.

    Attributes:
        id: unique within its channel only.
        amount_msat: of the HTLC.

    """

    id: int
    amount_msat: int


def sendable(channels: Iterable[dict[str, Any]]) -> Sendable:
    """Return how much these channels can send; a channel whose peer is disconnected sends nothing.

    Raises:
        KeyError, TypeError: a channel is unreadable.

    """
    amounts = [
        int(channel.get("spendable_msat", 0))
        for channel in channels
        if channel["state"] in _STATES and channel.get("peer_connected", True)
    ]
    return Sendable(sum(amounts), max(amounts, default=0))


def short_channel_ids(channels: Iterable[dict[str, Any]]) -> frozenset[str]:
    """Return the short channel ids of these channels, with their aliases."""
    return frozenset(
        scid
        for channel in channels
        for scid in (channel.get("short_channel_id"), *channel.get("alias", {}).values())
        if scid is not None
    )


def held_htlcs(channels: Iterable[dict[str, Any]], payment_hash: str) -> list[HeldHtlc]:
    """Return the incoming HTLCs with this payment hash that are neither fulfilled nor failed.

    Raises:
        KeyError, TypeError, ValueError: a channel is unreadable.

    """
    return [
        HeldHtlc(int(htlc["id"]), int(htlc["amount_msat"]))
        for channel in channels
        for htlc in channel.get("htlcs", ())
        if (htlc["direction"], htlc["state"]) == ("in", _HELD) and htlc["payment_hash"] == payment_hash
    ]
