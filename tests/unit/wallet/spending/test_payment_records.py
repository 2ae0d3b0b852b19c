"""Records of payments: stored, found again, and never paid again if they cannot be read."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from nwc.cln import offers
from nwc.cln.errors import NodeError
from nwc.wallet.records import RecordError
from nwc.wallet.spending import payment_records
from nwc.wallet.spending.payment import PaymentRecord, parse_payment_record
from nwc.wallet.spending.payment_records import PaymentRecords, UnreadableRecordError
from tests.unit.helpers import JSON_VALUES
from tests.unit.wallet.spending.simulation import SimulatedLightningd, Trouble
from tests.unit.wallet.spending.values import HASH, NO_NUMBERS, NO_OBJECTS, NO_TEXTS, START, record

ID, OTHER_ID = "a1" * 8, "b2" * 8
SETTLED, FAILED = json.loads(record().to_json()), json.loads(record(settled=False).to_json())


@pytest_asyncio.fixture
async def lightningd() -> SimulatedLightningd:
    return SimulatedLightningd(asyncio.get_running_loop())


@pytest.fixture
def records(lightningd: SimulatedLightningd) -> PaymentRecords:
    return PaymentRecords(lightningd)


def request_ids(entries: list[Any]) -> list[int]:
    return [int(entry.request_id, 16) for entry in entries]


async def test_a_stored_record_is_found(
    lightningd: SimulatedLightningd, records: PaymentRecords
) -> None:
    one = record(1, payment_hash=HASH)
    await records.keep(ID, one)
    for known in (records, await loaded(lightningd)):
        assert await known.get(ID, one.payment.request_id) == one
        assert await known.get(OTHER_ID, one.payment.request_id) is None
        assert await known.get(ID, "00") is None
        assert request_ids(known.between(ID, None, None, settled_only=True)) == [1]
        assert known.between(OTHER_ID, None, None, settled_only=False) == []
        entry = known.with_hash(HASH)
        assert entry is not None
        assert (entry.connection_id, entry.request_id) == (ID, one.payment.request_id)
        assert known.with_hash(HASH, OTHER_ID) is None
        assert known.with_hash("00") is None


async def loaded(lightningd: SimulatedLightningd) -> PaymentRecords:
    records = PaymentRecords(lightningd)
    await records.load([ID, OTHER_ID])
    return records


async def test_a_record_that_is_stored_twice_is_one_payment(records: PaymentRecords) -> None:
    await records.keep(ID, record(1, settled=False, payment_hash=None))
    await records.keep(ID, record(1, payment_hash=HASH))
    await records.keep(ID, record(1, payment_hash=HASH))
    [entry] = records.all()
    assert (entry.is_settled, entry.payment_hash) == (True, HASH)
    assert len(records.between(ID, None, None, settled_only=False)) == 1


async def test_a_deleted_record_is_gone(
    lightningd: SimulatedLightningd, records: PaymentRecords
) -> None:
    await records.keep(ID, record(1, payment_hash=HASH))
    await records.delete(ID, record(1).payment.request_id)
    await records.delete(ID, "00")
    assert (list(records.all()), records.with_hash(HASH), lightningd.datastore) == ([], None, {})


async def test_the_settled_payment_of_a_hash_is_found_else_the_newest(records: PaymentRecords) -> None:
    for number, (settled, later) in enumerate([(False, 5), (True, 0), (False, 9)]):
        await records.keep(ID, record(number, settled, payment_hash=HASH, created_at=START + later))
    entry = records.with_hash(HASH)
    assert entry is not None
    assert request_ids([entry]) == [1]
    await records.delete(ID, entry.request_id)
    newest = records.with_hash(HASH, ID)
    assert newest is not None
    assert request_ids([newest]) == [2]


async def test_a_record_that_was_not_written_is_not_shown(
    lightningd: SimulatedLightningd, records: PaymentRecords
) -> None:
    lightningd.troubles.append(Trouble.AWAY)
    with pytest.raises(NodeError):
        await records.keep(ID, record(1))
    assert list(records.all()) == []


MOMENTS = st.integers(START, START + 6)
ENTRIES = st.lists(st.tuples(st.sampled_from([ID, OTHER_ID]), MOMENTS, st.booleans()), max_size=12)


@given(ENTRIES, st.sets(st.integers(0, 11)), st.none() | MOMENTS, st.none() | MOMENTS, st.booleans())
def test_between_returns_the_payments_of_a_time_newest_first(
    entries: list[tuple[str, int, bool]],
    deleted: set[int],
    from_time: int | None,
    until_time: int | None,
    settled_only: bool,
) -> None:
    async def found() -> tuple[list[Any], list[Any]]:
        lightningd = SimulatedLightningd(asyncio.get_running_loop())
        records = PaymentRecords(lightningd)
        for number, (connection_id, created_at, settled) in enumerate(entries):
            await records.keep(connection_id, record(number, settled, created_at=created_at))
        for number in deleted & set(range(len(entries))):
            await records.delete(entries[number][0], record(number).payment.request_id)
        again = await loaded(lightningd)
        return (
            records.between(ID, from_time, until_time, settled_only),
            again.between(ID, from_time, until_time, settled_only),
        )

    wanted = [
        (created_at, number)
        for number, (connection_id, created_at, settled) in enumerate(entries)
        if connection_id == ID and (settled or not settled_only) and number not in deleted
        if (from_time is None or created_at >= from_time)
        if (until_time is None or created_at <= until_time)
    ]
    numbers = [number for _, number in sorted(wanted, reverse=True)]
    assert [request_ids(part) for part in asyncio.run(found())] == [numbers, numbers]


# Records that cannot be read


@pytest.mark.parametrize("text", ["", "{}", '{"version":2}', "[]", '"'])
async def test_an_unreadable_record_refuses_its_request(
    lightningd: SimulatedLightningd, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    request_id = record(1).payment.request_id
    lightningd.datastore["nwc", "payments", ID, request_id] = (text, 0)
    lightningd.datastore["nwc", "payments", ID, record(2).payment.request_id] = (record(2).to_json(), 0)
    records = await loaded(lightningd)
    with pytest.raises(UnreadableRecordError):
        await records.get(ID, request_id)
    assert request_ids(list(records.all())) == [2]
    assert "its record cannot be read" in caplog.text
    # A payment that is followed to its end again replaces the record.
    await records.keep(ID, record(1))
    assert await records.get(ID, request_id) == record(1)


async def test_a_record_that_becomes_unreadable_raises(
    lightningd: SimulatedLightningd, records: PaymentRecords
) -> None:
    await records.keep(ID, record(1))
    request_id = record(1).payment.request_id
    [key] = lightningd.datastore
    lightningd.datastore[key] = ("x", 1)
    with pytest.raises(UnreadableRecordError):
        await records.get(ID, request_id)
    del lightningd.datastore[key]
    with pytest.raises(UnreadableRecordError):
        await records.get(ID, request_id)


@pytest.mark.parametrize("whole", [SETTLED, FAILED], ids=["settled", "failed"])
@pytest.mark.parametrize("name", SETTLED)
def test_a_missing_field_is_damage(whole: dict[str, Any], name: str) -> None:
    fields = {other: value for other, value in whole.items() if other != name}
    with pytest.raises(RecordError):
        parse_payment_record(json.dumps(fields))


@pytest.mark.parametrize(
    ("whole", "name", "value"),
    [
        *((SETTLED, "sent_msat", value) for value in NO_NUMBERS),
        *((SETTLED, "ended_at", value) for value in NO_NUMBERS),
        *((SETTLED, "preimage", value) for value in NO_TEXTS),
        *((SETTLED, "state", value) for value in (*NO_TEXTS, "pending")),
        *((SETTLED, "payment", value) for value in (*NO_OBJECTS, None, {})),
        (SETTLED, "payment", {**SETTLED["payment"], "x": 1}),
        (SETTLED, "payment", {**SETTLED["payment"], "payment_hash": None}),
        *((FAILED, "error_code", value) for value in (*NO_TEXTS, "NO_SUCH")),
        *((FAILED, "error_message", value) for value in NO_TEXTS),
        (FAILED, "version", 3),
        (SETTLED, "payer_proof", 1),
        (SETTLED, "payer_proof", []),
        (SETTLED, "payment", {**SETTLED["payment"], "is_bolt12": 1}),
        (FAILED, "other", 1),
    ],
)
def test_a_damaged_field_is_refused(whole: dict[str, Any], name: str, value: object) -> None:
    with pytest.raises(RecordError):
        parse_payment_record(json.dumps({**whole, name: value}))


@given(
    st.sampled_from([SETTLED, FAILED]), st.dictionaries(st.sampled_from([*SETTLED, "x"]), JSON_VALUES)
)
def test_a_record_with_random_fields_is_refused_or_usable(
    whole: dict[str, Any], damage: dict[str, Any]
) -> None:
    try:
        read = parse_payment_record(json.dumps({**whole, **damage}))
    except RecordError:
        return
    assert read.fee_msat >= 0
    assert isinstance(read.preimage if read.is_settled else read.error_message, str)


@pytest.mark.parametrize("kept", [record(), record(settled=False), record(metadata={"ü": [1, None]})])
def test_a_stored_record_is_read_unchanged(kept: PaymentRecord) -> None:
    assert parse_payment_record(kept.to_json()) == kept


def test_the_fee_is_what_was_sent_beyond_the_amount() -> None:
    assert record().fee_msat == 3
    assert record(amount_msat=200).fee_msat == 0, "the payee took less than the amount"
    assert record(settled=False).fee_msat == 0


async def test_old_failed_payments_are_deleted(
    lightningd: SimulatedLightningd, records: PaymentRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a month, or earlier if there are many, but never while a request could be replayed."""
    monkeypatch.setattr(payment_records, "MAX_FAILED", 1)
    for number in (1, 2, 3):
        await records.keep(ID, record(number, settled=False, created_at=START + number))
    await records.keep(ID, record(4, created_at=START))
    await records.keep(OTHER_ID, record(5, settled=False, created_at=START))
    assert records.count_failed(ID) == 3
    assert await records.sweep(START + payment_records.REPLAY_S) == 0
    assert await records.sweep(START + payment_records.REPLAY_S + 3) == 2
    assert request_ids(sorted(records.all())) == [4, 5, 3]
    assert records.count_failed(ID) == 1
    assert await records.sweep(START + payment_records.KEEP_FAILED_S + 4) == 2
    assert request_ids(list((await loaded(lightningd)).all())) == [4]
    assert records.count_failed(ID) == 0


