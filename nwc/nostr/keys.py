"""secp256k1 keys as Nostr uses them: x-only public keys, Schnorr signatures (BIP-340), ECDH.

Inside the code a public key is a `str` of 64 lower-case hex digits, as in events. `parse_public_key`
reads what a person typed. No error text quotes that input: people mistake secret keys for public ones.
"""

import re
from dataclasses import dataclass, field
from typing import Self

from coincurve import PrivateKey, PublicKey, PublicKeyXOnly

from nwc.nostr import bech32
from nwc.nostr.schnorr import SigningKey

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
        ValueError: The text says what is wrong and what is allowed.
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
    """Return True if a Schnorr signature is valid (BIP-340).

    Args:
        public_key: 64 hex digits.
        digest: The 32 bytes that were signed.
        signature: 128 hex digits.

    Returns:
        False also if the signature is malformed or the public key is not on the curve.
    """
    try:
        key = _parse_x_only(public_key)
        raw_signature = bytes.fromhex(signature)
    except ValueError:
        return False
    return len(raw_signature) == 64 and key.verify(raw_signature, digest)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A secret key and its public key. Equality and `repr` use the public key only.

    Attributes:
        public_key: The x coordinate, 64 lower-case hex digits (BIP-340).
    """

    public_key: str = field(init=False)
    _private: PrivateKey = field(repr=False, compare=False)
    _signing: SigningKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        public_key = self._private.public_key_xonly.format().hex()
        object.__setattr__(self, "public_key", public_key)
        object.__setattr__(self, "_signing", SigningKey(self._private.secret))

    @classmethod
    def generate(cls) -> Self:
        """Return a new key pair from the operating system's randomness."""
        return cls(PrivateKey())

    @classmethod
    def from_secret(cls, secret: bytes) -> Self:
        """Return the key pair of a known secret.

        Raises:
            ValueError: If it has not 32 bytes, or is not a number from 1 to n - 1 (n: group order).
        """
        # coincurve would pad a shorter secret instead of refusing it.
        if len(secret) != 32:
            raise ValueError(f"a secret key has 32 bytes, this one has {len(secret)}")
        return cls(PrivateKey(secret))

    def secret_hex(self) -> str:
        """Return the secret key, 64 hex digits. Never log it."""
        return self._private.secret.hex()

    def sign(self, digest: bytes) -> bytes:
        """Sign 32 bytes and return the signature of 64 bytes (BIP-340).

        Raises:
            ValueError: If `digest` does not have 32 bytes.
        """
        return self._signing.sign(digest)

    def shared_x(self, peer_public_key: str) -> bytes:
        """Return the x coordinate of the ECDH point, 32 bytes, not hashed (NIP-04, NIP-44).

        Callers keep what they derive from it. The multiplication is not constant-time (coincurve's
        constant-time `ecdh` returns a hash only), so do not run it at a stranger's request.

        Args:
            peer_public_key: 64 hex digits; stands for the point with the even y coordinate.

        Raises:
            ValueError: If the peer's key is not on the curve.
        """
        try:
            point = PublicKey(b"\x02" + _key_bytes(peer_public_key))
        except ValueError as error:
            raise ValueError(_NOT_ON_CURVE) from error
        shared: bytes = point.multiply(self._private.secret).format()
        return shared[1:]


def _decode_npub(text: str) -> str:
    """Return the hex digits of a NIP-19 npub, without a check that the key is on the curve."""
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
    # coincurve reads the first 32 bytes of an x-only key and ignores the rest.
    if len(raw_key) != 32:
        raise ValueError(f"a public key has 32 bytes, this one has {len(raw_key)}")
    return raw_key


def _parse_x_only(public_key: str) -> PublicKeyXOnly:
    """Return the point with an x coordinate of 64 hex digits.

    Raises:
        ValueError: If there is no such point.
    """
    try:
        return PublicKeyXOnly(_key_bytes(public_key))
    except ValueError as error:
        raise ValueError(_NOT_ON_CURVE) from error
