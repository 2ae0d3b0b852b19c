"""make_invoice: a connection that makes many invoices at once does not delay the others."""

import asyncio
from typing import Any

from nwc.cln.node import BOUNDS
from nwc.wallet.connections.record import Connection
from nwc.wallet.context import INVOICES_AT_ONCE, Call
from nwc.wallet.methods.make_invoice import make_invoice
from tests.unit.in_process import ALICE, BOB, World, connection

OWN, OTHER = connection(ALICE), connection(BOB)


def test_the_limit_of_a_connection_is_below_lightningds_slots() -> None:
    assert BOUNDS["invoice"].slots > INVOICES_AT_ONCE


async def test_one_connection_does_not_take_all_slots(world: World) -> None:
    held, running = asyncio.Event(), 0

    async def hold(method: str, params: dict[str, Any]) -> None:
        nonlocal running
        if method == "invoice" and ALICE in params["label"]:
            running += 1
            await held.wait()

    async def ask(asking: Connection, number: int) -> str:
        call = Call(f"{number:064x}", {"amount": 1000}, asking)
        return str((await make_invoice(world.wallet, call))["payment_hash"])

    world.node.before = hold
    asked = [asyncio.create_task(ask(OWN, number)) for number in range(40)]
    await world.node.called(lambda: running == INVOICES_AT_ONCE)
    assert await ask(OTHER, 0)
    assert running == INVOICES_AT_ONCE
    held.set()
    assert len(set(await asyncio.gather(*asked))) == 40
