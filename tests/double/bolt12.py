"""BOLT12 strings: just enough to make and read offers, invoices and payer proofs. Nothing is signed.

Fields have the names and values that lightningd's `decode` shows. Shares no code with `nwc/`.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pyln.proto.bech32 import CHARSET

from tests.double import bolt11
from tests.double.jsonio import Json

TYPES = {"lno": "offer", "lni": "invoice", "lnr": "invoice_request", "lnp": "payer_proof"}
CHAINS = {
    "bitcoin": "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000",
    "testnet": "43497fd7f826957108f4a30fd9cec3aeba79972084e90ead01ea330900000000",
    "signet": "f61eee3b63a380a477a063af32b2bbc97c9ff9f01f2c4225e973988108000000",
    "regtest": "06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f",
}
MIN_WORDS = 4  # of an empty TLV record
_OFFER_TYPES = (range(1, 80), range(1_000_000_000, 2_000_000_000))
_POINT = 33
_HASH = 32
_PAYINFO = ">IIHQQ"
_PAYINFO_FIELDS = (
    "fee_base_msat",
    "fee_proportional_millionths",
    "cltv_expiry_delta",
    "htlc_minimum_msat",
    "htlc_maximum_msat",
)


class Bolt12Error(ValueError):
    """A string is not BOLT12 that we can read; the message is lightningd's."""


class Kind(NamedTuple):
    """How a field is written and read."""

    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


class Reader:
    """Reads bytes from the front; raises IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def is_at_end(self) -> bool:
        """Return True if all is read."""
        return self._position == len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        end = self._position + size
        if end > len(self._data):
            raise IndexError(end)
        taken, self._position = self._data[self._position : end], end
        return taken

    def number(self, size: int) -> int:
        """Return the next integer of this size."""
        return int.from_bytes(self.take(size), "big")

    def big_size(self) -> int:
        """Return the next BigSize of BOLT1."""
        first = self.number(1)
        return self.number({0xFD: 2, 0xFE: 4, 0xFF: 8}[first]) if first >= 0xFD else first


def big_size(value: int) -> bytes:
    """Return a number as BigSize of BOLT1."""
    for limit, head, size in ((0xFD, b"", 1), (1 << 16, b"\xfd", 2), (1 << 32, b"\xfe", 4)):
        if value < limit:
            return head + value.to_bytes(size, "big")
    return b"\xff" + value.to_bytes(8, "big")


def _write_path(path: Json) -> bytes:
    hops = b"".join(
        bytes.fromhex(hop["blinded_node_id"])
        + struct.pack(">H", len(hop["encrypted_recipient_data"]) // 2)
        + bytes.fromhex(hop["encrypted_recipient_data"])
        for hop in path["path"]
    )
    start = bytes.fromhex(path["first_node_id"] + path["first_path_key"])
    return start + bytes([len(path["path"])]) + hops


def _read_path(reader: Reader) -> Json:
    start = {"first_node_id": reader.take(_POINT).hex(), "first_path_key": reader.take(_POINT).hex()}
    hops = [
        {
            "blinded_node_id": reader.take(_POINT).hex(),
            "encrypted_recipient_data": reader.take(reader.number(2)).hex(),
        }
        for _ in range(reader.number(1))
    ]
    return {**start, "path": hops}


def _write_payinfo(payinfo: Json) -> bytes:
    features = bytes.fromhex(payinfo["features"])
    numbers = struct.pack(_PAYINFO, *(payinfo[name] for name in _PAYINFO_FIELDS))
    return numbers + struct.pack(">H", len(features)) + features


def _read_payinfo(reader: Reader) -> Json:
    numbers = struct.unpack(_PAYINFO, reader.take(struct.calcsize(_PAYINFO)))
    features = reader.take(reader.number(2)).hex()
    return {**dict(zip(_PAYINFO_FIELDS, numbers, strict=True)), "features": features}


def _list(write: Callable[[Any], bytes], read: Callable[[Reader], Any]) -> Kind:
    def read_all(value: bytes) -> list[Any]:
        reader, found = Reader(value), []
        while not reader.is_at_end():
            found.append(read(reader))
        return found

    return Kind(lambda values: b"".join(map(write, values)), read_all)


# Truncated integers of BOLT1.
_INTEGER = Kind(lambda n: n.to_bytes(8, "big").lstrip(b"\0"), lambda value: int.from_bytes(value, "big"))
_TEXT = Kind(str.encode, bytes.decode)
_HEX = Kind(bytes.fromhex, bytes.hex)
_HASHES = _list(bytes.fromhex, lambda reader: reader.take(_HASH).hex())
_PATHS = _list(_write_path, _read_path)
_PERIOD = Kind(
    lambda r: bytes([r["time_unit"], r["period"]]),
    lambda value: {
        "compulsory_field": True,
        "time_unit": value[0],
        "time_unit_name": ("seconds", "days", "months")[value[0]],
        "period": value[1],
    },
)

FIELDS: dict[str, tuple[int, Kind]] = {
    "invreq_metadata": (0, _HEX),
    "offer_chains": (2, _HASHES),
    "offer_metadata": (4, _HEX),
    "offer_currency": (6, _TEXT),
    "offer_amount_msat": (8, _INTEGER),
    "offer_description": (10, _TEXT),
    "offer_absolute_expiry": (14, _INTEGER),
    "offer_paths": (16, _PATHS),
    "offer_issuer": (18, _TEXT),
    "offer_quantity_max": (20, _INTEGER),
    "offer_issuer_id": (22, _HEX),
    "invreq_chain": (80, _HEX),
    "invreq_amount_msat": (82, _INTEGER),
    "invreq_features": (84, _HEX),
    "invreq_quantity": (86, _INTEGER),
    "invreq_payer_id": (88, _HEX),
    "invreq_payer_note": (89, _TEXT),
    "invoice_paths": (160, _PATHS),
    "invoice_blindedpay": (162, _list(_write_payinfo, _read_payinfo)),
    "invoice_created_at": (164, _INTEGER),
    "invoice_relative_expiry": (166, _INTEGER),
    "invoice_payment_hash": (168, _HEX),
    "invoice_amount_msat": (170, _INTEGER),
    "invoice_features": (174, _HEX),
    "invoice_node_id": (176, _HEX),
    "signature": (240, _HEX),
    "proof_signature": (241, _HEX),
    "proof_preimage": (1001, _HEX),
    "proof_omitted_tlvs": (1002, _list(big_size, Reader.big_size)),
    "proof_missing_hashes": (1003, _HASHES),
    "proof_leaf_hashes": (1004, _HASHES),
    "offer_recurrence": (1_000_000_024, _PERIOD),
    # In no list of types: it makes a string longer.
    "padding": (3_000_000_001, _HEX),
}
_NAMES = {type_: name for name, (type_, _) in FIELDS.items()}


def encode(prefix: str, fields: Mapping[str, Json]) -> str:
    """Return a BOLT12 string with these fields; those that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    if "invoice_paths" in given:
        given["invoice_blindedpay"] = [path["payinfo"] for path in given["invoice_paths"]]
    records = sorted((FIELDS[n][0], FIELDS[n][1].write(value)) for n, value in given.items())
    return _string(prefix, records)


