"""What the plugin keeps beside an invoice, and only where lightningd's own record has no room for it.

At ["nwc", "invoices", <connection id>, <request id>, "record"] in the datastore, with the two parts that
make up the invoice's label. Most invoices have none.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from nwc.cln.node import Json, Node
from nwc.nostr.encoding import to_json
from nwc.wallet.connections import Connection
from nwc.wallet.stored import parse_stored

RECORD_VERSION = 1
# A record is there before its invoice; longer than this make_invoice does not take.
SWEEP_GRACE_S = 60.0
_ROOT = ("nwc", "invoices")
# A level of its own: lightningd lists what has no record of its own without the records below.
_LEAF = "record"
_LABEL = re.compile(r"nwc:([0-9a-f]{16}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class InvoiceRecord:
    """Metadata of the client, and a description that the invoice itself cannot hold."""

    metadata: dict[str, Any] | None = None
    description: str | None = None

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to keep."""
        return not self.metadata and self.description is None

    def to_json(self) -> str:
        """Return the record as stored."""
        fields: dict[str, Any] = {"version": RECORD_VERSION, "metadata": self.metadata}
        if self.description is not None:
            fields["description"] = self.description
        return to_json(fields)


def invoice_label(connection: Connection, request_id: str) -> str:
    """Return the label of the invoice for a request: at most 128 bytes, unique for ever."""
    return f"nwc:{connection.id}:{request_id}"


def connection_id_in(label: str) -> str | None:
    """Return the id of the connection that an invoice with this label was made through, or None."""
    match = _LABEL.fullmatch(label)
    return match[1] if match else None


def label_prefix(connection: Connection) -> str:
    """Return what the labels of all invoices of a connection begin with, and of no others."""
    return f"nwc:{connection.id}:"


def owner_in(label: str) -> str | None:
    """Return the id of the connection that sees an invoice with this label as its own, or None."""
    prefix, *rest = label.split(":", 2)
    return rest[0] if prefix == "nwc" and len(rest) == 2 else None


async def keep(node: Node, connection: Connection, request_id: str, record: InvoiceRecord) -> None:
    """Store a record, before its invoice is made: an invoice is never without what belongs to it."""
    if not record.is_empty:
        await node.datastore_put((*_ROOT, connection.id, request_id, _LEAF), record.to_json())


async def find(node: Node, invoice: Json) -> InvoiceRecord:
    """Return what is kept beside an invoice of `listinvoices`; empty for one made elsewhere."""
    match = _LABEL.fullmatch(invoice["label"])
    text = await node.datastore_get((*_ROOT, *match.groups(), _LEAF)) if match else None
    return _parse(text) if text is not None else InvoiceRecord()


def _parse(text: str) -> InvoiceRecord:
    """Read a record; a damaged one counts as none, since its invoice is worth showing all the same."""
    try:
        fields = parse_stored(text)
        record = InvoiceRecord(fields["metadata"], fields.get("description"))
    except (ValueError, KeyError):
        return InvoiceRecord()
    has_right_types = isinstance(record.metadata, dict | None) and isinstance(
        record.description, str | None
    )
    return record if fields.get("version") == RECORD_VERSION and has_right_types else InvoiceRecord()


class InvoiceRecords:
    """The records of all connections, without asking lightningd for those of a connection that has none.

    Which connections have some is read once; after that, only `keep` can add one.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._added: set[str] = set()
        self._loaded: frozenset[str] | None = None

    async def keep(self, connection: Connection, request_id: str, record: InvoiceRecord) -> None:
        """Store a record, before its invoice is made."""
        if not record.is_empty:
            self._added.add(connection.id)
        await keep(self._node, connection, request_id, record)

    async def find(self, invoice: Json) -> InvoiceRecord:
        """Return what is kept beside an invoice of `listinvoices`."""
        match = _LABEL.fullmatch(invoice["label"])
        if match is None or not await self._has_any(match[1]):
            return InvoiceRecord()
        return await find(self._node, invoice)

    async def _has_any(self, connection_id: str) -> bool:
        if self._loaded is None:
            self._loaded = frozenset(await self._node.datastore_keys(_ROOT))
        return connection_id in self._loaded or connection_id in self._added


async def sweep(node: Node, grace_s: float = SWEEP_GRACE_S) -> int:
    """Delete the records whose invoices are gone: deleted by their owner, or by autoclean.

    Args:
        node: lightningd.
        grace_s: seconds after which an invoice that was not there is looked for once more.

    Returns:
        How many were deleted.

    """
    orphans = [
        (connection_id, request_id)
        for connection_id in await node.datastore_keys(_ROOT)
        for request_id in await node.datastore_keys((*_ROOT, connection_id))
        if await _is_gone(node, connection_id, request_id)
    ]
    if not orphans:
        return 0
    await asyncio.sleep(grace_s)
    deleted = 0
    for connection_id, request_id in orphans:
        if await _is_gone(node, connection_id, request_id):
            await node.datastore_delete((*_ROOT, connection_id, request_id, _LEAF))
            deleted += 1
    return deleted


async def _is_gone(node: Node, connection_id: str, request_id: str) -> bool:
    return await node.invoice_by_label(f"nwc:{connection_id}:{request_id}") is None
