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


async def stored(world: World) -> set[str]:
    """Return the stored records, as connection id and last digit of the request id."""
    return {
        f"{id_}/{request_id[-1]}"
        for id_ in await world.node.datastore_keys(("nwc", "invoices"))
        for request_id in await world.node.datastore_keys(("nwc", "invoices", id_))
    }


@given(
    metadata=st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=3) | st.none(),
    description=st.text() | st.none(),
)
def test_a_record_is_read_as_it_was_stored(
    metadata: dict[str, Any] | None, description: str | None
) -> None:
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
def test_an_unreadable_record_counts_as_none(text: str) -> None:
    assert invoice_record._parse(text) == InvoiceRecord()


async def test_a_record_is_found_by_the_exact_label_only(world: World) -> None:
    made = await world.invoice(OWN, 1, record=RECORD)
    assert await invoice_record.read_record(world.node, made) == RECORD
    others = [f"{made['label']}0", made["label"].upper(), "nwc:x:y", "", f"x{made['label']}"]
    for label in (*others, labels.request_label(OTHER.id, f"{1:064x}")):
        assert await invoice_record.read_record(world.node, {"label": label}) == InvoiceRecord()


async def test_an_empty_record_is_not_stored(world: World) -> None:
    await world.wallet.records.keep(OWN, f"{1:064x}", InvoiceRecord({}))
    assert await stored(world) == set()


async def test_a_sweep_deletes_records_without_an_invoice(world: World) -> None:
    made = [await world.invoice(OWN, n, record=RECORD) for n in range(4)]
    await world.invoice(OTHER, 5, record=RECORD)
    await world.pay(made[1]["label"])
    await world.node.delete_invoice(made[0]["label"], "unpaid")
    await world.node.delete_invoice(made[1]["label"], "paid")
    assert await sweep(world) == 2
    assert await stored(world) == {f"{ALICE}/2", f"{ALICE}/3", f"{BOB}/5"}
    assert await sweep(world) == 0
    assert await invoice_record.read_record(world.node, made[2]) == RECORD


async def test_a_sweep_deletes_nothing_else(world: World) -> None:
    others = [("nwc", "connections", "x"), ("nwc", "notifications", "position"), ("other", "y")]
    for key in others:
        await world.node.datastore_put(key, "1")
    await world.wallet.records.keep(OWN, f"{1:064x}", RECORD)
    assert await sweep(world) == 1
    for key in others:
        assert await world.node.datastore_get(key) == "1"


async def test_a_sweep_without_records_deletes_nothing(world: World) -> None:
    assert await sweep(world) == 0


async def test_a_sweep_spares_an_invoice_in_the_making(world: World) -> None:
    """The record is stored just before its invoice is made; a sweep may come in between."""
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
    assert await stored(world) == {f"{ALICE}/1"}


async def test_a_sweep_raises_if_lightningd_is_unavailable(world: World) -> None:
    world.node.away = True
    with pytest.raises(NodeUnavailableError):
        await sweep(world)


async def test_an_unreadable_record_is_deleted_with_its_invoice(world: World) -> None:
    made = await world.invoice(OWN, 1)
    key = ("nwc", "invoices", OWN.id, f"{1:064x}", "record")
    await world.node.datastore_put(key, json.dumps({"version": 99}))
    assert await sweep(world) == 0
    await world.node.delete_invoice(made["label"], "unpaid")
    assert await sweep(world) == 1


async def test_a_sweep_keeps_the_newest_records_of_a_connection(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoice_record, "MAX_RECORDS", 2)
    monkeypatch.setattr(invoice_record, "MAX_KEPT", 4)
    for number in (7, 3, 5, 1):  # lightningd lists them by request
        await world.invoice(OWN, number, record=RECORD)
    await world.invoice(OTHER, 9, record=RECORD)
    keep = world.wallet.records.keep
    assert await keep(OWN, f"{8:064x}", RECORD) == InvoiceRecord(), "the connection has MAX_KEPT records"
    assert await keep(OWN, f"{7:064x}", RECORD) == RECORD, "the same request again"
    assert await sweep(world) == 2
    assert await stored(world) == {f"{ALICE}/5", f"{ALICE}/1", f"{BOB}/9"}
    assert await keep(OWN, f"{8:064x}", RECORD) == RECORD


async def test_beyond_the_limit_an_invoice_is_made_without_its_metadata(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer shows the app that its metadata was dropped."""
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


async def test_lightningd_is_asked_only_for_records_that_exist(world: World) -> None:
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
