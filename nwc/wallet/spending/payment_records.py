"""The payments of connections that have ended, and an index of them by time and by payment hash.

Payments in flight are the reservations in the ledgers. A payment that has ended has a record at

    ["nwc", "payments", <connection id>, <name>, "record"]

The name holds what the index needs. lightningd lists the names alone, because the records are one level
deeper. So the index of a connection is read in one short answer when it is first needed, and a record
when it is shown. Earlier versions stored records at

    ["nwc", "payments", <connection id>, <request id>]

which lightningd lists with their text; `sweep` moves them.
"""

import asyncio
import bisect
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from nwc.backoff import backoff
from nwc.cln.errors import NodeError, NodeUnavailableError
from nwc.cln.node import DatastoreKey, Node
from nwc.errors import NwcError
from nwc.wallet.records import NewerRecordError, RecordError, RecordVersionError
from nwc.wallet.spending.payment import PaymentRecord, parse_payment_record

# How long the record of a failed and of a settled payment is kept,
KEEP_FAILED_S = 30 * 86_400
KEEP_SETTLED_S = 365 * 86_400
# unless the connection has more than this many newer ones.
MAX_FAILED = 1000
MAX_SETTLED = 2000
# A record is never deleted while its request could be replayed: twice the maximum of
# nwc-max-request-age. Until then a replay gets the same answer. After that, lightningd still knows that
# the invoice is paid.
REPLAY_S = 2 * 86_400
# A connection with this many records cannot pay. It takes some thousand payments a day to get there.
MAX_FAILED_KEPT = 2 * MAX_FAILED
MAX_SETTLED_KEPT = 5 * MAX_SETTLED
# An index that lightningd could not list is retried after this time, which doubles with each failure.
_RETRY_FIRST_S = 1.0
_RETRY_MAX_S = 60.0

