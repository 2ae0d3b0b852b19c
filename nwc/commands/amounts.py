"""Amounts as the owner writes them on a command line."""

import re

from pyln.client import Millisatoshi

from nwc.wallet.spending.payment import MAX_PAYMENT_MSAT

# Without exponents: Python would compute the digits of 1e999999999msat for minutes.
_AMOUNT = re.compile(r"[0-9_.]{1,40} ?(msat|sat|btc)?")
# Few owners mean a budget below 1,000 sat, but many would write a number below a million for an amount
# in satoshis.
SMALL_MSAT = 1_000_000

_RULE = "must be an amount like 50000sat, 1000000msat or 0.001btc"


def warn_of_bare_number(value: object) -> str | None:
    """Return a warning if a small amount has no unit: the owner may have meant satoshis. Else None.

    Args:
        value: an amount that `parse_amount_msat` accepts, or a word, for which there is no warning.

    """
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < SMALL_MSAT:
        return None
    number = int(text)
    return f"a number without a unit is msat, so this is {number} msat; write {number}sat for satoshis"


def parse_amount_msat(value: object) -> int:
    """Return an amount in msat, as pyln's Millisatoshi reads it; a number without a unit is msat.

    Raises:
        ValueError: the value is not an amount, or over MAX_PAYMENT_MSAT.

    """
    text = str(value).strip().lower() if isinstance(value, str | int) else ""
    if isinstance(value, bool) or not _AMOUNT.fullmatch(text):
        raise ValueError(f"{_RULE}; got {value!r:.80}")
    try:
        amount_msat = int(Millisatoshi(text + "msat" if text.isdigit() else text))
    except (ValueError, TypeError, ArithmeticError):
        raise ValueError(f"{_RULE}; got {value!r:.80}") from None
    if not 0 <= amount_msat <= MAX_PAYMENT_MSAT:
        raise ValueError(f"must be at most {MAX_PAYMENT_MSAT} msat; got {value!r:.80}")
    return amount_msat
