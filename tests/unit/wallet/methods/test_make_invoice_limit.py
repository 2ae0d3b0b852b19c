"""make_invoice: one connection that asks for many at once does not keep the others waiting."""

import asyncio
from typing import Any

from nwc.cln.node import BOUNDS
from nwc.wallet.connections.record import Connection
from nwc.wallet.context import INVOICES_AT_ONCE, Call
from nwc.wallet.methods.make_invoice import make_invoice
from tests.unit.in_process import ALICE, BOB, World, connection

OWN, OTHER = connection(ALICE), connection(BOB)


def test_no_connection_can_take_all_places() -> None:
    assert BOUNDS["invoice"].slots > INVOICES_AT_ONCE


async def test_one_connection_does_not_take_all_places(world: World) -> None:
    held, going = asyncio.Event(), 0

    async def hold(method: str, params: dict[str, Any]) -> None:
        nonlocal going
        if method == "invoice" and ALICE in params["label"]:
            going += 1
            await held.wait()

    async def ask(asking: Connection, number: int) -> str:
        call = Call(f"{number:064x}", {"amount": 1000}, asking)
        return str((await make_invoice(world.wallet, call))["payment_hash"])

    world.node.before = hold
    asked = [asyncio.create_task(ask(OWN, number)) for number in range(40)]
    await world.node.called(lambda: going == INVOICES_AT_ONCE)
    assert await ask(OTHER, 0)
    assert going == INVOICES_AT_ONCE
    held.set()
    assert len(set(await asyncio.gather(*asked))) == 40
