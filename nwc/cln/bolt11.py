"""The plugin's part of BOLT11: read some fields, write an invoice for `createinvoice` to sign.

lightningd decodes route hints and signatures, and signs. A *word* has five bits (nwc/nostr/bech32.py).
"""

import hashlib
import re
from dataclasses import dataclass, replace

from nwc.nostr import bech32

DEFAULT_EXPIRY = 3600  # seconds, for an invoice without an x field
MAX_DESCRIPTION_LENGTH = 639  # bytes: 1,023 words, the most that data_length can say
# Some 18 million BTC: lightningd writes amounts in tenths of a msat, in 64 bits. A larger amount wraps
# around, and lightningd cannot read its own invoice.
MAX_AMOUNT_MSAT = (2**64 - 1) // 10
MAX_INVOICE_LENGTH = 16_384  # characters; BOLT11 has no limit, invoices have some hundred

_TIMESTAMP_LENGTH = 7  # words, 35 bits
_FIELD_HEADER_LENGTH = 3  # words: type, data_length (2)
_SIGNATURE_LENGTH = 104  # words, 520 bits
_HASH_LENGTH = 52  # words, 256 bits
_MAX_INTEGER_LENGTH = 12  # words; lightningd reads up to 64 bits

_AMOUNT = re.compile(
    r"(?P<prefix>ln(?:bcrt|bc|tbs|tb|sb))(?:(?P<digits>\d{1,20})(?P<multiplier>[munp]?))?"
)
_PICO_BITCOIN = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
_PICO_BITCOIN_PER_MSAT = 10


@dataclass(frozen=True, slots=True)
class TaggedField:
    """A tagged field of an invoice: its type (a bech32 letter) and its data words."""

    type: str
    words: bytes


@dataclass(frozen=True, slots=True)
class Bolt11:
    """The parts of an invoice (BOLT11 "Data Part"); the fields are not interpreted.

    Attributes:
        hrp: prefix, currency and amount, such as "lnbc20m".
        timestamp: words of the Unix time.
        fields: all tagged fields in their order, with unknown and repeated ones.
        signature: words of the signature, not verified.
    """

    hrp: str
    timestamp: bytes
    fields: tuple[TaggedField, ...]
    signature: bytes

    def find(self, letter: str, length: int | None = None) -> bytes | None:
        """Return the words of the first field of a type, None if there is none.

        Args:
            letter: the type.
            length: only a field with this many words counts; None for any.

        """
        for field in self.fields:
            if field.type == letter and length in (None, len(field.words)):
                return field.words
        return None

    def encode(self) -> str:
        """Return the invoice as text, with its checksum."""
        fields = b"".join(map(_field_words, self.fields))
        return bech32.encode(self.hrp, self.timestamp + fields + self.signature)


def timestamp(invoice: str) -> int:
    """Return the timestamp of an invoice in Unix seconds. It reads only these 35 bits, so it is fast.

    Raises:
        ValueError: the text cannot be an invoice.
    """
    hrp, words = _split(invoice)
    _check_shape(hrp, words)
    return bech32.int_from_words(words[:_TIMESTAMP_LENGTH])


def amount_msat(invoice: str) -> int | None:
    """Return the amount in msat, None if the payer chooses it (BOLT11, "Human-Readable Part").

    Raises:
        ValueError: the text is not an invoice.
    """
    hrp, words = _split(invoice)
    _check_shape(hrp, words)
    match = _matched(hrp)
    digits, multiplier = match["digits"], match["multiplier"]
    if digits is None:
        return None
    msat, rest = divmod(int(digits) * _PICO_BITCOIN[multiplier or ""], _PICO_BITCOIN_PER_MSAT)
    if rest:  # BOLT11: "the last decimal of `amount` MUST be `0`"
        raise ValueError("not a BOLT11 invoice: the amount has a fraction of a msat")
    return msat


def payment_hash(invoice: str) -> str:
    """Return the payment hash (field `p`), 64 hex digits.

    Raises:
        ValueError: the text is not an invoice or has no payment hash.
    """
    words = parse(invoice).find("p", _HASH_LENGTH)
    if words is None:
        raise ValueError("invoice has no payment hash")
    return bech32.bytes_from_words(words).hex()


def description_hash(invoice: str) -> str | None:
    """Return the description hash (field `h`), 64 hex digits, or None if there is none.

    Raises:
        ValueError: the text is not an invoice.
    """
    words = _parse_trusted(invoice).find("h", _HASH_LENGTH)
    return None if words is None else bech32.bytes_from_words(words).hex()


