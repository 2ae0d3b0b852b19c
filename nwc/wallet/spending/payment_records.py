"""The payments that connections have made, and an index of them by time and by payment hash.

Each that has ended is a record at ["nwc", "payments", <connection id>, <request id>]. Those under way
are the reservations in the ledgers. The index holds what finding and counting need, in memory.
"""

import bisect
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from nwc.cln.node import Node
from nwc.wallet.spending.payment import PaymentRecord, parse_payment_record

# Failed payments are shown in the history for so long.
KEEP_FAILED_S = 30 * 86_400
# Of one connection; where there are more, the older ones go earlier,
MAX_FAILED = 1000
# but none whose request could still be replayed: twice what nwc-max-request-age can be.
REPLAY_S = 2 * 86_400

_ROOT = ("nwc", "payments")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """What the index holds of a payment that has ended; in the order of time.

    Attributes:
        created_at: Unix seconds.
        order: which of one second was made first (`Payment.order`).
        connection_id: 16 hex digits.
        request_id: 64 hex digits.
        payment_hash: 64 hex digits, None when it never came to be known.
        is_settled: whether it succeeded.

    """

    created_at: int
    order: int
    connection_id: str
    request_id: str
    payment_hash: str | None
    is_settled: bool


class UnreadableRecord(Exception):
    """A payment of this request is stored but cannot be read: the request must not be served again."""


class PaymentRecords:
    """Keeps and finds payments that have ended. Methods that wait raise NodeError, as Node's do."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._by_time = defaultdict[str, list[Entry]](list)
        self._by_hash = defaultdict[str, list[Entry]](list)
        self._by_request: dict[tuple[str, str], Entry] = {}
        self._unreadable: set[tuple[str, str]] = set()
        self._failed: Counter[str] = Counter()

    async def load(self) -> None:
        """Read what is stored into the index; a damaged record is logged and left alone."""
        for index in (self._by_time, self._by_hash, self._by_request, self._unreadable, self._failed):
            index.clear()
        for connection_id in await self._node.datastore_keys(_ROOT):
            stored = await self._node.datastore_children((*_ROOT, connection_id))
            for request_id, text in stored.items():
                record = _parse(text)
                if record is None:
                    self._unreadable.add((connection_id, request_id))
                    _log.warning("a payment of connection %s is not shown: bad record", connection_id)
                    continue
                self._add(_entry(connection_id, request_id, record))

    async def keep(self, connection_id: str, record: PaymentRecord) -> None:
        """Store how a payment ended. The same once more changes nothing."""
        request_id = record.payment.request_id
        await self._node.datastore_put((*_ROOT, connection_id, request_id), record.to_json())
        self._unreadable.discard((connection_id, request_id))
        self._remove(connection_id, request_id)
        self._add(_entry(connection_id, request_id, record))

    async def get(self, connection_id: str, request_id: str) -> PaymentRecord | None:
        """Return the record of a request's payment, None when none has ended.

        Raises:
            UnreadableRecord: there is one, but nobody can tell what it says.

        """
        if (connection_id, request_id) in self._unreadable:
            raise UnreadableRecord(request_id)
        if (connection_id, request_id) not in self._by_request:
            return None
        text = await self._node.datastore_get((*_ROOT, connection_id, request_id))
        record = _parse(text or "")
        if record is None:
            raise UnreadableRecord(request_id)
        return record

    def with_hash(self, payment_hash: str, connection_id: str | None = None) -> Entry | None:
        """Return the payment with this hash: the settled, else the newest; of one connection or all."""
        found = [
            entry
            for entry in self._by_hash.get(payment_hash, ())
            if connection_id in (None, entry.connection_id)
        ]
        return max(found, key=lambda entry: (entry.is_settled, entry), default=None)

    def between(
        self, connection_id: str, from_time: int | None, until_time: int | None, settled_only: bool
    ) -> list[Entry]:
        """Return the payments of a connection in a time, both Unix seconds inclusive, newest first."""
        entries = self._by_time.get(connection_id, [])
        low = 0 if from_time is None else bisect.bisect_left(entries, from_time, key=_time)
        high = (
            len(entries) if until_time is None else bisect.bisect_right(entries, until_time, key=_time)
        )
        return [entry for entry in reversed(entries[low:high]) if entry.is_settled or not settled_only]

    def count_failed(self, connection_id: str) -> int:
        """Return how many failed payments of a connection are kept."""
        return self._failed[connection_id]

    async def sweep(self, now: float) -> int:
        """Forget failed payments that are old: after a month, or earlier where there are many.

        Args:
            now: Unix seconds.

        Returns:
            How many were forgotten.

        """
        newer = Counter[str]()
        forgotten = 0
        for entry in sorted(self.all(), reverse=True):
            if entry.is_settled:
                continue
            newer[entry.connection_id] += 1
            keep_s = KEEP_FAILED_S if newer[entry.connection_id] <= MAX_FAILED else REPLAY_S
            if now - entry.created_at > keep_s:
                await self.delete(entry.connection_id, entry.request_id)
                forgotten += 1
        return forgotten

    def all(self) -> Iterable[Entry]:
        """Return every payment in the index."""
        return list(self._by_request.values())

    async def delete(self, connection_id: str, request_id: str) -> None:
        """Forget a payment."""
        await self._node.datastore_delete((*_ROOT, connection_id, request_id))
        self._remove(connection_id, request_id)

    def _add(self, entry: Entry) -> None:
        self._failed[entry.connection_id] += not entry.is_settled
        bisect.insort(self._by_time[entry.connection_id], entry)
        self._by_request[entry.connection_id, entry.request_id] = entry
        if entry.payment_hash is not None:
            self._by_hash[entry.payment_hash].append(entry)

    def _remove(self, connection_id: str, request_id: str) -> None:
        entry = self._by_request.pop((connection_id, request_id), None)
        if entry is None:
            return
        self._failed[connection_id] -= not entry.is_settled
        self._by_time[connection_id].remove(entry)
        if entry.payment_hash is not None:
            self._by_hash[entry.payment_hash].remove(entry)
            if not self._by_hash[entry.payment_hash]:
                del self._by_hash[entry.payment_hash]


def _time(entry: Entry) -> int:
    return entry.created_at


def _entry(connection_id: str, request_id: str, record: PaymentRecord) -> Entry:
    payment = record.payment
    return Entry(
        payment.created_at,
        payment.order,
        connection_id,
        request_id,
        payment.payment_hash,
        record.is_settled,
    )


def _parse(text: str) -> PaymentRecord | None:
    try:
        return parse_payment_record(text)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
