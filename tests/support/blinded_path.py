"""Blinded paths (BOLT4, "Route Blinding") whose encrypted data a real node can read."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from coincurve import PrivateKey, PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.double.bolt12 import tlv_record
from tests.support.channel import Json

# BOLT4, `encrypted_data_tlv`.
_NEXT_NODE_ID, _PATH_ID, _PAYMENT_RELAY = 4, 6, 10


def payment_path(nodes: Sequence[str], fee_ppm: int) -> Json:
    """Return a path over two nodes, as the field `invoice_paths` has it, without fees in `payinfo`.

    Args:
        nodes: node ids; the first one is told to forward to the second.
        fee_ppm: what the first one is told to keep, in proportional millionths, 32 bits.

    """
    relay = (6).to_bytes(2, "big") + fee_ppm.to_bytes(4, "big")
    forward = tlv_record(_NEXT_NODE_ID, bytes.fromhex(nodes[1])) + tlv_record(_PAYMENT_RELAY, relay)
    path_key, hops = _blinded(nodes, [forward, tlv_record(_PATH_ID, bytes(32))])
    return {"first_node_id": nodes[0], "first_path_key": path_key, "path": hops}


def _blinded(nodes: Sequence[str], contents: Sequence[bytes]) -> tuple[str, list[Json]]:
    first = key = PrivateKey(secrets.token_bytes(32))
    hops = []
    for node, content in zip(nodes, contents, strict=True):
        secret = key.ecdh(bytes.fromhex(node))
        alias = PublicKey(bytes.fromhex(node)).multiply(_derived(b"blinded_node_id", secret))
        encrypted = ChaCha20Poly1305(_derived(b"rho", secret)).encrypt(bytes(12), content, None)
        hops.append(
            {
                "blinded_node_id": alias.format().hex(),
                "encrypted_recipient_data": encrypted.hex(),
            }
        )
        key = key.multiply(hashlib.sha256(key.public_key.format() + secret).digest())
    return first.public_key.format().hex(), hops


def _derived(kind: bytes, secret: bytes) -> bytes:
    return hmac.digest(kind, secret, hashlib.sha256)