def description(invoice: str) -> str | None:
    """Return the description (field `d`), or None if there is none.

    Raises:
        ValueError: the text is not an invoice or the description not UTF-8.
    """
    words = _parse_trusted(invoice).find("d")
    return None if words is None else bech32.bytes_from_words(words).decode("utf-8")


def expiry(invoice: str) -> int:
    """Return how many seconds after its timestamp an invoice expires (field `x`).

    Raises:
        ValueError: the text is not an invoice or the number has more than 60 bits.
    """
    words = _parse_trusted(invoice).find("x")
    if words is None:
        return DEFAULT_EXPIRY
    if len(words) > _MAX_INTEGER_LENGTH:
        raise ValueError("the expiry of the invoice is too large a number")
    return bech32.int_from_words(words)


def payment_secret(preimage: bytes) -> bytes:
    """Return the payment secret that lightningd expects in payments of an invoice.

    lightningd does not read it from the invoice. It derives it from the preimage (lightningd/invoice.c,
    `invoice_secret`) and rejects payments with another secret.
    """
    return hashlib.sha256(bytes([preimage[0] ^ 1]) + preimage[1:]).digest()


def renewed(
    template: Bolt11, preimage: bytes, *, amount_msat: int, created_at: int, expiry: int
) -> Bolt11:
    """Return a new invoice for `createinvoice`, with the parts of a template that `with_terms` keeps.

    Args:
        template: an invoice that the node made.
        preimage: 32 bytes, for the new invoice only.
        amount_msat: 0 for any amount.
        created_at: Unix seconds.
        expiry: seconds after `created_at`.

    Raises:
        ValueError: the template is for an unknown chain.
    """
    return with_terms(
        template,
        payment_hash=hashlib.sha256(preimage).digest(),
        payment_secret=payment_secret(preimage),
        amount_msat=amount_msat,
        created_at=created_at,
        expiry=expiry,
    )


def with_terms(
    template: Bolt11,
    *,
    payment_hash: bytes,
    payment_secret: bytes,
    amount_msat: int,
    created_at: int,
    expiry: int,
) -> Bolt11:
    """Return a new unsigned invoice with the features, route hints and final CLTV of a template.

    Fallback addresses are left out: lightningd counts payments to them for the template.

    Args:
        template: an invoice that the node made.
        payment_hash, payment_secret: 32 bytes each.
        amount_msat: 0 for any amount.
        created_at: Unix seconds.
        expiry: seconds after `created_at`.

    Raises:
        ValueError: the template is for an unknown chain.
    """
    match = _matched(template.hrp)
    own = (
        TaggedField("s", bech32.words_from_bytes(payment_secret)),
        TaggedField("p", bech32.words_from_bytes(payment_hash)),
        TaggedField("x", _integer_words(expiry)),
    )
    kept = (field for field in template.fields if field.type not in "spxf")
    return Bolt11(
        hrp=match["prefix"] + (f"{amount_msat * _PICO_BITCOIN_PER_MSAT}p" if amount_msat else ""),
        timestamp=_integer_words(created_at).rjust(_TIMESTAMP_LENGTH, b"\0"),
        fields=(*own, *kept),
        signature=bytes(_SIGNATURE_LENGTH),
    )


def with_final_cltv(invoice: Bolt11, blocks: int) -> Bolt11:
    """Return an unsigned invoice with another final CLTV (field `c`, `min_final_cltv_expiry_delta`)."""
    kept = (field for field in invoice.fields if field.type != "c")
    fields = (*kept, TaggedField("c", _integer_words(blocks)))
    return replace(invoice, fields=fields, signature=bytes(_SIGNATURE_LENGTH))


def with_description(invoice: Bolt11, description: str) -> Bolt11:
    """Return an unsigned invoice with a description (field `d`), and without a description hash.

    Raises:
        ValueError: the description is too long or not Unicode.
    """
    fields = (*(f for f in invoice.fields if f.type not in "dh"), _description_field(description))
    return replace(invoice, fields=fields, signature=bytes(_SIGNATURE_LENGTH))


def _description_field(description: str) -> TaggedField:
    text = description.encode("utf-8")
    if len(text) > MAX_DESCRIPTION_LENGTH:
        raise ValueError(f"description has {len(text)} bytes, over {MAX_DESCRIPTION_LENGTH}")
    return TaggedField("d", bech32.words_from_bytes(text))