def with_record(string: str, type_: int, value: bytes) -> str:
    """Return a BOLT12 string, whatever its fields, in which this one has another value."""
    records = {**dict(_records(_stream(string))), type_: value}
    return _string(string[:3], sorted(records.items()))


def decode(string: str) -> dict[str, Json]:
    """Return the fields of a BOLT12 string, and `offer_id` if it has fields of an offer.

    Raises:
        Bolt12Error: it is malformed.

    """
    try:
        records = dict(_records(_stream(string)))
        fields = {n: FIELDS[n][1].read(v) for t, v in records.items() if (n := _NAMES.get(t))}
    except (IndexError, UnicodeDecodeError, struct.error) as error:
        raise Bolt12Error("invalid TLV stream") from error
    payinfos = fields.pop("invoice_blindedpay", [])
    for path, payinfo in zip(fields.get("invoice_paths", []), payinfos, strict=False):
        path["payinfo"] = payinfo
    if string.startswith("lnp"):
        return fields
    return {**fields, **_offer_id(records)}


def _string(prefix: str, records: Iterable[tuple[int, bytes]]) -> str:
    stream = b"".join(tlv_record(type_, value) for type_, value in records)
    return f"{prefix}1" + "".join(CHARSET[word] for word in bolt11.from_bytes(stream))


def _stream(string: str) -> bytes:
    words = string[4:]
    if string[3:4] != "1" or len(words) < MIN_WORDS or not set(words) <= set(CHARSET):
        raise Bolt12Error("invalid bech32 string")
    return bolt11.to_bytes([CHARSET.index(word) for word in words])


def _offer_id(records: Mapping[int, bytes]) -> dict[str, Json]:
    """Return the id of the offer; lightningd's is a Merkle root."""
    own = [tlv_record(t, v) for t, v in records.items() if any(t in types for types in _OFFER_TYPES)]
    return {"offer_id": hashlib.sha256(b"".join(own)).hexdigest()} if own else {}


def tlv_record(type_: int, value: bytes) -> bytes:
    """Return a record of a TLV stream (BOLT1)."""
    return big_size(type_) + big_size(len(value)) + value


def _records(stream: bytes) -> Iterator[tuple[int, bytes]]:
    reader = Reader(stream)
    while not reader.is_at_end():
        yield reader.big_size(), reader.take(reader.big_size())
