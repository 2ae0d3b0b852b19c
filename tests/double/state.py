"""The stored state of the double: one SQLite file, one transaction per request.

lightningd opens a transaction before every request and commits it afterwards. So does the double;
`commits` counts the transactions that wrote something.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS vars (name TEXT PRIMARY KEY, value);
CREATE TABLE IF NOT EXISTS datastore (key BLOB PRIMARY KEY, data BLOB, generation INTEGER);
CREATE TABLE IF NOT EXISTS invoices (
    id INTEGER PRIMARY KEY AUTOINCREMENT, label TEXT UNIQUE, payment_hash BLOB UNIQUE,
    preimage BLOB, bolt11 TEXT, amount_msat TEXT, description TEXT, status TEXT DEFAULT 'unpaid',
    expires_at INTEGER, pay_index INTEGER, amount_received_msat TEXT, paid_at INTEGER,
    updated_index INTEGER, bolt12 TEXT, local_offer_id BLOB);
CREATE INDEX IF NOT EXISTS invoices_expiry ON invoices (status, expires_at);
CREATE INDEX IF NOT EXISTS invoices_updated ON invoices (updated_index);
CREATE INDEX IF NOT EXISTS invoices_paid ON invoices (pay_index);
CREATE TABLE IF NOT EXISTS sendpays (
    id INTEGER PRIMARY KEY AUTOINCREMENT, payment_hash BLOB, groupid INTEGER, partid INTEGER,
    updated_index INTEGER, status TEXT, amount_msat INTEGER, amount_sent_msat INTEGER,
    created_at INTEGER, completed_at INTEGER, payment_preimage BLOB, bolt11 TEXT, bolt12 TEXT,
    destination BLOB, description TEXT, label TEXT, erroronion BLOB,
    UNIQUE (payment_hash, groupid, partid));
CREATE INDEX IF NOT EXISTS sendpays_updated ON sendpays (updated_index);
CREATE TABLE IF NOT EXISTS preimages (payment_hash BLOB PRIMARY KEY, preimage BLOB);
"""


class State:
    """The database."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path)
        self.db.row_factory = sqlite3.Row
        # Writes survive a killed process without it; only a power cut would lose them.
        self.db.execute("PRAGMA synchronous = OFF")
        self.db.executescript(SCHEMA)
        self.commits: Counter[str] = Counter()
        self.after_commit: Callable[[], None] = lambda: None

    def commit(self, method: str) -> None:
        """End the transaction of a request."""
        if self.db.in_transaction:
            self.commits[method] += 1
        self.db.commit()
        self.after_commit()

    def rollback(self) -> None:
        """Discard the writes of a failed request."""
        self.db.rollback()

    def get(self, name: str) -> bytes | int | str | None:
        """Return a variable; None if it is not set."""
        row = self.db.execute("SELECT value FROM vars WHERE name = ?", (name,)).fetchone()
        value: bytes | int | str | None = row and row["value"]
        return value

    def put(self, name: str, value: bytes | int | str) -> None:
        """Set a variable."""
        self.db.execute("INSERT OR REPLACE INTO vars VALUES (?, ?)", (name, value))

    def secret(self, name: str, fresh: bytes) -> bytes:
        """Return a secret; the first time, store and return `fresh`."""
        value = self.get(name)
        if isinstance(value, bytes):
            return value
        self.put(name, fresh)
        self.db.commit()
        return fresh

    def next(self, name: str) -> int:
        """Increment a variable, which starts at 0, and return it."""
        value = int(self.get(name) or 0) + 1
        self.put(name, value)
        return value

    def close(self) -> None:
        """Close the database."""
        self.db.close()
