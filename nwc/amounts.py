"""Amounts as people write them on a command line."""

from pyln.client import Millisatoshi

# 21 million BTC.
MAX_AMOUNT_MSAT = 21_000_000 * 10**11

_MAX_CHARACTERS = 40
_RULE = "must be an amount like 50000sat, 1000000msat or 0.001btc"


def parse_amount_msat(value: object) -> int:
    """Return the msat a person means, as pyln's Millisatoshi reads them; a bare number is msat.

    Raises:
        ValueError: not an amount, less than 0, or over 21 million BTC.

    """
    text = str(value).strip().lower() if isinstance(value, str | int) else ""
    if isinstance(value, bool) or not text.isascii() or len(text) > _MAX_CHARACTERS:
        raise ValueError(f"{_RULE}; got {value!r}")
    try:
        amount_msat = int(Millisatoshi(text + "msat" if text.isdigit() else text))
    except (ValueError, TypeError, ArithmeticError):
        raise ValueError(f"{_RULE}; got {value!r}") from None
    if not 0 <= amount_msat <= MAX_AMOUNT_MSAT:
        raise ValueError(f"must be at most {MAX_AMOUNT_MSAT} msat; got {value!r}")
    return amount_msat
