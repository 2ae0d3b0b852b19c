"""Outgoing payments: what dev-payment has written down, by lightningd/pay.c and xpay/listpays.c."""

import hashlib
import secrets
import sqlite3
import time
from typing import TYPE_CHECKING

from tests.double import bolt11 as bolt11_
from tests.double import params
from tests.double.bolt11 import Bolt11Error
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
    parts: list[Json],
) -> Json:
    """Write down a payment by its parts, or change parts that are there (same groupid and partid).

    A part has fields of listsendpays; each has a default: status `complete`, amount_msat 1000,
    amount_sent_msat the same, created_at and completed_at now, groupid 1, partid by position.
    """
    preimage = preimage or secrets.token_bytes(32)
    if payment_hash is None:
        payment_hash = _hash_of(bolt11, preimage)
    destination = _destination_of(bolt11)
    for number, part in enumerate(parts, start=1):
        given = {"groupid": 1, "partid": number, **part}
        row = _part(given, preimage)
        # lightningd stores these only with the first part of a group.
        first = given["partid"] <= 1
        _put(
            node,
            {
                **row,
                "payment_hash": payment_hash,
                "destination": destination,
                "bolt11": bolt11 if first else None,
                "bolt12": bolt12 if first else None,
                "description": description if first else None,
            },
        )
    return listsendpays(node, None, payment_hash, None)


def listsendpays(
    node: "Node", bolt11: str | None, payment_hash: bytes | None, status: str | None, **_ignored: Json
) -> Json:
    """List parts and attempts, oldest first."""
    return {"payments": [as_json(row) for row in _rows(node, bolt11, payment_hash, status)]}


def listpays(
    node: "Node", bolt11: str | None, payment_hash: bytes | None, status: str | None, **_ignored: Json
) -> Json:
    """List payments: the parts of one attempt (groupid) are one entry."""
    if bolt11 is not None and payment_hash is not None:
        message = "Can only specify one of {bolt11} or {payment_hash}"
        raise RpcError(INVALID_PARAMS, message)
    groups: dict[tuple[bytes, int], list[sqlite3.Row]] = {}
    for row in _rows(node, bolt11, payment_hash, None):
        groups.setdefault((row["payment_hash"], row["groupid"]), []).append(row)
    pays = [_merged(rows) for rows in groups.values()]
    return {"pays": [pay for pay in pays if status in (None, pay["status"])]}


def as_json(row: sqlite3.Row) -> Json:
    """Show a part as listsendpays does."""
    fields = {
        "created_index": row["id"],
        "id": row["id"],
        "payment_hash": row["payment_hash"].hex(),
        "groupid": row["groupid"],
        "updated_index": row["updated_index"],
        "partid": row["partid"] or None,
        "destination": row["destination"] and row["destination"].hex(),
        "amount_msat": row["amount_msat"] or None,
        "amount_sent_msat": row["amount_sent_msat"],
        "created_at": row["created_at"],
        "completed_at": row["completed_at"],
        "status": row["status"],
        "payment_preimage": row["payment_preimage"] and row["payment_preimage"].hex(),
        "bolt11": row["bolt11"],
        "bolt12": row["bolt12"],
        "description": row["description"],
    }
    return {name: value for name, value in fields.items() if value is not None}


def _hash_of(bolt11: str | None, preimage: bytes) -> bytes:
    if bolt11 is None:
        return hashlib.sha256(preimage).digest()
    try:
        return bolt11_.decode(bolt11, check_signature=False).payment_hash
    except Bolt11Error as error:
        raise RpcError(INVALID_PARAMS, f"{error}; give payment_hash as well") from error


def _destination_of(bolt11: str | None) -> bytes | None:
    """A payment that dev-payment gives no proper invoice for has none, as one to a blinded path."""
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
    if db.execute(f"SELECT 1 FROM sendpays WHERE {where}", key).fetchone():
        changed = {n: row[n] for n in ("status", "completed_at", "payment_preimage")}
        changed["updated_index"] = node.state.next("sendpay_updated_index")
        listed = ", ".join(f"{name} = ?" for name in changed)
        db.execute(f"UPDATE sendpays SET {listed} WHERE {where}", (*changed.values(), *key))
    else:
        # lightningd makes it pending first.
        if row["status"] != "pending":
            row = {**row, "updated_index": node.state.next("sendpay_updated_index")}
        marks = ", ".join("?" * len(row))
        db.execute(f"INSERT INTO sendpays ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def _rows(
    node: "Node", bolt11: str | None, payment_hash: bytes | None, status: str | None
) -> list[sqlite3.Row]:
    if bolt11 is not None:
        try:
            payment_hash = bolt11_.decode(bolt11, check_signature=False).payment_hash
        except Bolt11Error as error:
            raise RpcError(INVALID_PARAMS, f"Invalid invstring: {error}") from error
    query = (
        "SELECT * FROM sendpays WHERE (? IS NULL OR payment_hash = ?) AND (? IS NULL OR status = ?)"
        " ORDER BY id"
    )
    return node.state.db.execute(query, (payment_hash, payment_hash, status, status)).fetchall()


def _merged(rows: list[sqlite3.Row]) -> Json:
    states = {row["status"] for row in rows}
    status = next(s for s in ("complete", "pending", "failed") if s in states)
    counted = [row for row in rows if row["status"] != "failed"]
    complete = [row for row in rows if row["status"] == "complete"]
    fields = {
        "bolt11": _first(rows, "bolt11"),
        "bolt12": _first(rows, "bolt12"),
        "description": _first(rows, "description"),
        "payment_hash": rows[0]["payment_hash"].hex(),
        "destination": rows[0]["destination"] and rows[0]["destination"].hex(),
        "status": status,
        "created_at": rows[0]["created_at"],
        "completed_at": min((row["completed_at"] for row in complete), default=None),
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
    opt("index", params.raw),
    opt("start", params.raw),
    opt("limit", params.raw),
)
COMMANDS = {"listsendpays": (listsendpays, *_PARAMS), "listpays": (listpays, *_PARAMS)}
