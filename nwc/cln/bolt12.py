"""The creation time of a BOLT12 invoice; lightningd decodes the rest."""

from collections.abc import Iterator

from nwc.nostr import bech32

_PREFIX = "lni"
_CREATED_AT = 164  # invoice_created_at, a truncated 64-bit integer
_BIGSIZE_LENGTHS = {0xFD: 2, 0xFE: 4, 0xFF: 8}


def created_at(invoice: str) -> int:
    """Return the creation time of a BOLT12 invoice, in Unix seconds.

    Raises:
        ValueError: the text is not a BOLT12 invoice.

    """
    # Like bech32, but without a checksum (BOLT12, "Encoding").
    prefix, words = bech32.split(invoice)
    if prefix != _PREFIX:
        raise ValueError("not a BOLT12 invoice: another prefix")
    for type_, value in _tlv_stream(bech32.bytes_from_words(words)):
        if type_ == _CREATED_AT and len(value) <= 8:
            return int.from_bytes(value, "big")
    raise ValueError("not a BOLT12 invoice: no creation time")


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
