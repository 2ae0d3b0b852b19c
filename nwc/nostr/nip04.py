"""NIP-04: AES-256-CBC, for clients that do not support NIP-44. Pure functions, no relay.

The payload is not authenticated. Decrypt it only if the signature of its event was checked. Otherwise
our answers to altered payloads would reveal the plaintext (padding oracle).
"""

import os

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from nwc.nostr.encoding import DecryptionError, decode_base64, decode_text, encode_base64
from nwc.nostr.keys import KeyPair

MAX_PLAINTEXT_LENGTH = 65_535  # bytes, as in nip44; NIP-04 has no limit
MAX_PAYLOAD_LENGTH = 87_412  # characters, of the longest plaintext

_BLOCK_LENGTH = 16
_SEPARATOR = "?iv="
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def shared_key(keys: KeyPair, peer: str) -> bytes:
    """Return the 32-byte key shared with `peer` (64 hex digits), the same for both sides.

    Raises:
        ValueError: If `peer` is not on the curve.
    """
    return keys.shared_x(peer)


def encrypt(plaintext: str, key: bytes, iv: bytes | None = None) -> str:
    """Encrypt a message of up to 65,535 bytes of UTF-8.

    Args:
        plaintext: The message.
        key: From `shared_key`.
        iv: 16 bytes, only for tests. Random by default.

    Returns:
        "<ciphertext>?iv=<iv>", both in base64.

    Raises:
        ValueError: If the plaintext is too long or not Unicode (a lone surrogate), or the key or the
            iv has a wrong length.
    """
    data = plaintext.encode("utf-8")
    if len(data) > MAX_PLAINTEXT_LENGTH:
        raise ValueError(f"plaintext must have at most {MAX_PLAINTEXT_LENGTH} bytes")
    if iv is None:
        iv = os.urandom(_BLOCK_LENGTH)
    padder = PKCS7(_BLOCK_LENGTH * 8).padder()
    padded = padder.update(data) + padder.finalize()
    ciphertext = Cipher(AES256(key), CBC(iv)).encryptor().update(padded)
    return f"{encode_base64(ciphertext)}{_SEPARATOR}{encode_base64(iv)}"


def decrypt(payload: str, key: bytes) -> str:
    """Decrypt a payload from a verified event.

    Some clients write base64 without padding, in the URL-safe alphabet or with line breaks. These
    spellings are unambiguous, so all are accepted.

    Raises:
        DecryptionError: If it is malformed, too long or (most probably) encrypted with another key.
        ValueError: If the key has a wrong length.
    """
    ciphertext, iv = _split_payload(payload)
    padded = Cipher(AES256(key), CBC(iv)).decryptor().update(ciphertext)
    return decode_text(_unpad(padded))


def _split_payload(payload: str) -> tuple[bytes, bytes]:
    """Return the ciphertext (one or more blocks) and the IV (one block)."""
    payload = "".join(payload.split())
    if len(payload) > MAX_PAYLOAD_LENGTH:
        raise DecryptionError(f"payload of {len(payload)} characters is too long")
    ciphertext_text, separator, iv_text = payload.partition(_SEPARATOR)
    if not separator:
        raise DecryptionError(f"payload has no {_SEPARATOR}")
    ciphertext, iv = _decode_any_base64(ciphertext_text), _decode_any_base64(iv_text)
    if len(iv) != _BLOCK_LENGTH or not ciphertext or len(ciphertext) % _BLOCK_LENGTH:
        raise DecryptionError("ciphertext must be whole blocks of AES, and iv one block")
    return ciphertext, iv


def _decode_any_base64(text: str) -> bytes:
    """Decode base64 in either alphabet, with or without padding (RFC 4648 sections 3.2, 4 and 5)."""
    bare = text.translate(_STANDARD_ALPHABET).rstrip("=")
    padding = "=" * (-len(bare) % 4)
    if len(text) not in (len(bare), len(bare) + len(padding)):
        raise DecryptionError("payload is not base64: wrong padding")
    return decode_base64(bare + padding)


def _unpad(padded: bytes) -> bytes:
    unpadder = PKCS7(_BLOCK_LENGTH * 8).unpadder()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise DecryptionError("wrong padding: changed, or encrypted with another key") from error
