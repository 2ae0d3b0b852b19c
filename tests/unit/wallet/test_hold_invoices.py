"""Hold invoices on the double: who may do what, in which state, and what is counted after a crash."""

import asyncio
import contextlib
import hashlib
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from nwc.cln import bolt11
from nwc.cln.bolt11 import MAX_AMOUNT_MSAT
from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.cln.hold import MAX_RECEIVED_MSAT, HoldInvoice, HoldPlugin, HoldState
from nwc.cln.node import Json
from nwc.nip47.errors import Nip47Error
from nwc.wallet import hold_invoices, hold_record
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.context import Call, Handler, Wallet
from nwc.wallet.hold_invoices import (
    CANCEL_MARGIN,
    DEADLINE_MARGIN,
    MAX_OPEN_PER_CONNECTION,
    HoldInvoices,
)
from nwc.wallet.hold_record import HoldRecord, HoldRecords
from nwc.wallet.methods.cancel_hold_invoice import cancel_hold_invoice
from nwc.wallet.methods.make_hold_invoice import MAX_CLTV, MIN_CLTV, make_hold_invoice, parse_params
from nwc.wallet.methods.settle_hold_invoice import settle_hold_invoice
from tests.double.node import Node as Double
from tests.support.waiting import PATIENCE_S
from tests.unit.in_process import ALICE, BOB, World, connection, make_wallet

AMOUNT_MSAT = 21_000
HEIGHT = 101
MINE, YOURS = connection(ALICE), connection(BOB)


def preimage_of(number: int) -> str:
    return f"{number:064x}"


def hash_of(number: int) -> str:
    return hashlib.sha256(bytes.fromhex(preimage_of(number))).hexdigest()


class Holding:
    """A wallet on a double with `hold`, whose process can begin anew."""

    def __init__(self, lightningd: Double) -> None:
        self.world = World(lightningd)
        self.node = self.world.node
        self.notified: list[tuple[str, str]] = []
        self.gone: set[str] = set()
        self.changes: list[bool] = []
        self.new_process()

    def new_process(self) -> None:
        self.wallet: Wallet = make_wallet(self.node)
        payments = self.wallet.payments
        self.holds = HoldInvoices(
            self.node,
            HoldPlugin(self.node),
            HoldRecords(self.node),
            client_pubkey_of=lambda id_: None if id_ in self.gone else id_.ljust(64, "0"),
            count=payments.receive_hold,
            notify=self._notify,
            on_found=lambda: self.changes.append(self.holds.plugin.is_available),
        )
        self.wallet.hold_invoices = self.holds
        self.world.wallet = self.wallet

    async def _notify(self, connection_id: str, record: HoldRecord) -> None:
        assert self.holds.records.get(connection_id, record.payment_hash) == record
        self.notified.append((connection_id, str(record.state)))

    async def ask(
        self, handler: Handler, params: Json, asking: Connection = MINE, request: int = 0
    ) -> Json:
        return await handler(self.wallet, Call(f"{request:064x}", params, asking))

    async def make(self, number: int = 1, asking: Connection = MINE, **params: Any) -> Json:
        given = {"amount": AMOUNT_MSAT, "payment_hash": hash_of(number), **params}
        return await self.ask(make_hold_invoice, given, asking, number)

    async def settle(self, number: int = 1, asking: Connection = MINE) -> Json:
        return await self.ask(settle_hold_invoice, {"preimage": preimage_of(number)}, asking)

    async def cancel(self, number: int = 1, asking: Connection = MINE) -> Json:
        return await self.ask(cancel_hold_invoice, {"payment_hash": hash_of(number)}, asking)

    async def pay(self, number: int = 1, **params: Any) -> None:
        await self.world.dev("dev-hold-pay", payment_hash=hash_of(number), **params)

    async def accept(self, number: int = 1, **params: Any) -> None:
        """Make an invoice, have it paid, and look it up."""
        await self.make(number)
        await self.pay(number, **params)
        await self.holds.poll()

    def methods(self) -> list[str]:
        return [method for method, _ in self.node.calls]

    async def lightningd_holds(self, held: bool, number: int = 1) -> None:
        """Let lightningd show the HTLCs of an invoice as neither fulfilled nor failed, or not at all."""
        await self.world.dev("dev-hold-htlcs", payment_hash=hash_of(number), held=held)

    async def another_htlc(self, id_: int, amount_msat: int) -> None:
        """Let lightningd hold one HTLC more, if it holds none that the double knows of."""
        held = {"direction": "in", "state": "RCVD_ADD_ACK_REVOCATION", "payment_hash": hash_of(1)}
        htlcs = [{"id": id_, "amount_msat": amount_msat, **held}]
        await self.world.dev("dev-channels", channels=[{"state": "CHANNELD_NORMAL", "htlcs": htlcs}])

    async def lookup(self, number: int = 1, asking: Connection = MINE) -> Json:
        return await self.world.lookup(asking, payment_hash=hash_of(number))

    async def state(self, number: int = 1) -> str:
        return str((await self.lookup(number))["state"])

    async def received(self, asking: Connection = MINE) -> int:
        return (await self.wallet.payments.ledgers.of(asking.client_pubkey)).received_msat

    async def listed(self, number: int = 1) -> Json:
        found = await self.world.dev("listholdinvoices", payment_hash=hash_of(number))
        [one] = found["holdinvoices"]
        return dict(one)


@pytest.fixture
async def holding(lightningd: Double) -> Holding:
    await lightningd.call("dev-hold", {"there": True})
    return Holding(lightningd)


