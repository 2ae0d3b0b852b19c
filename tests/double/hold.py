"""The commands of Boltz's plugin `hold` (v0.3.3), once dev-hold has switched it on.

dev-hold-pay plays a payer: each call adds one HTLC.
"""

import hashlib
import json
import time
from typing import TYPE_CHECKING

from tests.double import bolt11, params
from tests.double.bolt11 import Bolt11Error
from tests.double.jsonio import Json
from tests.double.params import Param, RpcError, opt

if TYPE_CHECKING:
    from tests.double.node import Node

SCHEMA = "CREATE TABLE IF NOT EXISTS holds (payment_hash TEXT PRIMARY KEY, listed TEXT)"
IS_THERE = "hold"
# What `hold` answers whatever is wrong.
ERROR = -32700
# In the stored invoice, and not shown.
_HELD = "held"
UNPAID, ACCEPTED, PAID, CANCELLED = "unpaid", "accepted", "paid", "cancelled"
BLOCKS_LEFT = 160


class HoldError(RpcError):
    """An error of `hold`, which has a code and a field `data` that say nothing."""

    def __init__(self, message: str) -> None:
        super().__init__(ERROR, message)

    def as_json(self) -> Json:
        return {**super().as_json(), "data": None}


def injectholdinvoice(node: "Node", invoice: str, min_cltv: int | None) -> Json:
    """Accept payments of an invoice of this node."""
    try:
        content = bolt11.decode(invoice)
    except Bolt11Error as error:
        raise HoldError(f"{error}") from error
    if content.payee.hex() != node.id:
        raise HoldError("invoice is not related to us")
    payment_hash = content.payment_hash.hex()
    if _find(node, payment_hash) is not None:
        raise HoldError("UNIQUE constraint failed: invoices.payment_hash")
    listed = {
        "id": node.state.next("hold_id"),
        "payment_hash": payment_hash,
        "invoice": invoice,
        "state": UNPAID,
        **({} if min_cltv is None else {"min_cltv": min_cltv}),
        "created_at": _now(),
        "htlcs": [],
    }
    _put(node, listed)
    return {}


def listholdinvoices(node: "Node", payment_hash: bytes | None, bolt11: str | None) -> Json:
    """List one invoice, or all of them."""
    if payment_hash is not None:
        found = _find(node, payment_hash.hex())
        rows = [] if found is None else [found]
    else:
        rows = _all(node)
    shown = [{name: value for name, value in row.items() if name != _HELD} for row in rows]
    return {"holdinvoices": shown}


def settleholdinvoice(node: "Node", preimage: bytes) -> Json:
    """Settle what is accepted. Unlike `hold`, it does not give the preimage away for a part."""
    listed = _existing(node, hashlib.sha256(preimage).hexdigest())
    if listed["state"] == PAID:
        return {}
    if not [htlc for htlc in listed["htlcs"] if htlc["state"] == ACCEPTED]:
        raise HoldError("no HTLCs to settle")
    if listed["state"] != ACCEPTED:
        raise HoldError(f"invoice state transition ({listed['state']} -> paid)")
    _end(node, {**listed, "preimage": preimage.hex(), "settled_at": _now()}, PAID)
    return {}


def cancelholdinvoice(node: "Node", payment_hash: bytes) -> Json:
    """Cancel an invoice that is not paid."""
    listed = _existing(node, payment_hash.hex())
    if listed["state"] == PAID:
        raise HoldError("state paid is final")
    _end(node, listed, CANCELLED)
    return {}


def dev_hold(node: "Node", there: bool) -> Json:
    """Start or stop `hold`."""
    node.state.put(IS_THERE, int(there))
    for name, command in COMMANDS.items():
        if there:
            node.commands[name] = command
        else:
            node.commands.pop(name, None)
    return {}


