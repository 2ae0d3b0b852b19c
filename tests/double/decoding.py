"""The `decode` command, after plugins/offers.c."""

from typing import TYPE_CHECKING

from tests.double import bolt11, bolt12, params
from tests.double.bolt11 import Bolt11, Bolt11Error
from tests.double.bolt12 import Bolt12Error
from tests.double.jsonio import Json
from tests.double.params import BadParam, Param
from tests.double.settings import Settings

if TYPE_CHECKING:
    from tests.double.node import Node


def decode(node: "Node", string: str) -> Json:
    """Return the fields of an invoice of any network."""
    string = params.bolt12("string", string)
    if string[:3] in bolt12.TYPES:
        return _bolt12(node, string)
    try:
        fields = _bolt11(bolt11.decode(string))
    except Bolt11Error as error:
        is_likely = string.startswith(("lnbc", "lntb"))
        raise BadParam("string", str(error) if is_likely else "Unparsable string", string) from error
    return {name: value for name, value in fields.items() if value is not None}


def _bolt11(content: Bolt11) -> Json:
    return {
        "type": "bolt11 invoice",
        "currency": content.currency,
        "created_at": content.created_at,
        "expiry": content.expiry,
        "payee": content.payee.hex(),
        "amount_msat": content.amount_msat,
        "description": content.description,
        "description_hash": content.description_hash and content.description_hash.hex(),
        "min_final_cltv_expiry": content.min_final_cltv_expiry,
        "payment_secret": content.payment_secret.hex(),
        "features": bolt11.print_features(content.features),
        "payment_hash": content.payment_hash.hex(),
        "signature": content.signature.hex(),
        "valid": True,
    }


def _bolt12(node: "Node", string: str) -> Json:
    try:
        fields = bolt12.decode(string)
        if string.startswith("lno") and not fields.keys() & {"offer_issuer_id", "offer_paths"}:
            raise Bolt12Error("Offer does not contain an issuer_id or paths")
    except Bolt12Error as error:
        raise BadParam("string", str(error), string) from error
    if not node.settings.is_since("26.06"):
        _make_old(fields, node.settings)
    return {"type": f"bolt12 {bolt12.TYPES[string[:3]]}", **_in_currency(fields), "valid": True}


def _make_old(fields: dict[str, Json], settings: Settings) -> None:
    """Change the fields to those of a version before 26.06."""
    for path in fields.get("invoice_paths", []):
        for name in ("htlc_minimum_msat", "htlc_maximum_msat"):
            del path["payinfo"][name]
    if not settings.is_since("25.05"):
        for path in [*fields.get("offer_paths", []), *fields.get("invoice_paths", [])]:
            path["blinding"] = path["first_path_key"]
    if recurrence := fields.pop("offer_recurrence", None):
        del recurrence["compulsory_field"]
        name = "offer_recurrence_compulsory" if settings.is_since("25.12") else "offer_recurrence"
        fields[name] = recurrence


def _in_currency(fields: dict[str, Json]) -> dict[str, Json]:
    """Return the fields; the amount of an offer in another currency has another name."""
    if "offer_currency" not in fields:
        return fields
    amount = {"offer_amount": fields.pop("offer_amount_msat")} if "offer_amount_msat" in fields else {}
    return {**fields, **amount, "currency_minor_unit": 2}


COMMANDS = {"decode": (decode, Param("string", params.string))}
