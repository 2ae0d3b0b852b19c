"""Records of older versions are read; those of newer ones are refused and not overwritten."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any

import pytest

from nwc.nip47.errors import Nip47Error
from nwc.wallet import hold_record, invoice_record
from nwc.wallet.connections import record as connection_record
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.record import Connection, parse_connection
from nwc.wallet.hold_record import HoldRecord, HoldRecordState, parse_hold_record
from nwc.wallet.records import (
    MAX_NUMBER,
    OPTIONAL,
    Bounds,
    DamagedRecordError,
    Fields,
    RecordError,
    RecordKind,
    RecordVersionError,
    read,
)
from nwc.wallet.spending import breaker, ledger, payment, refusals
from nwc.wallet.spending.ledger import Ledger, parse_ledger
from nwc.wallet.spending.payment import Payment, PaymentRecord, PaymentState, parse_payment_record
from tests.unit.helpers import CLIENT
from tests.unit.wallet.paying_node import make_invoice
from tests.unit.wallet.spending.bench import Bench, invoice
from tests.unit.wallet.spending.values import KEY as PAYING_KEY

KEY = CLIENT.public_key
INVOICE = make_invoice()

# The example: version 2 renamed a field, version 3 added one.


def from_1_to_2(fields: Fields) -> Fields:
    return {"name": fields["title"]}


def from_2_to_3(fields: Fields) -> Fields:
    return {**fields, "is_paused": False}


FIRST = RecordKind(required=frozenset({"title"}))
THIRD = RecordKind(
    required=frozenset({"name", "is_paused"}),
    optional=frozenset({"color"}),
    upgrades=(from_1_to_2, from_2_to_3),
)


@pytest.mark.parametrize(
    "text",
    [
        '{"version":1,"title":"x"}',
        '{"version":2,"name":"x"}',
        '{"version":3,"name":"x","is_paused":false}',
    ],
)
def test_records_of_older_versions_are_read(text: str) -> None:
    assert THIRD.parse(text) == {"name": "x", "is_paused": False}


def test_the_current_version_is_written() -> None:
    assert FIRST.to_json({"title": "é"}) == '{"version":1,"title":"é"}'
    stored = THIRD.to_json(THIRD.parse(FIRST.to_json({"title": "x"})))
    assert stored == '{"version":3,"name":"x","is_paused":false}'


def test_the_error_for_a_newer_version_says_so() -> None:
    newer = THIRD.to_json({"name": "x", "is_paused": True})
    with pytest.raises(
        RecordVersionError, match=r"newer version of the plugin.*version 3.*reads up to 1"
    ):
        FIRST.parse(newer)


@pytest.mark.parametrize("version", ["0", "-1", "true", "1.0", '"1"', "null", "[]"])
def test_a_record_without_a_version_is_refused(version: str) -> None:
    with pytest.raises(RecordVersionError, match="no version"):
        FIRST.parse(f'{{"version":{version},"title":"x"}}')
    with pytest.raises(RecordVersionError, match="no version"):
        FIRST.parse('{"title":"x"}')


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 3, "name": "x", "is_paused": False, "limit_msat": 5},
        {"version": 3, "name": "x"},
        {"version": 3, "title": "x"},
        {"version": 2, "name": "x", "limit_msat": 5},
        {"version": 1},
    ],
)
def test_other_fields_than_those_of_the_version_are_refused(fields: Fields) -> None:
    """An unknown field may be a limit."""
    with pytest.raises(DamagedRecordError):
        THIRD.parse(json.dumps(fields))


def test_an_optional_field_is_read() -> None:
    text = '{"version":3,"name":"x","is_paused":false,"color":"red"}'
    assert THIRD.parse(text)["color"] == "red"


# Records of version 1 of each kind, as owners have them. These texts must never change: when a kind gets
# a new version, they show that its records of version 1 are still read.

PAYMENT_FIELDS = (
    '{"request_id":"11","request_created_at":5,"method":"pay_invoice","encryption":"nip44_v2",'
    '"created_at":6,"amount_msat":1000,"max_fee_msat":10,"payment_hash":"22","invoice":"lnbc1",'
    '"destination":"02","metadata":{"a":1},"first_sendpay_index":7,"reserved_at_us":8}'
)
PAYMENT = Payment("11", 5, "pay_invoice", "nip44_v2", 6, 1000, 10, "22", "lnbc1", "02", {"a": 1}, 7, 8)
RECORDS: dict[str, tuple[str, Callable[[str], Any], Any]] = {
    "connection": (
        f'{{"version":1,"name":"My phone \\u00e9","client_pubkey":"{KEY}",'
        '"relays":["wss://a.example"],"created_at":5,"methods":["get_info"],"expires_at":6,'
        '"lud16":"me@a.example","view":"node","notifications":false,"budget":{"kind":"amount",'
        '"amount_msat":1000,"renewal":"daily","since":5,"max_payment_msat":500}}',
        lambda text: parse_connection(KEY, text),
        Connection(
            name="My phone é",
            client_pubkey=KEY,
            relays=("wss://a.example",),
            created_at=5,
            methods=("get_info",),
            expires_at=6,
            lud16="me@a.example",
            view=connection_record.View.NODE,
            notifications=False,
            budget=Budget(BudgetKind.AMOUNT, 1000, Renewal.DAILY, 5, 500),
        ),
    ),
    "ledger": (
        '{"version":1,"period_started_at":5,"spent_msat":6,"total_spent_msat":7,"received_msat":8,'
        f'"received_pay_index":9,"reservations":{{"11":{PAYMENT_FIELDS}}},"untold":["33"]}}',
        parse_ledger,
        Ledger(5, 6, 7, 8, 9, {"11": PAYMENT}, ("33",)),
    ),
    "payment": (
        f'{{"version":1,"payment":{PAYMENT_FIELDS},"state":"settled","ended_at":9,"sent_msat":1001,'
        '"preimage":"44","error_code":null,"error_message":null}',
        parse_payment_record,
        PaymentRecord(PAYMENT, PaymentState.SETTLED, 9, 1001, "44"),
    ),
    "invoice record": (
        '{"version":1,"metadata":{"a":1},"description":"x"}',
        invoice_record._parse,
        invoice_record.InvoiceRecord({"a": 1}, "x"),
    ),
    "stops": (
        '{"version":1,"stops":[{"at":5,"request_ids":["11"]}],"suspended_at":6}',
        breaker._parse,
        breaker._Stops((breaker._Stop(5, ("11",)),), 6),
    ),
    "hold invoice": (
        f'{{"version":1,"payment_hash":"{"5a" * 32}","request_id":"{"11" * 32}","invoice":"{INVOICE}",'
        '"min_cltv":144,"amount_msat":100,"created_at":5,"expires_at":6,"description":"x",'
        '"metadata":{"a":1},"state":"settled","is_announced":false,"settle_deadline":7,'
        '"received_msat":101,"preimage":"44","settled_at":8}',
        parse_hold_record,
        HoldRecord(
            payment_hash="5a" * 32,
            request_id="11" * 32,
            invoice=INVOICE,
            min_cltv=144,
            amount_msat=100,
            created_at=5,
            expires_at=6,
            description="x",
            metadata={"a": 1},
            state=HoldRecordState.SETTLED,
            is_announced=False,
            settle_deadline=7,
            received_msat=101,
            preimage="44",
            settled_at=8,
        ),
    ),
    "refusals": ('{"version":1,"until":5}', refusals._parse, 5),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_version_1_of_each_kind_is_read(kind: str) -> None:
    text, parse, value = RECORDS[kind]
    assert parse(text) == value


@pytest.mark.parametrize(
    ("kind", "module", "name"),
    [
        ("connection", connection_record, "KIND"),
        ("ledger", ledger, "KIND"),
        ("payment", payment, "KIND"),
        ("invoice record", invoice_record, "_KIND"),
        ("hold invoice", hold_record, "KIND"),
        ("stops", breaker, "_KIND"),
        ("refusals", refusals, "_KIND"),
    ],
)
def test_each_kind_reads_version_1_after_an_upgrade(
    monkeypatch: pytest.MonkeyPatch, kind: str, module: object, name: str
) -> None:
    text, parse, value = RECORDS[kind]
    current: RecordKind = getattr(module, name)
    steps: list[Fields] = []

    def step(fields: Fields) -> Fields:
        steps.append(fields)
        return fields

    monkeypatch.setattr(module, name, replace(current, upgrades=(*current.upgrades, step)))
    assert parse(text) == value
    assert len(steps) == 1


# An owner goes back to an older plugin, which finds records of a newer version.


def newer(text: str) -> str:
    return json.dumps({**json.loads(text), "version": 99, "new_limit": 5})


def test_a_newer_connection_is_not_served() -> None:
    with pytest.raises(RecordError, match="newer version of the plugin"):
        parse_connection(KEY, newer(RECORDS["connection"][0]))


def test_a_newer_ledger_spends_nothing() -> None:
    with pytest.raises(RecordError, match="newer version of the plugin"):
        parse_ledger(newer(RECORDS["ledger"][0]))


def test_newer_refusals_refuse_everything(caplog: pytest.LogCaptureFixture) -> None:
    assert refusals._parse(newer(RECORDS["refusals"][0])) == MAX_NUMBER
    assert "newer version of the plugin" in caplog.text


def outcome_of_a_request(bench: Bench) -> object:
    """Request a payment as the server does, and return its outcome."""
    wanted = invoice()
    try:
        bench.run(bench.payments.previous_outcome(bench.connections[PAYING_KEY], wanted.request_id, 5))
    except Nip47Error as error:
        return error
    return bench.pay(wanted).result()


@pytest.mark.parametrize("kind", ["ledgers", "stops", "refused"])
def test_newer_records_stop_payments_and_are_not_overwritten(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not by payments, nor by received amounts, nor when lightningd stops."""
    names = {"ledgers": "ledger", "stops": "stops", "refused": "refusals"}
    text = newer(RECORDS[names[kind]][0])
    key = ("nwc", kind, PAYING_KEY)
    bench = Bench()
    try:
        bench.lightningd.datastore[key] = (text, 7)
        bench.crash(with_node=True)
        assert isinstance(outcome_of_a_request(bench), Nip47Error)
        assert bench.sends() == 0
        bench.run(bench.payments.receive(PAYING_KEY, 1000, 1))
        bench.run(bench.payments.breaker.lightningd_stopped(PAYING_KEY, frozenset({"11"}), 5))
        bench.run(bench.payments.refusals.note(PAYING_KEY, 5))
        bench.crash(with_node=True)
        assert bench.lightningd.datastore[key] == (text, 7)
    finally:
        bench.close()
    assert "newer version of the plugin" in caplog.text


