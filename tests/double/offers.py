"""Offers of other nodes and of our own, the invoices fetched for them, and proofs of their payment.

After lightningd's plugin `offers`. dev-offer sets what the issuer does.
"""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING

from coincurve import PrivateKey

from tests.double import bolt12, params, plans, sendpays
from tests.double.bolt12 import Bolt12Error
from tests.double.jsonio import Json, dumps, token
from tests.double.params import INVALID_PARAMS, BadParam, Param, RpcError, opt

if TYPE_CHECKING:
    from tests.double.node import Node

LIGHTNINGD_PLUGIN = -1
OFFER_EXPIRED = 1002
BAD_REPLY = 1004
TIMED_OUT = 1005
NO_PAYMENT = 1700
EXPIRY = 7200
MAX_MSAT = 21_000_000 * 10**11
OFFERS = "offers"

# What an issuer can do: answer, never answer, refuse, be unreachable, or answer and then be unreachable.
ISSUERS = ("answers", "silent", "refuses", "gone", "dies")
# A proof has these whether they are asked for or not.
_ALWAYS_PROVEN = (
    "invreq_payer_id",
    "invoice_payment_hash",
    "invoice_features",
    "invoice_node_id",
    "signature",
)


def dev_offer(
    node: "Node",
    amount_msat: int | None,
    description: str | None,
    own: bool,
    offer: Json,
    invoice: Json,
    issuer: str,
) -> Json:
    """Make an offer.

    Args:
        node: the double.
        amount_msat: None leaves the amount to the payer.
        description: of the offer.
        own: True for an offer of our own, else it is of another node.
        offer: further fields of the offer, with the names of `decode`; null removes one.
        invoice: fields that the issuer puts into every invoice in place of the right ones.
        issuer: what it does (ISSUERS).

    """
    issuer_id = node.id if own else PrivateKey(secrets.token_bytes(32)).public_key.format().hex()
    network = node.settings.network
    fields = {
        "offer_chains": None if network == "bitcoin" else [bolt12.CHAINS[network]],
        "offer_amount_msat": amount_msat,
        "offer_description": description,
        "offer_paths": [_path(issuer_id, hops=2)],
        "offer_issuer_id": issuer_id,
        **offer,
    }
    string = bolt12.encode("lno", fields)
    offer_id = bolt12.decode(string)["offer_id"]
    offers = {**_offers(node), offer_id: {"invoice": invoice, "issuer": issuer}}
    node.state.put(OFFERS, json.dumps(offers))
    return {"bolt12": string, "offer_id": offer_id}


def _offers(node: "Node") -> dict[str, Json]:
    offers: dict[str, Json] = json.loads(str(node.state.get(OFFERS) or "{}"))
    return offers


def _path(node_id: str, hops: int) -> Json:
    hop = {"blinded_node_id": node_id, "encrypted_recipient_data": secrets.token_hex(50)}
    return {"first_node_id": node_id, "first_path_key": node_id, "path": [hop] * hops}


def fetchinvoice(
    node: "Node",
    offer: str,
    amount_msat: int | None,
    quantity: int | None,
    recurrence_counter: int | None,
    timeout: int,
    payer_note: str | None,
    **_ignored: Json,
) -> Json | Awaitable[Json]:
    """Ask the issuer of an offer for an invoice."""
    fields = _read(node, offer)
    if fields.get("offer_absolute_expiry", time.time() + 1) <= time.time():
        raise RpcError(OFFER_EXPIRED, "Offer expired")
    _check_request(fields, amount_msat, quantity, recurrence_counter)
    known = _offers(node).get(fields["offer_id"])
    if known is None:
        raise _refusal("Unknown offer")
    match known["issuer"]:
        case "silent":
            return _silence(timeout)
        case "refuses":
            raise _refusal("The shop is closed")
        case "gone":
            first = fields["offer_paths"][0]["first_node_id"]
            raise RpcError(LIGHTNINGD_PLUGIN, f"onion msg: unknown next peer {first}")
    asked_msat = fields.get("offer_amount_msat", 0) * (quantity or 1)
    if amount_msat is not None and amount_msat < asked_msat:
        raise _refusal(f"Amount must be at least {asked_msat}msat")
    request = {
        "invreq_metadata": secrets.token_hex(16),
        "invreq_chain": bolt12.CHAINS[node.settings.network],
        "invreq_amount_msat": amount_msat,
        "invreq_features": "",
        "invreq_quantity": quantity,
        "invreq_payer_id": PrivateKey(secrets.token_bytes(32)).public_key.format().hex(),
        # The text of the JSON token: escapes stay as they are.
        "invreq_payer_note": None if payer_note is None else dumps(payer_note).decode().strip()[1:-1],
    }
    fields.pop("offer_id")
    amount = asked_msat if amount_msat is None else amount_msat
    invoice = _make_invoice(node, {**fields, **request}, amount, known)
    return {"invoice": invoice, "changes": {}}


