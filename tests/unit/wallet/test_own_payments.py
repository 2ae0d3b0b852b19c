"""Which of its payments a connection with view=own sees in list_transactions, and in which order."""

import json
from dataclasses import replace
from operator import methodcaller
from typing import Any

import pytest

from nwc.nip47.errors import ErrorCode
from nwc.wallet.connections.record import View
from nwc.wallet.labels import request_label
from nwc.wallet.spending.payment import Payment, PaymentRecord, PaymentState
from tests.unit.in_process import ALICE, START, World, connection, make_wallet
from tests.unit.wallet.scene import settled

OWN, NODE = connection(ALICE), connection("c2" * 8, View.NODE)
FIRST_US = START * 1_000_000


def payment(number: int, **fields: Any) -> Payment:
    """Return a payment; all have the same second."""
    return settled(number, created_at=START, **fields).payment


def failed(number: int, **fields: Any) -> PaymentRecord:
    return PaymentRecord(
        payment(number, **fields),
        PaymentState.FAILED,
        START,
        error_code=ErrorCode.PAYMENT_FAILED,
        error_message="",
    )


def paid(number: int, **fields: Any) -> PaymentRecord:
    return settled(number, created_at=START, **fields)


async def keep(world: World, *records: PaymentRecord) -> None:
    """Store records of payments of OWN."""
    for record in records:
        await world.wallet.payments.records.keep(OWN.id, record)


async def reserve(world: World, *payments: Payment) -> None:
    """Put payments of OWN in flight."""
    reserved = {one.request_id: one for one in payments}
    await world.wallet.payments.ledgers.change(
        OWN.client_pubkey,
        lambda ledger: replace(ledger, reservations={**ledger.reservations, **reserved}),
    )


async def restart(world: World) -> None:
    world.wallet = make_wallet(world.node)
    await world.wallet.payments.load(is_node_start=False)


async def listed(world: World, **params: Any) -> list[tuple[str, int]]:
    """Return the state and payment hash, as a number, of each row; check the total count."""
    rows: list[tuple[str, int]] = []
    while True:
        answer = await world.list(OWN, unpaid=True, offset=len(rows), **params)
        if not answer["transactions"]:
            assert answer["total_count"] == len(rows)
            return rows
        rows += [(row["state"], int(row["payment_hash"], 16)) for row in answer["transactions"]]


# Rows without a payment hash


async def test_a_failed_keysend_without_a_hash_is_not_shown(world: World) -> None:
    await keep(
        world,
        failed(1, method="pay_keysend", payment_hash=None),
        failed(2, method="pay_keysend", payment_hash=""),
        failed(3, method="pay_keysend"),
    )
    for _ in range(2):
        assert await listed(world) == [("failed", 3)]
        await restart(world)


async def test_a_keysend_in_flight_is_shown_once_lightningd_lists_a_part(world: World) -> None:
    await reserve(world, payment(1, method="pay_keysend", payment_hash=None, first_sendpay_index=1))
    assert await listed(world) == []
    label = request_label(OWN.id, f"{1:064x}")
    await world.payment({"status": "pending"}, payment_hash=f"{7:064x}", label=label)
    assert await listed(world) == [("pending", 7)]
    assert (await world.list(OWN))["total_count"] == 0
    [row] = (await world.list(OWN, unpaid=True))["transactions"]
    assert await world.lookup(OWN, payment_hash=row["payment_hash"]) == row
    await restart(world)
    assert await world.lookup(OWN, payment_hash=row["payment_hash"]) == row


async def test_keysends_in_flight_are_not_looked_up_for_settled_payments_only(world: World) -> None:
    await reserve(world, payment(1, method="pay_keysend", payment_hash=None, first_sendpay_index=1))
    world.node.calls.clear()
    await world.list(OWN)
    assert "listsendpays" not in {method for method, _ in world.node.calls}


# Several attempts at one payment hash


SAME = f"{9:064x}"


@pytest.mark.parametrize("numbers", [(1, 2, 3), (3, 2, 1)])
async def test_of_several_attempts_the_newest_is_shown(world: World, numbers: tuple[int, ...]) -> None:
    for order, number in enumerate(numbers):
        await keep(world, failed(number, payment_hash=SAME, reserved_at_us=FIRST_US + order))
    assert await listed(world) == [("failed", 9)]
    [row] = (await world.list(OWN, unpaid=True))["transactions"]
    assert await world.lookup(OWN, payment_hash=SAME) == row


