"""nwc-payments over the double in process."""

import shlex
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nwc import commands
from nwc.commands import ArgumentError
from nwc.commands.payments import MAX_DESCRIPTION_CHARACTERS
from nwc.commands.shown import STILL_STARTING
from nwc.nip47.errors import ErrorCode
from nwc.service import App
from nwc.wallet.connections.manager import ManagementError
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.invoice_record import InvoiceRecord
from nwc.wallet.spending.payment import Payment, PaymentRecord, PaymentState
from tests.unit.in_process import ALICE, BOB, START, World, connection
from tests.unit.wallet.scene import settled

Json = dict[str, Any]
OWN, OTHER = connection(ALICE), connection(BOB)


class Manager:
    """Finds the connections of this module."""

    def __init__(self, *records: Connection) -> None:
        self._records = {record.name: record for record in records}

    def find(self, name: str) -> SimpleNamespace:
        if name not in self._records:
            raise ManagementError(name)
        return SimpleNamespace(record=self._records[name])


def make_app(world: World, *records: Connection) -> App:
    payments = SimpleNamespace(ledgers=world.wallet.payments.ledgers, is_started=True)
    manager = Manager(*(records or (OWN, OTHER)))
    return cast(App, SimpleNamespace(manager=manager, wallet=world.wallet, payments=payments))


async def shown(world: World, *args: object, record: Connection = OWN) -> Json:
    return await commands.payments(make_app(world, record), record.name, *args)


async def reserve(world: World, payment: Payment) -> None:
    await world.wallet.payments.ledgers.change(
        OWN.client_pubkey, lambda ledger: replace(ledger, reservations={payment.request_id: payment})
    )


async def test_a_connection_without_payments_shows_none(world: World) -> None:
    assert await shown(world) == {"name": OWN.name, "payments": [], "total": 0}


async def test_each_payment_has_its_state_amount_fee_times_and_description(world: World) -> None:
    paid = settled(1, created_at=START)
    failed = PaymentRecord(
        settled(2, created_at=START + 20).payment,
        PaymentState.FAILED,
        START + 25,
        error_code=ErrorCode.PAYMENT_FAILED,
        error_message="no route",
    )
    pending = settled(3, created_at=START + 30).payment
    for record in (paid, failed):
        await world.wallet.payments.records.keep(OWN.id, record)
    await reserve(world, pending)
    made = await world.invoice(OWN, 7, amount_msat=5000, description="coffee ☕")
    await world.pay(made["label"])
    await world.invoice(OWN, 8, description="not paid")
    answer = await shown(world)
    incoming, *outgoing = answer["payments"]
    assert [(row["type"], row["state"]) for row in outgoing] == [
        ("outgoing", "pending"),
        ("outgoing", "failed"),
        ("outgoing", "settled"),
    ]
    assert outgoing[2] == {
        "type": "outgoing",
        "state": "settled",
        "amount_msat": paid.amount_msat,
        "fee_msat": paid.fee_msat,
        "created_at": START,
        "settled_at": START + 9,
        "payment_hash": paid.payment.payment_hash,
    }
    assert outgoing[0].keys() == outgoing[1].keys() == outgoing[2].keys() - {"settled_at"}
    assert incoming["settled_at"] >= incoming["created_at"] > START
    assert {name: value for name, value in incoming.items() if not name.endswith("_at")} == {
        "type": "incoming",
        "state": "settled",
        "amount_msat": 5000,
        "fee_msat": 0,
        "description": "coffee ☕",
        "payment_hash": made["payment_hash"],
    }
    assert answer["total"] == 4
    assert "next" not in answer
    assert "warning" not in answer


@pytest.mark.parametrize("view", View)
async def test_only_payments_of_the_connection_are_shown(world: World, view: View) -> None:
    await world.invoices(OTHER, 3, paid_every=1)
    await world.invoices(OWN, 1, paid_every=1)
    await world.payment()
    answer = await shown(world, record=replace(OWN, view=view))
    assert [row["type"] for row in answer["payments"]] == ["incoming"]
    assert answer["total"] == 1


async def test_the_pages_hold_every_payment_once_newest_first(world: World) -> None:
    await world.invoices(OWN, 45, paid_every=1)
    rows: list[Json] = []
    page = await shown(world)
    while True:
        rows += page["payments"]
        assert page["total"] == 45
        if "next" not in page:
            break
        assert page["next"].startswith(f"{45 - len(rows)} more; ")
        limit, offset = (word.split("=")[1] for word in shlex.split(page["next"])[-2:])
        page = await shown(world, limit, offset)
    assert [row["created_at"] for row in rows] == [START + 44 - n for n in range(45)]


async def test_the_next_page_is_named_for_a_shell(world: World) -> None:
    record = replace(OWN, name='it\'s = "mine" $HOME')
    await world.invoices(record, 2, paid_every=1)
    command = shlex.split((await shown(world, 1, record=record))["next"].split("next page: ")[1])
    by_name = [f"name={record.name}", "limit=1", "offset=1"]
    assert command == ["lightning-cli", "-k", "nwc-payments", *by_name]


async def test_the_last_page_that_can_be_read_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("nwc.commands.payments"), "MAX_MERGED_OFFSET", 5)
    await world.invoices(OWN, 9, paid_every=1)
    assert (await shown(world, 3, 2))["next"].endswith(" limit=3 offset=5")
    assert (await shown(world, 3, 5))["next"] == "older payments than the newest 8 are not shown"
    assert "next" not in await shown(world, 4, 5)


@pytest.mark.parametrize(("limit", "rows"), [(None, 20), (1, 1), ("7", 7), (" 100 ", 100), (100, 100)])
async def test_a_page_has_at_most_limit_payments(world: World, limit: object, rows: int) -> None:
    await world.invoices(OWN, 110, paid_every=1)
    assert len((await shown(world, limit))["payments"]) == rows


WRONG: dict[str, tuple[object, ...]] = {
    "limit": (0, 101, -1, "", "x", 1.5, True, [], {}, "٣", "9" * 5000, "1e2"),
    "offset": (-1, 10_001, "", "x", 1.5, False, [], 10**30),
    "name": (5.5, None, [], True),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda value: str(value)[:10],
)
async def test_wrong_arguments_are_refused_without_a_call(
    world: World, name: str, value: object
) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}: "):
        await commands.payments(make_app(world), **{"name": OWN.name, name: value})
    assert world.node.calls == []


async def test_an_unknown_or_revoked_connection_is_refused(world: World) -> None:
    with pytest.raises(ManagementError):
        await commands.payments(make_app(world), "nobody")


async def test_a_description_is_shortened_and_printable(world: World) -> None:
    hostile = "\x7f\u202e" + "y" * 5000
    record = InvoiceRecord(description=hostile)
    made = await world.invoice(OWN, 1, description=hostile, record=record, deschashonly=True)
    await world.pay(made["label"])
    [row] = (await shown(world))["payments"]
    assert row["description"] == "  " + "y" * (MAX_DESCRIPTION_CHARACTERS - 2) + "…"


async def test_missing_payments_get_a_warning(world: World) -> None:
    app = make_app(world)
    cast(Any, app.payments).is_started = False
    assert (await commands.payments(app, OWN.name))["warning"] == STILL_STARTING
    await world.node.datastore_create(("nwc", "ledgers", OWN.client_pubkey), "{damaged")
    warning = (await shown(world))["warning"]
    assert warning.startswith("pending payments are not shown: the ledger is damaged")
