"""The `decode` command, after plugins/offers.c: BOLT11, and the BOLT12 fields that bulk.py writes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyln.proto.bech32 import CHARSET

from tests.double import bolt11, params
from tests.double.bolt11 import Bolt11, Bolt11Error
from tests.double.jsonio import Json
from tests.double.params import BadParam, Param

if TYPE_CHECKING:
    from tests.double.node import Node

BOLT12 = {"lno": "offer", "lni": "invoice", "lnr": "invoice_request"}
MIN_WORDS = 4  # of an empty TLV record
# For each TLV type of BOLT12: the field of `decode` and its type.
FIELDS = {
    8: ("offer_amount_msat", int),
    10: ("offer_description", str),
    164: ("invoice_created_at", int),
    166: ("invoice_relative_expiry", int),
    168: ("invoice_payment_hash", bytes),
    170: ("invoice_amount_msat", int),
}


def decode(node: "Node", string: str) -> Json:
    """Return the fields of an invoice of any network."""
    string = params.invstring("string", string)
    if string[:3] in BOLT12:
        return _bolt12(string)
    try:
        fields = _bolt11(bolt11.decode(string))
    except Bolt11Error as error:
        is_likely = string.startswith(("lnbc", "lntb"))
        raise BadParam("string", str(error) if is_likely else "Unparsable string", string) from error
    return {name: value for name, value in fields.items() if value is not None}


def _bolt11(content: Bolt11) -> Json:
    return {
        "type": "bolt11 invoice",
        "currency": content.currency,
        "created_at": content.created_at,
        "expiry": content.expiry,
        "payee": content.payee.hex(),
        "amount_msat": content.amount_msat,
        "description": content.description,
        "description_hash": content.description_hash and content.description_hash.hex(),
        "min_final_cltv_expiry": content.min_final_cltv_expiry,
        "payment_secret": content.payment_secret.hex(),
        "features": bolt11.print_features(content.features),
        "payment_hash": content.payment_hash.hex(),
        "signature": content.signature.hex(),
        "valid": True,
    }


def _bolt12(string: str) -> Json:
    words = string[4:]
    if string[3:4] != "1" or len(words) < MIN_WORDS or not set(words) <= set(CHARSET):
        raise BadParam("string", "invalid bech32 string", string)
    stream = bolt11.to_bytes([CHARSET.index(word) for word in words])
    try:
        records = dict(_records(stream))
        fields = {n: _read(records[t], kind) for t, (n, kind) in FIELDS.items() if t in records}
    except (IndexError, UnicodeDecodeError) as error:
        raise BadParam("string", "invalid TLV stream", string) from error
    return {"type": f"bolt12 {BOLT12[string[:3]]}", **fields, "valid": True}


def _read(value: bytes, kind: type) -> Json:
    if kind is int:
        return int.from_bytes(value, "big")
    return value.decode() if kind is str else value.hex()


def _records(stream: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(stream):
        kind, position = _big_size(stream, position)
        length, position = _big_size(stream, position)
        if position + length > len(stream):
            raise IndexError(position)
        yield kind, stream[position : position + length]
        position += length


def _big_size(stream: bytes, position: int) -> tuple[int, int]:
    first, position = stream[position], position + 1
    size = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(first, 0)
    if position + size > len(stream):
        raise IndexError(position)
    value = int.from_bytes(stream[position : position + size], "big") if size else first
    return value, position + size


COMMANDS = {"decode": (decode, Param("string", params.string))}
