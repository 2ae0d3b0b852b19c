import asyncio
import hashlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.cln import bolt11
from nwc.cln.bolt11 import MAX_AMOUNT_MSAT
from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.cln.node import Json
from nwc.wallet.context import Call
from nwc.wallet.methods.make_invoice import make_invoice
from nwc.wallet.templates import TEMPLATE_LIFETIME_S, Templates, _rounded_up
from tests.double import bolt11 as double_bolt11
from tests.unit.in_process import ALICE, World, connection

OWN = connection(ALICE)
HASH = "5a" * 32
numbers = itertools.count(1)


async def bare_hash(world: World, amount: int = 1000, **params: Any) -> Json:
    request_id = f"{next(numbers):064x}"
    given = {"amount": amount, "description_hash": HASH, **params}
    return await make_invoice(world.wallet, Call(request_id, given, OWN))


def called(world: World, *methods: str) -> list[str]:
    return [method for method, _ in world.node.calls if method in methods]


async def labels_of_templates(world: World) -> list[str]:
    listed = (await world.node.call("listinvoices"))["invoices"]
    return [entry["label"] for entry in listed if entry["label"].startswith("nwc:template:")]


async def test_an_invoice_costs_one_createinvoice_and_no_deletion(world: World) -> None:
    await bare_hash(world)
    world.node.calls.clear()
    for _ in range(5):
        await bare_hash(world)
    assert called(world, "invoice", "createinvoice", "delinvoice") == ["createinvoice"] * 5


@pytest.mark.parametrize("amount", [0, 1, 999, 1000, 10**9, MAX_AMOUNT_MSAT])
async def test_nothing_of_the_template_shows_in_the_invoice(world: World, amount: int) -> None:
    await bare_hash(world, amount, expiry=77)
    made = [await bare_hash(world, amount, expiry=600, description="kept") for _ in range(2)]
    assert made[0]["payment_hash"] != made[1]["payment_hash"]
    for one in made:
        content = double_bolt11.decode(one["invoice"])
        assert content.payment_hash.hex() == one["payment_hash"]
        assert (content.amount_msat or 0) == one["amount"] == amount
        assert content.expiry == 600
        # lightningd counts from when it stores the invoice, which may be a second later.
        assert one["expires_at"] - one["created_at"] in (600, 601)
        assert content.description_hash is not None
        assert content.description_hash.hex() == one["description_hash"] == HASH
        assert one["description"] == "kept"
    secrets = {double_bolt11.decode(one["invoice"]).payment_secret for one in made}
    assert len(secrets) == 2


async def test_the_payment_secret_is_the_one_that_lightningd_derives(world: World) -> None:
    made = await bare_hash(world)
    await world.node.call("listinvoices")
    [stored] = [
        row["preimage"]
        for row in world.node.lightningd.state.db.execute("SELECT * FROM invoices")
        if row["payment_hash"].hex() == made["payment_hash"]
    ]
    secret = double_bolt11.decode(made["invoice"]).payment_secret
    assert secret == double_bolt11.invoice_secret(stored) == bolt11.payment_secret(stored)


async def test_a_lightningd_that_derives_another_secret_gets_no_invoice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No invoice is better than one that cannot be paid."""
    monkeypatch.setattr(bolt11, "payment_secret", lambda preimage: hashlib.sha256(preimage).digest())
    with pytest.raises(NodeUnavailableError, match="payment secrets"):
        await bare_hash(world)
    assert called(world, "createinvoice") == []


@given(st.integers(0, MAX_AMOUNT_MSAT))
def test_a_template_is_for_at_least_the_amount(amount: int) -> None:
    """lightningd gives route hints for channels with enough capacity for the amount."""
    rounded = _rounded_up(amount)
    assert (rounded == 0) == (amount == 0)
    assert amount <= rounded <= min(2 * amount, MAX_AMOUNT_MSAT)


async def test_concurrent_requests_share_a_template(world: World) -> None:
    await asyncio.gather(*(bare_hash(world, 1000) for _ in range(20)))
    await asyncio.gather(*(bare_hash(world, 1024) for _ in range(20)))
    assert await labels_of_templates(world) == ["nwc:template:0"]
    await bare_hash(world, 1025)
    await bare_hash(world, 0)
    assert len(await labels_of_templates(world)) == 3


async def test_an_old_template_is_replaced(world: World) -> None:
    now = 100.0
    templates = Templates(world.node, lambda: now)
    first = await templates.get(1000)
    now += TEMPLATE_LIFETIME_S - 1
    assert await templates.get(1000) is first
    now += 2
    second = await templates.get(1000)
    assert second is not first
    assert await templates.get(1000) is second
    assert await labels_of_templates(world) == ["nwc:template:0", "nwc:template:1"]


async def test_a_sweep_deletes_own_templates_and_at_a_start_all(world: World) -> None:
    templates = Templates(world.node)
    await templates.sweep()
    assert world.node.calls == []
    for amount in (1, 1000, 10**6):
        await templates.get(amount)
    await Templates(world.node).sweep()  # another process, not at a start
    assert len(await labels_of_templates(world)) == 3
    await templates.sweep()
    assert await labels_of_templates(world) == []
    world.node.calls.clear()
    await templates.sweep()
    assert world.node.calls == []
    await templates.get(1)
    assert await labels_of_templates(world) == ["nwc:template:0"]
    await Templates(world.node).sweep(is_start=True)
    assert await labels_of_templates(world) == []


async def test_templates_of_earlier_processes_are_skipped_and_swept(world: World) -> None:
    """Also those of an earlier version, and after an interrupted sweep."""
    for number in (0, 1, 7, 15, 30):
        await world.node.invoice(
            amount_msat=1, label=f"nwc:template:{number}", description="", expiry=60
        )
    await world.node.invoice(amount_msat=1, label="nwc:template:x", description="", expiry=60)
    templates = Templates(world.node)
    await templates.get(1000)
    assert "nwc:template:2" in await labels_of_templates(world)

    deleted = 0

    async def interrupt(method: str, params: Json) -> None:
        nonlocal deleted
        deleted += method == "delinvoice"
        if deleted > 3:
            world.node.away = True

    world.node.before = interrupt
    with pytest.raises(NodeUnavailableError):
        await Templates(world.node).sweep(is_start=True)
    world.node.before, world.node.away = None, False
    assert "nwc:template:0" in await labels_of_templates(world)
    await Templates(world.node).sweep(is_start=True)
    assert await labels_of_templates(world) == ["nwc:template:x"]


async def test_a_failed_call_leaves_no_gap_in_the_numbers(world: World) -> None:
    templates = Templates(world.node)
    for _ in range(30):
        await world.dev("dev-fail", method="invoice", code=-1, message="locked", times=1)
        with pytest.raises(RpcCallError):
            await templates.get(1)
    await templates.get(1)
    assert await labels_of_templates(world) == ["nwc:template:0"]


async def test_a_replayed_request_gets_the_same_invoice(world: World) -> None:
    call = Call("77" * 32, {"amount": 5, "description_hash": HASH}, OWN)
    first = await make_invoice(world.wallet, call)
    assert await make_invoice(world.wallet, call) == first