def _read(node: "Node", offer: str) -> dict[str, Json]:
    try:
        if not offer.startswith("lno"):
            raise Bolt12Error("unexpected prefix " + offer[:3])
        fields = bolt12.decode(offer)
        if not fields.keys() & {"offer_issuer_id", "offer_paths"}:
            raise Bolt12Error("Offer does not contain an issuer_id or paths")
        chains = fields.get("offer_chains", [bolt12.CHAINS["bitcoin"]])
        if bolt12.CHAINS[node.settings.network] not in chains:
            raise Bolt12Error("wrong chain")
    except Bolt12Error as error:
        raise BadParam("offer", f"Unparsable offer: {error}", offer) from error
    return fields


def _check_request(
    fields: Mapping[str, Json], amount_msat: int | None, quantity: int | None, counter: int | None
) -> None:
    if "offer_quantity_max" in fields and quantity is None:
        raise RpcError(INVALID_PARAMS, "quantity parameter required")
    if "offer_quantity_max" not in fields and quantity is not None:
        raise RpcError(INVALID_PARAMS, "quantity parameter unnecessary")
    if (maximum := fields.get("offer_quantity_max")) and (quantity or 0) > maximum:
        raise RpcError(INVALID_PARAMS, f"quantity must be <= {maximum}")
    if "offer_amount_msat" not in fields and amount_msat is None:
        raise RpcError(INVALID_PARAMS, "amount_msat parameter required")
    if "offer_recurrence" in fields and counter is None:
        raise RpcError(INVALID_PARAMS, "needs recurrence_counter")


async def _silence(seconds: int) -> Json:
    await asyncio.sleep(seconds)
    raise RpcError(TIMED_OUT, "Timeout waiting for response")


def _refusal(words: str) -> RpcError:
    return RpcError(BAD_REPLY, "Remote node sent failure message", {"error": words})


def _make_invoice(node: "Node", request: Json, amount_msat: int, known: Json) -> str:
    preimage = secrets.token_bytes(32)
    issuer_id = request["offer_issuer_id"]
    payinfo = {
        "fee_base_msat": 0,
        "fee_proportional_millionths": 0,
        "cltv_expiry_delta": 5,
        "htlc_minimum_msat": 0,
        "htlc_maximum_msat": MAX_MSAT,
        "features": "",
    }
    fields = {
        **request,
        "invoice_paths": [{**_path(issuer_id, hops=1), "payinfo": payinfo}],
        "invoice_created_at": int(time.time()),
        "invoice_relative_expiry": EXPIRY,
        "invoice_payment_hash": hashlib.sha256(preimage).hexdigest(),
        "invoice_amount_msat": amount_msat,
        "invoice_features": "020000",
        "invoice_node_id": issuer_id,
        "signature": secrets.token_hex(64),
        **known["invoice"],
    }
    invoice = bolt12.encode("lni", fields)
    if issuer_id == node.id:
        _store(node, fields, invoice, preimage)
    elif known["issuer"] != "dies":
        plans.keep_preimage(node.state, preimage)
    return invoice


