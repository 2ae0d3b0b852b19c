"""Lists of outgoing payments, after lightningd/pay.c and xpay/listpays.c; dev-payment adds some."""

import hashlib
import secrets
import sqlite3
import time
from typing import TYPE_CHECKING

from tests.double import bolt11 as bolt11_
from tests.double import bolt12 as bolt12_
from tests.double import params, sendpays
from tests.double.bolt11 import Bolt11Error
from tests.double.bolt12 import Bolt12Error
from tests.double.jsonio import Json, token
from tests.double.params import INVALID_PARAMS, BadParam, RpcError, opt

if TYPE_CHECKING:
    from tests.double.node import Node

STATUSES = ("pending", "complete", "failed")


def dev_payment(
    node: "Node",
    bolt11: str | None,
    bolt12: str | None,
    payment_hash: bytes | None,
    preimage: bytes | None,
    description: str | None,
    label: str | None,
    parts: list[Json],
) -> Json:
    """Store the parts of a payment, or change existing parts (same groupid and partid).

    A part has the fields of listsendpays. The defaults: status `complete`, amount_msat 1000,
    amount_sent_msat the same, created_at and completed_at now, groupid 1, partid by position.
    """
    preimage = preimage or secrets.token_bytes(32)
    if payment_hash is None:
        payment_hash = _hash_of(bolt11, preimage)
    destination = _destination_of(bolt11)
    for number, part in enumerate(parts, start=1):
        given = {"groupid": 1, "partid": number, **part}
        row = _part(given, preimage)
        # `pay` stores these only with the first part of a group, xpay with each.
        is_first = given["partid"] <= 1
        _put(
            node,
            {
                **row,
                "payment_hash": payment_hash,
                "destination": destination,
                "bolt11": bolt11 if is_first else None,
                "bolt12": bolt12 if is_first else None,
                "description": description if is_first else None,
                "label": label if is_first else None,
            },
        )
    return _listed(sendpays.of_hash(node.state, payment_hash))


def listsendpays(
    node: "Node",
    bolt11: str | None,
    payment_hash: bytes | None,
    status: str | None,
    index: str | None,
    start: int,
    limit: int | None,
) -> Json:
    """List parts and attempts, oldest first."""
    return _listed(_rows(node, bolt11, payment_hash, status, index, start, limit))


def listpays(
    node: "Node",
    bolt11: str | None,
    payment_hash: bytes | None,
    status: str | None,
    index: str | None,
    start: int,
    limit: int | None,
) -> Json:
    """List payments; the parts of one attempt (groupid) are one entry."""
    groups: dict[tuple[bytes, int], list[sqlite3.Row]] = {}
    for row in _rows(node, bolt11, payment_hash, status, index, start, limit):
        groups.setdefault((row["payment_hash"], row["groupid"]), []).append(row)
    return {"pays": [_merged(node, rows) for rows in groups.values()]}


def _listed(rows: list[sqlite3.Row]) -> Json:
    return {"payments": [sendpays.as_json(row) for row in rows]}


def _rows(
    node: "Node",
    bolt11: str | None,
    payment_hash: bytes | None,
    status: str | None,
    index: str | None,
    start: int,
    limit: int | None,
) -> list[sqlite3.Row]:
    """Return the rows that lightningd would: with a hash it ignores status, index and limit."""
    if bolt11 is not None and payment_hash is not None:
        message = "Can only specify one of {bolt11} or {payment_hash}"
        raise RpcError(INVALID_PARAMS, message)
    if start and not index:
        raise RpcError(INVALID_PARAMS, "Can only specify {start} with {index}")
    if limit is not None and not index:
        raise RpcError(INVALID_PARAMS, "Can only specify {limit} with {index}")
    if start and (bolt11 is not None or payment_hash is not None):
        raise RpcError(INVALID_PARAMS, "Cannot use start with bolt11 or payment_hash")
    if bolt11 is not None:
        payment_hash = _hash_of_invstring(node, bolt11)
    if payment_hash is not None:
        return sendpays.of_hash(node.state, payment_hash)
    return sendpays.page(node.state, status, index, start, limit)


def _hash_of_invstring(node: "Node", invstring: str) -> bytes:
    if invstring.startswith("lni"):
        return _hash_of_bolt12(invstring)
    try:
        currency = bolt11_.CURRENCIES[node.settings.network]
        return bolt11_.decode(invstring, currency=currency).payment_hash
    except Bolt11Error as error:
        # lightningd tries BOLT12 last, so the message is about that.
        raise RpcError(INVALID_PARAMS, "Invalid invstring: invalid bech32 string") from error


