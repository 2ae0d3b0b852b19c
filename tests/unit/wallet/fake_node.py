"""A node in memory, without socket or thread."""

import hashlib
from typing import Any

from nwc.cln.node import DatastoreKey, Json, Node


class FakeNode(Node):
    """Answers what a test gave it, and records the calls.

    Attributes:
        answer: what `info` returns or raises.
        calls: method and arguments, in order.
        datastore: the stored strings, by key.

    """

    def __init__(self, answer: Json | Exception | None = None) -> None:
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []
        self.datastore: dict[DatastoreKey, str] = {}

    async def info(self) -> Json:
        self.calls.append(("info",))
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def make_secret(self, purpose: str) -> bytes:
        self.calls.append(("make_secret", purpose))
        return hashlib.sha256(purpose.encode()).digest()

    async def datastore_create(self, key: DatastoreKey, value: str) -> int:
        assert key not in self.datastore
        self.datastore[key] = value
        return 0

    async def datastore_put(self, key: DatastoreKey, value: str) -> None:
        self.datastore[key] = value

    async def datastore_delete(self, key: DatastoreKey, generation: int | None = None) -> None:
        self.datastore.pop(key, None)

    async def datastore_entry(self, key: DatastoreKey) -> tuple[str, int] | None:
        return (self.datastore[key], 0) if key in self.datastore else None

    async def datastore_children(self, key: DatastoreKey) -> dict[str, str]:
        return {name[-1]: text for name, text in self.datastore.items() if name[:-1] == key}
