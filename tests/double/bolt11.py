"""BOLT11 invoices: just enough to make, sign and read them. Shares no code with `nwc/`."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from coincurve import PrivateKey, PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_recoverable, recoverable_convert
from pyln.proto.bech32 import CHARSET, bech32_decode, bech32_encode

CURRENCIES = {"bitcoin": "bc", "testnet": "tb", "signet": "tbs", "regtest": "bcrt"}
NETWORKS = {currency: network for network, currency in CURRENCIES.items()}
# Picobitcoin (a tenth of a millisatoshi) of every multiplier, largest first.
MULTIPLIERS = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
SIGNATURE_LENGTH = 104
DEFAULT_EXPIRY = 3600
# Even bits are compulsory. lightningd knows the lowest 64 bits as compulsory or optional.
COMPULSORY = int("01" * 512, 2)
KNOWN_FEATURES = (1 << 64) - 1
MAX_GROUPS = 64 // 5  # groups of five bits in a number
Field = tuple[str, tuple[int, ...]]


class Bolt11Error(ValueError):
    """A string is not an invoice that we can read; the message is lightningd's."""


@dataclass(frozen=True)
class Bolt11:
    """The content of an invoice."""

    currency: str
    created_at: int
    payment_hash: bytes
    payment_secret: bytes
    amount_msat: int | None = None
    description: str | None = None
    description_hash: bytes | None = None
    expiry: int = DEFAULT_EXPIRY
    min_final_cltv_expiry: int = 18
    features: int = 0
    others: tuple[Field, ...] = ()
    payee: bytes = b""
    signature: bytes = b""


