"""What the plugin reads of the channels that `listpeerchannels` shows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# HTLCs can be added to these: lightningd's `channel_state_can_add_htlc`.
_STATES = ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE")


@dataclass(frozen=True, slots=True)
class Sendable:
    """How much the node can send now.

    Attributes:
        total_msat: over all channels together.
        largest_msat: over the channel that can send most.

    """

    total_msat: int
    largest_msat: int


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
