from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyln.client import Millisatoshi

from nwc.commands.amounts import SMALL_MSAT, parse_amount_msat, warn_of_bare_number
from nwc.wallet.spending.payment import MAX_PAYMENT_MSAT
from tests.unit.helpers import ANY_TEXT, JSON_VALUES

AMOUNTS: dict[Any, int] = {
    0: 0,
    1: 1,
    50_000: 50_000,
    "0": 0,
    "1000": 1000,
    "50000sat": 50_000_000,
    "1000000msat": 1_000_000,
    "0.001btc": 100_000_000,
    "0.5sat": 500,
    "1.0msat": 1,
    "1_000sat": 1_000_000,
    "50000 sat": 50_000_000,
    " 5SAT\n": 5000,
    "21000000btc": MAX_PAYMENT_MSAT,
    MAX_PAYMENT_MSAT: MAX_PAYMENT_MSAT,
}


def outcome(value: object) -> tuple[int | None, str]:
    """Return the amount in msat and "", or None and the error."""
    try:
        return parse_amount_msat(value), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize(("value", "msat"), AMOUNTS.items())
def test_valid_amounts_are_parsed(value: object, msat: int) -> None:
    assert parse_amount_msat(value) == msat


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "sat",
        "msat",
        "x",
        "five sat",
        "5 sats",
        "5sat 5sat",
        "5  sat",
        "5\0sat",
        "-1",
        "-1sat",
        "+1sat",
        "-0sat",
        "0.5",
        "0.5msat",
        "0.0001sat",
        "0.0000000000001btc",
        "1.2.3sat",
        ".sat",
        "_",
        "_sat",
        "1,000sat",
        "0x10sat",
        "1e3sat",
        "1e999999999msat",
        "nansat",
        "infinitybtc",
        "snan msat",
        "٣sat",
        "²",
        "½btc",
        "9" * 41,
        "9" * 1_000_000 + "sat",
        True,
        False,
        1.5,
        1.0,
        None,
        [],
        [5],
        {},
        b"5sat",
        -1,
    ],
)
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^must be an amount like 50000sat.*; got ") as caught:
        parse_amount_msat(value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "value",
    ["21000001btc", "2100000000000001sat", MAX_PAYMENT_MSAT + 1, str(MAX_PAYMENT_MSAT + 1), "9" * 40],
)
def test_more_than_all_bitcoin_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=f"^must be at most {MAX_PAYMENT_MSAT} msat; got "):
        parse_amount_msat(value)


@given(st.integers(0, MAX_PAYMENT_MSAT))
def test_amounts_written_by_pyln_are_parsed(msat: int) -> None:
    amount = Millisatoshi(msat)
    for text in (str(msat), str(amount), amount.to_satoshi_str(), amount.to_btc_str()):
        as_read = int(Millisatoshi(text + "msat" if text.isdigit() else text))
        assert parse_amount_msat(text) == as_read
    assert parse_amount_msat(msat) == parse_amount_msat(str(amount)) == msat


@given(st.from_regex(r"[0-9]{1,17}(\.[0-9]{0,12})?(msat|sat|btc)", fullmatch=True))
def test_amounts_that_pyln_reads_are_parsed_or_out_of_range(text: str) -> None:
    try:
        expected = int(Millisatoshi(text))
    except ValueError:
        expected = -1
    if 0 <= expected <= MAX_PAYMENT_MSAT:
        assert parse_amount_msat(text) == expected
    else:
        with pytest.raises(ValueError, match=r"^must be "):
            parse_amount_msat(text)


@given(
    JSON_VALUES
    | ANY_TEXT
    | st.from_regex(r"\s*[-+0-9._eE٣ ]{0,45}(m?sat|btc|BTC)?\s*", fullmatch=True)
    | st.integers(-(2**80), 2**80)
)
def test_any_value_is_a_bounded_amount_or_refused(value: object) -> None:
    amount_msat, problem = outcome(value)
    if amount_msat is None:
        assert problem.startswith("must be ")
        assert len(problem) < 200
    else:
        assert type(amount_msat) is int
        assert 0 <= amount_msat <= MAX_PAYMENT_MSAT


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1), ("5", 5), (" 5 ", 5), (50_000, 50_000), ("999999", 999_999), (SMALL_MSAT - 1, 999_999)],
)
def test_a_small_number_without_a_unit_gets_a_warning(value: object, number: int) -> None:
    warning = warn_of_bare_number(value)
    assert warning is not None
    assert warning.endswith(f"this is {number} msat; write {number}sat for satoshis")


@pytest.mark.parametrize(
    "value",
    [0, "0", SMALL_MSAT, "50000000", "5sat", "5msat", "0.5sat", "none", "unlimited", "", None, True, []],
)
def test_other_values_get_no_warning(value: object) -> None:
    assert warn_of_bare_number(value) is None
