"""An answer to an HTLC that lightningd since v26.06 takes for the error of a hop behind the payee.

It reads an error with 27 keys: those of the hops, and then always the same one for each hop that is
missing (common/sphinx.c, `unwrap_onionreply`). Whoever knows that can write an error for such a hop.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

_MISSING_HOP_SECRET = bytes([7] * 32)
# BOLT4, "Returning Errors": the message and its padding.
_PADDED_LENGTH = 256


def error_of_a_missing_hop(message: bytes) -> bytes:
    """Return a failure onion for the hook `htlc_accepted`.

    Args:
        message: the failure message of BOLT4, with its code.

    """
    padding = bytes(_PADDED_LENGTH - len(message))
    content = _with_length(message) + _with_length(padding)
    packet = hmac.digest(_key(b"um"), content, hashlib.sha256) + content
    return Cipher(ChaCha20(_key(b"ammag"), bytes(16)), None).encryptor().update(packet)


def _with_length(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _key(kind: bytes) -> bytes:
    return hmac.digest(kind, _MISSING_HOP_SECRET, hashlib.sha256)
