"""Times as the owner writes them on a command line."""

import re
from datetime import UTC, datetime

_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_DURATION = re.compile(r"(\d{1,6})\s*([mhdwy])")
MAX_AHEAD_S = 100 * _UNITS["y"]

_RULE = (
    "must be never, a time from now like 30m, 12h, 7d, 4w or 1y, a date like 2027-12-31 "
    "or 2027-12-31T18:00:00Z, or Unix seconds"
)


def parse_expiry(value: object, now: int) -> int | None:
    """Return a time in Unix seconds, None for never.

    Args:
        value: None, "never", a duration, a date (ISO 8601, UTC) or Unix seconds.
        now: Unix seconds.

    Raises:
        ValueError: the value is none of these, not in the future, or over 100 years ahead.

    """
    if value is None or value == "never":
        return None
    at = _unix_seconds(value, now)
    if at is None:
        raise ValueError(f"{_RULE}; got {value!r}")
    if not now < at <= now + MAX_AHEAD_S:
        raise ValueError(f"must be in the future, at most 100 years ahead; got {value!r}")
    return at


def _unix_seconds(value: object, now: int) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or len(value) > 40 or not value.isascii():
        return None
    text = value.strip()
    if text.isdigit():
        return int(text)
    if match := _DURATION.fullmatch(text.lower()):
        return now + int(match[1]) * _UNITS[match[2]]
    return _date(text)


def _date(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp())
