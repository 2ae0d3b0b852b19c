"""params.flag and params.choice; the other checks are in test_params.py."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.nip47 import params
from nwc.nip47.errors import ErrorCode, Nip47Error

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
