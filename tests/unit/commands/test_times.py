import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.commands.times import MAX_AHEAD_S, parse_expiry
from tests.unit.helpers import JSON_VALUES, NOW

DAY_S = 86_400


@pytest.mark.parametrize(
    ("value", "expires_at"),
    [
        (None, None),
        ("never", None),
        ("1m", NOW + 60),
        ("12h", NOW + 12 * 3600),
        ("7d", NOW + 7 * DAY_S),
        ("4w", NOW + 28 * DAY_S),
        ("1y", NOW + 365 * DAY_S),
        ("100y", NOW + MAX_AHEAD_S),
        (" 7 D ", NOW + 7 * DAY_S),
        (NOW + 1, NOW + 1),
        (str(NOW + 1), NOW + 1),
        (NOW + MAX_AHEAD_S, NOW + MAX_AHEAD_S),
        ("2027-12-31", 1_830_211_200),
        ("2027-12-31T18:00:00Z", 1_830_276_000),
        ("2027-12-31T18:00:00", 1_830_276_000),
        ("2027-12-31T18:00:00+02:00", 1_830_268_800),
        ("2027-12-31 18:00", 1_830_276_000),
    ],
)
def test_valid_times_are_parsed(value: object, expires_at: int | None) -> None:
    assert parse_expiry(value, NOW) == expires_at


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "soon",
        "d",
        "7",
        "7x",
        "7d 3h",
        "-7d",
        "1.5d",
        "0d",
        "101y",
        "999999y",
        "1000000m" * 2,
        "٣d",
        "\uff12027-12-31",
        "2027-13-01",
        "2027-02-30",
        "2024-12-31",
        "0001-01-01",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "9" * 40,
        "1" * 5000,
        NOW,
        0,
        -1,
        NOW + MAX_AHEAD_S + 1,
        2**64,
        10**100,
        True,
        False,
        1.5,
        float(NOW + 5),
        [],
        {},
        ["7d"],
    ],
)
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^must be .*; got "):
        parse_expiry(value, NOW)


@given(JSON_VALUES | st.text("0123456789mhdwyTZ-:+. ") | st.datetimes().map(str))
def test_any_value_is_a_future_time_or_refused(value: object) -> None:
    try:
        expires_at = parse_expiry(value, NOW)
    except ValueError:
        test_other_values_are_refused(value)
        return
    if value not in (None, "never"):
        assert expires_at is not None
        assert NOW < expires_at <= NOW + MAX_AHEAD_S