def _hash_of_bolt12(invstring: str) -> bytes:
    try:
        return bytes.fromhex(bolt12_.decode(invstring)["invoice_payment_hash"])
    except (Bolt12Error, KeyError) as error:
        raise RpcError(INVALID_PARAMS, f"Invalid invstring: {error}") from error


def _hash_of(bolt11: str | None, preimage: bytes) -> bytes:
    if bolt11 is None:
        return hashlib.sha256(preimage).digest()
    try:
        return bolt11_.decode(bolt11, check_signature=False).payment_hash
    except Bolt11Error as error:
        raise RpcError(INVALID_PARAMS, f"{error}; give payment_hash as well") from error


def _destination_of(bolt11: str | None) -> bytes | None:
    """Return the payee; None without a valid invoice, as for a payment to a blinded path."""
    try:
        return bolt11_.decode(bolt11).payee if bolt11 is not None else None
    except Bolt11Error:
        return None


def _part(given: Json, preimage: bytes) -> Json:
    status, now = given.get("status", "complete"), int(time.time())
    amount_msat = given.get("amount_msat", 1000)
    created_at = given.get("created_at", now)
    return {
        "groupid": given["groupid"],
        "partid": given["partid"],
        "status": status,
        "amount_msat": amount_msat,
        "amount_sent_msat": given.get("amount_sent_msat", amount_msat),
        "created_at": created_at,
        "completed_at": None if status == "pending" else given.get("completed_at", created_at),
        "payment_preimage": preimage if status == "complete" else None,
    }


def _put(node: "Node", row: Json) -> None:
    db = node.state.db
    key = (row["payment_hash"], row["groupid"], row["partid"])
    where = "payment_hash = ? AND groupid = ? AND partid = ?"
    if not db.execute(f"SELECT 1 FROM sendpays WHERE {where}", key).fetchone():
        sendpays.add(node.state, row)
        return
    changed = {n: row[n] for n in ("status", "completed_at", "payment_preimage")}
    changed["updated_index"] = node.state.next("sendpay_updated_index")
    listed = ", ".join(f"{name} = ?" for name in changed)
    db.execute(f"UPDATE sendpays SET {listed} WHERE {where}", (*changed.values(), *key))


def _merged(node: "Node", rows: list[sqlite3.Row]) -> Json:
    counted = [row for row in rows if row["status"] != "failed"]
    complete = [row for row in rows if row["status"] == "complete"]
    fields = {
        "bolt11": _first(rows, "bolt11"),
        "bolt12": _first(rows, "bolt12"),
        "description": _first(rows, "description"),
        "payment_hash": rows[0]["payment_hash"].hex(),
        "destination": rows[0]["destination"] and rows[0]["destination"].hex(),
        "status": _merged_status(node, rows),
        "created_at": rows[0]["created_at"],
        "completed_at": min((row["completed_at"] for row in complete), default=None),
        "label": rows[0]["label"],
        "preimage": complete[-1]["payment_preimage"].hex() if complete else None,
        "amount_msat": sum(row["amount_msat"] for row in counted)
        if counted and all(row["amount_msat"] for row in counted)
        else None,
        "amount_sent_msat": sum(row["amount_sent_msat"] for row in counted),
        "number_of_parts": len(counted) if len(counted) > 1 else None,
        "created_index": rows[0]["id"],
        "updated_index": max((row["updated_index"] or 0) for row in rows) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _merged_status(node: "Node", rows: list[sqlite3.Row]) -> str:
    states = {row["status"] for row in rows}
    if "complete" in states:
        return "complete"
    is_pending = "pending" in states or node.payer.is_paying(rows[0]["payment_hash"])
    return "pending" if is_pending else "failed"


def _first(rows: list[sqlite3.Row], column: str) -> Json:
    return next((row[column] for row in rows if row[column] is not None), None)


def _status(name: str, value: Json) -> str:
    if value not in STATUSES:
        raise BadParam(name, "should be an invoice status", value)
    return token(value)


_PARAMS = (
    opt("bolt11", params.invstring),
    opt("payment_hash", params.hash32),
    opt("status", _status),
    opt("index", params.index),
    opt("start", params.u64, 0),
    opt("limit", params.u32),
)
COMMANDS = {"listsendpays": (listsendpays, *_PARAMS), "listpays": (listpays, *_PARAMS)}
