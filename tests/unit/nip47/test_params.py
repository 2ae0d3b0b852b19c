import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.nip47 import params
from nwc.nip47.errors import ErrorCode, Nip47Error
from tests.unit.helpers import JSON_VALUES

MAX_MESSAGE_LENGTH = 200
NAME = "the_field"

Check = Callable[[dict[str, Any]], object]

CHECKS: dict[str, Check] = {
    "integer": lambda given: params.integer(given, NAME, minimum=1, maximum=2**60, unit="msat"),
    "required_integer": lambda given: params.required_integer(
        given, NAME, minimum=0, maximum=100, unit="msat"
    ),
    "text": lambda given: params.text(given, NAME, max_bytes=10),
    "hex_bytes": lambda given: params.hex_bytes(given, NAME, size=32),
    "json_object": lambda given: params.json_object(given, NAME, max_characters=40),
}
OPTIONAL = [name for name in CHECKS if name != "required_integer"]


def refusal(check: str, value: object) -> str:
    """Return the message of the refusal, after checking what all refusals have in common."""
    with pytest.raises(Nip47Error) as caught:
        CHECKS[check]({NAME: value})
    assert caught.value.code == ErrorCode.OTHER
    message = caught.value.message
    assert message.startswith(f"{NAME}: must be ")
    assert "; got " in message
    assert len(message) <= MAX_MESSAGE_LENGTH
    assert message.isprintable()
    return message


@pytest.mark.parametrize("check", list(CHECKS))
@given(value=JSON_VALUES)
def test_any_json_value_is_checked_or_refused(check: str, value: object) -> None:
    try:
        checked = CHECKS[check]({NAME: value})
    except Nip47Error:
        refusal(check, value)
        return
    match check:
        case "integer":
            assert checked is None or (type(checked) is int and 1 <= checked <= 2**60)
        case "required_integer":
            assert type(checked) is int
            assert 0 <= checked <= 100
        case "text":
            assert checked is None or (isinstance(checked, str) and len(checked.encode()) <= 10)
        case "hex_bytes":
            assert checked is None or (isinstance(checked, bytes) and len(checked) == 32)
        case "json_object":
            json.dumps(checked, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("check", OPTIONAL)
@pytest.mark.parametrize("given_", [{}, {NAME: None}, {"another": 5}])
def test_absent_and_null_are_the_same(check: str, given_: dict[str, Any]) -> None:
    assert CHECKS[check](given_) is None


@pytest.mark.parametrize("given_", [{}, {NAME: None}])
def test_an_absent_required_integer_is_refused(given_: dict[str, Any]) -> None:
    with pytest.raises(Nip47Error, match=f"{NAME}: must be an integer .* got nothing"):
        CHECKS["required_integer"](given_)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1), (2**60, 2**60), (1e3, 1000), (1.0, 1), (float(2**53), 2**53), (2**53 + 1, 2**53 + 1)],
)
def test_an_integer_may_be_written_as_a_float(value: float, expected: int) -> None:
    checked = CHECKS["integer"]({NAME: value})
    assert checked == expected
    assert type(checked) is int


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (-1, "-1"),
        (-0.0, "0"),
        (2**60 + 1, str(2**60 + 1)),
        (2**64, str(2**64)),
        (10**4000, "a number of enormous size"),
        (1.5, "1.5"),
        (2.0**54, "1.8014398509481984e+16"),
        (1e300, "a number of enormous size"),
        (math.inf, "a number of enormous size"),
        (math.nan, "a number of enormous size"),
        (True, "true"),
        (False, "false"),
        ("1", "a string of 1 characters"),
        ("", "a string of 0 characters"),
        ([1], "an array"),
        ({}, "an object"),
    ],
)
def test_anything_but_an_integer_in_range_is_refused(value: object, shown: str) -> None:
    assert refusal("integer", value) == (
        f"{NAME}: must be an integer number of msat from 1 to {2**60}; got {shown}"
    )


@pytest.mark.parametrize("check", ["text", "hex_bytes"])
def test_an_empty_string_is_absent(check: str) -> None:
    assert CHECKS[check]({NAME: ""}) is None


@pytest.mark.parametrize("value", [" ", "x" * 10, "é" * 5, "a\t\n\r\x7f", "\U0001f984ab"])
def test_a_text_within_its_bound_is_returned(value: str) -> None:
    assert CHECKS["text"]({NAME: value}) == value


@pytest.mark.parametrize(
    "value", ["x" * 11, "é" * 6, "a\0", "\x01", "\x1f", "\ud800", 5, True, [], {}, 0.5]
)
def test_anything_but_a_short_text_is_refused(value: object) -> None:
    message = refusal("text", value)
    assert "10 bytes" in message


