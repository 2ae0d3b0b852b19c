from typing import Any

import pytest

from nwc.cln import counts
from nwc.cln.counts import Counts
from nwc.cln.errors import RpcCode, RpcFailed
from nwc.cln.node import Node


class Counted(Node):
    """A node that counts how often it was made to count.

    Attributes:
        now: the clock.
        takes_s: how long counting takes.
        indexes: what `wait` tells; None: it knows no `wait`.

    """

    def __init__(self) -> None:
        self.now = 100.0
        self.takes_s = 0.01
        self.indexes: dict[str, int] | None = {"created": 5, "updated": 3, "deleted": 0}
        self.number = 0
        self.counted = 0

    async def call(self, method: str, **params: Any) -> Any:
        if method == "sql":
            self.counted += 1
            self.now += self.takes_s
            return {"rows": [[self.number, self.number or None]]}
        if self.indexes is None:
            raise RpcFailed(method, RpcCode.METHOD_NOT_FOUND, "Unknown command")
        assert params["nextvalue"] == 0
        name = params["indexname"]
        return {"subsystem": params["subsystem"], name: self.indexes[name]}


def made() -> tuple[Counted, Counts]:
    node = Counted()
    return node, Counts(node, lambda: node.now)


async def settled() -> tuple[Counted, Counts]:
    """A table that has not changed for long."""
    node, remembered = made()
    await remembered.get("invoices", "query")
    node.now += 2
    await remembered.get("invoices", "query")
    node.counted = 0
    return node, remembered


async def test_counted_once() -> None:
    node, remembered = await settled()
    for _ in range(5):
        node.now += 3600
        assert await remembered.get("invoices", "query") == (0, 0)
    assert node.counted == 0
    await remembered.get("invoices", "another")
    assert node.counted == 1


@pytest.mark.parametrize("index", ["created", "updated", "deleted"])
async def test_every_change_is_noticed(index: str) -> None:
    node, remembered = await settled()
    assert node.indexes
    node.indexes[index] += 1
    node.number = 7
    assert await remembered.get("invoices", "query") == (7, 7)


async def test_tables_are_known_by_their_own_changes() -> None:
    node, remembered = await settled()
    node.number = 7
    assert await remembered.get("sendpays", "payments") == (7, 7)
    assert await remembered.get("invoices", "query") == (0, 0)


async def test_count_right_after_a_change_is_not_remembered() -> None:
    """The mirror may not have heard of it."""
    node, remembered = await settled()
    assert node.indexes
    node.indexes["created"] += 1
    for number in (0, 1):
        node.number = number
        assert await remembered.get("invoices", "query") == (number, number)
    node.now += 2
    await remembered.get("invoices", "query")
    node.counted = 0
    await remembered.get("invoices", "query")
    assert node.counted == 0


async def test_slow_count_on_a_busy_node() -> None:
    """It may be some seconds old, so that the node does something else than counting."""
    node, remembered = made()
    node.takes_s = 0.5
    assert node.indexes
    for _ in range(100):
        node.now += 0.1
        node.indexes["updated"] += 1
        await remembered.get("invoices", "query")
    assert 1 <= node.counted <= 2
    node.now += 10
    node.number = 7
    assert await remembered.get("invoices", "query") == (7, 7)


async def test_lightningd_that_knows_no_wait() -> None:
    node, remembered = made()
    node.indexes = None
    for number in range(3):
        node.now += 60
        node.number = number
        assert await remembered.get("invoices", "query") == (number, number)


async def test_other_trouble_is_passed_on() -> None:
    class Broken(Counted):
        async def call(self, method: str, **params: Any) -> Any:
            raise RpcFailed(method, -1, "…")

    with pytest.raises(RpcFailed):
        await Counts(Broken()).get("invoices", "query")


async def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MAX_COUNTS", 3)
    node, remembered = await settled()
    for n in range(10):
        await remembered.get("invoices", f"query {n}")
        await remembered.get("invoices", "query")  # in use, so it stays
    assert len(remembered._counted) == 3
    assert node.counted == 10
