"""BOLT12: offers and the invoices that are fetched for them, as lightningd decodes them.

An offer comes from an app, its invoice from the issuer: both are hostile. What lightningd does not
check, or does not survive, is checked here, before anything is paid.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from nwc.cln import onion
from nwc.cln.errors import UNREADABLE, NodeError, translates_malformed_answers
from nwc.cln.node import Json, Node
from nwc.errors import NwcError

MAX_OFFER_LENGTH = 4096  # characters; most have some hundred
# Characters. The invoice is stored in the datastore. It repeats the offer and the payer's note.
MAX_INVOICE_LENGTH = 8192
MAX_PROOF_LENGTH = 4096  # characters; a usual one has some thousand
# Seconds that lightningd waits for the issuer; apps wait for a minute in all.
FETCH_TIMEOUT_S = 25
# Booking a payment waits for its proof, so this is short.
PROOF_TIMEOUT_S = 5.0
# BOLT12, "Requirements for Invoices": invoice_relative_expiry, if absent.
_DEFAULT_EXPIRY_S = 7200

# The hash of the first block by lightningd's name of the network, as BOLT12's `offer_chains` has it.
_CHAINS = {
    "bitcoin": "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000",
    "testnet": "43497fd7f826957108f4a30fd9cec3aeba79972084e90ead01ea330900000000",
    "testnet4": "43f08bdab050e35b567c864b91f47f50ae725ae2de53bcfbbaf284da00000000",
    "signet": "f61eee3b63a380a477a063af32b2bbc97c9ff9f01f2c4225e973988108000000",
    "regtest": "06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f",
}
# `xpay` gives each blinded path this end of its own, a point whose secret key nobody knows.
_XPAY_NODE_ID = "02" + "1".zfill(64)
# What a proof shows, beside what it always shows.
_PROOF_FIELDS = (
    "offer_description",
    "offer_issuer_id",
    "invoice_created_at",
    "invoice_amount",
    "invreq_payer_note",
)

_log = logging.getLogger(__name__)


class Fault(Enum):
    """Why an offer or its invoice cannot be paid."""

    INVALID = "it is damaged, expired or against a rule"
    UNSUPPORTED = "it asks for what this plugin cannot do"
    NETWORK = "it is of another network"


class OfferError(NwcError, ValueError):
    """An offer or its invoice cannot be paid; the text is the rule, to be put after "offer: ".

    Attributes:
        fault: the kind of reason.

    """

    def __init__(self, fault: Fault, rule: str) -> None:
        super().__init__(rule)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer that can be paid once, now, on this network.

    Attributes:
        offer_id: 64 hex digits.
        amount_msat: what it asks for, None if the payer chooses.

    """

    offer_id: str
    amount_msat: int | None


@dataclass(frozen=True, slots=True)
class FetchedInvoice:
    """A BOLT12 invoice for an offer.

    Attributes:
        payment_hash: 64 hex digits.
        node_id: the payee's, 66 hex digits.
        blinded_fee_msat: the fee of its first blinded path, which is the one that `pay` takes.

    """

    payment_hash: str
    node_id: str
    blinded_fee_msat: int


def parse_offer(decoded: Mapping[str, Any], network: str, now: float) -> Offer:
    """Return an offer from the answer of lightningd's `decode`.

    Args:
        decoded: the answer.
        network: the node's, as lightningd names it.
        now: Unix seconds.

    Raises:
        OfferError: it cannot be paid (BOLT12, "Requirements For Offers").
        KeyError, TypeError, ValueError: the answer is unreadable.

    """
    if decoded.get("type") != "bolt12 offer" or not decoded.get("valid"):
        raise OfferError(Fault.INVALID, "must be a BOLT12 offer that the node can read")
    # Without the field, the offer is for bitcoin alone.
    if _CHAINS.get(network) not in decoded.get("offer_chains", [_CHAINS["bitcoin"]]):
        raise OfferError(Fault.NETWORK, f"must be of the network {network}")
    if "offer_currency" in decoded:
        raise OfferError(Fault.UNSUPPORTED, "must not ask for an amount in another currency")
    if any(name.startswith("offer_recurrence") for name in decoded):
        raise OfferError(Fault.UNSUPPORTED, "must not ask for payments again and again")
    if "offer_quantity_max" in decoded:
        raise OfferError(Fault.UNSUPPORTED, "must not ask for a quantity")
    if decoded.get("offer_absolute_expiry", now + 1) <= now:
        raise OfferError(Fault.INVALID, "must not have expired")
    # `fetchinvoice` aborts on an empty list, and lightningd stops with it (v26.06.6).
    if "offer_paths" in decoded and not decoded["offer_paths"]:
        raise OfferError(Fault.INVALID, "must have paths, or no list of them")
    amount_msat = decoded.get("offer_amount_msat")
    return Offer(decoded["offer_id"], None if amount_msat is None else int(amount_msat))


