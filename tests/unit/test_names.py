"""Names of connections. Invisible characters are written as escapes."""

# ruff: noqa: RUF001 - look-alike characters are tested here
import ast
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.names import MAX_NAME_LENGTH, names_like, parse_name, parse_typed_name, same_form
from tests.unit.helpers import ANY_TEXT, JSON_VALUES

FAMILY = "👨\u200d👩\u200d👧"
WALES = "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"


@pytest.mark.parametrize(
    "name",
    [
        "My phone",
        "x" * 64,
        f"família {FAMILY}",
        "می\u200cخواهم",  # Persian
        "ه\u200d",  # Persian, an abbreviation
        "क्\u200dष",  # Hindi
        "ශ්\u200dරී",  # Sinhala
        "🏳\ufe0f\u200d🌈",
        "❤\ufe0f\u200d🔥",
        "👩🏽\u200d💻",
        "1\ufe0f\u20e3",  # a keycap
        "🇩🇪",
        WALES,
        "葛\U000e0100城",  # a form of a kanji
        "שלום",
        "สวัสดี",
        "My\u3000phone",
        "\U0001fae9",  # an emoji that is newer than Python 3.11
        "5 € / week",
        'it\'s "mine"',
    ],
)
def test_valid_names_are_unchanged(name: str) -> None:
    assert parse_name(f" {name}\n") == name


@pytest.mark.parametrize(
    ("value", "name"), [(5, "5"), ("e\u0301" * 64, "é" * 64), ("\u1112\u1161\u11ab", "한")]
)
def test_a_name_is_stored_as_text_in_normal_form_c(value: object, name: str) -> None:
    assert parse_name(value) == name


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\u3000",
        "\u200d",
        "\ufe0f",
        "\u3164",  # a filler of Hangul
        "\u2800",  # the empty braille pattern
        "\u0301",
        "\u200b \u2060",
        "a\u200d\u200d",
        "\u200da",
        "a \u200cb",
        "a\ufe0f\ufe0f",
        "a\u3164b",
        "a\u200bb",
        "a\u00adb",
        "a\u034fb",
        "\ufeffa",
        "\u202ea",
        "a\u202e",
        "\u2066a\u2069",
        "a\u200eb",
        "a\u200fb",
        "a\u061cb",
        "a\nb",
        "a\u2028b",
        "a\u2029b",
        "a\u0085b",
        "\x1b[31m",
        "a\0b",
        "\ud800",
        "a\udfff",
        "\ue000",
        "\uffff",
        "\u0378",
        "a\U000e0067\U000e007f",
        WALES[:-1],
        "x" * 65,
        "é" * 65,
        "x" * 1_000_000,
        "a" + " \u0301" * 100_000,
        None,
        True,
        False,
        1.5,
        [],
        ["a"],
        {},
    ],
)
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(
        ValueError, match=r"^must be 1 to 64 printable characters, at least one"
    ) as caught:
        parse_name(value)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


def test_the_error_names_the_wrong_character() -> None:
    with pytest.raises(ValueError, match=r"; got 'a\\u202eb' with U\+202E$"):
        parse_name("a\u202eb")


@given(
    JSON_VALUES | ANY_TEXT | st.text(st.sampled_from("a 🏴\u200c\u200d\ufe0f\u0301\u202e\U000e007f\n"))
)
def test_any_value_is_refused_or_becomes_a_safe_name(value: Any) -> None:
    """A safe name is bounded, in normal form C, and one line in the log."""
    try:
        name = parse_name(value)
    except ValueError:
        return
    assert parse_name(name) == name
    assert 0 < len(name) <= MAX_NAME_LENGTH
    assert len(name.encode()) <= 4 * MAX_NAME_LENGTH
    assert unicodedata.is_normalized("NFC", name)
    logged = f"connection {name!r} made"
    assert logged.isprintable()
    assert ast.literal_eval(logged.removeprefix("connection ").removesuffix(" made")) == name
    assert not {unicodedata.bidirectional(c) for c in name} & {"LRE", "RLE", "LRO", "RLO", "PDF"}
    assert not {unicodedata.bidirectional(c) for c in name} & {"LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize("value", ["\u202e", "\u3164", "a\u200d\u200d", "x" * 200, "\ud800"])
def test_any_text_can_be_looked_up(value: str) -> None:
    """Earlier versions stored names that are refused today."""
    assert parse_typed_name(f" {value} ") == value


@pytest.mark.parametrize("value", ["", " ", None, True, 1.5, [], {}, "x" * 1001])
def test_other_values_cannot_be_looked_up(value: object) -> None:
    with pytest.raises(ValueError, match=r"^must be 1 to 64 printable characters"):
        parse_typed_name(value)


def test_same_form_ignores_the_normal_form_and_outer_spaces() -> None:
    assert same_form("cafe\u0301") == same_form(" café") != same_form("cafe")


ALIKE = [
    ("Alby", "Аlby"),  # the first letter is Cyrillic
    ("Alby", "ALBY"),
    ("Alby", "A1by"),
    ("Alby", "AIby"),
    ("Alby", "A|by"),
    ("Bob", "B0b"),
    ("My phone", "My\u00a0phone"),
    ("My phone", "My\u3000 phone"),
    ("My phone", "Myphone"),
    ("ab", "a\u200db"),
    ("ab", "a\u200cb"),
    ("❤", "❤\ufe0f"),
    ("AB", "ΑΒ"),  # Greek
    ("νοσ", "ΝΟΣ"),
    ("Москва", "MOCKBA"),
    ("Ёлка", "ёлка"),
    ("ﬁ", "fi"),
    ("Ａlby", "Alby"),
    ("Barn", "Bam"),
    ("a-b", "a–b"),
    ("don't", "don’t"),
    ("café", "cafe\u0301"),
    ("straße", "STRASSE"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_alike_are_found(one: str, other: str) -> None:
    assert names_like(one, ["Zaps", other, "zapper"]) == [other]
    assert names_like(other, [one]) == [one]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("app 1", "app 2"),
        ("app 1", "app 11"),
        ("Ali", "All"),
        ("café", "cafe"),
        ("Alby", "Albi"),
        ("👨", "👩"),
        ("a", ""),
    ],
)
def test_other_names_do_not_look_alike(one: str, other: str) -> None:
    assert names_like(one, [other]) == []


@given(ANY_TEXT, ANY_TEXT)
def test_looking_alike_is_symmetric(one: str, other: str) -> None:
    assert bool(names_like(one, [other])) == bool(names_like(other, [one]))
    assert names_like(one, [one]) == [one]
