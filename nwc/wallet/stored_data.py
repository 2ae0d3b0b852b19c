"""Counts and deletes everything that the plugin stores in the node's datastore.

All of it is below ["nwc", <kind>], such as connections, ledgers, payments. Records of newer versions of
the plugin are counted and deleted as well.
"""

import asyncio
from dataclasses import dataclass, field

from nwc.cln.errors import NodeUnavailableError
from nwc.cln.node import DatastoreKey, Node

ROOT = ("nwc",)
CONNECTIONS = "connections"
# A whole command has COMMAND_TIMEOUT_S (nwc/service.py).
PATIENCE_S = 18.0
# As many calls of one method as lightningd gets at once (nwc/cln/node.py).
_DELETED_AT_ONCE = 8
# ["nwc", kind, connection id, name, "record"]: a connection can have 12,000 names, and listing the keys
# below them would take one call for each.
_KINDS_WITH_LEAVES = ("payments", "invoices")
_LEAF = "record"


@dataclass(slots=True)
class Counted:
    """What `count` found.

    Attributes:
        records: the number of records, by kind.
        size_bytes: the size of all records with their keys.
        is_complete: False if lightningd did not list everything, or not in time.

    """

    records: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0
    is_complete: bool = True


@dataclass(slots=True)
class Deleted:
    """What `delete_all` deleted.

    Attributes:
        records: the number of deleted records.
        unlisted: keys below which lightningd could not list the records.
        is_complete: True if nothing is left.

    """

    records: int = 0
    unlisted: list[DatastoreKey] = field(default_factory=list)
    is_complete: bool = False


class StoredData:
    """Counts and deletes the plugin's records. Methods raise NodeError, as Node's do."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def count(self, patience_s: float = PATIENCE_S) -> Counted:
        """Return what is stored, as far as it can be counted in `patience_s` seconds."""
        counted = Counted()
        try:
            async with asyncio.timeout(patience_s):
                counted.size_bytes = await self._node.datastore_usage(ROOT)
                for kind in await self._kinds():
                    counted.records[kind] = 0
                    await self._count_below((*ROOT, kind), counted)
        except TimeoutError:
            counted.is_complete = False
        return counted

    async def delete_all(self, patience_s: float = PATIENCE_S) -> Deleted:
        """Delete everything, the connections first, for at most `patience_s` seconds.

        The next call deletes the rest.
        """
        deleted = Deleted()
        try:
            async with asyncio.timeout(patience_s):
                before = -1
                # Repeated, since requests in flight may store a last record.
                while deleted.records != before:
                    before, deleted.unlisted = deleted.records, []
                    for kind in await self._kinds():
                        await self._delete_below((*ROOT, kind), deleted)
                deleted.is_complete = not await self._kinds()
        except TimeoutError:
            pass
        return deleted

    async def _kinds(self) -> list[str]:
        """Return the kinds of which there are records, the connections first."""
        kinds = await self._node.datastore_keys(ROOT)
        return sorted(kinds, key=lambda kind: (kind != CONNECTIONS, kind))

    async def _count_below(self, key: DatastoreKey, counted: Counted) -> None:
        """Count the records below a key, or the one at this key."""
        try:
            listed = await self._node.datastore_names(key)
        except NodeUnavailableError:  # for example, the answer is too long
            counted.is_complete = False
            return
        for name, text in listed.items():
            if text is None and not _has_leaves(key):
                await self._count_below((*key, name), counted)
            else:
                counted.records[key[1]] += 1
        if not listed:
            counted.records[key[1]] += 1

    async def _delete_below(self, key: DatastoreKey, deleted: Deleted) -> None:
        """Delete the record at a key, or all records below it."""
        try:
            listed = await self._node.datastore_names(key)
        except NodeUnavailableError:
            deleted.unlisted.append(key)
            return
        if not listed:
            await self._delete([key], deleted)
            return
        leaves = [
            (*key, name) if text is not None else (*key, name, _LEAF)
            for name, text in listed.items()
            if text is not None or _has_leaves(key)
        ]
        await self._delete(leaves, deleted)
        branches = await self._node.datastore_names(key) if _has_leaves(key) else listed
        for name, text in branches.items():
            if text is None:
                await self._delete_below((*key, name), deleted)

    async def _delete(self, keys: list[DatastoreKey], deleted: Deleted) -> None:
        for at in range(0, len(keys), _DELETED_AT_ONCE):
            some = keys[at : at + _DELETED_AT_ONCE]
            await asyncio.gather(*map(self._node.datastore_delete, some))
            deleted.records += len(some)


def _has_leaves(key: DatastoreKey) -> bool:
    """Return True if each name below a key has exactly one record, at the key `record` below it."""
    return len(key) == len(ROOT) + 2 and key[1] in _KINDS_WITH_LEAVES
