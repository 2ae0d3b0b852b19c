"""What the plugin stores about an invoice, if lightningd's own record has no room for it.

The record is at ["nwc", "invoices", <connection id>, <request id>, "record"] in the datastore. The ids
are the parts of the invoice's label. Most invoices have no record.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nwc.cln.node import Json, Node
from nwc.wallet.connections.record import Connection
from nwc.wallet.labels import parse_request_label, request_label
from nwc.wallet.records import OPTIONAL, RecordError, RecordKind, read

# Of one connection the hourly sweep keeps the newest MAX_RECORDS. Between two sweeps there can be
# MAX_KEPT; further invoices get no record, so their metadata is dropped.
MAX_RECORDS = 2000
MAX_KEPT = 2 * MAX_RECORDS
# A record is stored before its invoice is made. make_invoice takes no longer than this.
SWEEP_GRACE_S = 60.0
_ROOT = ("nwc", "invoices")
# A level of its own, so that lightningd lists the request ids without the records.
_LEAF = "record"


@dataclass(frozen=True, slots=True)
class InvoiceRecord:
    """The record of an invoice.

    Attributes:
        metadata: the client's object, or None.
        description: the description, if the invoice itself has only its hash; otherwise None.

    """

    metadata: dict[str, Any] | None = None
    description: str | None = field(default=None, metadata=OPTIONAL)

    @property
    def is_empty(self) -> bool:
        """Return True if there is nothing to store."""
        return not self.metadata and self.description is None

    def to_json(self) -> str:
        """Return the record as stored."""
        fields: dict[str, Any] = {"metadata": self.metadata}
        if self.description is not None:
            fields["description"] = self.description
        return _KIND.to_json(fields)


_KIND = RecordKind.of(InvoiceRecord)


async def read_record(node: Node, invoice: Json) -> InvoiceRecord:
    """Return the record of an invoice of `listinvoices`, empty if it has none.

    Raises:
        NodeError: lightningd refuses or is unavailable.

    """
    label = parse_request_label(invoice["label"])
    text = await node.datastore_get((*_ROOT, *label, _LEAF)) if label else None
    return _parse(text) if text is not None else InvoiceRecord()


def _parse(text: str) -> InvoiceRecord:
    """Return a stored record, or an empty one if it is unreadable: the invoice is shown all the same."""
    try:
        return read(InvoiceRecord, _KIND.parse(text))
    except RecordError:
        return InvoiceRecord()


class InvoiceRecords:
    """The records of all connections. The coroutines raise NodeError, as Node's do.

    Only invoices that have a record are looked up. Which ones they are is read once per connection, when
    it is first needed.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        # Request ids by connection id.
        self._known: dict[str, set[str]] = {}

    async def keep(
        self, connection: Connection, request_id: str, record: InvoiceRecord
    ) -> InvoiceRecord:
        """Store a record. To be called before the invoice is made, so that none lacks its record.

        Returns:
            What was stored: an empty record if the connection has MAX_KEPT records already.

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
        """Return the record of an invoice of `listinvoices`, empty if it has none."""
        label = parse_request_label(invoice["label"])
        if label is None or label.request_id not in await self._of(label.connection_id):
            return InvoiceRecord()
        return await read_record(self._node, invoice)

    def forget_what_was_read(self) -> None:
        """List again which invoices have a record. To be called after something else deleted records."""
        self._known.clear()

    async def _of(self, connection_id: str) -> set[str]:
        if connection_id not in self._known:
            listed = set(await self._node.datastore_keys((*_ROOT, connection_id)))
            self._known.setdefault(connection_id, set()).update(listed)
        return self._known[connection_id]

    async def sweep(self, connection_ids: Iterable[str], grace_s: float = SWEEP_GRACE_S) -> int:
        """Delete records without an invoice, and those beyond the newest MAX_RECORDS of a connection.

        An invoice can be missing because the owner or autoclean has deleted it.

        Args:
            connection_ids: the connections to sweep.
            grace_s: seconds after which a missing invoice is looked for again: it may be in the making.

        Returns:
            How many records were deleted.

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
    """Return lightningd's `created_index` of an invoice; 0 before v23.11, which has none."""
    return int(invoice.get("created_index", 0))
