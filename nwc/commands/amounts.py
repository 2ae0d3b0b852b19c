"""Amounts as people write them on a command line."""

import re

from pyln.client import Millisatoshi

from nwc.wallet.spending.payment import MAX_PAYMENT_MSAT

# Exponents are left out: the digits of 1e999999999msat alone would stop the plugin for minutes.
_AMOUNT = re.compile(r"[0-9_.]{1,40} ?(msat|sat|btc)?")
# Few people mean a budget below 1,000 sat, but a number below a million is what many would write for a
# usual sum of satoshis.
SMALL_MSAT = 1_000_000

_RULE = "must be an amount like 50000sat, 1000000msat or 0.001btc"


def warn_of_bare_number(value: object) -> str | None:
    """Return a warning where a small amount has no unit: its owner may have meant satoshis.

    Args:
        value: an amount that `parse_amount_msat` has read. A word gets no warning.

    """
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < SMALL_MSAT:
        return None
    number = int(text)
    return f"a number without a unit is msat, so this is {number} msat; write {number}sat for satoshis"


def parse_amount_msat(value: object) -> int:
    """Return the msat a person means, as pyln's Millisatoshi reads them; a bare number is msat.

    Raises:
        ValueError: not an amount, less than 0, or over 21 million BTC.

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