@pytest.mark.parametrize("text", ["newer", "damaged"])
def test_a_newer_payment_record_is_not_overwritten(text: str) -> None:
    """A crash left both it and its reservation; lightningd knows what the payment cost."""
    bench = Bench()
    try:
        bench.pay(invoice())
        bench.begin(bench.command())
        reserved = bench.ledger()
        bench.finish(bench.command())
        bench.wait(60)
        [key] = [key for key in bench.lightningd.datastore if key[1] == "payments"]
        stored, booked = bench.lightningd.datastore[key][0], bench.ledger()
        bench.stop()
        bench.lightningd.datastore["nwc", "ledgers", PAYING_KEY] = (reserved.to_json(), 0)
        bench.lightningd.datastore[key] = (newer(stored) if text == "newer" else "{}", 0)
        bench.start()
        bench.wait(60)
        assert booked.spent_msat > 0
        assert replace(bench.ledger(), unannounced=()) == replace(booked, unannounced=())
        kept = bench.lightningd.datastore[key][0]
        if text == "newer":
            assert kept == newer(stored)
        else:
            assert parse_payment_record(kept).payment == parse_payment_record(stored).payment
    finally:
        bench.close()


# The typed reader


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Inner:
    number: int


@dataclass(frozen=True, slots=True)
class Outer:
    text: str
    flag: bool
    small: Annotated[int, Bounds(1, 5)]
    color: Color
    maybe: int | None
    inner: Inner
    many: tuple[Inner, ...]
    named: dict[str, Inner]
    anything: dict[str, Any]
    has_default: int = 7
    later: int = field(default=8, metadata=OPTIONAL)


