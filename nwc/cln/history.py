"""The node's invoices and payments, a page at a time, through lightningd's `sql` RPC.

`listinvoices` and `listpays` return all rows, so their cost grows with the node's history. `sql` reads a
copy of their tables that lightningd keeps up to date. Every value in a query is a number, a payment
hash, or a label prefix of checked form.

Cheap are rows by `created_index` (the primary key), forwards and backwards, and by `payment_hash` (an
index). Any other query reads the whole table, as a count does: some 15 ms for 100,000 rows. So a page is
first looked up as a list of keys and only then read.
"""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from nwc.cln import bolt11, bolt12
from nwc.cln.node import Json, Node

_INVOICE_COLUMNS = (
    "label",
    "description",
    "payment_hash",
    "status",
    "expires_at",
    "amount_msat",
    "bolt11",
    "bolt12",
    "created_index",
    "pay_index",
    "amount_received_msat",
    "paid_at",
    "payment_preimage",
)
# The columns that the creation time of an invoice is read from.
_TIME_COLUMNS = ("created_index", "bolt11", "bolt12", "expires_at", "paid_at")

_PART_COLUMNS = (
    "created_index",
    "payment_hash",
    "status",
    "amount_msat",
    "amount_sent_msat",
    "created_at",
    "completed_at",
    "payment_preimage",
    "bolt11",
    "bolt12",
    "description",
)

# The copy holds texts as in lightningd's JSON, with its escapes.
_TEXTS = ("label", "description")

# Seconds from the creation of a BOLT12 invoice to its expiry: BOLT12's default.
_BOLT12_EXPIRY_S = 7200

# A single row with a wrong time must not mislead the search: the median of this many rows counts. An
# invoice that was made elsewhere and signed by `createinvoice` has any time.
_PROBE_ROWS = 5
_MAX_PROBES = 1000

