"""secp256k1 keys as Nostr uses them: x-only public keys, Schnorr signatures (BIP-340), ECDH.

Inside the code a public key is a `str` of 64 lower-case hex digits, as in events; what a person
types goes through `parse_public_key` once. No message here quotes a key that came in: people
mistake secret keys for public ones.
"""

import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

from coincurve import GLOBAL_CONTEXT, PrivateKey, PublicKey, PublicKeyXOnly

# What coincurve itself is made of. Its `sign_schnorr` makes the key pair of libsecp256k1 anew for each
# signature and verifies what it has signed, which is three quarters of the time. requirements.txt pins
# coincurve for its own reasons, and a test compares the signatures with those of `sign_schnorr`.
from coincurve._libsecp256k1 import ffi, lib

from nwc.nostr import bech32

_ALLOWED = "a public key is 64 hex digits or npub1…"
_HEX_KEY = re.compile(r"[0-9A-Fa-f]{64}")
_NOT_ON_CURVE = "not a public key: no point of secp256k1 has this x coordinate"


def parse_public_key(text: str) -> str:
    """Read a public key that a person typed or pasted.

    Args:
        text: 64 hex digits in any case, or npub1… (NIP-19).

    Returns:
        64 lower-case hex digits that are the x coordinate of a point on the curve.

    Raises:
        ValueError: Saying what is wrong and what is allowed.
    """
    lowered = text.lower()
    if lowered.startswith("nsec1"):
        raise ValueError(f"this is a secret key (nsec1…), keep it to yourself; {_ALLOWED}")
    if lowered.startswith("npub1"):
        public_key = _decode_npub(text)
    elif _HEX_KEY.fullmatch(text):
        public_key = lowered
    else:
        raise ValueError(f"{_ALLOWED}; this is neither ({len(text)} characters)")
    _parse_x_only(public_key)
    return public_key


def verify_signature(public_key: str, digest: bytes, signature: str) -> bool:
    """Say whether a Schnorr signature is right (BIP-340).

    Args:
        public_key: 64 hex digits.
        digest: The 32 bytes that were signed.
        signature: 128 hex digits.

    Returns:
        False also for a malformed signature or a public key that is not on the curve.
    """
    try:
        key = _parse_x_only(public_key)
        raw_signature = bytes.fromhex(signature)
    except ValueError:
        return False
    return len(raw_signature) == 64 and key.verify(raw_signature, digest)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A secret key and its public key; equal when the public keys are, and `repr` shows only that.

    Attributes:
        public_key: The x coordinate, 64 lower-case hex digits (BIP-340).
    """

    public_key: str = field(init=False)
    _private: PrivateKey = field(repr=False, compare=False)
    _signing: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        public_key = self._private.public_key_xonly.format().hex()
        object.__setattr__(self, "public_key", public_key)
        object.__setattr__(self, "_signing", _signing_pair(self._private.secret))

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the operating system's randomness."""
        return cls(PrivateKey())

    @classmethod
    def from_secret(cls, secret: bytes) -> Self:
        """Make the pair of a known secret.

        Raises:
            ValueError: If it is not 32 bytes, or as a number not from 1 to n - 1 (n: group order).
        """
        # coincurve would pad a shorter secret instead of refusing it.
        if len(secret) != 32:
            raise ValueError(f"a secret key is 32 bytes, this has {len(secret)}")
        return cls(PrivateKey(secret))

    def secret_hex(self) -> str:
        """Return the secret key, 64 hex digits. Never log it."""
        return self._private.secret.hex()

    def sign(self, digest: bytes) -> bytes:
        """Sign 32 bytes with fresh auxiliary randomness; the signature has 64 bytes (BIP-340).

        It is not verified here, which BIP-340 recommends against faults of the hardware: relays and
        clients verify it, and the randomness keeps a faulty one from giving the key away.

        Raises:
            ValueError: If `digest` does not have 32 bytes.
        """
        if len(digest) != 32:
            raise ValueError(f"what is signed has 32 bytes, this has {len(digest)}")
        signature = ffi.new("unsigned char[64]")
        randomness = os.urandom(32)
        if not lib.secp256k1_schnorrsig_sign32(
            GLOBAL_CONTEXT.ctx, signature, digest, self._signing, randomness
        ):
            raise ValueError("libsecp256k1 could not sign")
        return bytes(ffi.buffer(signature))

    def shared_x(self, peer_public_key: str) -> bytes:
        """Return the x coordinate of the ECDH point, 32 bytes, not hashed (NIP-04, NIP-44).

        Callers keep what they derive from it. The multiplication is not constant-time (coincurve's
        constant-time `ecdh` gives a hash only), so it should not run for everyone who asks.

        Args:
            peer_public_key: 64 hex digits; the point with the even y coordinate is meant.

        Raises:
            ValueError: If the peer's key is not on the curve.
        """
        try:
            point = PublicKey(b"\x02" + _key_bytes(peer_public_key))
        except ValueError as error:
            raise ValueError(_NOT_ON_CURVE) from error
        shared: bytes = point.multiply(self._private.secret).format()
        return shared[1:]


def _signing_pair(secret: bytes) -> Any:
    """Return a secret key as libsecp256k1 signs with it."""
    pair = ffi.new("secp256k1_keypair *")
    if not lib.secp256k1_keypair_create(GLOBAL_CONTEXT.ctx, pair, secret):
        raise ValueError("not a secret key")
    return pair


def _decode_npub(text: str) -> str:
    """Return the hex digits of a NIP-19 npub, not checked to be on the curve."""
    try:
        _, words = bech32.decode(text)
        key = bech32.bytes_from_words(words)
    except ValueError as error:
        raise ValueError(f"{_ALLOWED}; this npub is damaged: {error}") from error
    if len(key) != 32:
        raise ValueError(f"{_ALLOWED}; this npub holds {len(key)} bytes instead of 32")
    return key.hex()


def _key_bytes(public_key: str) -> bytes:
    """Return the 32 bytes of 64 hex digits."""
    raw_key = bytes.fromhex(public_key)
    # coincurve reads 32 bytes of an x-only key, however many there are.
    if len(raw_key) != 32:
        raise ValueError(f"a public key has 32 bytes, this has {len(raw_key)}")
    return raw_key


# Finding the point is a sixth of a verification, and the same few clients sign everything.
@lru_cache(maxsize=1024)
def _parse_x_only(public_key: str) -> PublicKeyXOnly:
    """Return the point of an x coordinate given as 64 hex digits.

    Raises:
        ValueError: If there is none.
    """
    try:
        return PublicKeyXOnly(_key_bytes(public_key))
    except ValueError as error:
        raise ValueError(_NOT_ON_CURVE) from error
