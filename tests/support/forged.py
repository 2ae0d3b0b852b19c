"""BOLT11 invoices that lightningd would not make, signed by a payee that is not in the network."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coincurve import PrivateKey

from tests.double import bolt11

_PAYMENT_METADATA, _ROUTE_HINT = "m", "r"
# BOLT9: var_onion_optin and payment_secret compulsory, basic_mpp.
_FEATURES = 0x024100

# A BOLT12 invoice with a valid signature: lightningd ignores the plus sign. Its field
# `invreq_bip_353_name` is not UTF-8, and `decode` writes it as it is; lightningd ends a plugin for that.
# The words are also those of a BOLT11 invoice, with a payment hash and a right checksum.
BOLT12_IN_DISGUISE = (
    "ln+i1qqcqqqqpp5qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqzdfqqqqqqqqqqqqqqq2qsqvgnwgcg"
    "35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzr6mqvql7q9qvcp8n0nx0muaewav2ksx99wwsu9swq5mlndjmn3gm9v"
    "l9q2mzmup0xqz0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzqnehen8a7wuhwk9tgrzjh8gwzc8q2d"
    "lekedec5djk0js9d3d7qhnqqqpgsuqqqqqqqqqqqqqqqxqqqqqqqqqqqqqqqqqqqqqqqqqyqqpfqpqx5zqqqqqqqqqqqqqqq"
    "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq4gqsrvppqfyfgsnmyga8ueatfuxmvnd0h3xfk3kcz00t3qlznsfrpmrwdvk"
    "6puzqav6lk785ffpd5mrza26aj3jsv8rqdfg9agj3dkc6y0dljw9y4d23slf5ja9ht6w0e6hk5zhusp69j5v4kt5c8kheu2p"
    "arkwqlue5tt0aq0nswqqqqqcpacva"
)


@dataclass(frozen=True)
class Hop:
    """The fees and the delay of a channel in a route hint (BOLT11, field `r`).

    Attributes:
        fee_base_msat: 32 bits.
        fee_ppm: proportional millionths, 32 bits.
        cltv_delta: blocks, 16 bits.

    """

    fee_base_msat: int = 0
    fee_ppm: int = 0
    cltv_delta: int = 6


USUAL = Hop()


def forged_invoice(
    amount_msat: int | None,
    hints: Sequence[Sequence[bytes]],
    *,
    metadata: bytes = b"",
    key: bytes = b"",
    hop: Hop = USUAL,
    **fields: Any,
) -> str:
    """Return a signed invoice.

    Args:
        amount_msat: of the invoice; None leaves it to the payer.
        hints: route hints, each the public keys of its nodes in order.
        metadata: the field `m`.
        key: the payee's secret key; a fresh one by default.
        hop: the fees and the delay of every channel in the hints.
        fields: further fields of Bolt11.

    """
    others = [(_ROUTE_HINT, _groups(_hint(nodes, hop))) for nodes in hints]
    if metadata:
        others.append((_PAYMENT_METADATA, _groups(metadata)))
    given: dict[str, Any] = {
        "currency": "bcrt",
        "created_at": int(time.time()),
        "payment_hash": secrets.token_bytes(32),
        "payment_secret": secrets.token_bytes(32),
        "description": "forged",
        "features": _FEATURES,
    }
    invoice = bolt11.Bolt11(**{**given, **fields}, amount_msat=amount_msat, others=tuple(others))
    return bolt11.encode(invoice, key or secrets.token_bytes(32))


def invented_nodes(count: int) -> list[bytes]:
    """Return random public keys, which belong to no node."""
    return [public_key(secrets.token_bytes(32)) for _ in range(count)]


def public_key(key: bytes) -> bytes:
    """Return the public key of a secret key, as route hints encode it."""
    return PrivateKey(key).public_key.format()


def _hint(nodes: Sequence[bytes], hop: Hop) -> bytes:
    """Return an encoded route hint with invented channel ids."""
    return b"".join(
        node
        + (number + 1 << 40).to_bytes(8, "big")
        + hop.fee_base_msat.to_bytes(4, "big")
        + hop.fee_ppm.to_bytes(4, "big")
        + hop.cltv_delta.to_bytes(2, "big")
        for number, node in enumerate(nodes)
    )


def _groups(data: bytes) -> tuple[int, ...]:
    """Return bytes as groups of five bits."""
    length = -(-len(data) * 8 // 5)
    value = int.from_bytes(data, "big") << length * 5 - len(data) * 8
    return tuple(value >> 5 * i & 31 for i in reversed(range(length)))
