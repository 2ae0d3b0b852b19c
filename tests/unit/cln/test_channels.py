"""How much the node can send over its channels."""

from typing import Any

import pytest

from nwc.cln.channels import Sendable, sendable


def channel(spendable_msat: int | None, state: str = "CHANNELD_NORMAL", **fields: Any) -> dict[str, Any]:
    amount = {} if spendable_msat is None else {"spendable_msat": spendable_msat}
    return {"state": state, **amount, **fields}


@pytest.mark.parametrize(
    ("channels", "total_msat", "largest_msat"),
    [
        ([], 0, 0),
        ([channel(5), channel(None), channel(7, "ONCHAIN"), channel(4)], 9, 5),
        ([channel(5, "CHANNELD_AWAITING_SPLICE"), channel(4)], 9, 5),
        ([channel(5, peer_connected=False), channel(4, peer_connected=True)], 4, 4),
        ([channel(5, "CHANNELD_SHUTTING_DOWN"), channel(6, "CHANNELD_AWAITING_LOCKIN")], 0, 0),
    ],
)
def test_only_usable_channels_count(
    channels: list[dict[str, Any]], total_msat: int, largest_msat: int
) -> None:
    assert sendable(channels) == Sendable(total_msat, largest_msat)
