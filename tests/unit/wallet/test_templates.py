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


async def there(world: World) -> list[str]:
    listed = (await world.node.call("listinvoices"))["invoices"]
    return [entry["label"] for entry in listed if entry["label"].startswith("nwc:template:")]


async def test_one_commit_and_no_deletion(world: World) -> None:
    await bare_hash(world)
    world.node.calls.clear()
    for _ in range(5):
        await bare_hash(world)
    assert called(world, "invoice", "createinvoice", "delinvoice") == ["createinvoice"] * 5


@pytest.mark.parametrize("amount", [0, 1, 999, 1000, 10**9, MAX_AMOUNT_MSAT])
async def test_everything_is_the_requests_own(world: World, amount: int) -> None:
    await bare_hash(world, amount, expiry=77)
    made = [await bare_hash(world, amount, expiry=600, description="kept") for _ in range(2)]
    assert made[0]["payment_hash"] != made[1]["payment_hash"]
    for one in made:
        content = double_bolt11.decode(one["invoice"])
        assert content.payment_hash.hex() == one["payment_hash"]
        assert (content.amount_msat or 0) == one["amount"] == amount
        assert content.expiry == 600
        # lightningd counts from when it keeps the invoice, which may be the second after.
        assert one["expires_at"] - one["created_at"] in (600, 601)
        assert content.description_hash is not None
        assert content.description_hash.hex() == one["description_hash"] == HASH
        assert one["description"] == "kept"
    secrets = {double_bolt11.decode(one["invoice"]).payment_secret for one in made}
    assert len(secrets) == 2


async def test_secret_is_the_one_lightningd_derives(world: World) -> None:
    made = await bare_hash(world)
    await world.node.call("listinvoices")
    [stored] = [
        row["preimage"]
        for row in world.node.lightningd.state.db.execute("SELECT * FROM invoices")
        if row["payment_hash"].hex() == made["payment_hash"]
    ]
    secret = double_bolt11.decode(made["invoice"]).payment_secret
    assert secret == double_bolt11.invoice_secret(stored) == bolt11.payment_secret(stored)


async def test_lightningd_with_another_secret(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather no invoice than one that cannot be paid."""
    monkeypatch.setattr(bolt11, "payment_secret", lambda preimage: hashlib.sha256(preimage).digest())
    with pytest.raises(NodeUnavailableError, match="payment secrets"):
        await bare_hash(world)
    assert called(world, "createinvoice") == []


@given(st.integers(0, MAX_AMOUNT_MSAT))
def test_template_is_for_as_much_at_least(amount: int) -> None:
    """Route hints of lightningd are for channels that have room for the amount."""
    rounded = _rounded_up(amount)
    assert (rounded == 0) == (amount == 0)
    assert amount <= rounded <= min(2 * amount, MAX_AMOUNT_MSAT)


async def test_one_template_for_many_at_once(world: World) -> None:
    await asyncio.gather(*(bare_hash(world, 1000) for _ in range(20)))
    await asyncio.gather(*(bare_hash(world, 1024) for _ in range(20)))
    assert await there(world) == ["nwc:template:0"]
    await bare_hash(world, 1025)
    await bare_hash(world, 0)
    assert len(await there(world)) == 3


async def test_refreshed_after_some_minutes(world: World) -> None:
    now = 100.0
    templates = Templates(world.node, lambda: now)
    first = await templates.get(1000)
    now += TEMPLATE_LIFETIME_S - 1
    assert await templates.get(1000) is first
    now += 2
    second = await templates.get(1000)
    assert second is not first
    assert await templates.get(1000) is second
    assert await there(world) == ["nwc:template:0", "nwc:template:1"]


async def test_swept_at_start_and_when_some_were_made(world: World) -> None:
    templates = Templates(world.node)
    await templates.sweep()
    assert world.node.calls == []
    for amount in (1, 1000, 10**6):
        await templates.get(amount)
    await Templates(world.node).sweep()  # of another process, and not at a start
    assert len(await there(world)) == 3
    await templates.sweep()
    assert await there(world) == []
    world.node.calls.clear()
    await templates.sweep()
    assert world.node.calls == []
    await templates.get(1)
    assert await there(world) == ["nwc:template:0"]
    await Templates(world.node).sweep(is_start=True)
    assert await there(world) == []


async def test_leftovers_are_skipped_and_swept(world: World) -> None:
    """Also of the version before, and when a sweep was cut off."""
    for number in (0, 1, 7, 15, 30):
        await world.node.invoice(
            amount_msat=1, label=f"nwc:template:{number}", description="", expiry=60
        )
    await world.node.invoice(amount_msat=1, label="nwc:template:x", description="", expiry=60)
    templates = Templates(world.node)
    await templates.get(1000)
    assert "nwc:template:2" in await there(world)

    deleted = 0

    async def cut_off(method: str, params: Json) -> None:
        nonlocal deleted
        deleted += method == "delinvoice"
        if deleted > 3:
            world.node.away = True

    world.node.before = cut_off
    with pytest.raises(NodeUnavailableError):
        await Templates(world.node).sweep(is_start=True)
    world.node.before, world.node.away = None, False
    assert "nwc:template:0" in await there(world)
    await Templates(world.node).sweep(is_start=True)
    assert await there(world) == ["nwc:template:x"]


async def test_a_failure_leaves_no_gap(world: World) -> None:
    templates = Templates(world.node)
    for _ in range(30):
        await world.dev("dev-fail", method="invoice", code=-1, message="locked", times=1)
        with pytest.raises(RpcCallError):
            await templates.get(1)
    await templates.get(1)
    assert await there(world) == ["nwc:template:0"]


async def test_replay_meets_the_invoice_of_before(world: World) -> None:
    call = Call("77" * 32, {"amount": 5, "description_hash": HASH}, OWN)
    first = await make_invoice(world.wallet, call)
    assert await make_invoice(world.wallet, call) == first
