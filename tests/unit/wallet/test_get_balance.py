import pytest

from nwc.wallet.connections import View
from nwc.wallet.get_balance import get_balance
from tests.unit.in_process import ALICE, BOB, World, call, connection

OWN, NODE = connection(ALICE), connection(BOB, View.NODE)


@pytest.mark.parametrize(
    ("channels", "balance"),
    [
        ([], 0),
        ([("CHANNELD_NORMAL", 5)], 5),
        ([("CHANNELD_NORMAL", 5), ("CHANNELD_NORMAL", 70), ("ONCHAIN", 900)], 75),
        ([("CHANNELD_AWAITING_LOCKIN", 5), ("CHANNELD_SHUTTING_DOWN", 6), ("OPENINGD", None)], 0),
        ([("CHANNELD_NORMAL", None)], 0),
    ],
)
async def test_what_can_be_spent(
    world: World, channels: list[tuple[str, int | None]], balance: int
) -> None:
    listed = [
        {"peer_id": "02" * 33, "state": state, "peer_connected": True}
        | ({} if spendable is None else {"spendable_msat": spendable})
        for state, spendable in channels
    ]
    await world.dev("dev-channels", channels=listed)
    assert await get_balance(world.wallet, call(NODE, {})) == {"balance": balance}
    assert await get_balance(world.wallet, call(OWN, {})) == {"balance": 0}


async def test_a_receiver_costs_the_node_nothing(world: World) -> None:
    await get_balance(world.wallet, call(OWN, {}))
    assert world.node.calls == []
