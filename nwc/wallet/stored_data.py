"""Everything that the plugin keeps in the node's datastore, whatever it is: counted, and deleted.

All of it is below ["nwc"]; the part after that is the kind: connections, ledgers, payments and so on.
What a newer version of the plugin has stored there is counted and deleted as well.
"""

import asyncio
from dataclasses import dataclass, field

from nwc.cln.errors import NodeUnavailableError
from nwc.cln.node import DatastoreKey, Node

ROOT = ("nwc",)
CONNECTIONS = "connections"
# A command has COMMAND_TIMEOUT_S of nwc.service in all.
PATIENCE_S = 18.0
# As many as lightningd is given of one method (nwc.cln.node).
_DELETED_AT_ONCE = 8
# ["nwc", kind, connection id, name, "record"]: there can be 12,000 names of a connection, and listing
# what is below each of them would take a call each.
_KINDS_WITH_LEAVES = ("payments", "invoices")
_LEAF = "record"


@dataclass(slots=True)
class Counted:
    """What is stored.

    Attributes:
        records: how many records there are, by kind.
        size_bytes: of all records with their keys.
        is_complete: False if lightningd did not list all of it, or not in time.

    """

    records: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0
    is_complete: bool = True


@dataclass(slots=True)
class Deleted:
    """What was deleted.

    Attributes:
        records: how many records.
        unlisted: keys below which lightningd could not list what there is.
        is_complete: True if nothing is left.

    """

    records: int = 0
    unlisted: list[DatastoreKey] = field(default_factory=list)
    is_complete: bool = False


class StoredData:
    """Counts and deletes. Methods raise NodeError, as Node's do."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def count(self, patience_s: float = PATIENCE_S) -> Counted:
        """Count what is stored, for at most so many seconds."""
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
        """Delete all that is stored, the connections first, for at most so many seconds.

        What is deleted then is deleted; the next call goes on with the rest.
        """
        deleted = Deleted()
        try:
            async with asyncio.timeout(patience_s):
                before = -1
                # Requests that were being served at the beginning may store a last record.
                while deleted.records != before:
                    before, deleted.unlisted = deleted.records, []
                    for kind in await self._kinds():
                        await self._delete_below((*ROOT, kind), deleted)
                deleted.is_complete = not await self._kinds()
        except TimeoutError:
            pass
        return deleted

    async def _kinds(self) -> list[str]:
        """Return the kinds of which something is stored, the connections first."""
        kinds = await self._node.datastore_keys(ROOT)
        return sorted(kinds, key=lambda kind: (kind != CONNECTIONS, kind))

    async def _count_below(self, key: DatastoreKey, counted: Counted) -> None:
        """Count the records below a key, and the one at this key."""
        try:
            listed = await self._node.datastore_names(key)
        except NodeUnavailableError:  # such as an answer that is too long to take
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
    """True if the names below a key have one record each, at the key `record` below them."""
    return len(key) == len(ROOT) + 2 and key[1] in _KINDS_WITH_LEAVES
