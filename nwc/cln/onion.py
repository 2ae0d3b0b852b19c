"""How many bytes of the onion (BOLT4) a payee or an app may fill.

The onion has 1,300 bytes for the payloads of all hops. lightningd notices only after it has chosen a
route that a payment does not fit, and some of its plugins do not recover from that. So the sizes that a
payee or an app chooses are bounded first: ten hops of a public route must still have room.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nwc.errors import NwcError

# BOLT4, "Packet Structure": hop_payloads.
_ROOM = 1300
_HMAC = 32
# amt_to_forward, outgoing_cltv_value and short_channel_id, at their longest.
_HOP = 1 + (2 + 8) + (2 + 4) + (2 + 8) + _HMAC
# amt_to_forward, outgoing_cltv_value and payment_data or the preimage of a keysend.
_LAST_HOP = 3 + (2 + 8) + (2 + 4) + (2 + 32 + 8) + _HMAC
_PUBLIC_HOPS = 10
# For route hints, payment metadata or custom records: 617 bytes.
FREE_BYTES = _ROOM - _PUBLIC_HOPS * _HOP - _LAST_HOP

MAX_ROUTE_HINTS = 20
MAX_BLINDED_PATHS = 20
# amt_to_forward, outgoing_cltv_value and total_amount_msat of the last hop of a blinded path.
_BLINDED_LAST_HOP = (2 + 8) + (2 + 4) + (2 + 8)
_PATH_KEY = 2 + 33
# BOLT4, "max_htlc_cltv Selection"; lightningd's `maxdelay`.
MAX_CLTV_DELTA = 2016


class OnionTooLargeError(NwcError, ValueError):
    """A payment does not fit into the onion; the text is the rule, to be put after the field's name."""


def check_records(records: Mapping[str, str]) -> None:
    """Raise an error if the custom records of a keysend are too large.

    Args:
        records: type in decimal digits, value in hex digits.

    Raises:
        OnionTooLargeError: the records leave no room for a route.

    """
    size = sum(_record_size(int(type_), len(value) // 2) for type_, value in records.items())
    if size > FREE_BYTES:
        raise OnionTooLargeError(
            f"must have at most {FREE_BYTES} bytes together, with their types and lengths; got {size}"
        )


def check_invoice(decoded: Mapping[str, Any]) -> None:
    """Raise an error if a payment of a BOLT11 invoice would not fit.

    Args:
        decoded: the answer of lightningd's `decode`.

    Raises:
        OnionTooLargeError: the invoice leaves no room for a route, or a route hint has a loop.
        KeyError, TypeError, ValueError: the answer is unreadable.

    """
    hints = decoded.get("routes", [])
    if len(hints) > MAX_ROUTE_HINTS:
        raise OnionTooLargeError(f"must have at most {MAX_ROUTE_HINTS} route hints; got {len(hints)}")
    metadata_size = len(decoded.get("payment_metadata", "")) // 2
    longest = max(map(len, hints), default=0)
    if longest * _HOP + _record_size(16, metadata_size) * bool(metadata_size) > FREE_BYTES:
        raise OnionTooLargeError("its route hints and payment metadata leave no room for a route")
    for hint in hints:
        _check_hint(hint, decoded["payee"])
    delta = max((sum(hop["cltv_expiry_delta"] for hop in hint) for hint in hints), default=0)
    if delta + decoded["min_final_cltv_expiry"] > MAX_CLTV_DELTA:
        raise OnionTooLargeError(f"must not lock the payment for more than {MAX_CLTV_DELTA} blocks")


def check_blinded_paths(paths: Sequence[Mapping[str, Any]]) -> None:
    """Raise an error if a payment over one of the blinded paths of a BOLT12 invoice would not fit.

    Args:
        paths: `invoice_paths` in the answer of lightningd's `decode`.

    Raises:
        OnionTooLargeError: a path leaves no room for a route to it, or locks the payment for too long.
        KeyError, TypeError, ValueError: the answer is unreadable.

    """
    if not 0 < len(paths) <= MAX_BLINDED_PATHS:
        raise OnionTooLargeError(f"must have 1 to {MAX_BLINDED_PATHS} blinded paths; got {len(paths)}")
    for path in paths:
        size = _PATH_KEY + _BLINDED_LAST_HOP + sum(map(_blinded_hop_size, path["path"]))
        if size > _ROOM - _PUBLIC_HOPS * _HOP:
            raise OnionTooLargeError("has a blinded path that leaves no room for a route to it")
        if path["payinfo"]["cltv_expiry_delta"] > MAX_CLTV_DELTA:
            raise OnionTooLargeError(f"must not lock the payment for more than {MAX_CLTV_DELTA} blocks")


def _blinded_hop_size(hop: Mapping[str, Any]) -> int:
    """Return the size of a payload with the payee's data for this hop (BOLT4, "Route Blinding")."""
    payload = _record_size(10, len(hop["encrypted_recipient_data"]) // 2)
    return _bigsize(payload) + payload + _HMAC


def _check_hint(hint: list[dict[str, Any]], payee: str) -> None:
    nodes = [hop["pubkey"] for hop in hint] + [payee]
    if len(set(nodes)) < len(nodes):
        raise OnionTooLargeError("has a route hint that passes a node twice")


def _record_size(type_: int, length: int) -> int:
    return _bigsize(type_) + _bigsize(length) + length


def _bigsize(number: int) -> int:
    """Return the length of a number as BOLT1's BigSize."""
    if number < 0xFD:
        return 1
    if number <= 0xFFFF:
        return 3
    return 5 if number <= 0xFFFF_FFFF else 9
