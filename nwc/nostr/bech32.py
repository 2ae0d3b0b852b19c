"""Bech32 (BIP-173) without its limit of 90 characters, for NIP-19 keys and BOLT11 invoices.

A *word* is five bits, a number from 0 to 31. Words are passed as `bytes`, one word in each byte. Error
texts never quote the input: it can be a mistyped secret key.
"""

import base64

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

CHECKSUM_LENGTH = 6
_NOT_A_WORD = 0xFF
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # RFC 4648 section 6
_INT_DIGITS = b"0123456789abcdefghijklmnopqrstuv"  # what int(…, 32) reads


def _table(source: bytes, target: bytes) -> bytes:
    """Return a table for `bytes.translate` from `source` to `target`; all other bytes become 0xFF."""
    table = bytearray([_NOT_A_WORD] * 256)
    for old, new in zip(source, target, strict=True):
        table[old] = new
    return bytes(table)


def _feedback(top: int) -> int:
    """Return the XOR of the generator terms for the five bits shifted out of the checksum (BIP-173)."""
    value = 0
    for bit, term in enumerate(_GENERATOR):
        if top >> bit & 1:
            value ^= term
    return value


_WORDS = bytes(range(32))
_WORD_OF_CHARACTER = _table(ALPHABET.encode(), _WORDS)
_CHARACTER_OF_WORD = _table(_WORDS, ALPHABET.encode())
_WORD_OF_BASE32 = _table(_BASE32, _WORDS)
_INT_DIGIT_OF_WORD = _table(_WORDS, _INT_DIGITS)
_FEEDBACK = tuple(_feedback(top) for top in range(32))


def _polymod(words: bytes) -> int:
    checksum = 1
    for word in words:
        checksum = (checksum & 0x1FFFFFF) << 5 ^ word ^ _FEEDBACK[checksum >> 25]
    return checksum


def _expand(hrp: str) -> bytes:
    """Return the human-readable part as words for the checksum."""
    codes = hrp.encode("ascii")
    return bytes([*(code >> 5 for code in codes), 0, *(code & 31 for code in codes)])


def split(text: str) -> tuple[str, bytes]:
    """Split a bech32 string at its separator, without verifying the checksum.

    Returns:
        The human-readable part in lower case, and the words of the data part. The last six words are
        the checksum.

    Raises:
        ValueError: If the text is not bech32.
    """
    if not text.isascii():
        raise ValueError("bech32 has only ASCII characters")
    lowered = text.lower()
    if text != lowered and text != text.upper():
        raise ValueError("bech32 must be all lower case or all upper case")
    hrp, _, data = lowered.rpartition("1")
    if not hrp or len(data) < CHECKSUM_LENGTH:
        raise ValueError("not bech32: no prefix, no '1' after the prefix, or too short")
    words = data.encode("ascii").translate(_WORD_OF_CHARACTER)
    if _NOT_A_WORD in words:
        raise ValueError("a character after the last '1' is not in the bech32 alphabet")
    return hrp, words


def decode(text: str) -> tuple[str, bytes]:
    """Return the human-readable part (lower case) and the words without the checksum.

    Raises:
        ValueError: If the text is not bech32 or the checksum is wrong.
    """
    hrp, words = split(text)
    if _polymod(_expand(hrp) + words) != 1:
        raise ValueError("wrong bech32 checksum: a character is mistyped or missing")
    return hrp, words[:-CHECKSUM_LENGTH]


def encode(hrp: str, words: bytes) -> str:
    """Return the bech32 string of a lower-case human-readable part and words, with checksum."""
    remainder = _polymod(_expand(hrp) + words + bytes(CHECKSUM_LENGTH)) ^ 1
    checksum = bytes(remainder >> shift & 31 for shift in range(25, -1, -5))
    return f"{hrp}1{(words + checksum).translate(_CHARACTER_OF_WORD).decode('ascii')}"


def words_from_bytes(data: bytes) -> bytes:
    """Convert bytes to words; the last word is filled up with zero bits."""
    # Base32 (RFC 4648) converts in the same way and only has another alphabet.
    return base64.b32encode(data).rstrip(b"=").translate(_WORD_OF_BASE32)


def int_from_words(words: bytes) -> int:
    """Return the words as one big-endian number, 0 if there are none."""
    return int(words.translate(_INT_DIGIT_OF_WORD) or b"0", 32)


def bytes_from_words(words: bytes) -> bytes:
    """Convert words to bytes.

    Raises:
        ValueError: If five or more bits are left over, or one of these is not zero (BIP-173).
    """
    length, spare = divmod(len(words) * 5, 8)
    number = int_from_words(words)
    if spare >= 5 or number & ((1 << spare) - 1):
        raise ValueError("stray bits at the end of bech32 data")
    return (number >> spare).to_bytes(length, "big")
