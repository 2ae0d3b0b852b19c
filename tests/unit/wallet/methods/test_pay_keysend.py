"""pay_keysend: what it accepts, what it refuses before anything is reserved, what it answers."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.cln.onion import FREE_BYTES
from nwc.nip47.errors import ErrorCode
from nwc.wallet.methods.pay_keysend import MAX_TLV_RECORDS, parse_params, pay_keysend
from nwc.wallet.spending.payment import MAX_PAYMENT_MSAT
from tests.unit.helpers import JSON_VALUES
from tests.unit.wallet.paying_node import (
    OWN_ID,
    Asked,
    PayingBench,
    paying_bench,
    refusal_of,
    spent_nothing,
)
from tests.unit.wallet.spending import simulation
from tests.unit.wallet.spending.values import START, amount

PAYEE = "02" + "ab" * 32
KEYSEND_PREIMAGE = 5_482_373_484
# The type takes 5 bytes and the length 3, before the value.
MOST = FREE_BYTES - 8
RECORD = {"type": 7_629_169, "value": "abcd"}
FIELDS = ("amount", "pubkey", "preimage", "tlv_records", "max_fee", "metadata")
bench = pytest.fixture(paying_bench)


def ask(bench: PayingBench, number: int = 1, **params: Any) -> Asked:
    return bench.ask(pay_keysend, {"pubkey": PAYEE, "amount": 100, **params}, number)


def refusal(bench: PayingBench, field: str, **params: Any) -> str:
    code, message = ask(bench, **params).refusal
    assert code == ErrorCode.OTHER
    assert message.startswith(f"{field}: ")
    assert "must " in message
    assert len(message) < 200
    assert spent_nothing(bench)
    return message


def test_a_keysend_is_sent(bench: PayingBench) -> None:
    asked = ask(bench, tlv_records=[RECORD], max_fee=7)
    [given] = bench.lightningd.called("keysend")
    assert given.pop("label").endswith(f":{1:064x}")
    assert given == {
        "destination": PAYEE,
        "amount_msat": 100,
        "maxfee": 7,
        "retry_for": 50,
        "extratlvs": {"7629169": "abcd"},
    }
    bench.finish(bench.command())
    assert asked.result == {"preimage": bench.command().preimage, "fees_paid": 7}
    assert ask(bench).result == asked.result
    bench.crash()
    assert ask(bench, amount="x").result == asked.result
    assert bench.sends() == 1


def test_the_payment_is_stored_with_its_parameters(bench: PayingBench) -> None:
    ask(bench, tlv_records=[RECORD], metadata={"a": 1})
    [reserved] = bench.ledger().reservations.values()
    assert reserved.metadata == {"a": 1, "tlv_records": [RECORD]}
    assert (reserved.amount_msat, reserved.max_fee_msat) == (100, 900)
    assert (reserved.payment_hash, reserved.invoice, reserved.destination) == (None, None, PAYEE)
    assert (reserved.first_sendpay_index, reserved.created_at) == (1, START)


def test_only_parts_from_now_on_are_looked_for(bench: PayingBench) -> None:
    ask(bench, max_fee=0)
    bench.begin(bench.command())
    ask(bench, 2, max_fee=0)
    assert bench.ledger().reservations[f"{2:064x}"].first_sendpay_index == 2


@pytest.mark.parametrize("usage", [None, "xkeysend destination amount_msat [label] [maxfeepercent]"])
def test_a_node_without_keysend_is_not_implemented(
    bench: PayingBench, monkeypatch: pytest.MonkeyPatch, usage: str | None
) -> None:
    monkeypatch.setattr(simulation, "HELP", {"xkeysend": usage} if usage else {})
    assert ask(bench).refusal[0] == ErrorCode.NOT_IMPLEMENTED
    assert spent_nothing(bench)


def test_a_keysend_that_exceeds_the_budget_is_refused(bench: PayingBench) -> None:
    bench.grant(amount(99))
    assert ask(bench).refusal[0] == ErrorCode.QUOTA_EXCEEDED
    assert spent_nothing(bench)


# Parameters


BAD_NUMBERS: tuple[object, ...] = (
    -1,
    1.5,
    True,
    False,
    "100",
    [],
    {},
    MAX_PAYMENT_MSAT + 1,
    2**64,
    10**40,
    math.inf,
    math.nan,
)


@pytest.mark.parametrize("value", [None, 0, *BAD_NUMBERS])
def test_a_bad_amount_is_refused(bench: PayingBench, value: object) -> None:
    refusal(bench, "amount", amount=value)


@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_a_bad_max_fee_is_refused(bench: PayingBench, value: object) -> None:
    refusal(bench, "max_fee", max_fee=value)


@pytest.mark.parametrize("value", ["", 1, [1], True])
def test_bad_metadata_are_refused(bench: PayingBench, value: object) -> None:
    refusal(bench, "metadata", metadata=value)


@pytest.mark.parametrize(
    "params",
    [
        {"preimage": ""},
        {"tlv_records": []},
        {"tlv_records": {}},
        {"tlv_records": None, "preimage": None},
    ],
    ids=str,
)
def test_an_empty_value_is_absent(params: dict[str, Any]) -> None:
    wanted = {"pubkey": PAYEE, "amount": 1}
    assert parse_params({**wanted, **params}) == parse_params(wanted)


def test_an_empty_array_is_empty_metadata() -> None:
    assert parse_params({"pubkey": PAYEE, "amount": 1, "metadata": []}).metadata == {}


@pytest.mark.parametrize("value", [PAYEE, PAYEE.upper(), "03" + "AB" * 32])
def test_a_node_id_may_have_capital_letters(value: str) -> None:
    assert parse_params({"pubkey": value, "amount": 1}).destination == value.lower()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "ab" * 32,
        "04" + "ab" * 32,
        PAYEE + "a",
        PAYEE[:-1],
        PAYEE[:-1] + "g",
        PAYEE[:-1] + "\n",
        PAYEE + "\n",
        f" {PAYEE}",
        "\u06602" + "ab" * 32,
        5,
        [],
        {},
        True,
        f"{PAYEE}@127.0.0.1",
        "\ud800" * 66,
    ],
)
def test_text_that_is_not_a_node_id_is_refused(bench: PayingBench, value: object) -> None:
    refusal(bench, "pubkey", pubkey=value)


def test_a_payment_to_the_own_node_is_refused(bench: PayingBench) -> None:
    assert "another node's" in refusal(bench, "pubkey", pubkey=OWN_ID)


@pytest.mark.parametrize("value", ["00" * 32, 5, [], {}, False])
def test_a_preimage_is_not_implemented(bench: PayingBench, value: object) -> None:
    code, message = ask(bench, preimage=value).refusal
    assert (code, message.split(":")[0]) == ("NOT_IMPLEMENTED", "preimage")
    assert spent_nothing(bench)


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_preimage_is_absent(value: object) -> None:
    assert parse_params({"pubkey": PAYEE, "amount": 1, "preimage": value}).tlvs == {}


# tlv_records


def records(*values: tuple[object, object]) -> list[dict[str, object]]:
    return [{"type": type_, "value": value} for type_, value in values]


@pytest.mark.parametrize(
    ("given", "tlvs"),
    [
        (None, {}),
        ([], {}),
        (records((65_536, "")), {"65536": ""}),
        (records((2**64 - 1, "FF")), {str(2**64 - 1): "ff"}),
        (records((65_536.0, "00"), (65_537, "01")), {"65536": "00", "65537": "01"}),
        (records((65_536, "00" * MOST)), {"65536": "00" * MOST}),
        ([{"type": 65_536, "value": "00", "more": 1}], {"65536": "00"}),
    ],
)
def test_records_are_passed_on(given: object, tlvs: dict[str, str]) -> None:
    assert parse_params({"pubkey": PAYEE, "amount": 1, "tlv_records": given}).tlvs == tlvs


BAD_TYPES: tuple[object, ...] = (
    None,
    -1,
    0,
    2,
    8,
    16,
    65_535,
    KEYSEND_PREIMAGE,
    float(KEYSEND_PREIMAGE),
    2**64,
    10**40,
    1.5,
    1e300,
    math.nan,
    True,
    "65536",
    [],
)


BAD_VALUES: tuple[object, ...] = ("0", "0g", "x", 1, None, [], "\u0660\u0660", "\ud800", "0x00")


@pytest.mark.parametrize(
    "given",
    [
        "",
        1,
        True,
        RECORD,
        [None],
        [1],
        [[]],
        [[65_536, "00"]],
        [{}],
        [{"type": 65_536}],
        [{"value": "00"}],
        *(records((type_, "00")) for type_ in BAD_TYPES),
        *(records((65_536, value)) for value in BAD_VALUES),
        records((65_536, "00"), (65_536, "01")),
        records((65_536, "00"), (65_536.0, "00")),
        records((65_536, "00" * (MOST + 1))),
        records((65_536, "00" * 600), (65_537, "00" * 600)),
        records(*((65_536 + number, "") for number in range(MAX_TLV_RECORDS + 1))),
    ],
)
def test_bad_records_are_refused(bench: PayingBench, given: object) -> None:
    refusal(bench, "tlv_records", tlv_records=given)


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "x"]),
        JSON_VALUES
        | st.sampled_from([PAYEE, 100, [RECORD]])
        | st.lists(
            st.fixed_dictionaries(
                {}, optional={"type": JSON_VALUES, "value": JSON_VALUES | st.just("00")}
            ),
            max_size=3,
        ),
    )
)
def test_random_parameters_are_refused_or_in_range(params: dict[str, Any]) -> None:
    params = {"pubkey": PAYEE, "amount": 1, **params}
    error = refusal_of(parse_params, params)
    if error is not None:
        assert error.code in (ErrorCode.OTHER, ErrorCode.NOT_IMPLEMENTED)
        assert error.message.split(":")[0] in FIELDS
        assert error.message.isprintable()
        return
    wanted = parse_params(params)
    assert 0 < wanted.amount_msat <= MAX_PAYMENT_MSAT
    assert wanted.destination == PAYEE
    for type_, value in wanted.tlvs.items():
        assert 65_536 <= int(type_) < 2**64
        assert int(type_) != KEYSEND_PREIMAGE
        bytes.fromhex(value)
    json.dumps(wanted.metadata, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("given", "code"), [({"max_fee": 5}, "FEE_LIMIT_EXCEEDED"), ({}, "PAYMENT_FAILED")]
)
def test_only_a_client_that_gave_max_fee_learns_that_no_route_fits_it(
    bench: PayingBench, given: dict[str, Any], code: str
) -> None:
    """Older clients fail on unknown codes."""
    asked = ask(bench, **given)
    reason = "Fee exceeds our fee budget: 6msat > 5msat, discarding route"
    bench.fail(bench.command(), 210, reason=reason)
    assert asked.refusal[0] == code