# How records are listed, and how many there can be


async def test_lightningd_lists_names_without_records(
    lightningd: SimulatedLightningd, records: PaymentRecords
) -> None:
    """An answer with all records of an app that has stored much would be too long."""
    for number in range(1, 6):
        await records.keep(ID, record(number, number % 2 == 0, metadata={"a": "x" * 8000}))
    listed = await lightningd.call("listdatastore", key=["nwc", "payments", ID])
    assert len(json.dumps(listed)) < 5 * 400
    lightningd.calls.clear()
    again = await loaded(lightningd)
    assert [given["key"] for given in lightningd.called("listdatastore")] == [
        ["nwc", "payments", ID],
        ["nwc", "payments", OTHER_ID],
    ]
    assert sorted(again.all()) == sorted(records.all())
    assert (again.count_failed(ID), again.count_settled(ID)) == (3, 2)
    assert await again.get(ID, record(2).payment.request_id) == record(2, metadata={"a": "x" * 8000})


def old_key(number: int, connection_id: str = ID) -> tuple[str, ...]:
    return ("nwc", "payments", connection_id, record(number).payment.request_id)


async def test_records_of_an_earlier_version_are_read_and_moved(lightningd: SimulatedLightningd) -> None:
    kept = {1: record(1, payment_hash=HASH), 2: record(2, settled=False, payment_hash=None)}
    for number, one in kept.items():
        lightningd.datastore[old_key(number)] = (one.to_json(), 0)
    lightningd.datastore[old_key(3)] = ("{}", 0)
    records = await loaded(lightningd)
    for again in (records, await swept(records), await loaded(lightningd)):
        assert [await again.get(ID, one.payment.request_id) for one in kept.values()] == [*kept.values()]
        entry = again.with_hash(HASH, ID)
        assert entry is not None
        assert entry.is_settled
        with pytest.raises(UnreadableRecordError):
            await again.get(ID, record(3).payment.request_id)
    assert [key for key in lightningd.datastore if len(key) == 4] == [old_key(3)]
    assert len(lightningd.datastore) == 3


