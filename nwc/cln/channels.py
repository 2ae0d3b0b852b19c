"""What the node can send over its channels, as `listpeerchannels` shows them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# HTLCs can be added to these: lightningd's `channel_state_can_add_htlc`.
_STATES = ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE")


@dataclass(frozen=True, slots=True)
class Sendable:
    """What can be sent at one moment.

    Attributes:
        total_msat: over all channels together, in msat.
        largest_msat: over the one channel that can send most, in msat.

    """

    total_msat: int
    largest_msat: int


def sendable(channels: Iterable[dict[str, Any]]) -> Sendable:
    """Return what channels can send; those whose peer is away can send nothing now.

    Raises:
        KeyError, TypeError: a channel that cannot be read.

    """
    amounts = [
        int(channel.get("spendable_msat", 0))
        for channel in channels
        if channel["state"] in _STATES and channel.get("peer_connected", True)
    ]
    return Sendable(sum(amounts), max(amounts, default=0))
