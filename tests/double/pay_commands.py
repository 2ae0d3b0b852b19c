"""xpay, pay, xkeysend and keysend: their parameters. paying.py makes the payments."""

import hashlib
import secrets
import time
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from tests.double import bolt11, bolt12, params, plans
from tests.double.bolt11 import Bolt11, Bolt11Error
from tests.double.bolt12 import Bolt12Error
from tests.double.channels import listpeerchannels
from tests.double.jsonio import Json, token
from tests.double.params import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    BadParam,
    Param,
    RpcError,
    opt,
    parse_params,
)
from tests.double.pay_styles import Keysend, OldPay, OldXpay, Pay, Xpay
from tests.double.paying import (
    DESTINATION_PERM_FAIL,
    ROUTE_NOT_FOUND,
    UNSPECIFIED_ERROR,
    Payment,
    Style,
)
from tests.double.settings import Settings

if TYPE_CHECKING:
    from tests.double.node import Node

INVOICE_EXPIRED = 207
KEYSEND_PREIMAGE = 5482373484
FIRST_CUSTOM_TLV = 65536
LEAST_MAXFEE_MSAT = 5000
NO_KEYSEND = "Destination reported invalid_onion_payload (likely doesn't support keysend)"


def xpay(
    node: "Node",
    invstring: str,
    amount_msat: int | None,
    maxfee: int | None,
    label: str | None = None,
    **_ignored: Json,
) -> Awaitable[Json]:
    """Pay an invoice."""
    node.pay_commands.append("xpay")
    if "@" in invstring:
        raise RpcError(METHOD_NOT_FOUND, "Unknown command 'fetchbip353'")
    style = Xpay() if node.settings.is_since("26.06") else OldXpay()
    return _pay_invoice(node, style, invstring, amount_msat, maxfee, label)


def pay(node: "Node", given: Json) -> Awaitable[Json]:
    """Pay an invoice.

    Since 26.06, xpay does it and ignores unknown parameters. The old `pay` then serves only calls
    with more than two parameters by position.
    """
    can_redirect = node.settings.is_since("26.06")
    is_old = not can_redirect or (isinstance(given, list) and len(given) > 2)
    if isinstance(given, dict) and can_redirect:
        if "invstring" in given:
            given = {"bolt11": given["invstring"], **given}
        given = {name: given[name] for name in given if any(name == p.name for p in PAY_PARAMS)}
    parsed = parse_params(PAY_PARAMS, given)
    if is_old and can_redirect and node.settings.refuses_deprecated:
        raise RpcError(METHOD_NOT_FOUND, 'Command "pay" is deprecated')
    node.pay_commands.append("pay" if is_old else "xpay")
    arguments = (parsed[name] for name in ("bolt11", "amount_msat", "maxfee", "label"))
    return _pay_invoice(node, OldPay() if is_old else Pay(), *arguments)


def _pay_invoice(
    node: "Node",
    style: Style,
    invstring: str,
    amount_msat: int | None,
    maxfee: int | None,
    label: str | None,
) -> Awaitable[Json]:
    if invstring.startswith("lni"):
        return _pay_bolt12(node, style, invstring, amount_msat, maxfee, label)
    content = _invoice(node, invstring)
    amount = _amount(content, amount_msat)
    seconds_ago = int(time.time()) - content.created_at - content.expiry
    if seconds_ago > 0:
        raise RpcError(INVOICE_EXPIRED, f"Invoice expired {seconds_ago} seconds ago")
    return node.payer.pay(
        Payment(
            style,
            content.payment_hash,
            content.payee,
            amount,
            _maxfee(amount, maxfee),
            label,
            invstring,
        )
    )


def _pay_bolt12(
    node: "Node",
    style: Style,
    invstring: str,
    amount_msat: int | None,
    maxfee: int | None,
    label: str | None,
) -> Awaitable[Json]:
    try:
        content = bolt12.decode(invstring)
    except Bolt12Error as error:
        raise RpcError(INVALID_PARAMS, f"Invalid bolt12 invoice: {error}") from error
    if amount_msat is not None:
        raise RpcError(INVALID_PARAMS, "msatoshi parameter unnecessary")
    expires_at = content["invoice_created_at"] + content["invoice_relative_expiry"]
    if expires_at < time.time():
        raise RpcError(INVOICE_EXPIRED, "Invoice expired")
    amount = content["invoice_amount_msat"]
    fee = _blinded_fee(content["invoice_paths"][0]["payinfo"], amount)
    # `pay` counts it as a part of the amount, xpay as a fee.
    uncounted = fee if isinstance(style, OldPay) else 0
    return node.payer.pay(
        Payment(
            style,
            bytes.fromhex(content["invoice_payment_hash"]),
            bytes.fromhex(content["invoice_node_id"]),
            amount,
            _maxfee(amount, maxfee) + uncounted,
            label,
            bolt12=invstring,
            blinded_fee_msat=fee,
        )
    )


