"""Counts of rows in lightningd's tables, cached until the table changes.

A count reads the whole table. lightningd numbers the changes of each table (created, updated, deleted;
`wait` with nextvalue 0 returns these numbers at once). A count is valid while they stay the same.

Two cases are special. The copy of the tables that `sql` reads is updated a moment after lightningd has
numbered a change, so a count made right after a change may be too old; it is not cached. And if
counting is slow, a node with a million payments that makes another one each second would spend most of
its time counting. Such a count is reused for some seconds, and marked as not exact.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from nwc.cln.errors import RpcCallError, RpcCode
from nwc.cln.node import Node

MAX_COUNTS = 256
# After this many seconds without a change, the copy is up to date.
SETTLED_AFTER_S = 1.0
# A count that takes longer than this is reused, for REUSE_SLOW times the seconds it took.
SLOW_S = 0.05
REUSE_SLOW = 20
MAX_REUSE_S = 10.0

_Marker = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """The result of a count.

    Attributes:
        number: how many rows there are.
        first: the lowest `created_index` of them, 0 if there are none.
        is_exact: False if the table has changed since.

    """

    number: int
    first: int
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class _Counted:
    count: Count
    marker: _Marker | None  # None: counted too soon after a change
    best_before: float


class Counts:
    """Caches the results of the last MAX_COUNTS queries.

    Args:
        node: lightningd.
        clock: a monotonic clock, in seconds.

    """

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock
        self._counted: OrderedDict[str, _Counted] = OrderedDict()
        self._markers: dict[str, tuple[_Marker, float]] = {}

    async def get(self, table: str, query: str) -> Count:
        """Return the count of a query, from the cache or new.

        Args:
            table: `invoices` or `sendpays`, as `wait` names them.
            query: selects one row: count(*) and min(created_index), or count(*) and another number.

        Raises:
            NodeError: as Node does.

        """
        marker, is_settled = await self._marker(table)
        known = self._counted.get(query)
        if known is not None and (known.marker == marker or self._clock() < known.best_before):
            self._counted.move_to_end(query)
            return replace(known.count, is_exact=known.marker == marker)
        # Updates the copy first, so that the time this takes does not count as slow counting.
        await self._node.call("sql", query=f"SELECT max(created_index) FROM {table}")  # noqa: S608
        begin = self._clock()
        row = (await self._node.call("sql", query=query))["rows"][0]
        took = self._clock() - begin
        count = Count(row[0], row[1] or 0)
        reuse_s = min(REUSE_SLOW * took, MAX_REUSE_S) if took > SLOW_S else 0
        self._remember(query, _Counted(count, marker if is_settled else None, begin + reuse_s))
        return count

    def _remember(self, query: str, counted: _Counted) -> None:
        self._counted[query] = counted
        self._counted.move_to_end(query)
        if len(self._counted) > MAX_COUNTS:
            self._counted.popitem(last=False)

    async def _marker(self, table: str) -> tuple[_Marker, bool]:
        """Return a value that changes with the table, and True if the copy is up to date with it."""
        try:
            marker = tuple(await asyncio.gather(*(self._index(table, name) for name in _INDEXES)))
        except RpcCallError as error:
            if error.code not in (RpcCode.METHOD_NOT_FOUND, RpcCode.INVALID_PARAMS):
                raise
            return (), False  # lightningd before v23.11 has no `wait`
        now = self._clock()
        known, since = self._markers.get(table, ((), now))
        if known != marker:
            since = now
            self._markers[table] = marker, since
        return marker, now - since >= SETTLED_AFTER_S

    async def _index(self, table: str, name: str) -> int:
        answer = await self._node.call("wait", subsystem=table, indexname=name, nextvalue=0)
        index: int = answer[name]
        return index


_INDEXES = ("created", "updated", "deleted")