def with_description_hash(invoice: Bolt11, description_hash: bytes, description: str) -> Bolt11:
    """Return an invoice for `createinvoice` that commits to a description hash.

    lightningd's `createinvoice` decodes the string with `bolt11_decode_nosig`: the checksum must be
    right and the signature must have 104 words, but lightningd ignores them and signs the invoice
    itself. It needs a `d` field, which it stores as the invoice's description. When it encodes the
    invoice again, an `h` field replaces `d` (`bolt11_encode_`). So if both are in the string, the signed
    invoice commits to exactly `description_hash`.

    Args:
        invoice: everything but `d`, `h` and the signature is kept.
        description_hash: 32 bytes.
        description: for lightningd to store; at most 639 bytes of UTF-8.

    Returns:
        An invoice with a zeroed signature, so that nobody can pay it by mistake.

    Raises:
        ValueError: the hash does not have 32 bytes, or the description is too long or not Unicode.
    """
    if len(description_hash) != 32:
        raise ValueError(f"a description hash has 32 bytes, this has {len(description_hash)}")
    fields = (
        *(field for field in invoice.fields if field.type not in "dh"),
        _description_field(description),
        TaggedField("h", bech32.words_from_bytes(description_hash)),
    )
    return replace(invoice, fields=fields, signature=bytes(_SIGNATURE_LENGTH))


def parse(invoice: str) -> Bolt11:
    """Return the parts of an invoice. The checksum is verified, the signature is not.

    Raises:
        ValueError: the text is not an invoice.
    """
    return _parts_of(*bech32.decode(_bounded(invoice)))


def _parse_trusted(invoice: str) -> Bolt11:
    """Return the parts of an invoice that lightningd made, without the 0.3 ms for its checksum."""
    hrp, words = _split(invoice)
    return _parts_of(hrp, words[: -bech32.CHECKSUM_LENGTH])


def _split(invoice: str) -> tuple[str, bytes]:
    return bech32.split(_bounded(invoice))


def _parts_of(hrp: str, words: bytes) -> Bolt11:
    _check_shape(hrp, words)
    return Bolt11(
        hrp=hrp,
        timestamp=words[:_TIMESTAMP_LENGTH],
        fields=_parse_fields(words[_TIMESTAMP_LENGTH:-_SIGNATURE_LENGTH]),
        signature=words[-_SIGNATURE_LENGTH:],
    )


def _integer_words(number: int) -> bytes:
    """Return a number in words without leading zeros, as lightningd requires."""
    length = (number.bit_length() + 4) // 5
    return bytes(number >> 5 * place & 31 for place in reversed(range(length)))


def _bounded(invoice: str) -> str:
    if len(invoice) > MAX_INVOICE_LENGTH:
        raise ValueError(f"an invoice of {len(invoice)} characters is too long")
    return invoice


def _check_shape(hrp: str, words: bytes) -> None:
    """Raise ValueError for other bech32 strings, such as addresses.

    lightningd reads `ln+i1` as the BOLT12 prefix `lni1`. Its words can be those of a BOLT11 invoice too,
    and `decode` does not survive every BOLT12 invoice (nwc/README.md).
    """
    _matched(hrp)
    if len(words) < _TIMESTAMP_LENGTH + _SIGNATURE_LENGTH:
        raise ValueError("not a BOLT11 invoice: too short")


def _matched(hrp: str) -> re.Match[str]:
    """Return the currency and the amount of a human-readable part; raise ValueError if it has none."""
    match = _AMOUNT.fullmatch(hrp)
    if match is None:
        raise ValueError("not a BOLT11 invoice: bad currency or amount")
    return match


def _parse_fields(words: bytes) -> tuple[TaggedField, ...]:
    fields = []
    position = 0
    while position < len(words):
        start = position + _FIELD_HEADER_LENGTH
        end = start + bech32.int_from_words(words[position + 1 : start])
        if end > len(words):
            raise ValueError("a field of the invoice is cut off")
        fields.append(TaggedField(bech32.ALPHABET[words[position]], words[start:end]))
        position = end
    return tuple(fields)


def _field_words(field: TaggedField) -> bytes:
    header = (bech32.ALPHABET.index(field.type), *divmod(len(field.words), 32))
    return bytes(header) + field.words