def _store(node: "Node", fields: Json, invoice: str, preimage: bytes) -> None:
    offer_id = bolt12.decode(invoice)["offer_id"]
    node.state.db.execute(
        "INSERT INTO invoices (label, payment_hash, preimage, bolt12, amount_msat, description,"
        " expires_at, local_offer_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            f"{offer_id}-{fields['invreq_payer_id']}-0",
            hashlib.sha256(preimage).digest(),
            preimage,
            invoice,
            str(fields["invoice_amount_msat"]),
            fields.get("offer_description"),
            fields["invoice_created_at"] + fields["invoice_relative_expiry"],
            bytes.fromhex(offer_id),
        ),
    )


def createproof(node: "Node", invstring: str, include: list[str], **_ignored: Json) -> Json:
    """Make a proof that we have paid an invoice."""
    if not invstring.startswith("lni"):
        rule = "Expected bolt12 invoice (lni1...), offer (lno1...), or user@domain"
        raise BadParam("invstring", rule, invstring)
    try:
        invoice = bolt12.decode(invstring)
        rows = sendpays.of_hash(node.state, bytes.fromhex(invoice["invoice_payment_hash"]))
    except (Bolt12Error, KeyError) as error:
        raise RpcError(INVALID_PARAMS, f"Invalid invstring: {error}") from error
    paid = [row for row in rows if row["status"] == "complete" and row["bolt12"] == invstring]
    if not paid:
        raise RpcError(NO_PAYMENT, "No successful payment found for that invstring")
    proven = {name: invoice[name] for name in invoice if name in {*include, *_ALWAYS_PROVEN}}
    omitted = sorted(bolt12.FIELDS[n][0] for n in invoice.keys() & bolt12.FIELDS.keys() - proven.keys())
    proof = {
        **proven,
        "proof_preimage": paid[0]["payment_preimage"].hex(),
        "proof_omitted_tlvs": omitted,
        "proof_missing_hashes": [secrets.token_hex(32)],
        "proof_leaf_hashes": [secrets.token_hex(32) for _ in proven],
        "proof_signature": secrets.token_hex(64),
    }
    names = [name.removesuffix("_msat") for name in bolt12.FIELDS if name in proven]
    groups = {"offer": ("offer_",), "invreq": ("invreq_",), "invoice": ("invoice_", "signature")}
    return {
        "proofs": [
            {
                "bolt12": bolt12.encode("lnp", proof),
                **{
                    f"{group}_fields_included": [name for name in names if name.startswith(starts)]
                    for group, starts in groups.items()
                },
            }
        ]
    }


def _include(name: str, value: Json) -> list[str]:
    """Return the names of fields as `decode` has them."""
    names = {known.removesuffix("_msat"): known for known in bolt12.FIELDS}
    for field in params.array(name, value):
        if field not in names:
            raise BadParam(name, "Unknown field name", field)
    return [names[field] for field in value]


def _object(name: str, value: Json) -> Json:
    if not isinstance(value, dict) or not value.keys() <= bolt12.FIELDS.keys():
        raise BadParam(name, "should be an object with fields of BOLT12", value)
    return value


def _issuer(name: str, value: Json) -> str:
    if value not in ISSUERS:
        raise BadParam(name, f"should be one of {', '.join(ISSUERS)}", value)
    return token(value)


COMMANDS = {
    "dev-offer": (
        dev_offer,
        opt("amount_msat", params.msat),
        opt("description", params.text, "of another"),
        opt("own", params.boolean, False),
        opt("offer", _object, {}),
        opt("invoice", _object, {}),
        opt("issuer", _issuer, "answers"),
    ),
    "fetchinvoice": (
        fetchinvoice,
        Param("offer", params.bolt12),
        opt("amount_msat", params.msat),
        opt("quantity", params.u64),
        opt("recurrence_counter", params.u64),
        opt("recurrence_start", params.raw),
        opt("recurrence_label", params.raw),
        opt("timeout", params.integer, 60),
        opt("payer_note", params.string),
        opt("payer_metadata", params.raw),
        opt("bip353", params.raw),
    ),
    "createproof": (
        createproof,
        Param("invstring", params.invstring),
        opt("note", params.string),
        opt("include", _include, []),
    ),
}
