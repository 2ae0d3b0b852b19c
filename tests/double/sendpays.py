"""The table of outgoing parts, after wallet/wallet.c: a part is pending, then complete or failed."""

import sqlite3
import time

from tests.double.jsonio import Json
from tests.double.state import State


def add(state: State, row: Json) -> int:
    """Store a part, whose fields are the columns, and return its created_index."""
    row = {"status": "pending", "created_at": int(time.time()), **row}
    if row["status"] != "pending":
        # lightningd stores it as pending first, so this is an update.
        row["updated_index"] = state.next("sendpay_updated_index")
    marks = ", ".join("?" * len(row))
    cursor = state.db.execute(
        f"INSERT INTO sendpays ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
    )
    assert cursor.lastrowid
    return cursor.lastrowid


def resolve(
    state: State,
    created_index: int,
    preimage: bytes | None,
    at: int | None = None,
    *,
    has_onion: bool = True,
) -> None:
    """Complete a part; without a preimage, mark it as failed, with the error's onion if it has one."""
    status = "failed" if preimage is None else "complete"
    state.db.execute(
        "UPDATE sendpays SET status = ?, payment_preimage = ?, erroronion = ?, completed_at = ?,"
        " updated_index = ? WHERE id = ?",
        (
            status,
            preimage,
            None if preimage or not has_onion else bytes(292),
            int(time.time()) if at is None else at,
            state.next("sendpay_updated_index"),
            created_index,
        ),
    )


def of_hash(state: State, payment_hash: bytes) -> list[sqlite3.Row]:
    """Return the parts of all attempts to pay a hash, oldest first."""
    query = "SELECT * FROM sendpays WHERE payment_hash = ? ORDER BY id"
    return state.db.execute(query, (payment_hash,)).fetchall()


def page(
    state: State, status: str | None, index: str | None, start: int, limit: int | None
) -> list[sqlite3.Row]:
    """Return a page of all parts; the index `updated` omits parts that were never updated."""
    column = "updated_index" if index == "updated" else "id"
    query = (
        f"SELECT * FROM sendpays WHERE {column} >= ? AND (? IS NULL OR status = ?)"
        f" ORDER BY {column} LIMIT ?"
    )
    start = min(start, 2**63 - 1)
    return state.db.execute(query, (start, status, status, -1 if limit is None else limit)).fetchall()


def as_json(row: sqlite3.Row) -> Json:
    """Return a part as listsendpays shows it."""
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
        "label": row["label"],
        "bolt11": row["bolt11"],
        "bolt12": row["bolt12"],
        "description": row["description"],
        "erroronion": row["erroronion"] and row["erroronion"].hex(),
    }
    return {name: value for name, value in fields.items() if value is not None}