@pytest.mark.parametrize("value", ["00" * 32, "ab" * 32, "AB" * 32, "aB" * 32])
def test_hex_digits_of_either_case_are_bytes(value: str) -> None:
    assert CHECKS["hex_bytes"]({NAME: value}) == bytes.fromhex(value)


@pytest.mark.parametrize(
    "value",
    [
        " ",
        "00" * 31,
        "00" * 33,
        "0" * 63,
        "zz" * 32,
        "0x" + "00" * 31,
        "00 " * 21 + "0",
        " " * 64,
        "٣" * 64,
        "\uff10" * 64,
        "\ud800" * 64,
        5,
        True,
        ["00" * 32],
        {},
    ],
)
def test_anything_but_64_hex_digits_is_refused(value: object) -> None:
    assert "64 hex digits" in refusal("hex_bytes", value)


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value", [{}, {"a": None}, {"é": [1, 2.5, "x", {"b": True}]}, {"a": "x" * 32}, {"a": "漢" * 32}]
)
def test_an_object_within_its_bounds_is_returned(value: object) -> None:
    assert CHECKS["json_object"]({NAME: value}) == value


def test_an_empty_array_is_an_empty_object() -> None:
    assert CHECKS["json_object"]({NAME: []}) == {}


@pytest.mark.parametrize(
    "value",
    [
        {"a": "x" * 33},
        {"a": "漢" * 33},
        {"a": math.inf},
        {"a": [math.nan]},
        {"a": "\ud800"},
        {"\udfff": 1},
        nested(2000),
    ],
)
def test_an_object_that_cannot_be_stored_is_dropped(value: object) -> None:
    assert CHECKS["json_object"]({NAME: value}) is None


@pytest.mark.parametrize(("depth", "kept"), [(32, True), (33, False), (100_000, False)])
def test_an_object_nested_too_deeply_is_dropped(depth: int, kept: bool) -> None:
    value = nested(depth)
    assert (params.json_object({NAME: value}, NAME, max_characters=10**6) is value) is kept
    while value:  # so that freeing it does not recurse
        value = value.pop("a", None)


@pytest.mark.parametrize("value", [[{}], [[]], "", "x", "{}", 0, 5, 0.5, True, math.nan])
def test_anything_but_an_object_is_refused(value: object) -> None:
    assert refusal("json_object", value).startswith(f"{NAME}: must be an object; got ")


@given(st.text(st.characters(), min_size=11))
def test_a_refusal_never_repeats_the_clients_text(value: str) -> None:
    assert refusal("hex_bytes", value) == (
        f"{NAME}: must be 64 hex digits; got a string of {len(value)} characters"
    )


# Flags and choices

WORDS = ("incoming", "outgoing")
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("given_", "value"), [({}, False), ({"f": None}, False), ({"f": False}, False), ({"f": True}, True)]
)
def test_a_flag_is_its_value_or_false(given_: dict[str, Any], value: bool) -> None:
    assert params.flag(given_, "f") is value


@given(ANYTHING)
def test_anything_but_a_boolean_is_no_flag(value: Any) -> None:
    if value is None or isinstance(value, bool):
        assert params.flag({"f": value}, "f") is bool(value)
    else:
        with pytest.raises(Nip47Error) as caught:
            params.flag({"f": value}, "f")
        assert caught.value.code == ErrorCode.OTHER
        assert caught.value.message.startswith("f: must be true or false; got ")
        assert len(caught.value.message) < 120


@pytest.mark.parametrize("value", [0, 1, "true", "false", "", [], {}, 1.0])
def test_values_that_resemble_a_boolean_are_refused(value: object) -> None:
    with pytest.raises(Nip47Error):
        params.flag({"f": value}, "f")


@pytest.mark.parametrize(
    ("given_", "value"),
    [({}, None), ({"t": None}, None), ({"t": ""}, None), *[({"t": word}, word) for word in WORDS]],
)
def test_a_choice_is_one_of_the_words_or_none(given_: dict[str, Any], value: str | None) -> None:
    assert params.choice(given_, "t", WORDS) == value


@given(ANYTHING | st.sampled_from(["Incoming", "incoming ", "in", "incoming\0", "outgoingincoming"]))
def test_anything_but_the_words_is_no_choice(value: Any) -> None:
    if value in (None, "", *WORDS):
        return
    with pytest.raises(Nip47Error) as caught:
        params.choice({"t": value}, "t", WORDS)
    assert caught.value.code == ErrorCode.OTHER
    assert caught.value.message.startswith("t: must be incoming or outgoing; got ")
    assert len(caught.value.message) < 120