_LABEL = re.compile(r"[a-z0-9:]{1,128}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class InvoiceFilter:
    """A selection of invoices.

    Attributes:
        label_prefix: only labels with this prefix; None for all labels.
        paid_only: leave out unpaid and expired invoices.
        from_index, until_index: bounds of `created_index`, both inclusive; None is unbounded.
        hidden_prefix: no labels with this prefix; None hides none.

    """

    label_prefix: str | None
    paid_only: bool
    from_index: int | None = None
    until_index: int | None = None
    hidden_prefix: str | None = None

    def where(self) -> str:
        """Return the condition in SQL."""
        conditions = []
        if self.label_prefix is not None:
            conditions.append(_label_range(self.label_prefix))
        if self.hidden_prefix is not None:
            conditions.append(f"NOT ({_label_range(self.hidden_prefix)})")
        if self.paid_only:
            conditions.append("status = 'paid'")
        if self.from_index is not None:
            conditions.append(f"created_index >= {self.from_index:d}")
        if self.until_index is not None:
            conditions.append(f"created_index <= {self.until_index:d}")
        return " AND ".join(conditions) or "1"


@dataclass(frozen=True, slots=True)
class PaymentFilter:
    """A selection of payments.

    Attributes:
        settled_only: leave out pending and failed payments.
        from_time, until_time: Unix seconds of the first part, both inclusive; None is unbounded.

    """

    settled_only: bool
    from_time: int | None = None
    until_time: int | None = None

    def where(self) -> str:
        """Return the condition in SQL on `first`, the first part of a payment."""
        bounds = ((">=", self.from_time), ("<=", self.until_time))
        conditions = [f"first.created_at {sign} {at:d}" for sign, at in bounds if at is not None]
        conditions.append(
            "NOT EXISTS (SELECT 1 FROM sendpays AS earlier WHERE earlier.payment_hash ="
            " first.payment_hash AND earlier.created_index < first.created_index)"
        )
        if self.settled_only:
            conditions.append(
                "EXISTS (SELECT 1 FROM sendpays AS part WHERE part.payment_hash ="
                " first.payment_hash AND part.status = 'complete')"
            )
        return " AND ".join(conditions)


@dataclass(frozen=True, slots=True)
class Found:
    """The key of a row, without the row.

    Attributes:
        key: `created_index` of an invoice, payment hash of a payment.
        created_at: Unix seconds.

    """

    key: int | str
    created_at: int


def invoice_created_at(invoice: Json) -> int:
    """Return the creation time of an invoice of `listinvoices`, in Unix seconds.

    lightningd does not list it; it is read from the invoice string. If that is unreadable, this is an
    estimate: a BOLT12 invoice is made at the moment when somebody wants to pay it.
    """
    try:
        if "bolt11" in invoice:
            return bolt11.timestamp(invoice["bolt11"])
        if "bolt12" in invoice:
            return bolt12.created_at(invoice["bolt12"])
    except ValueError:  # made elsewhere, and longer than bolt11.MAX_INVOICE_LENGTH
        pass
    by_expiry = max(0, int(invoice["expires_at"]) - _BOLT12_EXPIRY_S)
    return min(by_expiry, int(invoice.get("paid_at", by_expiry)))


class History:
    """Queries over invoices and payments. Every method raises NodeError, as Node does."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._probes: dict[int, list[Found]] = {}

    # Invoices

    async def find_invoices(self, wanted: InvoiceFilter, *, limit: int, offset: int = 0) -> list[Found]:
        """Return the keys of invoices, newest first."""
        rows = await self._query(
            f"SELECT {', '.join(_TIME_COLUMNS)} FROM invoices "  # noqa: S608
            f"WHERE {wanted.where()} "
            f"ORDER BY created_index DESC LIMIT {limit:d} OFFSET {offset:d}"
        )
        return [Found(row[0], _time_of(row)) for row in rows]

    async def invoices(self, found: list[Found]) -> dict[int | str, Json]:
        """Return invoices as `listinvoices` shows them, by `created_index`, without deleted ones."""
        indexes = [int(one.key) for one in found]
        if not indexes:
            return {}
        rows = await self._query(
            f"SELECT {', '.join(_INVOICE_COLUMNS)} FROM invoices "  # noqa: S608
            f"WHERE created_index IN ({_numbers(indexes)})"
        )
        named = (_named(_INVOICE_COLUMNS, row) for row in rows)
        return {row["created_index"]: row for row in named}

    async def count_invoices(self, wanted: InvoiceFilter) -> int:
        """Return how many invoices there are."""
        return await self._count(f"invoices WHERE {wanted.where()}")

    async def invoices_between(
        self, wanted: InvoiceFilter, from_time: int | None, until_time: int | None
    ) -> InvoiceFilter:
        """Return the filter, narrowed to creation between two Unix seconds, both inclusive.

        Times rise with `created_index`. Invoices made while a clock was wrong may be at the wrong place.
        """
        first = None if from_time is None else await self._first_index_at(from_time)
        after = None if until_time is None else await self._first_index_at(until_time + 1)
        return replace(wanted, from_index=first, until_index=None if after is None else after - 1)

    async def _first_index_at(self, at: int) -> int:
        """Return the lowest `created_index` whose invoice was created at or after a Unix second.

        The times have no index, but the rows are numbered in order: a binary search takes some twenty
        small queries.
        """
        newest: int = (await self._query("SELECT max(created_index) FROM invoices"))[0][0] or 0
        # A power of two, so that each search begins with the same probes.
        low, high = 1, 1 << newest.bit_length()
        while low < high:
            middle = (low + high) // 2
            found = [one for one in await self._probe(middle) if int(one.key) < high]
            times = sorted(one.created_at for one in found)
            # The lower median of an even number, for the time as well as for the row.
            place = (len(found) - 1) // 2
            if not found:
                high = middle
            elif times[place] >= at:
                high = int(found[place].key)
            else:
                low = int(found[place].key) + 1
        return low

    async def _probe(self, from_index: int) -> list[Found]:
        """Return the next rows from a `created_index` on. Full pages are cached: times never change."""
        known = self._probes.get(from_index)
        if known is not None:
            return known
        rows = await self._query(
            f"SELECT {', '.join(_TIME_COLUMNS)} FROM invoices "  # noqa: S608
            f"WHERE created_index >= {from_index:d} ORDER BY created_index LIMIT {_PROBE_ROWS}"
        )
        found = [Found(row[0], _time_of(row)) for row in rows]
        if len(found) == _PROBE_ROWS:
            if len(self._probes) >= _MAX_PROBES:
                self._probes.clear()
            self._probes[from_index] = found
        return found

    # Payments

    async def find_payments(self, wanted: PaymentFilter, *, limit: int, offset: int = 0) -> list[Found]:
        """Return the keys of payments, newest first."""
        rows = await self._query(
            "SELECT payment_hash, created_at FROM sendpays AS first "  # noqa: S608
            f"WHERE {wanted.where()} ORDER BY created_index DESC LIMIT {limit:d} OFFSET {offset:d}"
        )
        return [Found(*row) for row in rows]

    async def payments(self, found: list[Found]) -> dict[int | str, list[Json]]:
        """Return the parts of payments as `listsendpays` shows them, oldest first, by payment hash."""
        parts: dict[int | str, list[Json]] = {one.key: [] for one in found}
        if not parts:
            return {}
        # A hundred hashes fit: lightningd takes queries of up to 10,000 bytes.
        listed = ", ".join(f"x'{key}'" for key in parts if _HASH.fullmatch(str(key)))
        rows = await self._query(
            f"SELECT {', '.join(_PART_COLUMNS)} FROM sendpays "  # noqa: S608
            f"WHERE payment_hash IN ({listed}) ORDER BY created_index"
        )
        for row in rows:
            part = _named(_PART_COLUMNS, row)
            parts[part["payment_hash"]].append(part)
        return parts

    async def count_payments(self, wanted: PaymentFilter) -> int:
        """Return how many payments there are."""
        return await self._count(f"sendpays AS first WHERE {wanted.where()}")

    # Both

    async def _count(self, rows: str) -> int:
        count: int = (await self._query(f"SELECT count(*) FROM {rows}"))[0][0]  # noqa: S608
        return count

    async def _query(self, query: str) -> list[list[Any]]:
        answer = await self._node.call("sql", query=query)
        rows: list[list[Any]] = answer["rows"]
        return rows


def _label_range(prefix: str) -> str:
    """Return a range condition. Unlike LIKE it is exact and has no special characters."""
    if not _LABEL.fullmatch(prefix):
        raise ValueError("a label prefix is made of a-z, 0-9 and colons")
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return f"label >= '{prefix}' AND label < '{after}'"


def _numbers(numbers: list[int] | tuple[int, ...]) -> str:
    return ", ".join(f"{number:d}" for number in numbers)


def _time_of(row: list[Any]) -> int:
    return invoice_created_at(_named(_TIME_COLUMNS, row))


def _named(columns: tuple[str, ...], row: list[Any]) -> Json:
    named = {name: value for name, value in zip(columns, row, strict=True) if value is not None}
    return named | {name: _unescaped(named[name]) for name in _TEXTS if name in named}


def _unescaped(text: str) -> str:
    try:
        unescaped: str = json.loads(f'"{text}"')
    except ValueError:
        return text
    return unescaped