def encode(invoice: Bolt11, key: bytes) -> str:
    """Return a signed invoice. If it has a description hash, it omits the description."""
    hrp = f"ln{invoice.currency}{_print_amount(invoice.amount_msat)}"
    data = _from_int(invoice.created_at, 7)
    for tag, value in _fields(invoice):
        data += [CHARSET.index(tag), len(value) // 32, len(value) % 32, *value]
    signature = PrivateKey(key).sign_recoverable(hrp.encode() + _padded(data))
    return str(bech32_encode(hrp, bytes(data + from_bytes(signature))))


def decode(invstring: str, check_signature: bool = True, currency: str = "") -> Bolt11:
    """Return the content of an invoice.

    Raises:
        Bolt11Error: it is malformed, or not of the given currency.

    """
    try:
        hrp, data = bech32_decode(invstring)
    except ValueError as error:
        raise Bolt11Error("Bad bech32 string") from error
    if len(data) < SIGNATURE_LENGTH + 7:
        raise Bolt11Error("Bad bech32 string")
    if not hrp.startswith("ln"):
        raise Bolt11Error(f"Prefix '{hrp}' does not start with ln")
    body, signature = list(data[:-SIGNATURE_LENGTH]), to_bytes(data[-SIGNATURE_LENGTH:])
    amount = hrp.lstrip("lnbcrts")
    invoice = replace(
        _from_fields(_split_fields(body[7:])),
        currency=hrp[2 : len(hrp) - len(amount)],
        created_at=_to_int(body[:7]),
        amount_msat=_parse_amount(amount),
    )
    if currency and invoice.currency != currency:
        raise Bolt11Error(f"Prefix {invoice.currency} is not for {NETWORKS[currency]}")
    if invoice.currency not in NETWORKS:
        raise Bolt11Error(f"Unknown chain {invoice.currency}")
    if not check_signature:
        return invoice
    try:
        message = hrp.encode() + _padded(body)
        payee = PublicKey.from_signature_and_message(signature, message).format()
    except Exception as error:  # coincurve raises bare exceptions
        raise Bolt11Error("signature recovery failed") from error
    der = cdata_to_der(recoverable_convert(deserialize_recoverable(signature)))
    return replace(invoice, payee=payee, signature=der)


def _fields(invoice: Bolt11) -> Iterable[Field]:
    yield "s", tuple(from_bytes(invoice.payment_secret))
    yield "p", tuple(from_bytes(invoice.payment_hash))
    if invoice.description_hash is not None:
        yield "h", tuple(from_bytes(invoice.description_hash))
    else:
        yield "d", tuple(from_bytes((invoice.description or "").encode()))
    if invoice.expiry != DEFAULT_EXPIRY:
        yield "x", tuple(_from_int(invoice.expiry))
    yield "c", tuple(_from_int(invoice.min_final_cltv_expiry))
    if invoice.features:
        yield "9", tuple(_from_int(invoice.features))
    yield from invoice.others


def _split_fields(data: Sequence[int]) -> Iterable[Field]:
    position = 0
    while position < len(data):
        if position + 3 > len(data):
            raise Bolt11Error("Can't get length: truncated")
        tag = CHARSET[data[position]]
        end = position + 3 + data[position + 1] * 32 + data[position + 2]
        if end > len(data):
            raise Bolt11Error(f"{tag}: truncated")
        yield tag, tuple(data[position + 3 : end])
        position = end


def _from_fields(fields: Iterable[Field]) -> Bolt11:
    known: dict[str, tuple[int, ...]] = {}
    others: list[Field] = []
    for tag, value in fields:
        is_readable = (tag in "sph" and len(value) == 52) or tag in "dxc9"
        if is_readable and tag not in known:
            known[tag] = value
        elif tag != "n":
            others.append((tag, value))
    if any(len(known.get(tag, ())) > MAX_GROUPS for tag in "xc"):
        raise Bolt11Error("x: integer too large")
    features = _to_int(known.get("9", ()))
    if unknown := features & COMPULSORY & ~KNOWN_FEATURES:
        raise Bolt11Error(f"9: unknown feature bit {unknown.bit_length() - 1}")
    if "p" not in known:
        raise Bolt11Error("No valid 'p' field found")
    if "s" not in known:
        raise Bolt11Error("Missing required payment secret (s field)")
    if "d" not in known and "h" not in known:
        raise Bolt11Error("must have either 'd' or 'h' field")
    return Bolt11(
        currency="",
        created_at=0,
        payment_hash=to_bytes(known["p"]),
        payment_secret=to_bytes(known["s"]),
        description=_description(known["d"]) if "d" in known else None,
        description_hash=to_bytes(known["h"]) if "h" in known else None,
        expiry=_to_int(known["x"]) if "x" in known else DEFAULT_EXPIRY,
        min_final_cltv_expiry=_to_int(known["c"]) if "c" in known else 18,
        features=features,
        others=tuple(others),
    )


def _description(value: Sequence[int]) -> str:
    try:
        return to_bytes(value).decode()
    except UnicodeDecodeError as error:
        raise Bolt11Error("d: invalid utf8") from error


def _print_amount(msat: int | None) -> str:
    if msat is None:
        return ""
    letter = next(m for m, size in MULTIPLIERS.items() if msat * 10 % size == 0)
    return f"{msat * 10 // MULTIPLIERS[letter]}{letter}"


def _parse_amount(amount: str) -> int | None:
    if not amount:
        return None
    letter = amount[-1] if not amount[-1].isdigit() else ""
    digits = amount.removesuffix(letter)
    if letter not in MULTIPLIERS or not digits.isdecimal():
        raise Bolt11Error(f"Invalid amount postfix '{letter}'")
    pico = int(digits) * MULTIPLIERS[letter]
    if pico % 10:
        raise Bolt11Error(f"Invalid sub-millisatoshi amount '{digits}p'")
    return pico // 10


def print_features(features: int) -> str:
    """Return feature bits in hex, as lightningd prints them: whole bytes of the groups of five bits."""
    groups = -(-features.bit_length() // 5)
    return features.to_bytes(-(-groups * 5 // 8), "big").hex()


def invoice_secret(preimage: bytes) -> bytes:
    """Return the payment secret, derived as lightningd does."""
    return hashlib.sha256(bytes([preimage[0] ^ 1]) + preimage[1:]).digest()


def _from_int(value: int, length: int = 0) -> list[int]:
    """Return a number as groups of five bits, at least one of them."""
    length = length or max(1, -(-value.bit_length() // 5))
    return [value >> 5 * i & 31 for i in reversed(range(length))]


def _to_int(groups: Sequence[int]) -> int:
    value = 0
    for group in groups:
        value = value << 5 | group
    return value


def from_bytes(data: bytes) -> list[int]:
    """Return bytes as groups of five bits, the last one filled with zeros."""
    length = -(-len(data) * 8 // 5)
    value = int.from_bytes(data, "big") << length * 5 - len(data) * 8
    return _from_int(value, length) if length else []


def to_bytes(groups: Sequence[int]) -> bytes:
    """Return the bytes of groups of five bits, without the bits that do not fill a byte."""
    size = len(groups) * 5 // 8
    return (_to_int(groups) >> len(groups) * 5 - size * 8).to_bytes(size, "big")


def _padded(groups: Sequence[int]) -> bytes:
    """Return the bytes of groups of five bits, the last one filled with zeros, for the signature."""
    size = -(-len(groups) * 5 // 8)
    return (_to_int(groups) << size * 8 - len(groups) * 5).to_bytes(size, "big")