async def refusal(call: Any) -> str:
    """Return the code and the message of the error of a call, which must fail."""
    with pytest.raises(Nip47Error) as error:
        await call
    return str(error.value)


# Made


async def test_a_hold_invoice_is_signed_with_the_payment_hash_of_the_app(holding: Holding) -> None:
    made = await holding.make(description="escrow", metadata={"order": 7})
    decoded = await holding.world.dev("decode", string=made["invoice"])
    assert decoded["payment_hash"] == made["payment_hash"] == hash_of(1)
    assert decoded["payee"] == holding.node.lightningd.id
    assert (decoded["amount_msat"], decoded["description"]) == (AMOUNT_MSAT, "escrow")
    assert decoded["min_final_cltv_expiry"] == (await holding.listed())["min_cltv"] == MIN_CLTV
    assert (made["state"], made["metadata"]) == ("pending", {"order": 7})
    assert await holding.lookup() == made


async def test_each_invoice_has_its_own_secret_and_expiry(holding: Holding) -> None:
    made = [await holding.make(1, expiry=120), await holding.make(2, expiry=7200)]
    assert [one["expires_at"] - one["created_at"] for one in made] == [120, 7200]
    decoded = [await holding.world.dev("decode", string=one["invoice"]) for one in made]
    assert [one["expiry"] for one in decoded] == [120, 7200]
    assert len({"00" * 32, *(one["payment_secret"] for one in decoded)}) == 3


async def test_a_description_hash_is_in_the_invoice(holding: Holding) -> None:
    made = await holding.make(description="long", description_hash="ab" * 32)
    assert made["description_hash"] == bolt11.description_hash(made["invoice"]) == "ab" * 32
    assert made["description"] == "long"


async def test_a_long_description_is_hashed_and_kept_in_part(holding: Holding) -> None:
    made = await holding.make(description="x" * 5000)
    assert made["description_hash"] == hashlib.sha256(b"x" * 5000).hexdigest()
    assert made["description"] == "x" * 4096
    decoded = await holding.world.dev("decode", string=made["invoice"])
    assert "description" not in decoded


async def test_the_route_hints_are_for_the_amount(holding: Holding) -> None:
    await holding.make()
    [asked] = [params["amount_msat"] for method, params in holding.node.calls if method == "invoice"]
    assert asked >= AMOUNT_MSAT


@pytest.mark.parametrize(
    ("asked", "made"), [(0, MIN_CLTV), (18, MIN_CLTV), (144, 144), (500, 500), (MAX_CLTV, MAX_CLTV)]
)
async def test_more_blocks_may_be_asked_for_but_not_less(
    holding: Holding, asked: int, made: int
) -> None:
    invoice = (await holding.make(min_cltv_expiry_delta=asked))["invoice"]
    decoded = await holding.world.dev("decode", string=invoice)
    assert decoded["min_final_cltv_expiry"] == made


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"amount": 0}, "amount: must be"),
        ({"amount": None}, "amount: must be"),
        ({"payment_hash": None}, "payment_hash: must be given"),
        ({"payment_hash": "ab"}, "payment_hash: must be 64 hex digits"),
        ({"min_cltv_expiry_delta": MAX_CLTV + 1}, "min_cltv_expiry_delta: must be"),
    ],
)
async def test_wrong_parameters_are_refused(holding: Holding, params: Json, message: str) -> None:
    assert f"OTHER: {message}" in await refusal(holding.make(**params))
    assert not [method for method, _ in holding.node.calls if method == "signinvoice"]


EMPTY: tuple[Any, ...] = (0, "", [], {})
REFUSED = (False,) * 4


@pytest.mark.parametrize(
    ("field", "fits"),
    [
        ("amount", REFUSED),
        ("payment_hash", REFUSED),
        ("min_cltv_expiry_delta", (True, False, False, False)),
        ("expiry", (True, False, False, False)),
        ("description", (False, True, False, False)),
        ("description_hash", (False, True, False, False)),
        ("metadata", (False, False, True, True)),
    ],
)
def test_empty_values_mean_what_the_table_says(field: str, fits: tuple[bool, ...]) -> None:
    base = {"amount": 1, "payment_hash": hash_of(1)}
    for value, is_fit in zip(EMPTY, fits, strict=True):
        if is_fit:
            assert parse_params({**base, field: value}, 60) == parse_params(base, 60) or value in (
                [],
                {},
            )
        else:
            with pytest.raises(Nip47Error, match=f"OTHER: {field}"):
                parse_params({**base, field: value}, 60)


@pytest.mark.parametrize("value", [None, *EMPTY])
async def test_settling_and_cancelling_need_a_value(holding: Holding, value: object) -> None:
    assert "OTHER: preimage: must be" in await refusal(
        holding.ask(settle_hold_invoice, {"preimage": value})
    )
    assert "OTHER: payment_hash: must be" in await refusal(
        holding.ask(cancel_hold_invoice, {"payment_hash": value})
    )


async def test_a_copy_of_a_request_gets_the_same_invoice_also_after_a_restart(holding: Holding) -> None:
    made = await holding.make()
    assert await holding.make() == made
    holding.new_process()
    assert await holding.make() == made


async def test_a_copy_of_a_request_finishes_what_a_crash_interrupted(holding: Holding) -> None:
    async def crash(method: str, _: Json) -> None:
        if method == "injectholdinvoice":
            raise NodeUnavailableError("crash")

    holding.node.before = crash
    with pytest.raises(NodeUnavailableError):
        await holding.make()
    holding.node.before = None
    holding.new_process()
    made = await holding.make()
    assert (await holding.listed())["invoice"] == made["invoice"]


