"""The node's invoices and payments, a page at a time, through lightningd's `sql` RPC.

`listinvoices` and `listpays` return everything, so their cost grows with the node's history. `sql`
asks a mirror of their tables that lightningd keeps up to date. Every value that goes into a query is a
number, or a label prefix of checked form.
"""

import json
import re
from dataclasses import dataclass
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

_CREATION_COLUMNS = ("created_index", "bolt11", "bolt12", "expires_at", "paid_at")
# Seconds from the making of a BOLT12 invoice to its expiry: BOLT12's default.
_BOLT12_EXPIRY_S = 7200

# Parts and attempts of one payment are rows of their own. What is complete counts; else what is pending.
_PAYMENT_COLUMNS = {
    "payment_hash": "payment_hash",
    "state": "max(CASE status WHEN 'complete' THEN 2 WHEN 'pending' THEN 1 ELSE 0 END)",
    "created_at": "min(created_at)",
    "completed_at": "min(CASE status WHEN 'complete' THEN completed_at END)",
    "complete_msat": "sum(CASE status WHEN 'complete' THEN amount_msat END)",
    "complete_sent_msat": "sum(CASE status WHEN 'complete' THEN amount_sent_msat END)",
    "pending_msat": "sum(CASE status WHEN 'pending' THEN amount_msat END)",
    "failed_msat": "max(amount_msat)",
    "payment_preimage": "max(payment_preimage)",
    "bolt11": "max(bolt11)",
    "bolt12": "max(bolt12)",
    "description": "max(description)",
}

# The mirror holds texts as they stood in lightningd's JSON, with its escapes.
_TEXTS = ("label", "description")

_LABEL = re.compile(r"[a-z0-9:]{1,128}")


@dataclass(frozen=True, slots=True)
class InvoiceFilter:
    """Which invoices.

    Attributes:
        label_prefix: labels that begin so; None for all but the plugin's templates.
        paid_only: leave out unpaid and expired ones.
        from_index, until_index: bounds of `created_index`, both inclusive; None is unbounded.

    """

    label_prefix: str | None
    paid_only: bool
    from_index: int | None = None
    until_index: int | None = None

    def where(self) -> str:
        """Return the condition in SQL."""
        conditions = ["NOT (label >= 'nwc:template:' AND label < 'nwc:template;')"]
        if self.label_prefix is not None:
            conditions = [_label_range(self.label_prefix)]
        if self.paid_only:
            conditions.append("status = 'paid'")
        if self.from_index is not None:
            conditions.append(f"created_index >= {self.from_index:d}")
        if self.until_index is not None:
            conditions.append(f"created_index <= {self.until_index:d}")
        return " AND ".join(conditions)


@dataclass(frozen=True, slots=True)
class PaymentFilter:
    """Which payments; times in Unix seconds, both inclusive, None is unbounded."""

    settled_only: bool
    from_time: int | None = None
    until_time: int | None = None

    def having(self) -> str:
        """Return the condition on grouped rows in SQL."""
        conditions = ["1"]
        if self.settled_only:
            conditions.append(f"{_PAYMENT_COLUMNS['state']} = 2")
        if self.from_time is not None:
            conditions.append(f"min(created_at) >= {self.from_time:d}")
        if self.until_time is not None:
            conditions.append(f"min(created_at) <= {self.until_time:d}")
        return " AND ".join(conditions)


def _label_range(prefix: str) -> str:
    """A range instead of LIKE: exact, and without a pattern's special characters."""
    if not _LABEL.fullmatch(prefix):
        raise ValueError("a label prefix is made of a-z, 0-9 and colons")
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return f"label >= '{prefix}' AND label < '{after}'"


def invoice_created_at(invoice: Json) -> int:
    """Return when an invoice was made, Unix seconds. Lightningd does not say, but the invoice does."""
    if "bolt11" in invoice:
        return bolt11.timestamp(invoice["bolt11"])
    try:
        return bolt12.created_at(invoice["bolt12"])
    except (KeyError, ValueError):
        return _assumed_created_at(invoice)


