"""The plugin's part of BOLT12 invoices: it reads some fields. lightningd decodes and checks the rest."""

from collections.abc import Iterator
from dataclasses import dataclass

from nwc.nostr import bech32

DEFAULT_EXPIRY = 7200  # seconds, for an invoice without invoice_relative_expiry

_HRP = "lni"
PREFIX = f"{_HRP}1"
# BOLT12, "Invoices": the types of the fields.
_DESCRIPTION = 10  # offer_description
_CREATED_AT = 164  # invoice_created_at, a truncated 64-bit integer
_RELATIVE_EXPIRY = 166  # invoice_relative_expiry, a truncated 32-bit integer
_PAYMENT_HASH = 168  # invoice_payment_hash
_AMOUNT = 170  # invoice_amount, a truncated 64-bit integer
_BIGSIZE_LENGTHS = {0xFD: 2, 0xFE: 4, 0xFF: 8}


@dataclass(frozen=True, slots=True)
class Summary:
    """What the plugin shows of a BOLT12 invoice.

    Attributes:
        description: of the offer, None if it has none or it is not UTF-8.
        amount_msat: None only if it is damaged.
        expires_at: Unix seconds.
        payment_hash: 64 hex digits.

    """

    description: str | None
    amount_msat: int | None
    expires_at: int
    payment_hash: str


def summary(invoice: str) -> Summary:
    """Return what the plugin shows of a BOLT12 invoice.

    Raises:
        ValueError: the text is not a BOLT12 invoice.

    """
    fields = _fields(invoice)
    payment_hash = fields.get(_PAYMENT_HASH, b"")
    if len(payment_hash) != 32:
        raise ValueError("not a BOLT12 invoice: no payment hash")
    expiry_s = _integer(fields, _RELATIVE_EXPIRY, 4)
    return Summary(
        _text(fields.get(_DESCRIPTION)),
        _integer(fields, _AMOUNT, 8),
        _created_at(fields) + (DEFAULT_EXPIRY if expiry_s is None else expiry_s),
        payment_hash.hex(),
    )


def created_at(invoice: str) -> int:
    """Return the creation time of a BOLT12 invoice, in Unix seconds.

    Raises:
        ValueError: the text is not a BOLT12 invoice.

    """
    return _created_at(_fields(invoice))


def _fields(invoice: str) -> dict[int, bytes]:
    # Like bech32, but without a checksum (BOLT12, "Encoding").
    hrp, words = bech32.split(invoice)
    if hrp != _HRP:
        raise ValueError("not a BOLT12 invoice: another prefix")
    return dict(_tlv_stream(bech32.bytes_from_words(words)))


def _created_at(fields: dict[int, bytes]) -> int:
    found = _integer(fields, _CREATED_AT, 8)
    if found is None:
        raise ValueError("not a BOLT12 invoice: no creation time")
    return found


def _integer(fields: dict[int, bytes], type_: int, size: int) -> int | None:
    value = fields.get(type_)
    return None if value is None or len(value) > size else int.from_bytes(value, "big")


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _tlv_stream(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield types and values (BOLT1, "Type-Length-Value Format")."""
    position = 0
    while position < len(data):
        type_, position = _bigsize(data, position)
        length, position = _bigsize(data, position)
        if position + length > len(data):
            raise ValueError("not a BOLT12 invoice: it ends within a field")
        yield type_, data[position : position + length]
        position += length


def _bigsize(data: bytes, position: int) -> tuple[int, int]:
    """Return a number and the position after it (BOLT1, "BigSize")."""
    if position >= len(data):
        raise ValueError("not a BOLT12 invoice: it ends within a field")
    first = data[position]
    if first not in _BIGSIZE_LENGTHS:
        return first, position + 1
    end = position + 1 + _BIGSIZE_LENGTHS[first]
    return int.from_bytes(data[position + 1 : end], "big"), end
