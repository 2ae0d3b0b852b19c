from typing import Any

import pytest

from nwc.cln import counts
from nwc.cln.counts import Count, Counts
from nwc.cln.errors import RpcCallError, RpcCode
from nwc.cln.node import Node


class Counted(Node):
    """A node that counts how often it was made to count.

    Attributes:
        now: the clock.
        takes_s: how long counting takes.
        refresh_s: how long the first query takes, while the mirror is brought up to date.
        indexes: what `wait` tells; None: it knows no `wait`.

    """

    def __init__(self) -> None:
        self.now = 100.0
        self.takes_s = 0.01
        self.refresh_s = 0.0
        self.indexes: dict[str, int] | None = {"created": 5, "updated": 3, "deleted": 0}
        self.number = 0
        self.counted = 0

    async def call(self, method: str, **params: Any) -> Any:
        if method == "sql" and "count" not in params["query"]:
            self.now += self.refresh_s
            self.refresh_s = 0
            return {"rows": [[1]]}
        if method == "sql":
            self.counted += 1
            self.now += self.takes_s
            return {"rows": [[self.number, self.number or None]]}
        if self.indexes is None:
            raise RpcCallError(method, RpcCode.METHOD_NOT_FOUND, "Unknown command")
        assert params["nextvalue"] == 0
        name = params["indexname"]
        return {"subsystem": params["subsystem"], name: self.indexes[name]}


def made() -> tuple[Counted, Counts]:
    node = Counted()
    return node, Counts(node, lambda: node.now)


async def settled() -> tuple[Counted, Counts]:
    """Return a table that has not changed for a while."""
    node, remembered = made()
    await remembered.get("invoices", "count")
    node.now += 2
    await remembered.get("invoices", "count")
    node.counted = 0
    return node, remembered


async def test_a_count_is_cached() -> None:
    node, remembered = await settled()
    for _ in range(5):
        node.now += 3600
        assert await remembered.get("invoices", "count") == Count(0, 0)
    assert node.counted == 0
    await remembered.get("invoices", "count of others")
    assert node.counted == 1


@pytest.mark.parametrize("index", ["created", "updated", "deleted"])
async def test_every_change_of_the_table_makes_a_new_count(index: str) -> None:
    node, remembered = await settled()
    assert node.indexes
    node.indexes[index] += 1
    node.number = 7
    assert await remembered.get("invoices", "count") == Count(7, 7)


async def test_a_change_of_another_table_makes_no_new_count() -> None:
    node, remembered = await settled()
    node.number = 7
    assert await remembered.get("sendpays", "count of payments") == Count(7, 7)
    assert await remembered.get("invoices", "count") == Count(0, 0)


async def test_a_count_right_after_a_change_is_not_cached() -> None:
    """The copy that `sql` reads may be older."""
    node, remembered = await settled()
    assert node.indexes
    node.indexes["created"] += 1
    for number in (0, 1):
        node.number = number
        assert await remembered.get("invoices", "count") == Count(number, number)
    node.now += 2
    await remembered.get("invoices", "count")
    node.counted = 0
    await remembered.get("invoices", "count")
    assert node.counted == 0


async def test_a_slow_count_is_reused_on_a_busy_node() -> None:
    """Otherwise the node would spend most of its time counting."""
    node, remembered = made()
    node.takes_s = 0.5
    assert node.indexes
    for _ in range(100):
        node.now += 0.1
        node.indexes["updated"] += 1
        count = await remembered.get("invoices", "count")
    assert 1 <= node.counted <= 2
    assert not count.is_exact
    node.now += 10
    node.number = 7
    assert await remembered.get("invoices", "count") == Count(7, 7)


async def test_nothing_is_cached_without_the_command_wait() -> None:
    node, remembered = made()
    node.indexes = None
    for number in range(3):
        node.now += 60
        node.number = number
        assert await remembered.get("invoices", "count") == Count(number, number)


async def test_other_errors_are_raised() -> None:
    class Broken(Counted):
        async def call(self, method: str, **params: Any) -> Any:
            raise RpcCallError(method, -1, "…")

    with pytest.raises(RpcCallError):
        await Counts(Broken()).get("invoices", "count")


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MAX_COUNTS", 3)
    node, remembered = await settled()
    for n in range(10):
        await remembered.get("invoices", f"count {n}")
        await remembered.get("invoices", "count")  # used just now, so it stays
    assert len(remembered._counted) == 3
    assert node.counted == 10


async def test_the_time_of_updating_the_copy_does_not_count() -> None:
    """After a deletion lightningd rebuilds its copy, once."""
    node, remembered = made()
    node.refresh_s = 5
    await remembered.get("invoices", "count")
    assert node.indexes
    node.indexes["created"] += 1
    node.number = 7
    assert await remembered.get("invoices", "count") == Count(7, 7)


async def test_a_slow_count_is_not_reused_for_long() -> None:
    node, remembered = made()
    node.takes_s = 60
    await remembered.get("invoices", "count")
    assert node.indexes
    node.indexes["created"] += 1
    node.number = 7
    assert await remembered.get("invoices", "count") == Count(7, 7)