async def test_a_copy_of_a_request_does_not_open_an_ended_invoice_again(holding: Holding) -> None:
    await holding.make()
    await holding.cancel()
    holding.node.lightningd.state.db.execute("DELETE FROM holds")  # as cleanholdinvoices does
    assert (await holding.make())["state"] == "failed"
    listed = await holding.world.dev("listholdinvoices", payment_hash=hash_of(1))
    assert listed == {"holdinvoices": []}


async def test_an_invoice_that_hold_refuses_is_not_kept(holding: Holding) -> None:
    await holding.world.dev("dev-fail", method="injectholdinvoice", code=-32700, message="no")
    with pytest.raises(RpcCallError):
        await holding.make()
    assert holding.holds.records.of(ALICE) == []
    await holding.make()


@pytest.mark.parametrize("known", ["own", "another", "record", "invoice", "payment", "hold"])
async def test_a_payment_hash_that_the_node_knows_is_refused(holding: Holding, known: str) -> None:
    match known:
        case "own":
            await holding.ask(make_hold_invoice, {"amount": 1, "payment_hash": hash_of(1)}, MINE, 99)
        case "another":
            await holding.make(asking=YOURS)
        case "record":
            await holding.make(asking=YOURS)
            holding.node.lightningd.state.db.execute("DELETE FROM holds")
        case "invoice":
            await holding.world.invoice(YOURS, 5, preimage=preimage_of(1))
        case "payment":
            await holding.world.payment(payment_hash=hash_of(1))
        case "hold":
            await holding.make()
            await holding.holds.records.delete(ALICE, hash_of(1))
    before = len(holding.node.calls)
    message = await refusal(holding.make())
    assert message == "OTHER: payment_hash: must be a new one; this node knows it already"
    assert "signinvoice" not in [method for method, _ in holding.node.calls[before:]]


async def test_a_connection_has_a_limited_number_of_open_invoices(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_invoices, "MAX_OPEN_PER_CONNECTION", 2)
    await holding.make(1)
    await holding.make(2)
    assert "which is the limit" in await refusal(holding.make(3))
    await holding.make(4, YOURS)
    await holding.cancel(1)
    await holding.make(3)
    assert MAX_OPEN_PER_CONNECTION == 100


async def test_requests_at_once_do_not_exceed_the_limit(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_invoices, "MAX_OPEN_PER_CONNECTION", 3)
    made = await asyncio.gather(*map(holding.make, range(1, 9)), return_exceptions=True)
    assert sum(isinstance(one, dict) for one in made) == 3


async def test_one_of_two_connections_gets_a_payment_hash(holding: Holding) -> None:
    made = await asyncio.gather(holding.make(1, MINE), holding.make(1, YOURS), return_exceptions=True)
    assert [isinstance(one, Nip47Error) for one in made] == [False, True]


async def test_hold_gets_no_invoice_of_nobody(holding: Holding) -> None:
    async def crash(method: str, params: Json) -> None:
        if method == "datastore" and params["key"][1] == "holds":
            raise NodeUnavailableError("crash")

    holding.node.before = crash
    with pytest.raises(NodeUnavailableError):
        await holding.make()
    listed = await holding.world.dev("listholdinvoices", payment_hash=hash_of(1))
    assert listed == {"holdinvoices": []}


# Accepted


async def test_a_new_invoice_is_soon_looked_up(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_invoices, "IDLE_POLL_S", 10**6)
    monkeypatch.setattr(hold_invoices, "POLL_S", 0.01)
    is_idle, is_accepted = asyncio.Event(), asyncio.Event()

    async def idle(method: str, _: Json) -> None:
        is_idle.set()

    async def notify(_: str, __: HoldRecord) -> None:
        is_accepted.set()

    holding.node.before = idle
    monkeypatch.setattr(holding.holds, "_notify", notify)
    holding.holds.start()
    async with asyncio.timeout(PATIENCE_S):
        await is_idle.wait()
        await holding.make()
        await holding.pay()
        await is_accepted.wait()
    await holding.holds.stop()


async def test_an_accepted_invoice_is_notified_once_also_after_a_restart(holding: Holding) -> None:
    await holding.accept()
    assert holding.notified == [(ALICE, "accepted")]
    shown = await holding.lookup()
    assert shown["state"] == "accepted"
    assert shown["settle_deadline"] == HEIGHT + 160 - DEADLINE_MARGIN
    await holding.holds.poll()
    holding.new_process()
    await holding.holds.poll()
    assert holding.notified == [(ALICE, "accepted")]


