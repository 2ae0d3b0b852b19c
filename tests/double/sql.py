"""The `sql` commands, after plugins/sql.c: read-only queries over a mirror of invoices and payments.

The mirror is filled as in lightningd: new rows by `created_index`, changed rows by `updated_index`,
all rows again after a deletion. Text in it has the escapes of the JSON token, because lightningd's
plugin does not decode it.
"""

import re
import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.double import invoices, params, sendpays
from tests.double.jsonio import Json
from tests.double.params import LIGHTNINGD, BadParam, Param, RpcError, opt
from tests.double.state import State

if TYPE_CHECKING:
    from tests.double.node import Node

# As `listsqlschemas` shows them.
TABLES: dict[str, dict[str, str]] = {
    "invoices": {
        "label": "TEXT",
        "description": "TEXT",
        "payment_hash": "BLOB",
        "status": "TEXT",
        "expires_at": "INTEGER",
        "amount_msat": "INTEGER",
        "bolt11": "TEXT",
        "bolt12": "TEXT",
        "local_offer_id": "BLOB",
        "invreq_payer_note": "TEXT",
        "created_index": "INTEGER",
        "updated_index": "INTEGER",
        "pay_index": "INTEGER",
        "amount_received_msat": "INTEGER",
        "paid_at": "INTEGER",
        "paid_outpoint_txid": "BLOB",
        "paid_outpoint_outnum": "INTEGER",
        "payment_preimage": "BLOB",
    },
    "sendpays": {
        "created_index": "INTEGER",
        "id": "INTEGER",
        "groupid": "INTEGER",
        "partid": "INTEGER",
        "payment_hash": "BLOB",
        "updated_index": "INTEGER",
        "status": "TEXT",
        "amount_msat": "INTEGER",
        "destination": "BLOB",
        "created_at": "INTEGER",
        "amount_sent_msat": "INTEGER",
        "label": "TEXT",
        "bolt11": "TEXT",
        "description": "TEXT",
        "bolt12": "TEXT",
        "completed_at": "INTEGER",
        "payment_preimage": "BLOB",
        "erroronion": "BLOB",
    },
}
SOURCES = {"invoices": invoices.as_json, "sendpays": sendpays.as_json}
DELETED = {"invoices": "invoice_deleted_index", "sendpays": "sendpay_deleted_index"}

FUNCTIONS = frozenset(
    (  # noqa: SIM905 - a table of words
        "abs avg coalesce count hex quote length like lower upper min max sum total date datetime"
        " julianday strftime time timediff unixepoch json_object json_group_array"
    ).split()
)
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 1000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 1,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 500,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 100,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 1,
}
_SHORT_ESCAPES = {"\n": "\\n", "\b": "\\b", "\f": "\\f", "\r": "\\r", "\t": "\\t"}