_ROOT = ("nwc", "payments")
_LEAF = "record"
_NO_HASH = "unknown"
_NAME = re.compile(
    r"(\d{1,19})-(\d{1,19})-(settled|failed)-(\d{1,19})msat-([0-9a-f]{64}|unknown)-([0-9a-f]{1,64})"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A payment in the index. Entries sort by time.

    Attributes:
        created_at: Unix seconds.
        order: sorts payments of the same second (`Payment.order`).
        connection_id: 16 hex digits.
        request_id: 64 hex digits.
        payment_hash: 64 hex digits, None if it never became known.
        is_settled: True if it settled, False if it failed.
        key: the key of its record in the datastore.

    """

    created_at: int
    order: int
    connection_id: str
    request_id: str
    payment_hash: str | None
    is_settled: bool
    key: DatastoreKey

    @property
    def is_old_layout(self) -> bool:
        """True if an earlier version of the plugin wrote the record."""
        return self.key[-1] != _LEAF


class UnreadableRecordError(NwcError):
    """The stored record of a request's payment cannot be read, so the request must not be served."""


class PaymentRecords:
    """Stores and finds payments that have ended. The coroutines raise NodeError, as Node's do.

    `with_hash`, `between` and the counts include a connection's payments after `ready` has returned for
    it.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._by_time = defaultdict[str, list[Entry]](list)
        self._by_hash = defaultdict[str, list[Entry]](list)
        self._by_request: dict[tuple[str, str], Entry] = {}
        self._unreadable: set[tuple[str, str]] = set()
        self._failed: Counter[str] = Counter()
        self._settled: Counter[str] = Counter()
        # If a request has two records: the one to ignore.
        self._superseded: set[DatastoreKey] = set()
        self._ready: set[str] = set()
        self._locks = defaultdict[str, asyncio.Lock](asyncio.Lock)
        # For an index that could not be read: when to retry, and the waits after that.
        self._retry: dict[str, tuple[float, Iterator[float]]] = {}
        self._has_warned_of_version = False

    def forget_what_was_read(self) -> None:
        """Read each index again when it is next needed: others have deleted records."""
        for held in (self._by_time, self._by_hash, self._by_request, self._failed, self._settled):
            held.clear()
        for names in (self._unreadable, self._superseded, self._ready, self._retry):
            names.clear()

    async def load(self, connection_ids: Iterable[str]) -> None:
        """Read the indexes of connections, one by one. If one fails, it is read when it is needed."""
        for connection_id in connection_ids:
            with suppress(NodeError):
                await self.ready(connection_id)

    async def ready(self, connection_id: str) -> None:
        """Read the index of a connection, unless it is read already.

        Raises:
            NodeError: lightningd could not list it, now or a moment ago, so it is unknown what this
                connection has paid. Other connections are not affected.

        """
        if connection_id in self._ready:
            return
        async with self._locks[connection_id]:
            if connection_id in self._ready:
                return
            first = 0.0, backoff(_RETRY_FIRST_S, _RETRY_MAX_S)
            retry_at, waits = self._retry.get(connection_id, first)
            now = asyncio.get_running_loop().time()
            if now < retry_at:
                raise NodeUnavailableError(
                    "listdatastore: the payments of this connection could not be listed"
                )
            try:
                await self._read(connection_id)
            except NodeError as error:
                self._retry[connection_id] = (now + next(waits), waits)
                _log.warning(
                    "the payments of connection %s could not be listed (%s); retried when next needed",
                    connection_id,
                    error,
                )
                raise
            self._ready.add(connection_id)
            self._retry.pop(connection_id, None)
        del self._locks[connection_id]

    async def _read(self, connection_id: str) -> None:
        listed = await self._node.datastore_names((*_ROOT, connection_id))
        for name, text in listed.items():
            key = (*_ROOT, connection_id, name)
            entry = (
                _entry_named(connection_id, name)
                if text is None
                else _entry_of_old(key, self._parse(text))
            )
            if entry is not None:
                self._add_better(entry)
                continue
            _log.warning(
                "a payment of connection %s is not shown: its record cannot be read", connection_id
            )
            if text is not None:
                self._unreadable.add((connection_id, name))

    def _add_better(self, entry: Entry) -> None:
        """Add a listed entry. If a crash has left two records of one request, the settled one counts."""
        other = self._by_request.get((entry.connection_id, entry.request_id))
        if other is not None:
            better = max(entry, other, key=lambda one: (one.is_settled, not one.is_old_layout))
            self._superseded.add((other if better is entry else entry).key)
            if better is other:
                return
            self._remove(other)
        self._add(entry)

    async def keep(self, connection_id: str, record: PaymentRecord) -> None:
        """Store the record of a payment. Storing it twice changes nothing.

        A record of the same payment that a newer version of the plugin has stored is not replaced.
        """
        await self.ready(connection_id)
        request_id = record.payment.request_id
        entry = _entry(connection_id, record)
        old = self._by_request.get((connection_id, request_id))
        has_many = (
            self._settled[connection_id] >= MAX_SETTLED or self._failed[connection_id] >= MAX_FAILED
        )
        if old is not None and old.key == entry.key and await self._is_of_newer_version(old):
            return
        kept = _shortened(record) if has_many else record
        await self._node.datastore_put(entry.key, kept.to_json())
        if (connection_id, request_id) in self._unreadable:
            await self._node.datastore_delete((*_ROOT, connection_id, request_id))
            self._unreadable.discard((connection_id, request_id))
        if old is not None:
            if old.key != entry.key:
                await self._node.datastore_delete(old.key)
            self._remove(old)
        self._add(entry)

    async def get(self, connection_id: str, request_id: str) -> PaymentRecord | None:
        """Return the record of a request's payment, None if there is none.

        Raises:
            UnreadableRecordError: the record cannot be read.

        """
        await self.ready(connection_id)
        if (connection_id, request_id) in self._unreadable:
            raise UnreadableRecordError(request_id)
        entry = self._by_request.get((connection_id, request_id))
        if entry is None:
            return None
        record = self._parse(await self._node.datastore_get(entry.key) or "")
        if record is None or record.payment.request_id != request_id:
            raise UnreadableRecordError(request_id)
        return record

    def with_hash(self, payment_hash: str, connection_id: str | None = None) -> Entry | None:
        """Return the payment with this hash, of one connection or all: the settled, else the newest."""
        found = [
            entry
            for entry in self._by_hash.get(payment_hash, ())
            if connection_id in (None, entry.connection_id)
        ]
        return max(found, key=lambda entry: (entry.is_settled, entry), default=None)

    def between(
        self, connection_id: str, from_time: int | None, until_time: int | None, settled_only: bool
    ) -> list[Entry]:
        """Return a connection's payments from one time until another, both included, newest first.

        The times are Unix seconds; None stands for no limit.
        """
        entries = self._by_time.get(connection_id, [])
        low = 0 if from_time is None else bisect.bisect_left(entries, from_time, key=_time)
        high = (
            len(entries) if until_time is None else bisect.bisect_right(entries, until_time, key=_time)
        )
        return [entry for entry in reversed(entries[low:high]) if entry.is_settled or not settled_only]

    def count_failed(self, connection_id: str) -> int:
        """Return how many records of failed payments a connection has."""
        return self._failed[connection_id]

    def count_failed_with(self, payment_hash: str, connection_id: str) -> int:
        """Return how many records of failed payments with this hash a connection has."""
        with_hash = self._by_hash.get(payment_hash, ())
        return sum(1 for e in with_hash if e.connection_id == connection_id and not e.is_settled)

    def count_settled(self, connection_id: str) -> int:
        """Return how many records of settled payments a connection has."""
        return self._settled[connection_id]

    async def sweep(self, now: float) -> int:
        """Delete the records that are too old or too many (see the constants above).

        What a payment cost stays booked in the ledger. Records of earlier versions are moved to their
        new key.

        Args:
            now: Unix seconds.

        Returns:
            How many payments were deleted.

        """
        newer = Counter[tuple[str, bool]]()
        deleted = 0
        for entry in sorted(self.all(), reverse=True):
            newer[entry.connection_id, entry.is_settled] += 1
            number = newer[entry.connection_id, entry.is_settled]
            if now - entry.created_at > _keep_s(number, is_settled=entry.is_settled):
                await self.delete(entry.connection_id, entry.request_id)
                deleted += 1
            elif entry.is_old_layout:
                await self._move(entry)
        for key in list(self._superseded):
            await self._node.datastore_delete(key)
            self._superseded.discard(key)
        return deleted

    async def _move(self, entry: Entry) -> None:
        try:
            record = await self.get(entry.connection_id, entry.request_id)
        except UnreadableRecordError:
            return
        if record is not None:
            await self.keep(entry.connection_id, record)

    def all(self) -> Iterable[Entry]:
        """Return all payments in the index."""
        return list(self._by_request.values())

    async def delete(self, connection_id: str, request_id: str) -> None:
        """Delete the record of a payment."""
        entry = self._by_request.get((connection_id, request_id))
        if entry is not None:
            await self._node.datastore_delete(entry.key)
            self._remove(entry)

    async def _is_of_newer_version(self, entry: Entry) -> bool:
        try:
            parse_payment_record(await self._node.datastore_get(entry.key) or "")
        except NewerRecordError:
            return True
        except RecordError:
            pass
        return False

    def _parse(self, text: str) -> PaymentRecord | None:
        try:
            return parse_payment_record(text)
        except RecordVersionError as error:
            if not self._has_warned_of_version:  # there can be thousands of such records
                self._has_warned_of_version = True
                _log.warning("the record of a payment, and maybe of others, cannot be read: %s", error)
        except RecordError:
            pass
        return None

    def _add(self, entry: Entry) -> None:
        self._count(entry)[entry.connection_id] += 1
        bisect.insort(self._by_time[entry.connection_id], entry)
        self._by_request[entry.connection_id, entry.request_id] = entry
        if entry.payment_hash is not None:
            self._by_hash[entry.payment_hash].append(entry)

    def _remove(self, entry: Entry) -> None:
        if self._by_request.pop((entry.connection_id, entry.request_id), None) is None:
            return
        self._count(entry)[entry.connection_id] -= 1
        self._by_time[entry.connection_id].remove(entry)
        if entry.payment_hash is not None:
            self._by_hash[entry.payment_hash].remove(entry)
            if not self._by_hash[entry.payment_hash]:
                del self._by_hash[entry.payment_hash]

    def _count(self, entry: Entry) -> Counter[str]:
        return self._settled if entry.is_settled else self._failed


def _keep_s(number: int, *, is_settled: bool) -> int:
    """Return how many seconds a record is kept; `number` is its rank from the newest, from 1."""
    if is_settled:
        return KEEP_SETTLED_S if number <= MAX_SETTLED else REPLAY_S
    return KEEP_FAILED_S if number <= MAX_FAILED else REPLAY_S


def _shortened(record: PaymentRecord) -> PaymentRecord:
    """Return the record without invoice and metadata: they are long, and a replay needs neither."""
    return replace(record, payment=replace(record.payment, invoice=None, metadata=None))


def _time(entry: Entry) -> int:
    return entry.created_at


def _entry(connection_id: str, record: PaymentRecord) -> Entry:
    payment = record.payment
    parts = (
        str(payment.created_at),
        str(payment.order),
        str(record.state),
        f"{record.sent_msat}msat",
        payment.payment_hash or _NO_HASH,
        payment.request_id,
    )
    key = (*_ROOT, connection_id, "-".join(parts), _LEAF)
    return Entry(
        payment.created_at,
        payment.order,
        connection_id,
        payment.request_id,
        payment.payment_hash,
        record.is_settled,
        key,
    )


def _entry_named(connection_id: str, name: str) -> Entry | None:
    """Return the entry that a record's name spells; None if no version writes such a name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    created_at, order, state, _, payment_hash, request_id = match.groups()
    return Entry(
        int(created_at),
        int(order),
        connection_id,
        request_id,
        None if payment_hash == _NO_HASH else payment_hash,
        state == "settled",
        (*_ROOT, connection_id, name, _LEAF),
    )


def _entry_of_old(key: DatastoreKey, record: PaymentRecord | None) -> Entry | None:
    """Return the entry of an earlier version's record, whose key ends with the request id."""
    if record is None:
        return None
    return replace(_entry(key[-2], record), request_id=key[-1], key=key)