OUTER: dict[str, Any] = {
    "text": "x",
    "flag": True,
    "small": 5,
    "color": "red",
    "maybe": None,
    "inner": {"number": 0},
    "many": [{"number": MAX_NUMBER}],
    "named": {"a": {"number": 1}},
    "anything": {"b": [None, 1.5]},
    "has_default": 9,
}


def test_a_record_of_every_type_is_read() -> None:
    value = Outer(
        text="x",
        flag=True,
        small=5,
        color=Color.RED,
        maybe=None,
        inner=Inner(0),
        many=(Inner(MAX_NUMBER),),
        named={"a": Inner(1)},
        anything={"b": [None, 1.5]},
        has_default=9,
    )
    assert read(Outer, OUTER) == value
    assert read(Outer, {**OUTER, "later": 3}) == replace(value, later=3)
    assert RecordKind.of(Outer).optional == {"later"}


NO_NUMBERS: list[Any] = [True, 1.0, "1", [], -1, 2**63]
NO_OBJECTS: list[Any] = [None, [], "x", 5]
BAD_VALUES: dict[str, list[Any]] = {
    "text": [None, 5, True, [], {}],
    "color": [None, 5, True, [], {}, "green"],
    "flag": [None, 0, 1, "true"],
    "small": [*NO_NUMBERS, None, 0, 6],
    "maybe": NO_NUMBERS,
    "later": [*NO_NUMBERS, None],
    "inner": [*NO_OBJECTS, {}, {"number": 1, "limit": 1}],
    "many": [None, {}, "", [5], [{}], [None]],
    "named": [*NO_OBJECTS, {"a": None}, {"a": {}}, {"a": {"number": -1}}],
    "anything": NO_OBJECTS,
}