class Mirror:
    """The database of lightningd's sql plugin, in memory."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        for limit, value in LIMITS.items():
            self._db.setlimit(limit, value)
        for table, columns in TABLES.items():
            listed = ", ".join(
                f"{name} {type_}" + (" PRIMARY KEY" if name == "created_index" else "")
                for name, type_ in columns.items()
            )
            self._db.execute(f"CREATE TABLE {table} ({listed})")
            self._db.execute(f"CREATE INDEX {table}_idx ON {table} (payment_hash)")
        self._deleted = dict.fromkeys(TABLES, 0)
        self._updated = dict.fromkeys(TABLES, 0)

    def query(self, query: str) -> list[list[Json]]:
        """Return the rows of a query's first statement; any others are ignored.

        Raises:
            RpcError: it is malformed, or would do more than read.

        """
        for table in TABLES:
            self._refresh(table)
        denied: list[str] = []
        self._db.set_authorizer(lambda *what: _authorize(denied, *what))
        try:
            cursor = self._db.execute(_first_statement(query))
        except sqlite3.Error as error:
            reason = f" ({denied[0]})" if denied else ""
            raise RpcError(LIGHTNINGD, f"query failed with {error}{reason}") from error
        finally:
            self._db.set_authorizer(None)
        if cursor.description is None:
            raise RpcError(LIGHTNINGD, "Executing statement: not an error")
        try:
            return [[_shown(value) for value in row] for row in cursor]
        except sqlite3.Error as error:
            raise RpcError(LIGHTNINGD, f"Executing statement: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _refresh(self, table: str) -> None:
        deleted = int(self._state.get(DELETED[table]) or 0)
        if deleted != self._deleted[table]:
            self._db.execute(f"DELETE FROM {table}")
            self._deleted[table], self._updated[table] = deleted, 0
        newest = _highest(self._db, table, "created_index")
        # The plus stops SQLite from scanning all rows by `id`.
        self._copy(table, f"updated_index > {self._updated[table]:d} AND +id <= {newest:d}")
        self._copy(table, f"id > {newest:d}")
        self._updated[table] = _highest(self._state.db, table, "updated_index")

    def _copy(self, table: str, condition: str) -> None:
        columns, as_json = TABLES[table], SOURCES[table]
        marks = ", ".join("?" * len(columns))
        rows = self._state.db.execute(f"SELECT * FROM {table} WHERE {condition}")
        listed = (
            [_stored(fields.get(name), type_) for name, type_ in columns.items()]
            for fields in map(as_json, rows)
        )
        self._db.execute("BEGIN")
        self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", listed)
        self._db.execute("COMMIT")


def sql(node: "Node", query: str) -> Json:
    """Return the rows of a query over the mirror."""
    return {"rows": node.mirror.query(query)}


def listsqlschemas(node: "Node", table: str | None) -> Json:
    """List the tables."""
    if table is not None and table not in TABLES:
        raise BadParam("table", "Unknown table", table)
    return {
        "schemas": [
            {
                "tablename": name,
                "columns": [{"name": column, "type": type_} for column, type_ in columns.items()],
                "indices": [["payment_hash"]],
            }
            for name, columns in TABLES.items()
            if table in (None, name)
        ]
    }


def _highest(db: sqlite3.Connection, table: str, column: str) -> int:
    highest: int = db.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()[0]
    return highest


def _authorize(denied: list[str], code: int, *args: str | None) -> int:
    if code == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if code == sqlite3.SQLITE_READ:
        if args[0] in TABLES:
            return sqlite3.SQLITE_OK
        denied.append(f"Unknown table {args[0]}")
        return sqlite3.SQLITE_DENY
    if code == sqlite3.SQLITE_FUNCTION and args[1] in FUNCTIONS:
        return sqlite3.SQLITE_OK
    shown = [arg or "(none)" for arg in args]
    names = ("arg1", "arg2", "dbname", "caller")
    listed = " ".join(f"{name}={value}" for name, value in zip(names, shown, strict=True))
    denied.append(f"Unauthorized: {code} {listed}")
    return sqlite3.SQLITE_DENY


def _first_statement(query: str) -> str:
    for match in re.finditer(";", query):
        if sqlite3.complete_statement(query[: match.end()]):
            return query[: match.end()]
    return query


def _stored(value: Json, type_: str) -> Json:
    if value is None:
        return None
    if type_ == "BLOB":
        return bytes.fromhex(value)
    return _escaped(value) if type_ == "TEXT" else value


def _escaped(text: str) -> str:
    return "".join(_escapes(text)) if re.search(r'["\\\x00-\x1f\x7f]', text) else text


def _escapes(text: str) -> Iterable[str]:
    for letter in text:
        if letter in '"\\':
            yield "\\" + letter
        elif letter in _SHORT_ESCAPES:
            yield _SHORT_ESCAPES[letter]
        elif letter < " " or letter == "\x7f":
            yield f"\\u{ord(letter):04X}"
        else:
            yield letter


def _shown(value: Json) -> Json:
    if isinstance(value, bytes):
        return value.hex()
    return float(f"{value:f}") if isinstance(value, float) else value


COMMANDS = {
    "sql": (sql, Param("query", params.string)),
    "listsqlschemas": (listsqlschemas, opt("table", params.string)),
}