def _assumed_created_at(invoice: Json) -> int:
    """A BOLT12 invoice is made at the moment somebody wants to pay it."""
    by_expiry = max(0, int(invoice["expires_at"]) - _BOLT12_EXPIRY_S)
    return min(by_expiry, int(invoice.get("paid_at", by_expiry)))


class History:
    """Queries over invoices and payments. Every method raises NodeError, as Node does."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def invoices(self, wanted: InvoiceFilter, *, limit: int, offset: int = 0) -> list[Json]:
        """Return invoices as `listinvoices` shows them, newest first."""
        columns = ", ".join(_INVOICE_COLUMNS)
        rows = await self._query(
            f"SELECT {columns} FROM invoices WHERE {wanted.where()} "  # noqa: S608
            f"ORDER BY created_index DESC LIMIT {limit:d} OFFSET {offset:d}"
        )
        return [_named(_INVOICE_COLUMNS, row) for row in rows]

    async def count_invoices(self, wanted: InvoiceFilter) -> int:
        """Return how many invoices there are."""
        return await self._number(f"SELECT count(*) FROM invoices WHERE {wanted.where()}")  # noqa: S608

    async def payments(self, wanted: PaymentFilter, *, limit: int, offset: int = 0) -> list[Json]:
        """Return payments, newest first; amounts in msat, `state` 2 complete, 1 pending, 0 failed."""
        rows = await self._query(
            f"{_select_payments()} GROUP BY payment_hash HAVING {wanted.having()} "
            f"ORDER BY min(created_at) DESC, payment_hash LIMIT {limit:d} OFFSET {offset:d}"
        )
        return [_named(tuple(_PAYMENT_COLUMNS), row) for row in rows]

    async def count_payments(self, wanted: PaymentFilter) -> int:
        """Return how many payments there are."""
        return await self._number(
            "SELECT count(*) FROM (SELECT payment_hash FROM sendpays "  # noqa: S608
            f"GROUP BY payment_hash HAVING {wanted.having()})"
        )

    async def first_index_at(self, at: int) -> int:
        """Return a `created_index` with all invoices created at or after a Unix second at or above it.

        The mirror has no creation time of invoices, but they are numbered in order, and each says it
        itself: a binary search takes some twenty small queries.
        """
        low, high = 1, await self._number("SELECT coalesce(max(created_index), 0) FROM invoices") + 1
        while low < high:
            middle = (low + high) // 2
            found = await self._query(
                f"SELECT {', '.join(_CREATION_COLUMNS)} FROM invoices "  # noqa: S608
                f"WHERE created_index >= {middle:d} AND created_index < {high:d} "
                "ORDER BY created_index LIMIT 1"
            )
            if not found or invoice_created_at(_named(_CREATION_COLUMNS, found[0])) >= at:
                high = middle
            else:
                low = found[0][0] + 1
        return low

    async def newest_pay_index(self) -> int:
        """Return the `pay_index` of the invoice paid last, 0 when none has been."""
        return await self._number("SELECT coalesce(max(pay_index), 0) FROM invoices")

    async def _number(self, query: str) -> int:
        number: int = (await self._query(query))[0][0]
        return number

    async def _query(self, query: str) -> list[list[Any]]:
        answer = await self._node.call("sql", query=query)
        rows: list[list[Any]] = answer["rows"]
        return rows


def _select_payments() -> str:
    columns = ", ".join(f"{expression} AS {name}" for name, expression in _PAYMENT_COLUMNS.items())
    return f"SELECT {columns} FROM sendpays"  # noqa: S608


def _named(columns: tuple[str, ...], row: list[Any]) -> Json:
    named = {name: value for name, value in zip(columns, row, strict=True) if value is not None}
    return named | {name: _unescaped(named[name]) for name in _TEXTS if name in named}


def _unescaped(text: str) -> str:
    try:
        unescaped: str = json.loads(f'"{text}"')
    except ValueError:
        return text
    return unescaped
