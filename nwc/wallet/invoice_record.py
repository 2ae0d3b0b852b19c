"""What the plugin keeps beside an invoice, and only where lightningd's own record has no room for it.

At ["nwc", "invoices", <connection id>, <request id>] in the datastore, the same two parts that make up
the invoice's label. Most invoices have none.
"""

import json
from dataclasses import dataclass
from typing import Any

from nwc.cln.node import Node
from nwc.wallet.connections import Connection

RECORD_VERSION = 1


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
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _key(connection: Connection, request_id: str) -> tuple[str, ...]:
    return ("nwc", "invoices", connection.id, request_id)


async def keep(node: Node, connection: Connection, request_id: str, record: InvoiceRecord) -> None:
    """Store a record, before its invoice is made: an invoice is never without what belongs to it."""
    if not record.is_empty:
        await node.datastore_put(_key(connection, request_id), record.to_json())