@pytest.mark.parametrize("end", ["accepted", "settled", "cancelled"])
async def test_a_crash_before_the_notification_does_not_lose_it(
    holding: Holding, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    async def fail(_: str, __: HoldRecord) -> None:
        raise NodeUnavailableError("crash")

    await holding.make()
    await holding.pay()
    if end != "accepted":
        await holding.holds.poll()
    monkeypatch.setattr(holding.holds, "_notify", fail)
    holding.notified.clear()
    if end == "settled":
        await holding.settle()
    if end == "cancelled":
        await holding.world.dev("cancelholdinvoice", payment_hash=hash_of(1))
    await holding.holds.poll()
    assert holding.notified == []
    holding.new_process()
    await holding.holds.poll()
    await holding.holds.poll()
    assert holding.notified == [(ALICE, end)]


async def test_two_looks_at_once_notify_once(holding: Holding) -> None:
    await holding.make()
    await holding.pay()
    await asyncio.gather(holding.holds.poll(), holding.settle(), holding.holds.poll())
    assert holding.notified == [(ALICE, "accepted"), (ALICE, "settled")]


async def test_an_invoice_that_cannot_be_looked_up_does_not_concern_another(
    holding: Holding, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def garbage() -> Json:
        return {"blockheight": None}

    await holding.accept(1)
    await holding.make(2)
    await holding.world.dev("cancelholdinvoice", payment_hash=hash_of(2))
    monkeypatch.setattr(holding.node, "info", garbage)
    assert await holding.holds.poll()
    assert (await holding.state(1), await holding.state(2)) == ("accepted", "failed")
    assert "a hold invoice is not looked up" in caplog.text


async def test_a_part_of_the_amount_is_not_accepted_and_cannot_be_settled(holding: Holding) -> None:
    await holding.make()
    await holding.pay(amount_msat=AMOUNT_MSAT - 1)
    await holding.holds.poll()
    assert holding.notified == []
    message = await refusal(holding.settle())
    assert message == "OTHER: preimage: its hold invoice must be accepted; it is not paid yet"
    assert "settleholdinvoice" not in holding.methods()
    await holding.pay(amount_msat=1)
    await holding.settle()
    assert await holding.received() == AMOUNT_MSAT


@pytest.mark.parametrize("is_accepted", [True, False])
async def test_a_payment_of_which_lightningd_holds_a_part_is_not_settled(
    holding: Holding, is_accepted: bool
) -> None:
    """`hold` counts a part that lightningd failed: `hold` was restarted, or the part timed out."""
    await holding.make()
    await holding.pay(amount_msat=1000)
    await holding.pay(amount_msat=AMOUNT_MSAT - 1000)
    if is_accepted:
        await holding.holds.poll()
    await holding.lightningd_holds(False)
    await holding.another_htlc(1, AMOUNT_MSAT - 1000)
    message = await refusal(holding.settle())
    assert message == "OTHER: preimage: its hold invoice must be accepted; " + (
        "its payment is gone" if is_accepted else "it is cancelled"
    )
    assert (await holding.listed())["state"] == "cancelled"
    assert holding.notified == [(ALICE, "accepted"), (ALICE, "cancelled")][: 2 * is_accepted]
    assert "settleholdinvoice" not in holding.methods()


@pytest.mark.parametrize("overpaid_msat", [0, 1000])
async def test_a_part_that_lightningd_has_failed_is_not_counted(
    holding: Holding, overpaid_msat: int
) -> None:
    await holding.make()
    await holding.pay(amount_msat=1000)
    await holding.pay(amount_msat=AMOUNT_MSAT + overpaid_msat)
    await holding.lightningd_holds(False)
    await holding.another_htlc(1, AMOUNT_MSAT + overpaid_msat)
    await holding.holds.poll()
    await holding.world.dev("settleholdinvoice", preimage=preimage_of(1))
    await holding.world.dev("dev-channels", channels=[])
    await holding.holds.poll()
    assert await holding.received() == AMOUNT_MSAT + overpaid_msat
    assert (await holding.lookup())["amount"] == AMOUNT_MSAT + overpaid_msat


async def test_a_part_that_hold_does_not_say_is_paid_is_not_counted(holding: Holding) -> None:
    await holding.make()
    await holding.pay(amount_msat=1000)
    await holding.pay(amount_msat=AMOUNT_MSAT - 1000)
    await holding.holds.poll()
    listed = await holding.listed()
    listed["htlcs"][0]["state"] = "cancelled"
    holding.node.lightningd.state.db.execute("UPDATE holds SET listed = ?", (json.dumps(listed),))
    await holding.world.dev("settleholdinvoice", preimage=preimage_of(1))
    await holding.holds.poll()
    assert await holding.received() == AMOUNT_MSAT - 1000


async def test_an_invoice_that_hold_takes_for_unpaid_again_is_not_settled(holding: Holding) -> None:
    await holding.accept()
    unpaid = {**await holding.listed(), "state": "unpaid"}
    holding.node.lightningd.state.db.execute("UPDATE holds SET listed = ?", (json.dumps(unpaid),))
    assert "its payment is gone" in await refusal(holding.settle())
    assert await holding.state() == "failed"


async def test_the_deadline_is_that_of_the_part_which_expires_first(holding: Holding) -> None:
    await holding.make()
    await holding.pay(amount_msat=1000, blocks=200)
    await holding.pay(amount_msat=AMOUNT_MSAT - 1000, blocks=150)
    await holding.holds.poll()
    assert (await holding.lookup())["settle_deadline"] == HEIGHT + 150 - DEADLINE_MARGIN


@pytest.mark.parametrize(
    ("blocks_before", "state"), [(CANCEL_MARGIN + 1, "accepted"), (CANCEL_MARGIN, "failed")]
)
async def test_an_invoice_is_cancelled_near_its_deadline(
    holding: Holding, blocks_before: int, state: str
) -> None:
    await holding.accept(blocks=DEADLINE_MARGIN + CANCEL_MARGIN + 2)
    while holding.wallet is not None:
        height = (await holding.node.info())["blockheight"]
        if height == HEIGHT + CANCEL_MARGIN + 2 - blocks_before:
            break
        await holding.world.dev("dev-block")
    await holding.holds.poll()
    assert await holding.state() == state
    told = [(ALICE, "accepted"), (ALICE, "cancelled")]
    assert holding.notified == told[: 2 if state == "failed" else 1]


async def test_a_late_settle_is_refused(holding: Holding) -> None:
    await holding.accept(blocks=DEADLINE_MARGIN + CANCEL_MARGIN + 1)
    await holding.world.dev("dev-block")
    assert "it is cancelled" in await refusal(holding.settle())
    assert (await holding.listed())["state"] == "cancelled"
    assert await holding.received() == 0


# Settled


async def test_a_settled_invoice_is_counted_and_notified(holding: Holding) -> None:
    await holding.accept()
    assert await holding.received() == 0
    assert await holding.settle() == {}
    assert await holding.received() == AMOUNT_MSAT
    assert holding.notified == [(ALICE, "accepted"), (ALICE, "settled")]
    shown = await holding.lookup()
    assert (shown["state"], shown["preimage"]) == ("settled", preimage_of(1))
    assert "settle_deadline" not in shown
    assert shown["settled_at"] >= shown["created_at"]
    assert await holding.settle() == {}
    await holding.holds.poll()
    assert await holding.received() == AMOUNT_MSAT
    assert len(holding.notified) == 2


@pytest.mark.parametrize("lost", range(20))
async def test_a_crash_at_any_call_counts_a_settled_invoice_once(holding: Holding, lost: int) -> None:
    """The process ends before or after each of its calls, and begins anew."""
    await holding.accept(1)
    await holding.accept(2)
    calls = 0

    async def crash(_: str, __: Json) -> None:
        nonlocal calls
        calls += 1
        if calls > lost:
            raise NodeUnavailableError("crash")

    holding.node.before = crash
    with contextlib.suppress(NodeUnavailableError, Nip47Error):
        await holding.settle(1)
    holding.node.before = None
    holding.new_process()
    await holding.settle(1)
    await holding.settle(2)
    holding.new_process()
    await holding.holds.poll()
    assert await holding.received() == 2 * AMOUNT_MSAT
    assert await holding.state() == "settled"


async def test_a_crash_after_each_write_counts_a_settled_invoice_once(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of the settled invoice cannot be stored, though it is counted: twice in a row."""
    await holding.accept()
    await holding.world.dev("settleholdinvoice", preimage=preimage_of(1))

    async def no_holds(method: str, params: Json) -> None:
        if method == "datastore" and params["key"][1] == "holds":
            raise NodeUnavailableError("crash")

    holding.node.before = no_holds
    for _ in range(2):
        await holding.holds.poll()
        assert await holding.received() == AMOUNT_MSAT
        holding.new_process()
    holding.node.before = None
    await holding.holds.poll()
    assert await holding.received() == AMOUNT_MSAT
    assert await holding.state() == "settled"


async def test_the_ledger_forgets_the_hashes_that_are_done(holding: Holding) -> None:
    for number in (1, 2, 3):
        await holding.accept(number)
        await holding.settle(number)
    ledger = await holding.wallet.payments.ledgers.of(MINE.client_pubkey)
    assert ledger.received_msat == 3 * AMOUNT_MSAT
    assert ledger.counted_holds == (hash_of(3),)


async def test_a_settlement_whose_end_is_not_seen_is_seen_by_the_next_poll(holding: Holding) -> None:
    async def fail(method: str, _: Json) -> None:
        if method == "listholdinvoices" and "settleholdinvoice" in holding.methods():
            raise NodeUnavailableError("no answer")

    await holding.accept()
    holding.node.before = fail
    assert await holding.settle() == {}
    holding.node.before = None
    await holding.holds.poll()
    assert await holding.state() == "settled"


async def test_what_hold_settled_without_us_is_counted(holding: Holding) -> None:
    await holding.make()
    await holding.pay()
    await holding.world.dev("settleholdinvoice", preimage=preimage_of(1))
    await holding.holds.poll()
    assert await holding.received() == AMOUNT_MSAT


async def test_hold_without_the_htlcs_cannot_settle(holding: Holding) -> None:
    await holding.accept()
    await holding.world.dev("dev-fail", method="settleholdinvoice", code=-32700, message="no HTLCs")
    assert "INTERNAL: the node did not settle it" in await refusal(holding.settle())
    assert await holding.received() == 0
    assert await holding.state() == "accepted"


@pytest.mark.parametrize("warning", ["warning_bitcoind_sync", "warning_lightningd_sync"])
async def test_nothing_is_settled_while_the_node_reads_blocks(
    holding: Holding, monkeypatch: pytest.MonkeyPatch, warning: str
) -> None:
    await holding.accept()
    info = holding.node.info

    async def syncing() -> Json:
        return {**await info(), warning: "Still loading latest blocks"}

    monkeypatch.setattr(holding.node, "info", syncing)
    assert "INTERNAL" in await refusal(holding.settle())
    assert (await holding.listed())["state"] == "accepted"


async def test_what_is_paid_is_counted_once_lightningd_has_the_preimage(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_invoices, "LOOKS_S", (0, 0))
    await holding.accept()
    looks: list[int] = []

    async def fulfil_late(method: str, _: Json) -> None:
        if method == "settleholdinvoice":
            await holding.lightningd_holds(True)
            looks.clear()
        if method == "listpeerchannels":
            looks.append(await holding.received())
            await holding.lightningd_holds(len(looks) == 1)

    holding.node.before = fulfil_late
    assert await holding.settle() == {}
    assert looks == [0, 0]
    assert (await holding.received(), await holding.state()) == (AMOUNT_MSAT, "settled")


async def test_an_htlc_that_hold_does_not_count_delays_nothing(holding: Holding) -> None:
    """A payer can send further HTLCs with the same payment hash; `hold` refuses them."""
    await holding.accept()
    await holding.another_htlc(7, 1)
    await holding.settle()
    assert await holding.received() == AMOUNT_MSAT


async def test_a_settlement_that_lightningd_did_not_get_is_not_counted(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lightningd was killed, and has asked `hold` again, which does not settle twice."""
    monkeypatch.setattr(hold_invoices, "LOOKS_S", (0, 0))
    await holding.accept()
    await holding.world.dev("settleholdinvoice", preimage=preimage_of(1))
    await holding.lightningd_holds(True)
    holding.new_process()
    await holding.holds.poll()
    await holding.lightningd_holds(False)  # `hold` has failed it
    await holding.holds.poll()
    assert (await holding.received(), await holding.state()) == (0, "failed")
    assert holding.notified == [(ALICE, "accepted"), (ALICE, "cancelled")]


# Owners


@pytest.mark.parametrize("action", ["settle", "cancel"])
async def test_another_connection_finds_no_invoice(holding: Holding, action: str) -> None:
    await holding.accept()
    message = await refusal(getattr(holding, action)(1, YOURS))
    assert message == "NOT_FOUND: there is no such hold invoice of this connection"
    assert (await holding.listed())["state"] == "accepted"
    assert (await holding.world.not_found(YOURS, payment_hash=hash_of(1)))[0] == "NOT_FOUND"


async def test_the_preimage_of_another_invoice_settles_nothing(holding: Holding) -> None:
    await holding.accept()
    assert "NOT_FOUND" in await refusal(holding.settle(2))
    await holding.make(2)
    assert "it is not paid yet" in await refusal(holding.settle(2))
    assert await holding.state() == "accepted"


# Cancelled


@pytest.mark.parametrize("is_paid", [True, False])
async def test_a_cancelled_invoice_failed_and_cancelling_is_repeatable(
    holding: Holding, is_paid: bool
) -> None:
    await holding.make()
    if is_paid:
        await holding.pay()
    assert await holding.cancel() == {}
    assert await holding.cancel() == {}
    assert await holding.state() == "failed"
    assert (await holding.listed())["state"] == "cancelled"
    assert "it is cancelled" in await refusal(holding.settle())


async def test_an_invoice_has_not_ended_while_hold_says_that_it_is_open(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ignore(_: str) -> None:
        pass

    await holding.accept()
    monkeypatch.setattr(holding.holds.plugin, "cancel", ignore)
    with pytest.raises(RpcCallError):
        await holding.cancel()
    assert await holding.state() == "accepted"


async def test_a_settled_invoice_cannot_be_cancelled(holding: Holding) -> None:
    await holding.accept()
    await holding.settle()
    assert "it is settled" in await refusal(holding.cancel())
    assert await holding.state() == "settled"


async def test_what_hold_has_settled_meanwhile_cannot_be_cancelled(holding: Holding) -> None:
    await holding.accept()
    await holding.world.dev("settleholdinvoice", preimage=preimage_of(1))
    assert "it is settled" in await refusal(holding.cancel())
    assert await holding.received() == AMOUNT_MSAT


async def test_an_expired_invoice_is_cancelled(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    await holding.make(expiry=60)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert await holding.state() == "expired"
    await holding.holds.poll()
    assert (await holding.listed())["state"] == "cancelled"
    assert await holding.cancel() == {}
    assert await holding.state() == "expired"


async def test_an_accepted_invoice_does_not_expire(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    await holding.accept()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10**6)
    await holding.holds.poll()
    assert await holding.state() == "accepted"


async def test_the_open_invoices_of_a_connection_are_cancelled_for_the_owner(holding: Holding) -> None:
    await holding.accept(1)
    await holding.make(2)
    await holding.accept(3)
    await holding.settle(3)
    await holding.make(4, YOURS)
    holding.gone.add(ALICE)
    assert await holding.holds.cancel_open(ALICE) == (2, 0)
    assert [(await holding.listed(n))["state"] for n in (1, 2, 3, 4)] == [
        "cancelled",
        "cancelled",
        "paid",
        "unpaid",
    ]


async def test_each_revoked_connection_has_its_own_count(holding: Holding) -> None:
    await holding.make(1)
    await holding.make(2, YOURS)
    holding.new_process()
    holding.gone |= {ALICE, BOB}
    await holding.holds.poll()
    assert await holding.holds.cancel_open(ALICE) == (1, 0)
    assert await holding.holds.cancel_open(ALICE) == (0, 0)
    assert await holding.holds.cancel_open(BOB) == (1, 0)


async def test_the_open_invoices_are_cancelled_right_after_a_start(holding: Holding) -> None:
    await holding.make()
    holding.new_process()
    holding.gone.add(ALICE)
    assert await holding.holds.cancel_open(ALICE) == (1, 0)


async def test_what_is_being_made_while_its_connection_is_revoked_is_cancelled_too(
    holding: Holding,
) -> None:
    """One request is being served, another waits for it, a third comes too late."""
    signing, revoked = asyncio.Event(), asyncio.Event()

    async def pause(method: str, _: Json) -> None:
        if method == "signinvoice":
            signing.set()
            await revoked.wait()

    holding.node.before = pause
    first = asyncio.create_task(holding.make(1))
    async with asyncio.timeout(PATIENCE_S):
        await signing.wait()
        assert await holding.holds.cancel_open(BOB) == (0, 0)  # does not wait for it
    second = asyncio.create_task(refusal(holding.make(2)))
    holding.gone.add(ALICE)
    cancelling = asyncio.create_task(holding.holds.cancel_open(ALICE))
    await asyncio.sleep(0)
    revoked.set()
    await first
    assert await cancelling == (1, 0)
    assert (await holding.listed(1))["state"] == "cancelled"
    assert await second == await refusal(holding.make(3)) == "UNAUTHORIZED: this connection is revoked"
    assert await holding.world.dev("listholdinvoices", payment_hash=hash_of(2)) == {"holdinvoices": []}


async def test_what_could_not_be_cancelled_is_cancelled_by_the_next_poll(holding: Holding) -> None:
    await holding.accept()
    await holding.world.dev("dev-fail", method="cancelholdinvoice", code=-1, message="no")
    holding.gone.add(ALICE)
    assert await holding.holds.cancel_open(ALICE) == (0, 1)
    await holding.holds.poll()
    assert (await holding.listed())["state"] == "cancelled"
    assert holding.holds.records.of(ALICE) == []


async def test_nothing_is_counted_for_a_revoked_connection(holding: Holding) -> None:
    await holding.accept()
    await holding.world.dev("settleholdinvoice", preimage=preimage_of(1))
    holding.gone.add(ALICE)
    await holding.holds.poll()
    assert await holding.received() == 0
    assert holding.holds.records.of(ALICE) == []


# hold comes and goes


async def test_without_hold_the_methods_are_not_implemented(holding: Holding) -> None:
    await holding.accept()
    await holding.world.dev("dev-hold", there=False)
    for call in (holding.make(2), holding.settle(), holding.cancel()):
        assert await refusal(call) == "NOT_IMPLEMENTED: this node does not serve hold invoices"
    assert not holding.holds.plugin.is_available
    assert "not served" in holding.holds.summary()
    assert await holding.state() == "accepted"
    before = len(holding.node.calls)
    assert await holding.holds.poll()
    assert "listholdinvoices" not in holding.methods()[before:]
    await holding.world.dev("dev-hold", there=True)
    assert await holding.holds.poll()
    assert holding.holds.summary() == "1 open, of which 1 are accepted"
    assert holding.changes == [True, False, True]


@pytest.mark.parametrize(
    ("why", "states"), [("open", ["unpaid"]), ("expired", ["expired"]), ("gone", [])]
)
async def test_an_invoice_that_hold_never_got_waits_for_a_copy_of_its_request(
    holding: Holding, monkeypatch: pytest.MonkeyPatch, why: str, states: list[str]
) -> None:
    await holding.make(expiry=60)
    holding.node.lightningd.state.db.execute("DELETE FROM holds")
    now = time.time()
    if why == "expired":
        monkeypatch.setattr(time, "time", lambda: now + 61)
    if why == "gone":
        holding.gone.add(ALICE)
    assert await holding.holds.poll() is (why == "open")
    assert [str(record.state) for record in holding.holds.records.of(ALICE)] == states


async def test_an_accepted_invoice_without_htlcs_is_cancelled(holding: Holding) -> None:
    await holding.accept()
    listed = {**await holding.listed(), "htlcs": []}
    holding.node.lightningd.state.db.execute("UPDATE holds SET listed = ?", (json.dumps(listed),))
    await holding.holds.poll()
    assert await holding.state() == "failed"


async def test_an_invoice_that_hold_has_lost_failed(holding: Holding) -> None:
    await holding.accept()
    holding.node.lightningd.state.db.execute("DELETE FROM holds")
    await holding.holds.poll()
    assert await holding.state() == "failed"


def htlc(state: str, **fields: Any) -> Json:
    return {"state": state, "msat": 5, "channel_id": 1, "cltv_expiry": 300, **fields}


async def found(holding: Holding, number: int = 1, **fields: Any) -> HoldInvoice | None:
    """Return what the plugin reads in an answer of `hold` with these fields."""
    await holding.make(number)
    listed = {**await holding.listed(number), "preimage": preimage_of(number), **fields}
    answer = {"holdinvoices": [listed]}

    async def call(method: str, **params: Any) -> Json:
        return answer

    holding.node.call = call  # type: ignore[method-assign]
    return await HoldPlugin(holding.node).find(hash_of(number))


@pytest.mark.parametrize(
    "odd",
    [
        {"payment_hash": "00" * 32},
        {"state": "odd"},
        {"state": "paid", "preimage": None},
        {"state": "paid", "preimage": "00" * 32},
        {"htlcs": None},
        {"htlcs": [5]},
        *(
            {"htlcs": [htlc("accepted", cltv_expiry=value)]}
            for value in (-1, 2**32, None, "5", 5.0, True)
        ),
        *({"htlcs": [htlc("paid", msat=value)]} for value in (-1, MAX_RECEIVED_MSAT + 1, None, "5")),
        *({"htlcs": [htlc("unpaid", channel_id=value)]} for value in (-1, 2**63, None)),
        {"htlcs": [htlc("paid", msat=MAX_RECEIVED_MSAT), htlc("paid", msat=1)]},
    ],
    ids=str,
)
async def test_an_odd_answer_of_hold_is_an_error(holding: Holding, odd: Json) -> None:
    with pytest.raises(NodeUnavailableError):
        await found(holding, **odd)


async def test_each_htlc_counts_in_its_state_only(holding: Holding) -> None:
    refused = htlc("cancelled", msat=7, cltv_expiry=1, channel_id=9)
    accepted = [htlc("accepted", msat=2), htlc("accepted", msat=3, cltv_expiry=200)]
    paid = htlc("paid", msat=2 * MAX_AMOUNT_MSAT, cltv_expiry=100, channel_id=8)
    htlcs = [refused, *accepted, paid]
    read = await found(holding, 0xAB, state="paid", htlcs=htlcs, preimage=preimage_of(0xAB).upper())
    assert read == HoldInvoice(
        state=HoldState.PAID,
        preimage=preimage_of(0xAB),
        paid_msat=2 * MAX_AMOUNT_MSAT,
        htlc_ids=frozenset({8}),
        lowest_cltv_expiry=200,
    )


async def test_hold_is_not_missing_because_lightningd_fails(holding: Holding) -> None:
    await holding.accept()
    await holding.world.dev("dev-fail", method="help", code=-1, message="no")
    with pytest.raises(RpcCallError):
        await holding.settle()
    assert holding.holds.plugin.is_available


# Shown and stored


async def test_hold_invoices_are_shown_at_once_after_a_start(holding: Holding) -> None:
    made = await holding.make()
    holding.new_process()
    assert await holding.lookup() == made


async def test_hold_invoices_are_listed(holding: Holding) -> None:
    await holding.make(1)
    await holding.accept(2)
    await holding.accept(3)
    await holding.settle(3)
    await holding.make(4, YOURS)
    paid = await holding.world.list(MINE)
    assert [one["payment_hash"] for one in paid["transactions"]] == [hash_of(3)]
    everything = await holding.world.list(MINE, unpaid=True)
    states = {one["payment_hash"]: one["state"] for one in everything["transactions"]}
    assert states == {hash_of(1): "pending", hash_of(2): "accepted", hash_of(3): "settled"}
    of_node = await holding.world.list(connection(BOB, View.NODE), unpaid=True, type="incoming")
    assert of_node["total_count"] == 4
    assert await holding.world.list(MINE, until=1, unpaid=True) == {"transactions": [], "total_count": 0}


async def test_hold_invoices_are_listed_from_a_time_until_a_time(holding: Holding) -> None:
    for number in range(1, 6):
        await holding.make(number)
        record = holding.holds.records.get(ALICE, hash_of(number))
        assert record is not None
        await holding.holds.records.put(ALICE, replace(record, created_at=number))
    between = {"from": 2, "until": 4, "unpaid": True}
    for page, wanted in (({}, [4, 3, 2]), ({"limit": 2}, [4, 3]), ({"offset": 1}, [3, 2])):
        listed = (await holding.world.list(MINE, **between, **page))["transactions"]
        assert [one["created_at"] for one in listed] == wanted


async def test_only_the_newest_ended_records_are_kept(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_record, "MAX_ENDED", 2)
    for number in range(1, 5):
        await holding.make(number)
    for record in holding.holds.records.of(ALICE):
        await holding.holds.records.put(ALICE, replace(record, created_at=int(record.request_id, 16)))
    for number in range(1, 5):
        await holding.cancel(number)
    kept = {record.payment_hash for record in holding.holds.records.of(ALICE)}
    assert kept == {hash_of(3), hash_of(4)}
    assert set(await holding.node.datastore_children(("nwc", "holds", ALICE))) == kept


async def test_the_records_are_read_once(holding: Holding) -> None:
    await holding.make()
    holding.new_process()
    before = len(holding.node.calls)

    async def pause(_: str, __: Json) -> None:
        await asyncio.sleep(0)

    holding.node.before = pause
    await asyncio.gather(holding.holds.records.ready(), holding.holds.records.ready())
    assert holding.methods()[before:] == ["listdatastore"] * 2  # the connections, and those of one


async def test_a_record_that_was_not_forgotten_is_read_again(holding: Holding) -> None:
    await holding.make()
    holding.holds.records.forget_what_was_read()
    assert holding.holds.records.of(ALICE) == []
    assert await holding.state() == "pending"


async def test_a_record_under_the_key_of_another_is_left_alone(
    holding: Holding, caplog: pytest.LogCaptureFixture
) -> None:
    await holding.make()
    record = holding.holds.records.of(ALICE)[0]
    await holding.node.datastore_put(("nwc", "holds", ALICE, hash_of(2)), record.to_json())
    await holding.node.datastore_put(
        ("nwc", "holds", ALICE, hash_of(1)), replace(record, invoice="x").to_json()
    )
    holding.new_process()
    await holding.holds.records.ready()
    assert caplog.text.count("is left alone") == 2
    assert holding.holds.records.of(ALICE) == []


@pytest.mark.parametrize("damage", ["{", '{"version":9}', "newer field"])
async def test_an_unreadable_record_is_left_alone(
    holding: Holding, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    await holding.accept()
    key = ("nwc", "holds", ALICE, hash_of(1))
    await holding.node.datastore_put(key, damage)
    holding.new_process()
    await holding.holds.poll()
    assert "is left alone" in caplog.text
    assert "NOT_FOUND" in await refusal(holding.settle())
    assert await holding.node.datastore_get(key) == damage
    assert holding.holds.records.hashes_not_done(ALICE) == {hash_of(1)}
    holding.holds.records.forget_what_was_read()
    assert holding.holds.records.hashes_not_done(ALICE) == set()
