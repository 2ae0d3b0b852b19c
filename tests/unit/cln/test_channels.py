"""What the channels show: how much the node can send, and which HTLCs it holds."""

from typing import Any

import pytest

from nwc.cln.channels import HeldHtlc, Sendable, held_htlcs, sendable


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


def htlc(number: int, **fields: Any) -> dict[str, Any]:
    held = {"direction": "in", "state": "RCVD_ADD_ACK_REVOCATION", "payment_hash": "ab" * 32}
    return {"id": number, "amount_msat": 10 * number, **held, **fields}


def test_only_incoming_htlcs_of_the_payment_that_wait_are_held() -> None:
    others = [
        htlc(2, direction="out"),
        htlc(3, state="SENT_REMOVE_HTLC"),
        htlc(4, state="RCVD_ADD_COMMIT"),
        htlc(5, payment_hash="cd" * 32),
    ]
    channels = [channel(1), channel(1, htlcs=[htlc(1), *others]), channel(1, "ONCHAIN", htlcs=[htlc(6)])]
    assert held_htlcs(channels, "ab" * 32) == [HeldHtlc(1, 10), HeldHtlc(6, 60)]
