"""Checks of the parameters of a request: every value is untrusted until it has passed here.

Each function takes the `params` of a request and a field name, and returns the checked value; `null`
counts as absent. Each raises Nip47Error OTHER with the field, its rule and the value that was given.

Clients in some languages always send every field, and send an absent one as the empty value of its type.
PHP and Lua do not distinguish an empty object from an empty array. What an empty value means:

    field                                    0               ""       []       {}
    ---------------------------------------  --------------  -------  -------  -------
    params                                   refused         refused  as {}    {}
    make_invoice: amount (required)          payer chooses   refused  refused  refused
    make_invoice: description                refused         absent   refused  refused
    make_invoice: description_hash           refused         absent   refused  refused
    make_invoice: expiry                     absent          refused  refused  refused
    make_hold_invoice: amount, payment_hash  refused         refused  refused  refused
    make_hold_invoice: min_cltv_expiry_…     absent          refused  refused  refused
    settle_…, cancel_hold_invoice            refused         refused  refused  refused
    receive: amount                          absent          refused  refused  refused
    receive: description                     refused         absent   refused  refused
    lookup_invoice: payment_hash, invoice    refused         absent   refused  refused
    list_transactions: from, until           absent          refused  refused  refused
    list_transactions: limit, offset         absent          refused  refused  refused
    list_transactions: type                  refused         absent   refused  refused
    list_transactions: unpaid, unpaid_…      refused         refused  refused  refused
    pay: payment (required)                  refused         refused  refused  refused
    pay: amount                              absent          refused  refused  refused
    pay: payer_note                          refused         absent   refused  refused
    pay_invoice: invoice (required)          refused         refused  refused  refused
    pay_invoice: amount                      absent          refused  refused  refused
    pay_keysend: amount, pubkey (required)   refused         refused  refused  refused
    pay_keysend: preimage                    refused         absent   refused  refused
    pay_keysend: tlv_records                 refused         refused  []       as []
    pay_…: max_fee                           no fee at all   refused  refused  refused
    sign_message: message (required)         refused         refused  refused  refused
    any method: metadata                     refused         refused  as {}    {}

A string never counts as a number, not even an empty one: a limit that the client meant must not be
ignored. "Refused" is OTHER, or BAD_REQUEST in `receive`, or NOT_IMPLEMENTED for a preimage.
tests/wire/test_empty_values.py tests each cell.
"""

import json
import re
from typing import Any, NoReturn

from nwc.nip47.errors import ErrorCode, Nip47Error

# A float is an exact integer up to here: the JSON number 1e3 is accepted, 1e18 is not.
_MAX_EXACT_FLOAT = 2**53
_MAX_SHOWN = 40
# NIP-47, "Metadata".
MAX_METADATA_CHARACTERS = 4096
# The node stores metadata as compact JSON in UTF-8, where a character has up to four bytes.
MAX_METADATA_BYTES = 8192
_MAX_DEPTH = 32
_CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1f]")

Params = dict[str, Any]


def _refuse(name: str, rule: str, value: object) -> NoReturn:
    raise Nip47Error(ErrorCode.OTHER, f"{name}: must be {rule}; got {_shown(value)}")


def _shown(value: object) -> str:
    """Return a description of a value, in a bounded number of printable characters."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            text = str(value) if abs(value) < 1e30 else "a number of enormous size"
        case str():
            text = f"a string of {len(value)} characters"
        case list():
            text = "an array"
        case dict():
            text = "an object"
        case _:
            text = "another type"
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def integer(params: Params, name: str, *, minimum: int, maximum: int, unit: str) -> int | None:
    """Return an integer from `minimum` to `maximum`, None if absent."""
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_EXACT_FLOAT:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        _refuse(name, _integer_rule(minimum, maximum, unit), value)
    return value


def required_integer(params: Params, name: str, *, minimum: int, maximum: int, unit: str) -> int:
    """Return an integer from `minimum` to `maximum`; raise Nip47Error if it is absent."""
    value = integer(params, name, minimum=minimum, maximum=maximum, unit=unit)
    if value is None:
        _refuse(name, _integer_rule(minimum, maximum, unit), None)
    return value


def _integer_rule(minimum: int, maximum: int, unit: str) -> str:
    return f"an integer number of {unit} from {minimum} to {maximum}"


def text(params: Params, name: str, *, max_bytes: int) -> str | None:
    """Return a string of at most `max_bytes` bytes of UTF-8, None if absent or empty.

    Control characters that JSON can only write as \\u escapes are refused, as by lightningd.
    """
    value = params.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > max_bytes or _CONTROL.search(value):
        _refuse(name, _text_rule(max_bytes), value)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        _refuse(name, _text_rule(max_bytes) + ", without lone surrogates", value)
    if size > max_bytes:
        _refuse(name, _text_rule(max_bytes), value)
    return value


def _text_rule(max_bytes: int) -> str:
    return f"a string of at most {max_bytes} bytes of UTF-8, without control characters but white space"


def hex_bytes(params: Params, name: str, *, size: int) -> bytes | None:
    """Return `size` bytes from a string of twice as many hex digits, None if absent or empty."""
    value = params.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str) and len(value) == 2 * size and value.isascii() and value.isalnum():
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
    _refuse(name, f"{2 * size} hex digits", value)


def json_object(params: Params, name: str, *, max_characters: int) -> Params | None:
    """Return an object; None if it is absent, too long, or cannot be sent back.

    An empty array counts as an empty object.

    NIP-47, "Metadata": more than 4,096 characters "MUST be dropped". So is more than MAX_METADATA_BYTES.
    """
    value = params.get(name)
    if value is None:
        return None
    if value == []:  # PHP's empty object
        return {}
    if not isinstance(value, dict):
        _refuse(name, "an object", value)
    if not _fits_depth(value, _MAX_DEPTH):
        return None
    try:
        compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        size = len(compact.encode())
    except ValueError:  # infinity (1e999), lone surrogates: no JSON parser would accept them
        return None
    return value if len(compact) <= max_characters and size <= MAX_METADATA_BYTES else None


def _fits_depth(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    if depth == 0:
        return False
    children = value.values() if isinstance(value, dict) else value
    return all(_fits_depth(child, depth - 1) for child in children)


def flag(params: Params, name: str) -> bool:
    """Return a boolean, False if absent."""
    value = params.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        _refuse(name, "true or false", value)
    return value


def choice(params: Params, name: str, allowed: tuple[str, ...]) -> str | None:
    """Return one of the allowed words, None if absent or empty."""
    value = params.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or value not in allowed:
        _refuse(name, " or ".join(allowed), value)
    return value