async def swept(records: PaymentRecords, now: int = START) -> PaymentRecords:
    await records.sweep(now)
    return records


@pytest.mark.parametrize("is_settled", [True, False])
async def test_after_a_crash_during_a_move_one_record_counts(
    lightningd: SimulatedLightningd, is_settled: bool
) -> None:
    """The new record exists and the old one is not deleted yet. The settled one counts."""
    await PaymentRecords(lightningd).keep(ID, record(1, settled=is_settled))
    lightningd.datastore[old_key(1)] = (record(1, settled=True).to_json(), 0)
    records = await loaded(lightningd)
    for again in (records, await swept(records), await loaded(lightningd)):
        assert await again.get(ID, record(1).payment.request_id) == record(1)
        assert len(list(again.all())) == 1
    assert len(lightningd.datastore) == 1


async def test_a_settled_record_replaces_a_failed_one(
    lightningd: SimulatedLightningd, records: PaymentRecords
) -> None:
    await records.keep(ID, record(1, settled=False))
    await records.keep(ID, record(1))
    assert len(lightningd.datastore) == 1
    assert await (await loaded(lightningd)).get(ID, record(1).payment.request_id) == record(1)


async def test_a_listing_that_failed_is_retried_after_a_while(
    lightningd: SimulatedLightningd, records: PaymentRecords
) -> None:
    """An app that asks again and again does not make lightningd list each time."""
    await records.keep(OTHER_ID, record(2))
    lightningd.troubles.append(Trouble.AWAY)
    for _ in range(3):
        with pytest.raises(NodeError):
            await records.get(ID, record(1).payment.request_id)
    with pytest.raises(NodeError):
        await records.keep(ID, record(1))
    listed = [given["key"][-1] for given in lightningd.called("listdatastore")]
    assert listed.count(ID) == 1
    assert await records.get(OTHER_ID, record(2).payment.request_id) == record(2)
    records._retry.clear()
    assert await records.get(ID, record(1).payment.request_id) is None


