"""Versions of lightningd are compared as numbers, without their suffix."""

import pytest

from nwc.cln.versions import keysend_can_stop, parse_version, warning_of


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v25.02", (25, 2, 0)),
        ("v25.09.1", (25, 9, 1)),
        ("25.09.1-1", (25, 9, 1)),
        ("v25.09.1-modded", (25, 9, 1)),
        ("v25.09-12-g0123abc-modded", (25, 9, 0)),
        ("v25.09rc4", (25, 9, 0)),
        ("v26.06.10", (26, 6, 10)),
        ("basedon-v25.12.1", (25, 12, 1)),
        ("v24.11+btcpay.1", (24, 11, 0)),
    ],
)
def test_the_numbers_of_a_version_are_read(text: str, version: tuple[int, int, int]) -> None:
    assert parse_version(text) == version


def test_versions_are_not_compared_as_text() -> None:
    assert parse_version("v25.9") < parse_version("v25.12") < parse_version("v26.06.9")
    assert parse_version("v26.06.9") < parse_version("v26.06.10")


@pytest.mark.parametrize("text", ["", "0123abc-modded", "version", "v25", "v25.09.1.2", "99999.1"])
def test_a_text_without_a_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no version number"):
        parse_version(text)
    assert warning_of(text) is None


@pytest.mark.parametrize(
    "text",
    ["v25.09", "v25.09.0", "v25.09-modded", "v25.09.1", "v25.09.1-modded", "25.09.1-1", "25.09-1"],
)
def test_there_is_a_warning_for_versions_that_leave_parts_pending(text: str) -> None:
    warning = warning_of(text)
    assert warning is not None
    assert f"lightningd {text} " in warning
    assert "v25.09.2" in warning


@pytest.mark.parametrize(
    "text",
    ["v25.02.2", "v25.05.1", "v25.09.2", "v25.09.2-modded", "v25.09.10", "v25.09.3-1", "v26.06.6"],
)
def test_there_is_no_warning_for_other_versions(text: str) -> None:
    assert warning_of(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("v25.12.1", False), ("v26.04.2", False), ("v26.06", True), ("v26.06.6-modded", True), ("", False)],
)
def test_keysends_are_dangerous_since_a_version(text: str, expected: bool) -> None:
    assert keysend_can_stop(text) is expected