def parse_invoice(
    decoded: Mapping[str, Any],
    offer: Offer,
    *,
    amount_msat: int,
    payer_note: str | None,
    network: str,
    now: float,
) -> FetchedInvoice:
    """Return a fetched invoice from the answer of lightningd's `decode`, checked against the request.

    Args:
        decoded: the answer.
        offer: for which it was fetched.
        amount_msat: that was asked for.
        payer_note: that was sent.
        network: the node's, as lightningd names it.
        now: Unix seconds.

    Raises:
        OfferError: it is not the invoice that was asked for (BOLT12, "Requirements for Invoices"), or
            lightningd could not pay it.
        KeyError, TypeError, ValueError: the answer is unreadable.

    """
    if decoded.get("type") != "bolt12 invoice" or not decoded.get("valid"):
        raise OfferError(Fault.INVALID, "the invoice cannot be read")
    if decoded.get("invreq_chain", _CHAINS["bitcoin"]) != _CHAINS.get(network):
        raise OfferError(Fault.NETWORK, "the invoice is of another network")
    if decoded.get("offer_id") != offer.offer_id:
        raise OfferError(Fault.INVALID, "the invoice is for another offer")
    if int(decoded["invoice_amount_msat"]) != amount_msat:
        raise OfferError(Fault.INVALID, "the invoice asks for another amount")
    if decoded.get("invreq_payer_note") != payer_note:
        raise OfferError(Fault.INVALID, "the invoice has another payer_note")
    expiry_s = decoded.get("invoice_relative_expiry", _DEFAULT_EXPIRY_S)
    if decoded["invoice_created_at"] + expiry_s <= now:
        raise OfferError(Fault.INVALID, "the invoice has expired")
    paths = decoded["invoice_paths"]
    try:
        onion.check_blinded_paths(paths)
    except onion.OnionTooLargeError as error:
        raise OfferError(Fault.INVALID, f"the invoice {error}") from None
    # `xpay` aborts if it can use no path, and lightningd stops with it (v25.02.2 to v26.06.6).
    if any(_has_unknown_features(path["payinfo"].get("features", "")) for path in paths):
        raise OfferError(Fault.INVALID, "the invoice has a path with features that are not known")
    # `askrene` aborts on a channel from a node to itself, and lightningd stops with it (before v26.06).
    if any(path.get("first_node_id") == _XPAY_NODE_ID for path in paths):
        raise OfferError(Fault.INVALID, "the invoice has a path that begins at a node that cannot exist")
    return FetchedInvoice(
        decoded["invoice_payment_hash"],
        decoded["invoice_node_id"],
        _fee_msat(paths[0]["payinfo"], amount_msat),
    )


def _has_unknown_features(features: str) -> bool:
    """Return True if a bit is set with which a blinded path must not be used (BOLT12: an even one)."""
    bits = int(features or "0", 16)
    return any(bits >> bit & 1 for bit in range(0, bits.bit_length(), 2))


def _fee_msat(payinfo: Json, amount_msat: int) -> int:
    """Return the fee of a blinded path (BOLT4, "Route Blinding": rounded up)."""
    proportional = amount_msat * int(payinfo["fee_proportional_millionths"])
    return int(payinfo["fee_base_msat"]) - (-proportional // 1_000_000)


@translates_malformed_answers
async def fetch_invoice(
    node: Node, offer: str, *, amount_msat: int | None, payer_note: str | None
) -> str:
    """Ask the issuer of an offer for an invoice, and return it, unchecked. Nothing is paid.

    Args:
        node: lightningd.
        offer: BOLT12.
        amount_msat: only for an offer without an amount.
        payer_note: for the issuer, without characters that JSON escapes (see `is_sent_unchanged`).

    Raises:
        RpcCallError: there is none: no route, no answer in time, or the issuer refuses.
        NodeUnavailableError: lightningd did not answer.

    """
    answer = await node.call(
        "fetchinvoice",
        offer=offer,
        amount_msat=amount_msat,
        timeout=FETCH_TIMEOUT_S,
        payer_note=payer_note,
    )
    return str(answer["invoice"])


def is_sent_unchanged(payer_note: str) -> bool:
    """Return True if the payee gets this note byte for byte.

    lightningd does not read JSON's escapes in it: the payee would get a backslash before each quote.
    """
    return not any(character in '"\\' or character < " " for character in payer_note)


async def payer_proof(node: Node, invoice: str) -> str | None:
    """Return the proof that this node has paid a BOLT12 invoice, None if there is none in time.

    lightningd has `createproof` since v26.06. It makes one proof for each payment of the invoice; the
    first is returned.
    """
    try:
        async with asyncio.timeout(PROOF_TIMEOUT_S):
            made = await node.call("createproof", invstring=invoice, include=list(_PROOF_FIELDS))
        proof = made["proofs"][0]["bolt12"]
    except (NodeError, TimeoutError, *UNREADABLE) as error:
        _log.debug("no payer proof: %s", type(error).__name__)
        return None
    is_proof = isinstance(proof, str) and proof.startswith("lnp1") and len(proof) <= MAX_PROOF_LENGTH
    return proof if is_proof else None