async def test_settled_payments_are_deleted_by_number_and_age(
    lightningd: SimulatedLightningd, records: PaymentRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payment_records, "MAX_SETTLED", 2)
    for number in range(1, 5):
        await records.keep(ID, record(number, created_at=START + number))
    await records.keep(OTHER_ID, record(9, created_at=START))
    await records.keep(ID, record(8, settled=False, created_at=START))
    assert await records.sweep(START + payment_records.REPLAY_S) == 0, "a request could be replayed"
    assert await records.sweep(START + payment_records.REPLAY_S + 9) == 2
    assert request_ids(sorted(records.all())) == [8, 9, 3, 4]
    assert records.count_settled(ID) == 2
    assert await records.sweep(START + payment_records.KEEP_SETTLED_S + 4) == 3
    assert request_ids(list((await loaded(lightningd)).all())) == [4]


@pytest.mark.parametrize("is_settled", [True, False])
async def test_beyond_the_maximum_only_what_a_replay_needs_is_stored(
    records: PaymentRecords, monkeypatch: pytest.MonkeyPatch, is_settled: bool
) -> None:
    monkeypatch.setattr(payment_records, "MAX_SETTLED", 1)
    monkeypatch.setattr(payment_records, "MAX_FAILED", 1)
    for number in (1, 2):
        await records.keep(ID, record(number, is_settled, metadata={"a": 1}))
    first, second = [await records.get(ID, record(n).payment.request_id) for n in (1, 2)]
    assert first == record(1, is_settled, metadata={"a": 1})
    assert second == record(2, is_settled, invoice=None, metadata=None)


async def test_one_app_can_store_120_megabytes_at_most(
    lightningd: SimulatedLightningd, records: PaymentRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures of the table in tests/bench/README.md."""
    longest: dict[str, Any] = {
        "invoice": "l" * offers.MAX_INVOICE_LENGTH,
        "metadata": {"a": "x" * 8184},
    }
    proof = "l" * offers.MAX_PROOF_LENGTH
    await records.keep(ID, replace(record(1, **longest), payer_proof=proof))
    monkeypatch.setattr(payment_records, "MAX_SETTLED", 0)
    await records.keep(ID, replace(record(2, **longest), payer_proof=proof))
    full, short = (len(text) for text, _ in lightningd.datastore.values())
    monkeypatch.undo()
    long_ones = payment_records.MAX_SETTLED + payment_records.MAX_FAILED
    in_all = payment_records.MAX_SETTLED_KEPT + payment_records.MAX_FAILED_KEPT
    assert long_ones * full + (in_all - long_ones) * short < 120_000_000
    names = in_all * len(json.dumps(next(iter(lightningd.datastore))))
    assert names < 5_000_000