def _blinded_fee(payinfo: Json, amount_msat: int) -> int:
    proportional = amount_msat * int(payinfo["fee_proportional_millionths"])
    return int(payinfo["fee_base_msat"]) - (-proportional // 1_000_000)


def _invoice(node: "Node", invstring: str) -> Bolt11:
    for prefix, kind in (("lno", "offer"), ("lnr", "invoice"), ("lnp", "proof")):
        if invstring.startswith(prefix):
            raise RpcError(INVALID_PARAMS, f"Invalid bolt12 {kind}: invalid bech32 string")
    try:
        return bolt11.decode(invstring, currency=bolt11.CURRENCIES[node.settings.network])
    except Bolt11Error as error:
        raise RpcError(INVALID_PARAMS, f"Invalid bolt11 invoice: {error}") from error


def _amount(content: Bolt11, amount_msat: int | None) -> int:
    if content.amount_msat is None and amount_msat is None:
        raise RpcError(INVALID_PARAMS, "amount_msat required")
    if content.amount_msat is not None and amount_msat is not None:
        raise RpcError(INVALID_PARAMS, "amount_msat unnecessary")
    amount = content.amount_msat if amount_msat is None else amount_msat
    if not amount:
        raise RpcError(INVALID_PARAMS, "Cannot pay bolt11 invoice with zero amount")
    return amount


def _maxfee(amount_msat: int, maxfee: int | None) -> int:
    return max(amount_msat // 100, LEAST_MAXFEE_MSAT) if maxfee is None else maxfee


def xkeysend(
    node: "Node",
    destination: str,
    amount_msat: int,
    label: str | None,
    maxfee: int | None,
    extratlvs: Mapping[int, bytes] | None,
    **_ignored: Json,
) -> Awaitable[Json]:
    """Pay a node without an invoice."""
    tlvs = extratlvs or {}
    # xkeysend overwrites a preimage in extratlvs.
    refusal = _refusal(tlvs)
    return _keysend(node, "xkeysend", Xpay(), destination, amount_msat, label, maxfee, tlvs, refusal)


def keysend(
    node: "Node",
    destination: str,
    amount_msat: int,
    label: str | None,
    maxfee: int | None,
    extratlvs: Mapping[int, bytes] | None,
    **_ignored: Json,
) -> Awaitable[Json]:
    """Pay a node without an invoice, the old way."""
    if node.settings.refuses_deprecated and node.settings.is_since("26.06"):
        raise RpcError(METHOD_NOT_FOUND, "Command 'keysend' is deprecated")
    tlvs = extratlvs or {}
    # keysend sends a preimage in extratlvs beside its own, and every payee refuses that.
    twice = RpcError(DESTINATION_PERM_FAIL, NO_KEYSEND) if KEYSEND_PREIMAGE in tlvs else None
    refusal = twice or _refusal(tlvs)
    return _keysend(node, "keysend", Keysend(), destination, amount_msat, label, maxfee, tlvs, refusal)


def _keysend(
    node: "Node",
    command: str,
    style: Style,
    destination: str,
    amount_msat: int,
    label: str | None,
    maxfee: int | None,
    tlvs: Mapping[int, bytes],
    refusal: RpcError | None,
) -> Awaitable[Json]:
    if destination == node.id:
        message = "We are the destination. Keysend cannot be used to send funds to yourself"
        raise RpcError(INVALID_PARAMS, message)
    if not amount_msat and command == "xkeysend":
        raise RpcError(INVALID_PARAMS, "Failed: amount must be non-zero")
    groupid = 0 if command == "keysend" else secrets.randbits(62)
    preimage = secrets.token_bytes(32)
    if destination not in node.unreachable:
        plans.keep_preimage(node.state, preimage)
    payment = Payment(
        style,
        hashlib.sha256(preimage).digest(),
        bytes.fromhex(destination),
        amount_msat,
        _maxfee(amount_msat, maxfee),
        label,
        groupid=groupid,
        refusal=refusal if amount_msat else RpcError(UNSPECIFIED_ERROR, "AMOUNT_BELOW_MINIMUM"),
    )
    node.keysends.append(
        {
            "command": command,
            "payment_hash": payment.payment_hash.hex(),
            "destination": destination,
            "amount_msat": amount_msat,
            "extratlvs": {str(number): value.hex() for number, value in tlvs.items()},
        }
    )
    return node.payer.pay(payment)


def _refusal(tlvs: Mapping[int, bytes]) -> RpcError | None:
    """Return the payee's error if BOLT4 makes it refuse: for even types that it does not know."""
    is_unknown_even = any(number < FIRST_CUSTOM_TLV and number % 2 == 0 for number in tlvs)
    return RpcError(DESTINATION_PERM_FAIL, NO_KEYSEND) if is_unknown_even else None


def dev_payment_release(
    node: "Node",
    payment_hash: bytes | None,
    outcome: str,
    code: int,
    message: str,
    preimage: bytes | None,
) -> Json:
    """Release a held payment: from the route search to its parts, or from pending parts to its end."""
    held = node.payer.held()
    if payment_hash is None:
        if len(held) != 1:
            raise RpcError(INVALID_PARAMS, f"{len(held)} payments are held: name one")
        [(payment_hash, _)] = held
    known = preimage or plans.preimage_of(node.state, payment_hash) or secrets.token_bytes(32)
    error = RpcError(code, message)
    was = node.payer.release(payment_hash, known if outcome == "complete" else None, error)
    return {"payment_hash": payment_hash.hex(), "was": was}


def dev_payments_held(node: "Node") -> Json:
    """List the payments that dev-payment-release can release."""
    return {"held": [{"payment_hash": h.hex(), "at": where} for h, where in node.payer.held()]}


def dev_keysends(node: "Node") -> Json:
    """List the payments of keysend and xkeysend since the start, with their TLVs."""
    return {"keysends": node.keysends}


def dev_pay_commands(node: "Node") -> Json:
    """List the commands that have paid an invoice since the start, or have tried to."""
    return {"commands": node.pay_commands}


def getroutes(
    node: "Node", destination: str, amount_msat: int, maxparts: int | None, **_ignored: Json
) -> Json:
    """Return a route if the payee is reachable and the channels (one if maxparts is 1) suffice."""
    channels = listpeerchannels(node, None)["channels"]
    amounts = [channel.get("spendable_msat", 0) for channel in channels]
    maximum = max(amounts, default=0) if maxparts == 1 else sum(amounts)
    if destination in node.unreachable or amount_msat > maximum:
        raise RpcError(ROUTE_NOT_FOUND, "We could not find a usable set of paths.")
    return {"probability_ppm": 1_000_000, "routes": [{"amount_msat": amount_msat, "path": []}]}


def listnodes(node: "Node", id: str) -> Json:
    """List a node unless dev-unreachable has named it."""
    return {"nodes": [] if id in node.unreachable else [{"nodeid": id}]}


def askrene_listreservations(node: "Node", **_ignored: Json) -> Json:
    """Return an empty list: the double has no reservations."""
    return {"reservations": []}


def dev_unreachable(node: "Node", destinations: list[str]) -> Json:
    """Set the nodes that have no route to them; all others are reachable."""
    node.unreachable = set(destinations)
    return {}


def extra_tlvs(name: str, value: Json) -> dict[int, bytes]:
    """Parse an object of TLV types and hex strings."""
    if not isinstance(value, dict):
        raise BadParam(name, "should be an object", value)
    return {_tlv_type(number): _tlv_value(number, digits) for number, digits in value.items()}


def _tlv_type(number: str) -> int:
    try:
        return params.u64("extratlvs", number)
    except BadParam:
        raise RpcError(INVALID_PARAMS, f'"{number}" is not a valid numeric TLV type.') from None


def _tlv_value(number: str, digits: Json) -> bytes:
    value = params.binary("extratlvs", digits)
    if value is None:
        message = f'"{number}" is not a valid hex encoded TLV value.'
        raise RpcError(INVALID_PARAMS, message)
    return value


def _outcome(name: str, value: Json) -> str:
    if value not in ("complete", "failed"):
        raise BadParam(name, "should be complete or failed", value)
    return token(value)


PAY_PARAMS = (
    Param("bolt11", params.invstring),
    opt("amount_msat", params.msat),
    opt("label", params.label),
    opt("riskfactor", params.raw),
    opt("maxfeepercent", params.raw),
    opt("retry_for", params.integer),
    opt("maxdelay", params.u32),
    opt("exemptfee", params.raw),
    opt("localinvreqid", params.hash32),
    opt("exclude", params.raw),
    opt("maxfee", params.msat),
    opt("description", params.raw),
    opt("partial_msat", params.msat),
    opt("dev_use_shadow", params.boolean),
)
KEYSEND_PARAMS = (
    Param("destination", params.node_id),
    Param("amount_msat", params.msat),
    opt("label", params.label),
    opt("maxfeepercent", params.raw),
    opt("retry_for", params.integer),
    opt("maxdelay", params.u32),
    opt("exemptfee", params.raw),
    opt("extratlvs", extra_tlvs),
    opt("routehints", params.array),
    opt("maxfee", params.msat),
    opt("dev_use_shadow", params.boolean),
)
XPAY_PARAMS = (
    Param("invstring", params.invstring),
    opt("amount_msat", params.msat),
    opt("maxfee", params.msat),
    opt("layers", params.array),
    opt("retry_for", params.integer),
    opt("partial_msat", params.msat),
    opt("maxdelay", params.u32),
)
XPAY_PARAMS_SINCE_26_06 = (
    opt("payer_note", params.string),
    opt("label", params.label),
    opt("localinvreqid", params.hash32),
)
DEV_PARAMS = (opt("dev_use_shadow", params.boolean),)


def usage_of(name: str, settings: Settings) -> str | None:
    """Return the parameters of pay and keysend as `help` prints them; None for other commands."""
    is_deprecated = settings.is_since("26.06")
    if name == "pay":
        usage = params.usage(PAY_PARAMS)
        return usage.replace("bolt11", "invstring", 1) if is_deprecated else usage
    if name == "keysend":
        return ("(DEPRECATED!) " if is_deprecated else "") + params.usage(KEYSEND_PARAMS)
    return None


def commands_of(settings: Settings) -> dict[str, tuple[Any, ...]]:
    """Return the commands of the version that the double plays."""
    is_new = settings.is_since("26.06")
    removed = set() if is_new else {"xkeysend"}
    removed |= {"pay", "keysend"} if settings.is_since("27.03") else set()
    commands = {name: command for name, command in _COMMANDS.items() if name not in removed}
    added = XPAY_PARAMS_SINCE_26_06 if is_new else ()
    return {**commands, "xpay": (xpay, *XPAY_PARAMS, *added, *DEV_PARAMS)}


_COMMANDS: dict[str, tuple[Any, ...]] = {
    "pay": (pay, params.ANYTHING),
    "xkeysend": (
        xkeysend,
        Param("destination", params.pubkey),
        Param("amount_msat", params.msat),
        opt("label", params.label),
        opt("maxfee", params.msat),
        opt("layers", params.array),
        opt("retry_for", params.integer),
        opt("maxdelay", params.u32),
        opt("extratlvs", extra_tlvs),
    ),
    "keysend": (keysend, *KEYSEND_PARAMS),
    "dev-payment-release": (
        dev_payment_release,
        opt("payment_hash", params.hash32),
        opt("outcome", _outcome, "complete"),
        opt("code", params.signed, UNSPECIFIED_ERROR),
        opt("message", params.string, "Failed after 1 attempts."),
        opt("preimage", params.preimage),
    ),
    "dev-payments-held": (dev_payments_held,),
    "dev-keysends": (dev_keysends,),
    "dev-pay-commands": (dev_pay_commands,),
    "getroutes": (
        getroutes,
        Param("source", params.node_id),
        Param("destination", params.node_id),
        Param("amount_msat", params.msat),
        Param("layers", params.array),
        Param("maxfee_msat", params.msat),
        opt("final_cltv", params.u32),
        opt("maxdelay", params.u32),
        opt("maxparts", params.u32),
    ),
    "listnodes": (listnodes, Param("id", params.node_id)),
    "askrene-listreservations": (askrene_listreservations, opt("layers", params.array)),
    "dev-unreachable": (dev_unreachable, Param("destinations", params.array)),
}
