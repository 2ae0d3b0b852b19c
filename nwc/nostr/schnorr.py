"""Schnorr signatures (BIP-340) with a key pair that is kept.

The only module that uses the inside of coincurve. coincurve's own `sign_schnorr` makes the key pair of
libsecp256k1 again for each signature and verifies what it has signed, which is three quarters of the
time. requirements.txt pins coincurve for its own reasons, and a test compares the signatures with those
of `sign_schnorr`.
"""

import os
from typing import Any

from coincurve import GLOBAL_CONTEXT
from coincurve._libsecp256k1 import ffi, lib


class SigningKey:
    """A secret key in the form in which libsecp256k1 signs.

    Args:
        secret: 32 bytes.

    Raises:
        ValueError: If it is not a secret key.

    """

    __slots__ = ("_pair",)

    def __init__(self, secret: bytes) -> None:
        self._pair: Any = ffi.new("secp256k1_keypair *")
        if not lib.secp256k1_keypair_create(GLOBAL_CONTEXT.ctx, self._pair, secret):
            raise ValueError("not a secret key")

    def sign(self, digest: bytes) -> bytes:
        """Sign 32 bytes with fresh auxiliary randomness and return the signature of 64 bytes.

        BIP-340 recommends verifying a new signature, against faults of the hardware. This is not done
        here: relays and clients verify it, and the randomness keeps a faulty signature from revealing
        the key.

        Raises:
            ValueError: If `digest` does not have 32 bytes.
        """
        if len(digest) != 32:
            raise ValueError(f"a digest has 32 bytes, this one has {len(digest)}")
        signature = ffi.new("unsigned char[64]")
        randomness = os.urandom(32)
        if not lib.secp256k1_schnorrsig_sign32(
            GLOBAL_CONTEXT.ctx, signature, digest, self._pair, randomness
        ):
            raise ValueError("libsecp256k1 could not sign")
        return bytes(ffi.buffer(signature))