def dev_hold_pay(node: "Node", payment_hash: bytes, amount_msat: int | None, blocks: int | None) -> Json:
    """Simulate an HTLC of a payer, by default of the whole amount; it expires after some blocks."""
    listed = _existing(node, payment_hash.hex())
    if listed["state"] != UNPAID:
        raise HoldError(f"invoice is in state: {listed['state']}")
    wanted = bolt11.decode(listed["invoice"]).amount_msat or 0
    height = 101 + int(node.state.get("blocks") or 0)
    htlc = {
        "id": node.state.next("hold_htlc_id"),
        "invoice_id": listed["id"],
        "state": ACCEPTED,
        "scid": "103x1x0",
        "channel_id": len(listed["htlcs"]),
        "msat": wanted if amount_msat is None else amount_msat,
        "cltv_expiry": height + (BLOCKS_LEFT if blocks is None else blocks),
        "created_at": _now(),
    }
    listed["htlcs"].append(htlc)
    arrived = sum(one["msat"] for one in listed["htlcs"] if one["state"] == ACCEPTED)
    listed["state"] = ACCEPTED if arrived >= wanted else UNPAID
    _put(node, listed)
    return dict(listed)


def dev_hold_htlcs(node: "Node", payment_hash: bytes, held: bool) -> Json:
    """Let lightningd hold the HTLCs of an invoice, whatever `hold` says of them, or hold none."""
    _put(node, _existing(node, payment_hash.hex()) | {_HELD: held})
    return {}


def held_htlcs(node: "Node") -> list[Json]:
    """Return what `listpeerchannels` shows of the HTLCs of hold invoices: the accepted ones."""
    return [
        {
            "direction": "in",
            "id": htlc["channel_id"],
            "amount_msat": htlc["msat"],
            "expiry": htlc["cltv_expiry"],
            "payment_hash": listed["payment_hash"],
            "state": "RCVD_ADD_ACK_REVOCATION",
        }
        for listed in _all(node)
        for htlc in listed["htlcs"]
        if listed.get(_HELD, htlc["state"] == ACCEPTED)
    ]


def _end(node: "Node", listed: Json, state: str) -> None:
    for htlc in listed["htlcs"]:
        if htlc["state"] == ACCEPTED:
            htlc["state"] = state
    _put(node, {**listed, "state": state})


def _put(node: "Node", listed: Json) -> None:
    row = (listed["payment_hash"], json.dumps(listed))
    node.state.db.execute("INSERT OR REPLACE INTO holds VALUES (?, ?)", row)


def _find(node: "Node", payment_hash: str) -> Json:
    row = node.state.db.execute(
        "SELECT listed FROM holds WHERE payment_hash = ?", (payment_hash,)
    ).fetchone()
    return None if row is None else json.loads(row["listed"])


def _all(node: "Node") -> list[Json]:
    return [json.loads(row["listed"]) for row in node.state.db.execute("SELECT listed FROM holds")]


def _existing(node: "Node", payment_hash: str) -> Json:
    found = _find(node, payment_hash)
    if found is None:
        raise HoldError("invoice not found")
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())


COMMANDS = {
    "injectholdinvoice": (
        injectholdinvoice,
        Param("invoice", params.string),
        opt("min_cltv", params.u64),
    ),
    "listholdinvoices": (
        listholdinvoices,
        opt("payment_hash", params.hash32),
        opt("bolt11", params.string),
    ),
    "settleholdinvoice": (settleholdinvoice, Param("preimage", params.preimage)),
    "cancelholdinvoice": (cancelholdinvoice, Param("payment_hash", params.hash32)),
}
DEV_COMMANDS = {
    "dev-hold-htlcs": (
        dev_hold_htlcs,
        Param("payment_hash", params.hash32),
        Param("held", params.boolean),
    ),
    "dev-hold": (dev_hold, Param("there", params.boolean)),
    "dev-hold-pay": (
        dev_hold_pay,
        Param("payment_hash", params.hash32),
        opt("amount_msat", params.u64),
        opt("blocks", params.u64),
    ),
}