@pytest.mark.parametrize(
    ("name", "bad"), [(name, bad) for name in BAD_VALUES for bad in BAD_VALUES[name]]
)
def test_a_field_of_another_type_is_damage(name: str, bad: object) -> None:
    with pytest.raises(DamagedRecordError, match=r"^damaged: ") as caught:
        read(Outer, {**OUTER, name: bad})
    assert "green" not in str(caught.value)


@pytest.mark.parametrize("name", OUTER)
def test_a_missing_field_is_damage_whatever_its_default_is(name: str) -> None:
    with pytest.raises(DamagedRecordError, match=f"damaged: without the field {name}"):
        read(Outer, {key: value for key, value in OUTER.items() if key != name})


@pytest.mark.parametrize("stored", [None, [], "x", 5, {**OUTER, "limit": 1}])
def test_no_record_at_all_is_damage(stored: object) -> None:
    with pytest.raises(DamagedRecordError):
        read(Outer, stored)


def test_the_error_names_the_field_and_not_its_value() -> None:
    with pytest.raises(DamagedRecordError) as caught:
        read(Outer, {**OUTER, "many": [{"number": "secret"}]})
    assert str(caught.value) == f"damaged: the field number is not an integer from 0 to {MAX_NUMBER}"


def test_a_type_that_no_stored_field_can_have_is_a_mistake_in_the_code() -> None:
    @dataclass
    class Wrong:
        number: float

    with pytest.raises(TypeError):
        read(Wrong, {"number": 1.0})