async def test_of_several_attempts_the_settled_one_is_shown(world: World) -> None:
    """Also if a later attempt has failed."""
    await keep(world, *(failed(n, payment_hash=SAME, reserved_at_us=FIRST_US + n) for n in (1, 3)))
    await keep(world, paid(2, payment_hash=SAME, reserved_at_us=FIRST_US + 2))
    assert await listed(world) == [("settled", 9)]


async def test_of_several_attempts_the_one_in_flight_is_shown(world: World) -> None:
    await keep(world, failed(1, payment_hash=SAME), failed(2, payment_hash=SAME))
    await reserve(world, payment(3, payment_hash=SAME))
    assert await listed(world) == [("pending", 9)]


async def test_a_time_window_does_not_show_an_attempt_that_a_later_one_hides(world: World) -> None:
    await keep(world, failed(1, payment_hash=SAME), settled(2, payment_hash=SAME, created_at=START + 5))
    assert await listed(world, until=START + 4) == []
    assert await listed(world, **{"from": START + 5}) == [("settled", 9)]


async def test_a_payment_that_is_recorded_but_not_booked_is_one_row(world: World) -> None:
    await reserve(world, payment(1))
    await keep(world, paid(1))
    assert await listed(world) == [("pending", 1)]


# Order


@pytest.mark.parametrize("limit", [1, 2, 20])
async def test_payments_of_one_second_are_listed_newest_first(world: World, limit: int) -> None:
    """Whether they are in flight or not, and whatever their request ids are."""
    numbers = [3, 5, 1, 4, 2, 6]
    made = {n: {"reserved_at_us": FIRST_US + order} for order, n in enumerate(numbers)}
    await keep(world, *(failed(n, **made[n]) for n in (1, 3)), *(paid(n, **made[n]) for n in (2, 6)))
    await reserve(world, payment(5, **made[5]), payment(4, **made[4]))
    for _ in range(2):
        rows = await listed(world, limit=limit)
        assert [payment_hash for _, payment_hash in rows] == numbers[::-1]
        await restart(world)


async def test_rows_keep_their_order_when_a_payment_ends(world: World) -> None:
    payments = [payment(n, reserved_at_us=FIRST_US + 9 - n) for n in (1, 2, 3)]
    await reserve(world, *payments)
    assert [n for _, n in await listed(world)] == [1, 2, 3]
    for ended in (2, 1, 3):
        record = paid(ended, reserved_at_us=FIRST_US + 9 - ended)
        await keep(world, record)
        release = methodcaller("release", record.payment.request_id)
        await world.wallet.payments.ledgers.change(OWN.client_pubkey, release)
        assert [n for _, n in await listed(world)] == [1, 2, 3]


async def test_records_of_earlier_versions_are_sorted_by_the_time_of_their_requests(
    world: World,
) -> None:
    for number, requested_at in {1: START - 1, 2: START - 3, 3: START - 2}.items():
        stored = json.loads(paid(number, request_created_at=requested_at).to_json())
        del stored["payment"]["reserved_at_us"]
        key = ("nwc", "payments", OWN.id, f"{number:064x}")
        await world.node.datastore_put(key, json.dumps(stored))
    await restart(world)
    assert [n for _, n in await listed(world)] == [1, 3, 2]


async def test_payments_of_one_second_are_listed_before_invoices(world: World) -> None:
    """In both views. Invoices of one second are listed in lightningd's order."""
    await world.invoices(OWN, 3, paid_every=1, step=0)
    await world.invoices(OWN, 1, paid_every=1, created_at=START + 1, label_prefix=f"nwc:{OWN.id}:x")
    await keep(world, paid(2, reserved_at_us=FIRST_US), paid(1, reserved_at_us=FIRST_US + 1))
    for number in (2, 1):
        await world.payment({"created_at": START}, payment_hash=f"{number:064x}")
    invoices = (await world.list(OWN, type="incoming"))["transactions"]
    for asking in (OWN, NODE):
        rows = (await world.list(asking))["transactions"]
        assert [row["type"] for row in rows] == ["incoming", *["outgoing"] * 2, *["incoming"] * 3]
        assert [int(row["payment_hash"], 16) for row in rows[1:3]] == [1, 2]
        assert [row for row in rows if row["type"] == "incoming"] == invoices
        paged = [await world.list(asking, limit=1, offset=n) for n in range(6)]
        assert [page["transactions"] for page in paged] == [[row] for row in rows]
