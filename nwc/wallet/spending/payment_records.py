"""The payments that connections have made, and an index of them by time and by payment hash.

Payments in flight are the reservations in the ledgers. One that has ended is a record at

    ["nwc", "payments", <connection id>, <name>, "record"]

Its name holds what the index needs, and lightningd lists the names alone, since the records are one
level deeper. So the index of a connection is read in one short answer, when it is first needed; a record
is read when it is shown. Earlier versions kept records at

    ["nwc", "payments", <connection id>, <request id>]

which lightningd lists with their text; `sweep` moves them.
"""

import asyncio
import bisect
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from nwc.cln.errors import NodeError, NodeUnavailableError
from nwc.cln.node import DatastoreKey, Node
from nwc.errors import NwcError
from nwc.wallet.records import NewerRecordError, RecordVersionError
from nwc.wallet.spending.payment import PaymentRecord, parse_payment_record

# How much is kept of one connection's payments. A record is deleted when it is too old,
KEEP_FAILED_S = 30 * 86_400
KEEP_SETTLED_S = 365 * 86_400
# or earlier where there are more than so many newer ones,
MAX_FAILED = 1000
MAX_SETTLED = 2000
# but not while its request could be replayed: twice what nwc-max-request-age can be. Until then a replay
# gets the same answer; after that lightningd still knows the payment hash of an invoice as paid.
REPLAY_S = 2 * 86_400
# With so many kept, which takes an app some thousand payments a day, it can make no more payments.
MAX_FAILED_KEPT = 2 * MAX_FAILED
MAX_SETTLED_KEPT = 5 * MAX_SETTLED
# An index that lightningd could not list is asked for again after this time, doubled each time.
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
    """What the index holds of a payment that has ended; in the order of time.

    Attributes:
        created_at: Unix seconds.
        order: which of one second was made first (`Payment.order`).
        connection_id: 16 hex digits.
        request_id: 64 hex digits.
        payment_hash: 64 hex digits, None when it never came to be known.
        is_settled: whether it succeeded.
        key: of its record in the datastore.

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
        """True if an earlier version wrote the record."""
        return self.key[-1] != _LEAF


class UnreadableRecordError(NwcError):
    """A payment of this request is stored but cannot be read: the request must not be served again."""


class PaymentRecords:
    """Keeps and finds payments that have ended. Methods that wait raise NodeError, as Node's do.

    `with_hash`, `between` and the counts know a connection's payments once `ready` has returned for it.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._by_time = defaultdict[str, list[Entry]](list)
        self._by_hash = defaultdict[str, list[Entry]](list)
        self._by_request: dict[tuple[str, str], Entry] = {}
        self._unreadable: set[tuple[str, str]] = set()
        self._failed: Counter[str] = Counter()
        self._settled: Counter[str] = Counter()
        # Of two records of one request, the one that does not count.
        self._superseded: set[DatastoreKey] = set()
        self._ready: set[str] = set()
        self._locks = defaultdict[str, asyncio.Lock](asyncio.Lock)
        # When to ask again for an index that could not be read, and the delay after that.
        self._retry: dict[str, tuple[float, float]] = {}
        self._has_warned_of_version = False

    def forget_what_was_read(self) -> None:
        """Read each index again when it is next needed: others have deleted records."""
        for held in (self._by_time, self._by_hash, self._by_request, self._failed, self._settled):
            held.clear()
        for names in (self._unreadable, self._superseded, self._ready, self._retry):
            names.clear()

    async def load(self, connection_ids: Iterable[str]) -> None:
        """Read the indexes of connections, one by one. One that fails is read when it is needed."""
        for connection_id in connection_ids:
            with suppress(NodeError):
                await self.ready(connection_id)

    async def ready(self, connection_id: str) -> None:
        """Read the index of a connection, unless that is done.

        Raises:
            NodeError: lightningd could not list it, now or a moment ago: nobody can tell what this
                connection has paid. Others are not concerned.

        """
        if connection_id in self._ready:
            return
        async with self._locks[connection_id]:
            if connection_id in self._ready:
                return
            retry_at, delay = self._retry.get(connection_id, (0.0, _RETRY_FIRST_S))
            now = asyncio.get_running_loop().time()
            if now < retry_at:
                raise NodeUnavailableError(
                    "listdatastore: the payments of this connection cannot be read"
                )
            try:
                await self._read(connection_id)
            except NodeError as error:
                self._retry[connection_id] = (now + delay, min(2 * delay, _RETRY_MAX_S))
                _log.warning("the payments of connection %s cannot be read: %s", connection_id, error)
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
            _log.warning("a payment of connection %s is not shown: bad record", connection_id)
            if text is not None:
                self._unreadable.add((connection_id, name))

    def _add_better(self, entry: Entry) -> None:
        """Add what was listed. A crash can leave two records of one request; the settled one counts."""
        other = self._by_request.get((entry.connection_id, entry.request_id))
        if other is not None:
            better = max(entry, other, key=lambda one: (one.is_settled, not one.is_old_layout))
            self._superseded.add((other if better is entry else entry).key)
            if better is other:
                return
            self._remove(other)
        self._add(entry)

    async def keep(self, connection_id: str, record: PaymentRecord) -> None:
        """Store how a payment ended. The same once more changes nothing.

        Where a newer version of the plugin has stored the same, that stays.
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
        """Return the record of a request's payment, None when none has ended.

        Raises:
            UnreadableRecordError: there is one, but nobody can tell what it says.

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

    def count_failed_with(self, payment_hash: str, connection_id: str) -> int:
        """Return how many failed payments of a connection with this hash are kept."""
        with_hash = self._by_hash.get(payment_hash, ())
        return sum(1 for e in with_hash if e.connection_id == connection_id and not e.is_settled)

    def count_settled(self, connection_id: str) -> int:
        """Return how many settled payments of a connection are kept."""
        return self._settled[connection_id]

    async def sweep(self, now: float) -> int:
        """Delete records that are old, or of which there are many; see the numbers above.

        What a payment has cost stays booked in the ledger. Records that an earlier version has written
        are moved to where this one keeps them.

        Args:
            now: Unix seconds.

        Returns:
            How many payments were forgotten.

        """
        newer = Counter[tuple[str, bool]]()
        forgotten = 0
        for entry in sorted(self.all(), reverse=True):
            newer[entry.connection_id, entry.is_settled] += 1
            number = newer[entry.connection_id, entry.is_settled]
            if now - entry.created_at > _keep_s(number, is_settled=entry.is_settled):
                await self.delete(entry.connection_id, entry.request_id)
                forgotten += 1
            elif entry.is_old_layout:
                await self._move(entry)
        for key in list(self._superseded):
            await self._node.datastore_delete(key)
            self._superseded.discard(key)
        return forgotten

    async def _move(self, entry: Entry) -> None:
        try:
            record = await self.get(entry.connection_id, entry.request_id)
        except UnreadableRecordError:
            return
        if record is not None:
            await self.keep(entry.connection_id, record)

    def all(self) -> Iterable[Entry]:
        """Return every payment in the index."""
        return list(self._by_request.values())

    async def delete(self, connection_id: str, request_id: str) -> None:
        """Forget a payment."""
        entry = self._by_request.get((connection_id, request_id))
        if entry is not None:
            await self._node.datastore_delete(entry.key)
            self._remove(entry)

    async def _is_of_newer_version(self, entry: Entry) -> bool:
        try:
            parse_payment_record(await self._node.datastore_get(entry.key) or "")
        except NewerRecordError:
            return True
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        return False

    def _parse(self, text: str) -> PaymentRecord | None:
        try:
            return parse_payment_record(text)
        except RecordVersionError as error:
            if not self._has_warned_of_version:  # there can be thousands of them
                self._has_warned_of_version = True
                _log.warning("a record of a payment, and maybe others, cannot be read: %s", error)
        except (ValueError, TypeError, KeyError, AttributeError):
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
    """Return how long a record is kept that is the so manyeth newest of its kind, in seconds."""
    if is_settled:
        return KEEP_SETTLED_S if number <= MAX_SETTLED else REPLAY_S
    return KEEP_FAILED_S if number <= MAX_FAILED else REPLAY_S


def _shortened(record: PaymentRecord) -> PaymentRecord:
    """Return what a replay of the request and the history need; the invoice and metadata are long."""
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
    """Read the name of a record; None when no version writes such a name."""
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
    """Return the entry of a record of an earlier version, whose key ends with the request id."""
    if record is None:
        return None
    return replace(_entry(key[-2], record), request_id=key[-1], key=key)
