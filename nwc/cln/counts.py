"""Counts over lightningd's tables, remembered until the table changes.

A count goes through the whole table. Lightningd numbers what happens to each of them (created, updated,
deleted; `wait` with nextvalue 0 tells these numbers at once), and a count stands as long as they do.

Two things need care. The mirror that `sql` asks hears of a change a moment after lightningd has numbered
it, so that a count made right after a change may be that of before; it is not remembered. And where
counting takes long, on a node with a million payments that makes another each second, most of its time
would go into counting: such a count is taken as good for some seconds more, and says so.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from nwc.cln.errors import RpcCallError, RpcCode
from nwc.cln.node import Node

MAX_COUNTS = 256
# After so many seconds without a change, the mirror has heard of the last one.
SETTLED_AFTER_S = 1.0
# A count that takes longer than this is used for so many times as long as it took.
SLOW_S = 0.05
REUSE_SLOW = 20
MAX_REUSE_S = 10.0

_Marker = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted.

    Attributes:
        number: how many there are.
        first: the lowest `created_index` of them, 0 when there are none.
        is_exact: False when the table has changed since.

    """

    number: int
    first: int
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class _Counted:
    count: Count
    marker: _Marker | None  # None: made too soon after a change
    best_before: float


class Counts:
    """Remembers the answers to the last MAX_COUNTS queries.

    Args:
        node: lightningd.
        clock: seconds, of a clock that is never set.

    """

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock
        self._counted: OrderedDict[str, _Counted] = OrderedDict()
        self._markers: dict[str, tuple[_Marker, float]] = {}

    async def get(self, table: str, query: str) -> Count:
        """Return what a query counts, remembered or new.

        Args:
            table: `invoices` or `sendpays`, as `wait` calls them.
            query: selects one row: count(*) and min(created_index) or another number.

        Raises:
            NodeError: as Node does.

        """
        marker, is_settled = await self._marker(table)
        known = self._counted.get(query)
        if known is not None and (known.marker == marker or self._clock() < known.best_before):
            self._counted.move_to_end(query)
            return replace(known.count, is_exact=known.marker == marker)
        # Brings the mirror up to date, which is not to be taken for slow counting.
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
        """Return what changes with the table, and whether it has stood long enough."""
        try:
            marker = tuple(await asyncio.gather(*(self._index(table, name) for name in _INDEXES)))
        except RpcCallError as error:
            if error.code not in (RpcCode.METHOD_NOT_FOUND, RpcCode.INVALID_PARAMS):
                raise
            return (), False  # lightningd before v23.11 cannot tell
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
