"""What the plugin stores about hold invoices: whose each is, what it is for, and how it ended.

The record is at ["nwc", "holds", <connection id>, <payment hash>] in the datastore. `hold` knows no
connections, so that only this record says which of them may settle and cancel an invoice.
"""

import asyncio
import logging
from collections import defaultdict
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from nwc.cln import bolt11
from nwc.cln.node import Node
from nwc.wallet.records import RecordError, RecordKind, read

# Of one connection the newest that have ended are kept, to be looked up and listed.
MAX_ENDED = 500
_ROOT = ("nwc", "holds")

_log = logging.getLogger(__name__)


class HoldRecordState(StrEnum):
    """How far a hold invoice has come. EXPIRED: it was cancelled because nobody had paid it in time."""

    UNPAID = "unpaid"
    ACCEPTED = "accepted"
    SETTLED = "settled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """A hold invoice of a connection.

    Attributes:
        payment_hash: 64 hex digits.
        request_id: id of the request event that made it.
        invoice: BOLT11.
        min_cltv: how many blocks before its expiry an HTLC must arrive at least.
        amount_msat: of the invoice.
        created_at, expires_at: of the invoice, Unix seconds.
        description: the client's text, as far as it is kept.
        metadata: the client's object, or None.
        state: as last seen.
        is_announced: False if the app may not have been notified of the state.
        settle_deadline: the block height before which it must be settled, None before it is accepted.
        received_msat: what lightningd held when it was accepted, and what was paid once it is settled;
            0 before.
        preimage: 64 hex digits, None unless it is settled.
        settled_at: Unix seconds, None unless it is settled.

    """

    payment_hash: str
    request_id: str
    invoice: str
    min_cltv: int
    amount_msat: int
    created_at: int
    expires_at: int
    description: str
    metadata: dict[str, Any] | None
    state: HoldRecordState = HoldRecordState.UNPAID
    is_announced: bool = True
    settle_deadline: int | None = None
    received_msat: int = 0
    preimage: str | None = None
    settled_at: int | None = None

    @property
    def is_open(self) -> bool:
        """True if it can still be paid, settled or cancelled."""
        return self.state in (HoldRecordState.UNPAID, HoldRecordState.ACCEPTED)

    @property
    def is_done(self) -> bool:
        """True if nothing is left to do: it has ended, and the app is notified."""
        return not self.is_open and self.is_announced

    def to_json(self) -> str:
        """Return the record as stored."""
        return KIND.to_json(asdict(self))


KIND = RecordKind.of(HoldRecord)


def parse_hold_record(text: str) -> HoldRecord:
    """Return a stored record.

    Raises:
        ValueError: it is damaged, or a newer version of the plugin has written it (RecordError).

    """
    record = read(HoldRecord, KIND.parse(text))
    bolt11.description_hash(record.invoice)  # raises ValueError if no transaction can show it
    return record


class HoldRecords:
    """The records of all connections, in memory once they are read. The coroutines raise NodeError."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loading = asyncio.Lock()
        self._is_loaded = False
        # By connection id and payment hash.
        self._records = defaultdict[str, dict[str, HoldRecord]](dict)
        self._unreadable = defaultdict[str, set[str]](set)

    async def ready(self) -> None:
        """Read all records, unless they are read already. To be called before they are used."""
        async with self._loading:
            if self._is_loaded:
                return
            for connection_id in await self._node.datastore_keys(_ROOT):
                stored = await self._node.datastore_children((*_ROOT, connection_id))
                for payment_hash, text in stored.items():
                    self._take(connection_id, payment_hash, text)
            self._is_loaded = True

    def _take(self, connection_id: str, payment_hash: str, text: str) -> None:
        try:
            record = parse_hold_record(text)
            if record.payment_hash != payment_hash:
                raise ValueError("of another payment hash than its key")
        except (RecordError, ValueError) as error:
            self._unreadable[connection_id].add(payment_hash)
            _log.error(
                "a hold invoice of connection %s is left alone, and must be settled or cancelled with "
                "the commands of hold: its record is %s",
                connection_id,
                error,
            )
        else:
            self._records[connection_id][payment_hash] = record

    def forget_what_was_read(self) -> None:
        """Read the records again when they are next used: something else has deleted them."""
        self._is_loaded = False
        self._records.clear()
        self._unreadable.clear()

    def get(self, connection_id: str, payment_hash: str) -> HoldRecord | None:
        """Return the record of a connection's hold invoice, or None."""
        return self._records.get(connection_id, {}).get(payment_hash)

    def of(self, connection_id: str | None) -> list[HoldRecord]:
        """Return all records of a connection, or of all connections for None; newest first."""
        wanted = self._records.keys() if connection_id is None else (connection_id,)
        found = [record for id_ in wanted for record in self._records.get(id_, {}).values()]
        return sorted(found, key=_age)

    def with_hash(self, payment_hash: str) -> tuple[str, HoldRecord] | None:
        """Return the connection id and the record with this payment hash, or None."""
        found = (
            (id_, some[payment_hash]) for id_, some in self._records.items() if payment_hash in some
        )
        return next(found, None)

    def not_done(self) -> list[tuple[str, str]]:
        """Return connection id and payment hash of each record with something left to do."""
        return [
            (id_, hash_)
            for id_, some in self._records.items()
            for hash_, record in some.items()
            if not record.is_done
        ]

    def hashes_not_done(self, connection_id: str) -> frozenset[str]:
        """Return the payment hashes of a connection that may still be counted as received.

        These are also those of unreadable records, which a newer version of the plugin may go on with.
        """
        some = self._records.get(connection_id, {}).values()
        pending = {record.payment_hash for record in some if not record.is_done}
        return frozenset(pending | self._unreadable.get(connection_id, set()))

    async def put(self, connection_id: str, record: HoldRecord) -> None:
        """Store a record; of those that have ended, only the newest MAX_ENDED of a connection stay."""
        key = (*_ROOT, connection_id, record.payment_hash)
        await self._node.datastore_put(key, record.to_json())
        self._records[connection_id][record.payment_hash] = record
        done = [one for one in self.of(connection_id) if one.is_done]
        for old in done[MAX_ENDED:]:
            await self.delete(connection_id, old.payment_hash)

    async def delete(self, connection_id: str, payment_hash: str) -> None:
        """Delete a record."""
        await self._node.datastore_delete((*_ROOT, connection_id, payment_hash))
        self._records[connection_id].pop(payment_hash, None)


def _age(record: HoldRecord) -> tuple[int, str]:
    return -record.created_at, record.payment_hash
