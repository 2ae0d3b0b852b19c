"""BOLT11 invoices that no lightningd makes, signed by a payee that is no node of the network."""

import secrets
import time
from collections.abc import Sequence

from coincurve import PrivateKey

from tests.double import bolt11

_PAYMENT_METADATA, _ROUTE_HINT = "m", "r"
_FEE_MSAT, _FEE_PPM, _CLTV_DELTA = 0, 0, 6
# BOLT9: var_onion_optin and payment_secret compulsory, basic_mpp.
_FEATURES = 0x024100


def forged_invoice(
    amount_msat: int, hints: Sequence[Sequence[bytes]], *, metadata: bytes = b"", key: bytes = b""
) -> str:
    """Sign an invoice.

    Args:
        amount_msat: of the invoice.
        hints: route hints, each the public keys of its nodes in their order.
        metadata: the field `m`.
        key: the payee's secret key; a fresh one by default.

    """
    others = [(_ROUTE_HINT, _groups(_hint(nodes))) for nodes in hints]
    if metadata:
        others.append((_PAYMENT_METADATA, _groups(metadata)))
    invoice = bolt11.Bolt11(
        currency="bcrt",
        created_at=int(time.time()),
        payment_hash=secrets.token_bytes(32),
        payment_secret=secrets.token_bytes(32),
        amount_msat=amount_msat,
        description="forged",
        features=_FEATURES,
        others=tuple(others),
    )
    return bolt11.encode(invoice, key or secrets.token_bytes(32))


def invented_nodes(count: int) -> list[bytes]:
    """Return public keys of nodes that nobody knows."""
    return [public_key(secrets.token_bytes(32)) for _ in range(count)]


def public_key(key: bytes) -> bytes:
    """Return the node id of a secret key, as a route hint has it."""
    return PrivateKey(key).public_key.format()


def _hint(nodes: Sequence[bytes]) -> bytes:
    """Write a route hint (BOLT11, field `r`); its channels are invented."""
    return b"".join(
        node
        + (number + 1 << 40).to_bytes(8, "big")
        + _FEE_MSAT.to_bytes(4, "big")
        + _FEE_PPM.to_bytes(4, "big")
        + _CLTV_DELTA.to_bytes(2, "big")
        for number, node in enumerate(nodes)
    )


def _groups(data: bytes) -> tuple[int, ...]:
    """Cut bytes into groups of five bits."""
    length = -(-len(data) * 8 // 5)
    value = int.from_bytes(data, "big") << length * 5 - len(data) * 8
    return tuple(value >> 5 * i & 31 for i in reversed(range(length)))
