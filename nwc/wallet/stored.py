"""Reading what the plugin keeps in the datastore, where a person may have changed it."""

import json
from typing import Any

# More is no amount, time or number of an invoice, and lightningd takes no more either.
MAX_NUMBER = 2**63 - 1


def parse_stored(text: str) -> dict[str, Any]:
    """Read a stored JSON object.

    Raises:
        ValueError: it is none, or holds what could not be told to anybody: a lone surrogate, NaN, a
            number without end.

    """
    try:
        stored = json.loads(text)
        json.dumps(stored, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(stored, dict):
        raise ValueError("not an object")  # noqa: TRY004 - what stands there is the value, not the type
    return stored


def is_number(value: object) -> bool:
    """Tell whether a value is an integer from 0 to MAX_NUMBER."""
    # `type`, not `isinstance`: true is an int for Python.
    return type(value) is int and 0 <= value <= MAX_NUMBER
