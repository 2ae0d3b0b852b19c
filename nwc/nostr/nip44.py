"""NIP-44 version 2: ChaCha20, HMAC-SHA256 and padding. Pure functions; keys are arguments.

Messages have at most 65,535 bytes: the extended length prefix of NIP-44 (up to 4 GB) is refused in both
directions. NIP-44 requires checking the event's signature before decrypting its payload; the caller
does that.
"""

import hmac
import os

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from nwc.nostr.encoding import DecryptionError, decode_base64, decode_text, encode_base64
from nwc.nostr.keys import KeyPair

MAX_PLAINTEXT_LENGTH = 65_535  # bytes
MIN_PAYLOAD_LENGTH = 132  # characters
MAX_PAYLOAD_LENGTH = 87_472  # characters, of the longest plaintext

_VERSION = 2
_KEY_LENGTH = 32
_NONCE_LENGTH = 32
_MAC_LENGTH = 32
_MESSAGE_KEYS_LENGTH = 76
_SHA256 = SHA256()
_CHACHA_COUNTER = bytes(4)  # starts at 0; `cryptography` expects it before the nonce


def conversation_key(keys: KeyPair, peer: str) -> bytes:
    """Return the 32-byte key of a conversation, the same for both sides. Keep it: this is expensive.

    Args:
        keys: Our keys.
        peer: The other side's public key, 64 hex digits.

    Raises:
        ValueError: If `peer` is not on the curve.
    """
    return _hmac(b"nip44-v2", keys.shared_x(peer))  # HKDF-extract


def encrypt(plaintext: str, conversation_key: bytes, nonce: bytes | None = None) -> str:
    """Encrypt a message.

    Args:
        plaintext: 1 to 65,535 bytes of UTF-8.
        conversation_key: From `conversation_key`.
        nonce: 32 bytes, only for test vectors. Never use one twice. Random by default.

    Returns:
        The payload in base64.

    Raises:
        ValueError: If the plaintext is empty, too long or not Unicode (a lone surrogate), or the
            key or the nonce has a wrong length.
    """
    if nonce is None:
        nonce = os.urandom(_NONCE_LENGTH)
    padded = _pad(plaintext.encode("utf-8"))
    chacha_key, chacha_nonce, mac_key = _message_keys(conversation_key, nonce)
    ciphertext = _chacha20(chacha_key, chacha_nonce, padded)
    mac = _hmac(mac_key, nonce + ciphertext)
    return encode_base64(bytes([_VERSION]) + nonce + ciphertext + mac)


def decrypt(payload: str, conversation_key: bytes) -> str:
    """Decrypt a payload from a verified event.

    Raises:
        DecryptionError: If it is malformed, too long, of another version or encrypted with another key.
        ValueError: If the key has a wrong length.
    """
    nonce, ciphertext, mac = _split_payload(payload)
    chacha_key, chacha_nonce, mac_key = _message_keys(conversation_key, nonce)
    if not hmac.compare_digest(mac, _hmac(mac_key, nonce + ciphertext)):
        raise DecryptionError("wrong MAC: changed on the way, or encrypted with another key")
    return decode_text(_unpad(_chacha20(chacha_key, chacha_nonce, ciphertext)))


def padded_length(length: int) -> int:
    """Return the padded length, without the prefix, of a plaintext of `length` ≥ 1 bytes (NIP-44)."""
    if length <= 32:
        return 32
    next_power = 1 << (length - 1).bit_length()
    chunk = max(32, next_power // 8)
    return chunk * ((length - 1) // chunk + 1)


def _pad(plaintext: bytes) -> bytes:
    length = len(plaintext)
    if not 1 <= length <= MAX_PLAINTEXT_LENGTH:
        raise ValueError(f"plaintext must have 1 to {MAX_PLAINTEXT_LENGTH} bytes, has {length}")
    return length.to_bytes(2, "big") + plaintext + bytes(padded_length(length) - length)


def _unpad(padded: bytes) -> bytes:
    length = int.from_bytes(padded[:2], "big")
    # A length of 0 marks the extended prefix, for messages over our maximum.
    if length == 0 or len(padded) != 2 + padded_length(length):
        raise DecryptionError("wrong padding")
    return padded[2 : 2 + length]


def _split_payload(payload: str) -> tuple[bytes, bytes, bytes]:
    """Return the nonce, ciphertext and MAC of a payload (NIP-44, `decode_payload`)."""
    if payload.startswith("#"):
        raise DecryptionError("unknown NIP-44 version (not base64)")
    if not MIN_PAYLOAD_LENGTH <= len(payload) <= MAX_PAYLOAD_LENGTH:
        raise DecryptionError(f"payload of {len(payload)} characters is too short or too long")
    data = decode_base64(payload)
    if data[0] != _VERSION:
        raise DecryptionError(f"unknown NIP-44 version {data[0]}")
    # 132 characters are 97 or more bytes. `_unpad` refuses a ciphertext that is too short.
    return data[1 : 1 + _NONCE_LENGTH], data[1 + _NONCE_LENGTH : -_MAC_LENGTH], data[-_MAC_LENGTH:]


def _message_keys(conversation_key: bytes, nonce: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the ChaCha20 key (32 bytes), ChaCha20 nonce (12) and MAC key (32) of one message."""
    if len(conversation_key) != _KEY_LENGTH or len(nonce) != _NONCE_LENGTH:
        raise ValueError("conversation key and nonce must have 32 bytes each")
    keys = HKDFExpand(_SHA256, _MESSAGE_KEYS_LENGTH, nonce).derive(conversation_key)
    return keys[:32], keys[32:44], keys[44:]


def _chacha20(key: bytes, nonce: bytes, data: bytes) -> bytes:
    return Cipher(ChaCha20(key, _CHACHA_COUNTER + nonce), mode=None).encryptor().update(data)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
