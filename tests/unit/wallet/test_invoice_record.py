import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.cln.errors import NodeUnavailableError
from nwc.cln.node import Json
from nwc.wallet import invoice_record, labels
from nwc.wallet.context import Call
from nwc.wallet.invoice_record import InvoiceRecord, InvoiceRecords
from nwc.wallet.methods.make_invoice import make_invoice
from tests.unit.in_process import ALICE, BOB, World, connection

OWN, OTHER = connection(ALICE), connection(BOB)
RECORD = InvoiceRecord({"order": 7}, "text")


async def sweep(world: World) -> int:
    return await world.wallet.records.sweep([ALICE, BOB], grace_s=0)


async def kept(world: World) -> set[str]:
    """What stands below ["nwc", "invoices"], as connection id and last digit of the request."""
    return {
        f"{id_}/{request_id[-1]}"
        for id_ in await world.node.datastore_keys(("nwc", "invoices"))
        for request_id in await world.node.datastore_keys(("nwc", "invoices", id_))
    }


@given(
    metadata=st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=3) | st.none(),
    description=st.text() | st.none(),
)
def test_stored_and_read_again(metadata: dict[str, Any] | None, description: str | None) -> None:
    record = InvoiceRecord(metadata, description)
    assert invoice_record._parse(record.to_json()) == record
    assert record.is_empty == (not metadata and description is None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        '{"version":1}',
        '{"version":2,"metadata":{"a":1}}',
        '{"version":1,"metadata":7}',
        '{"version":1,"metadata":["a"]}',
        '{"version":1,"metadata":{"a":NaN}}',
        '{"version":1,"metadata":{"a":1e999}}',
        '{"version":1,"metadata":{"a":"\\ud800"}}',
        '{"version":1,"metadata":null,"description":7}',
        '{"version":1,"metadata":null,"description":"\\udfff"}',
    ],
)
def test_a_damaged_record_counts_as_none(text: str) -> None:
    assert invoice_record._parse(text) == InvoiceRecord()


async def test_found_by_label_only(world: World) -> None:
    made = await world.invoice(OWN, 1, record=RECORD)
    assert await invoice_record.read_record(world.node, made) == RECORD
    others = [f"{made['label']}0", made["label"].upper(), "nwc:x:y", "", f"x{made['label']}"]
    for label in (*others, labels.request_label(OTHER.id, f"{1:064x}")):
        assert await invoice_record.read_record(world.node, {"label": label}) == InvoiceRecord()


async def test_nothing_is_stored_of_nothing(world: World) -> None:
    await world.wallet.records.keep(OWN, f"{1:064x}", InvoiceRecord({}))
    assert await kept(world) == set()


async def test_sweep_deletes_what_has_lost_its_invoice(world: World) -> None:
    made = [await world.invoice(OWN, n, record=RECORD) for n in range(4)]
    await world.invoice(OTHER, 5, record=RECORD)
    await world.pay(made[1]["label"])
    await world.node.delete_invoice(made[0]["label"], "unpaid")
    await world.node.delete_invoice(made[1]["label"], "paid")
    assert await sweep(world) == 2
    assert await kept(world) == {f"{ALICE}/2", f"{ALICE}/3", f"{BOB}/5"}
    assert await sweep(world) == 0
    assert await invoice_record.read_record(world.node, made[2]) == RECORD


async def test_sweep_touches_nothing_else(world: World) -> None:
    others = [("nwc", "connections", "x"), ("nwc", "notifications", "position"), ("other", "y")]
    for key in others:
        await world.node.datastore_put(key, "1")
    await world.wallet.records.keep(OWN, f"{1:064x}", RECORD)
    assert await sweep(world) == 1
    for key in others:
        assert await world.node.datastore_get(key) == "1"


async def test_sweep_with_nothing_there(world: World) -> None:
    assert await sweep(world) == 0


async def test_sweep_spares_an_invoice_that_is_being_made(world: World) -> None:
    """The record comes first, the invoice a moment later; a sweep may come in between."""
    request_id = f"{1:064x}"
    label = labels.request_label(OWN.id, request_id)
    await world.wallet.records.keep(OWN, request_id, RECORD)
    looked: list[Json] = []

    async def before(method: str, params: Json) -> None:
        if method == "listinvoices" and not looked:
            looked.append(params)
        elif looked and method != "invoice" and len(looked) == 1:
            looked.append(params)
            await world.dev("invoice", amount_msat=1, label=label, description="")

    world.node.before = before
    assert await sweep(world) == 0
    assert await kept(world) == {f"{ALICE}/1"}


async def test_sweep_stops_when_lightningd_does(world: World) -> None:
    world.node.away = True
    with pytest.raises(NodeUnavailableError):
        await sweep(world)


async def test_damaged_records_go_with_their_invoices(world: World) -> None:
    made = await world.invoice(OWN, 1)
    key = ("nwc", "invoices", OWN.id, f"{1:064x}", "record")
    await world.node.datastore_put(key, json.dumps({"version": 99}))
    assert await sweep(world) == 0
    await world.node.delete_invoice(made["label"], "unpaid")
    assert await sweep(world) == 1


async def test_of_one_connection_the_newest_records_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoice_record, "MAX_RECORDS", 2)
    monkeypatch.setattr(invoice_record, "MAX_KEPT", 4)
    for number in (7, 3, 5, 1):  # lightningd lists them by request
        await world.invoice(OWN, number, record=RECORD)
    await world.invoice(OTHER, 9, record=RECORD)
    keep = world.wallet.records.keep
    assert await keep(OWN, f"{8:064x}", RECORD) == InvoiceRecord(), "it has as many as there can be"
    assert await keep(OWN, f"{7:064x}", RECORD) == RECORD, "the same request again"
    assert await sweep(world) == 2
    assert await kept(world) == {f"{ALICE}/5", f"{ALICE}/1", f"{BOB}/9"}
    assert await keep(OWN, f"{8:064x}", RECORD) == RECORD


async def test_an_invoice_is_made_without_metadata_that_is_not_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app is told that its metadata was dropped."""
    monkeypatch.setattr(invoice_record, "MAX_KEPT", 1)
    shown = []
    for number in (1, 2):
        given = {"amount": 1000, "description": "x" * 5000, "metadata": {"order": number}}
        made = await make_invoice(world.wallet, Call(f"{number:064x}", given, OWN))
        assert made["description"] == "x" * 5000
        found = await world.lookup(OWN, payment_hash=made["payment_hash"])
        shown.append((made["metadata"], found["metadata"], len(found["description"])))
        digest = hashlib.sha256(b"x" * 5000).hexdigest()
        assert made["description_hash"] == found["description_hash"] == digest
    assert shown == [({"order": 1}, {"order": 1}, 4096), ({}, {}, 639)]


async def test_records_are_asked_for_only_where_there_are_some(world: World) -> None:
    with_record = await world.invoice(OWN, 1, record=RECORD)
    without = await world.invoice(OWN, 2)
    records = InvoiceRecords(world.node)
    assert await records.find(with_record) == RECORD
    before = len(world.node.calls)
    assert await records.find(without) == InvoiceRecord()
    assert len(world.node.calls) == before
    assert all(
        params["key"][:3] == ["nwc", "invoices", ALICE]
        for _, params in world.node.calls
        if "key" in params
    )
