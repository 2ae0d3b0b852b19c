"""What the plugin keeps beside an invoice, and only where lightningd's own record has no room for it.

At ["nwc", "invoices", <connection id>, <request id>, "record"] in the datastore, with the two parts that
make up the invoice's label. Most invoices have none.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nwc.cln.node import Json, Node
from nwc.wallet.connections.record import Connection
from nwc.wallet.labels import parse_request_label, request_label
from nwc.wallet.records import OPTIONAL, RecordError, RecordKind, read

# Of one connection: so many of the newest stay after a sweep, and so many there can be between two
# sweeps, which come once an hour. Further invoices get no record: their metadata is dropped.
MAX_RECORDS = 2000
MAX_KEPT = 2 * MAX_RECORDS
# A record is there before its invoice; longer than this make_invoice does not take.
SWEEP_GRACE_S = 60.0
_ROOT = ("nwc", "invoices")
# A level of its own: lightningd lists what has no record of its own without the records below.
_LEAF = "record"


@dataclass(frozen=True, slots=True)
class InvoiceRecord:
    """Metadata of the client, and a description that the invoice itself cannot hold."""

    metadata: dict[str, Any] | None = None
    description: str | None = field(default=None, metadata=OPTIONAL)

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to keep."""
        return not self.metadata and self.description is None

    def to_json(self) -> str:
        """Return the record as stored."""
        fields: dict[str, Any] = {"metadata": self.metadata}
        if self.description is not None:
            fields["description"] = self.description
        return _KIND.to_json(fields)


_KIND = RecordKind.of(InvoiceRecord)


async def read_record(node: Node, invoice: Json) -> InvoiceRecord:
    """Return what is kept beside an invoice of `listinvoices`; empty for one made elsewhere."""
    label = parse_request_label(invoice["label"])
    text = await node.datastore_get((*_ROOT, *label, _LEAF)) if label else None
    return _parse(text) if text is not None else InvoiceRecord()


def _parse(text: str) -> InvoiceRecord:
    """Read a record.

    One that is damaged, or written by a newer version of the plugin, counts as none: its invoice is
    worth showing all the same.
    """
    try:
        return read(InvoiceRecord, _KIND.parse(text))
    except RecordError:
        return InvoiceRecord()


class InvoiceRecords:
    """The records of all connections, without asking lightningd for a record that is not there.

    Which invoices of a connection have one is read when it is first needed; lightningd lists the names
    alone. Every method that waits raises NodeError.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        # Request ids by connection id.
        self._known: dict[str, set[str]] = {}

    async def keep(
        self, connection: Connection, request_id: str, record: InvoiceRecord
    ) -> InvoiceRecord:
        """Store a record, before its invoice is made: an invoice is never without what belongs to it.

        Returns:
            What is kept: nothing where this connection has MAX_KEPT records already.

        """
        if record.is_empty:
            return record
        known = await self._of(connection.id)
        if request_id not in known and len(known) >= MAX_KEPT:
            return InvoiceRecord()
        known.add(request_id)
        await self._node.datastore_put((*_ROOT, connection.id, request_id, _LEAF), record.to_json())
        return record

    async def find(self, invoice: Json) -> InvoiceRecord:
        """Return what is kept beside an invoice of `listinvoices`."""
        label = parse_request_label(invoice["label"])
        if label is None or label.request_id not in await self._of(label.connection_id):
            return InvoiceRecord()
        return await read_record(self._node, invoice)

    def forget_what_was_read(self) -> None:
        """Read again which invoices have a record: others have deleted records."""
        self._known.clear()

    async def _of(self, connection_id: str) -> set[str]:
        if connection_id not in self._known:
            listed = set(await self._node.datastore_keys((*_ROOT, connection_id)))
            self._known.setdefault(connection_id, set()).update(listed)
        return self._known[connection_id]

    async def sweep(self, connection_ids: Iterable[str], grace_s: float = SWEEP_GRACE_S) -> int:
        """Delete the records whose invoices are gone (deleted by their owner, or by autoclean), and of
        each connection those beyond the newest MAX_RECORDS.

        Args:
            connection_ids: whose.
            grace_s: seconds after which an invoice that was not there is looked for once more.

        Returns:
            How many were deleted.

        """
        orphans: list[tuple[str, str]] = []
        deleted = 0
        for connection_id in connection_ids:
            created: dict[str, int] = {}
            for request_id in list(await self._of(connection_id)):
                invoice = await self._invoice(connection_id, request_id)
                if invoice is None:
                    orphans.append((connection_id, request_id))
                else:
                    created[request_id] = _created_index(invoice)
            oldest_first = sorted(created, key=lambda id_: created[id_])
            for request_id in oldest_first[: max(0, len(created) - MAX_RECORDS)]:
                await self._delete(connection_id, request_id)
                deleted += 1
        if orphans:
            await asyncio.sleep(grace_s)
        for connection_id, request_id in orphans:
            if await self._invoice(connection_id, request_id) is None:
                await self._delete(connection_id, request_id)
                deleted += 1
        return deleted

    async def _invoice(self, connection_id: str, request_id: str) -> Json | None:
        return await self._node.invoice_by_label(request_label(connection_id, request_id))

    async def _delete(self, connection_id: str, request_id: str) -> None:
        await self._node.datastore_delete((*_ROOT, connection_id, request_id, _LEAF))
        (await self._of(connection_id)).discard(request_id)


def _created_index(invoice: Json) -> int:
    """Return lightningd's number of an invoice; versions before v23.11 have none."""
    return int(invoice.get("created_index", 0))
