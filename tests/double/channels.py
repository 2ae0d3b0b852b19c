"""Our channels: those that dev-channels has set, less the amounts of payments."""

import json
from typing import TYPE_CHECKING

from tests.double import params
from tests.double.hold import held_htlcs
from tests.double.jsonio import Json
from tests.double.params import Param, opt

if TYPE_CHECKING:
    from tests.double.node import Node

CHANNELS = "channels"
NORMAL = "CHANNELD_NORMAL"
# Shown until dev-channels is called. Payments do not reduce it.
UNLIMITED = {"peer_id": "02" * 33, "state": NORMAL, "peer_connected": True, "spendable_msat": 10**16}


def listpeerchannels(node: "Node", id: str | None, **_ignored: Json) -> Json:
    """List the channels that dev-channels has set, or else one that payments do not reduce."""
    channels = _channels(node)
    listed = [UNLIMITED] if channels is None else channels
    if htlcs := held_htlcs(node):
        listed = [listed[0] | {"htlcs": htlcs}, *listed[1:]]
    return {"channels": [c for c in listed if id in (None, c.get("peer_id"))]}


def dev_channels(node: "Node", channels: list[Json]) -> Json:
    """Set the channels of listpeerchannels. Only state CHANNELD_NORMAL makes spendable_msat count."""
    node.state.put(CHANNELS, json.dumps(channels))
    return {}


def spendable_msat(node: "Node") -> int | None:
    """Return the sum that can be spent; None (no limit) if dev-channels was never called."""
    channels = _channels(node)
    return None if channels is None else sum(c.get("spendable_msat", 0) for c in _usable(channels))


def take(node: "Node", amount_msat: int) -> None:
    """Take the amount of an HTLC out of the channels, in their order."""
    channels = _channels(node)
    if channels is None:
        return
    for channel in _usable(channels):
        part = min(amount_msat, channel.get("spendable_msat", 0))
        _change(channel, -part)
        amount_msat -= part
    dev_channels(node, channels)


def give_back(node: "Node", amount_msat: int) -> None:
    """Put the amount of a failed HTLC back into the first channel."""
    channels = _channels(node)
    if usable := _usable(channels or []):
        _change(usable[0], amount_msat)
        dev_channels(node, channels or [])


def _change(channel: Json, by_msat: int) -> None:
    for name in ("spendable_msat", "to_us_msat"):
        if name in channel:
            channel[name] += by_msat


def _usable(channels: list[Json]) -> list[Json]:
    return [channel for channel in channels if channel.get("state") == NORMAL]


def _channels(node: "Node") -> list[Json] | None:
    stored = node.state.get(CHANNELS)
    return None if stored is None else json.loads(str(stored))


COMMANDS = {
    "listpeerchannels": (
        listpeerchannels,
        opt("id", params.node_id),
        opt("short_channel_id", params.raw),
        opt("channel_id", params.raw),
    ),
    "dev-channels": (dev_channels, Param("channels", params.array)),
}
