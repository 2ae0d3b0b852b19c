"""Payments that have ended: kept, found again, and never paid again when they cannot be read."""

import asyncio
import json
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from nwc.cln.errors import NodeError
from nwc.wallet.spending import payment_records
from nwc.wallet.spending.payment import PaymentRecord, parse_payment_record
from nwc.wallet.spending.payment_records import PaymentRecords, UnreadableRecord
from tests.unit.helpers import JSON_VALUES
from tests.unit.wallet.spending.simulation import SimulatedLightningd, Trouble
from tests.unit.wallet.spending.values import HASH, NO_NUMBERS, NO_OBJECTS, NO_TEXTS, START, record

ID, OTHER_ID = "a1" * 8, "b2" * 8
SETTLED, FAILED = json.loads(record().to_json()), json.loads(record(settled=False).to_json())
READING_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


@pytest_asyncio.fixture
async def lightningd() -> SimulatedLightningd:
    return SimulatedLightningd(asyncio.get_running_loop())


@pytest.fixture
def records(lightningd: SimulatedLightningd) -> PaymentRecords:
    return PaymentRecords(lightningd)


def request_ids(entries: list[Any]) -> list[int]:
    return [int(entry.request_id, 16) for entry in entries]


async def test_kept_and_found(lightningd: SimulatedLightningd, records: PaymentRecords) -> None:
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
    await records.load()
    return records


async def test_kept_twice_is_one(records: PaymentRecords) -> None:
    await records.keep(ID, record(1, settled=False, payment_hash=None))
    await records.keep(ID, record(1, payment_hash=HASH))
    await records.keep(ID, record(1, payment_hash=HASH))
    [entry] = records.all()
    assert (entry.is_settled, entry.payment_hash) == (True, HASH)
    assert len(records.between(ID, None, None, settled_only=False)) == 1


async def test_deleted(lightningd: SimulatedLightningd, records: PaymentRecords) -> None:
    await records.keep(ID, record(1, payment_hash=HASH))
    await records.delete(ID, record(1).payment.request_id)
    await records.delete(ID, "00")
    assert (list(records.all()), records.with_hash(HASH), lightningd.datastore) == ([], None, {})


async def test_the_settled_is_found_then_the_newest(records: PaymentRecords) -> None:
    for number, (settled, later) in enumerate([(False, 5), (True, 0), (False, 9)]):
        await records.keep(ID, record(number, settled, payment_hash=HASH, created_at=START + later))
    entry = records.with_hash(HASH)
    assert entry is not None
    assert request_ids([entry]) == [1]
    await records.delete(ID, entry.request_id)
    newest = records.with_hash(HASH, ID)
    assert newest is not None
    assert request_ids([newest]) == [2]


async def test_loading_again_forgets_what_is_gone(
    lightningd: SimulatedLightningd, records: PaymentRecords
) -> None:
    await records.keep(ID, record(1))
    await records.keep(ID, record(2))
    del lightningd.datastore["nwc", "payments", ID, record(1).payment.request_id]
    await records.load()
    assert request_ids(list(records.all())) == [2]


async def test_not_kept_is_not_shown(lightningd: SimulatedLightningd, records: PaymentRecords) -> None:
    lightningd.troubles.append(Trouble.AWAY)
    with pytest.raises(NodeError):
        await records.keep(ID, record(1))
    assert list(records.all()) == []


MOMENTS = st.integers(START, START + 6)
ENTRIES = st.lists(st.tuples(st.sampled_from([ID, OTHER_ID]), MOMENTS, st.booleans()), max_size=12)


@given(ENTRIES, st.sets(st.integers(0, 11)), st.none() | MOMENTS, st.none() | MOMENTS, st.booleans())
def test_between(
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


# What cannot be read


@pytest.mark.parametrize("text", ["", "{}", '{"version":2}', "[]", '"'])
async def test_an_unreadable_record_refuses_its_request(
    lightningd: SimulatedLightningd, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    request_id = record(1).payment.request_id
    lightningd.datastore["nwc", "payments", ID, request_id] = (text, 0)
    lightningd.datastore["nwc", "payments", ID, record(2).payment.request_id] = (record(2).to_json(), 0)
    records = await loaded(lightningd)
    with pytest.raises(UnreadableRecord):
        await records.get(ID, request_id)
    assert request_ids(list(records.all())) == [2]
    assert "bad record" in caplog.text
    # Followed to its end once more, it is as good as any.
    await records.keep(ID, record(1))
    assert await records.get(ID, request_id) == record(1)


async def test_a_record_that_became_unreadable(
    lightningd: SimulatedLightningd, records: PaymentRecords
) -> None:
    await records.keep(ID, record(1))
    request_id = record(1).payment.request_id
    lightningd.datastore["nwc", "payments", ID, request_id] = ("x", 1)
    with pytest.raises(UnreadableRecord):
        await records.get(ID, request_id)
    del lightningd.datastore["nwc", "payments", ID, request_id]
    with pytest.raises(UnreadableRecord):
        await records.get(ID, request_id)


@pytest.mark.parametrize("whole", [SETTLED, FAILED], ids=["settled", "failed"])
@pytest.mark.parametrize("name", SETTLED)
def test_a_missing_field_is_damage(whole: dict[str, Any], name: str) -> None:
    fields = {other: value for other, value in whole.items() if other != name}
    with pytest.raises(READING_ERRORS):
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
        (FAILED, "version", 2),
        (FAILED, "other", 1),
    ],
)
def test_damage(whole: dict[str, Any], name: str, value: object) -> None:
    with pytest.raises(READING_ERRORS):
        parse_payment_record(json.dumps({**whole, name: value}))


@given(
    st.sampled_from([SETTLED, FAILED]), st.dictionaries(st.sampled_from([*SETTLED, "x"]), JSON_VALUES)
)
def test_whatever_is_read_can_be_used(whole: dict[str, Any], damage: dict[str, Any]) -> None:
    try:
        read = parse_payment_record(json.dumps({**whole, **damage}))
    except READING_ERRORS:
        return
    assert read.fee_msat >= 0
    assert isinstance(read.preimage if read.is_settled else read.error_message, str)


@pytest.mark.parametrize("kept", [record(), record(settled=False), record(metadata={"ü": [1, None]})])
def test_round_trip(kept: PaymentRecord) -> None:
    assert parse_payment_record(kept.to_json()) == kept


def test_fee() -> None:
    assert record().fee_msat == 3
    assert record(amount_msat=200).fee_msat == 0, "one that paid less is none"
    assert record(settled=False).fee_msat == 0


async def test_old_failures_are_forgotten(
    lightningd: SimulatedLightningd, records: PaymentRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a month; earlier where there are many, but never while a request could be replayed."""
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
