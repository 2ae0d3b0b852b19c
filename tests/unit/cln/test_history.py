import asyncio
import hashlib
import sqlite3
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.cln.errors import RpcCallError
from nwc.cln.history import _PART_COLUMNS, Found, History, InvoiceFilter, PaymentFilter
from nwc.cln.node import Node
from tests.double import bolt11
from tests.double.bolt11 import Bolt11
from tests.double.bulk import Template
from tests.double.sql import TABLES
from tests.unit.in_process import ALICE, BOB, START, World, connection

PREFIX = f"nwc:{ALICE}:"
PAID = InvoiceFilter(label_prefix=None, paid_only=True, hidden_prefix="nwc:template:")
ALL = replace(PAID, paid_only=False)
TEMPLATE = Template(bolt11.encode(Bolt11("bcrt", 0, bytes(32), bytes(32), description="d"), b"\2" * 32))


class SqlNode(Node):
    """A node that has only `sql`, over a database with the tables of the real one.

    Attributes:
        queries: all that were asked.

    """

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.db = sqlite3.connect(":memory:")
        for table, columns in TABLES.items():
            self.db.execute(f"CREATE TABLE {table} ({', '.join(columns)})")

    async def call(self, method: str, **params: Any) -> Any:
        assert method == "sql"
        self.queries.append(params["query"])
        rows = self.db.execute(params["query"]).fetchall()
        return {"rows": [[v.hex() if isinstance(v, bytes) else v for v in row] for row in rows]}

    def add(self, index: int, at: int, label: str = "x", *, is_bolt12: bool = False) -> None:
        """Add a paid invoice made at a time."""
        status = "paid"
        preimage = hashlib.sha256(f"{index}".encode()).digest()
        invoice = None if is_bolt12 else TEMPLATE.invoice(at, hashlib.sha256(preimage).digest())
        self.db.execute(
            "INSERT INTO invoices (created_index, label, status, bolt11, expires_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (index, label, status, invoice, at + 7200),
        )

    def add_part(self, index: int, at: int, status: str = "complete") -> None:
        """Add a payment of one part."""
        self.db.execute(
            "INSERT INTO sendpays (created_index, payment_hash, created_at, status) VALUES (?, ?, ?, ?)",
            (index, hashlib.sha256(f"{index}".encode()).digest(), at, status),
        )


async def found(history: History, wanted: InvoiceFilter, limit: int = 100) -> list[int]:
    """Return all invoices of a filter; `count_invoices` must agree."""
    count = await history.count_invoices(wanted)
    keys = [int(one.key) for one in await history.find_invoices(wanted, limit=limit)]
    assert count == len(keys)
    return keys


async def invoices(
    history: History, wanted: InvoiceFilter, limit: int = 10, offset: int = 0
) -> list[dict[str, Any]]:
    """Return the invoices of a filter."""
    rows = await history.find_invoices(wanted, limit=limit, offset=offset)
    read = await history.invoices(rows)
    return [read[row.key] for row in rows]


# Times of invoices with gaps in the numbering, and whether each is BOLT12.
ROWS = st.lists(
    st.tuples(st.integers(0, 40) | st.integers(0, 2**34), st.integers(1, 3), st.booleans()), max_size=30
)
MOMENTS = st.none() | st.integers(1, 41) | st.integers(1, 2**40)


@settings(max_examples=200, deadline=None)
@given(ROWS.map(sorted), MOMENTS, MOMENTS)
def test_a_window_of_invoices_is_inclusive(
    rows: list[tuple[int, int, bool]], from_: int | None, until: int | None
) -> None:
    node = SqlNode()
    index, expected = 0, []
    for at, gap, is_bolt12 in rows:
        index += gap
        node.add(index, at, is_bolt12=is_bolt12)
        if at >= (from_ or 0) and (until is None or at <= until):
            expected.append(index)

    async def look() -> list[int]:
        history = History(node)
        return await found(history, await history.invoices_between(ALL, from_, until))

    assert asyncio.run(look()) == expected[::-1]
    node.db.close()


@settings(max_examples=100, deadline=None)
@given(ROWS, MOMENTS, MOMENTS)
def test_a_window_of_payments_is_inclusive(
    rows: list[tuple[int, int, bool]], from_: int | None, until: int | None
) -> None:
    node = SqlNode()
    expected = []
    for index, (at, _, is_failed) in enumerate(rows, start=1):
        node.add_part(index, at, "failed" if is_failed else "complete")
        if at >= (from_ or 0) and (until is None or at <= until) and not is_failed:
            expected.append(at)

    async def look() -> list[int]:
        history = History(node)
        wanted = PaymentFilter(settled_only=True, from_time=from_, until_time=until)
        assert await history.count_payments(wanted) == len(expected)
        return [one.created_at for one in await history.find_payments(wanted, limit=100)]

    assert asyncio.run(look()) == expected[::-1]
    node.db.close()


async def test_a_single_wrong_time_does_not_mislead_the_search() -> None:
    """`createinvoice` takes any timestamp."""
    node = SqlNode()
    for index in range(1, 4001):
        node.add(index, 5 if index % 50 == 24 else START + index)
    history = History(node)
    for at in (1000, 2048, 3500):
        wanted = await history.invoices_between(ALL, START + at, START + at + 9)
        assert await found(history, wanted) == list(range(at + 9, at - 1, -1))
    node.db.close()


async def test_the_search_for_a_time_takes_few_queries() -> None:
    node = SqlNode()
    for index in range(1, 2001):
        node.add(index, START + index)
    history = History(node)
    wanted = await history.invoices_between(ALL, START + 1234, None)
    assert wanted == replace(ALL, from_index=1234)
    assert len(node.queries) <= 15
    node.queries.clear()
    assert (await history.invoices_between(ALL, START + 1235, None)).from_index == 1235
    assert len(node.queries) <= 6  # the first probes are cached
    node.db.close()


async def test_the_cache_of_probes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nwc.cln.history._MAX_PROBES", 3)
    node = SqlNode()
    for index in range(1, 200):
        node.add(index, START + index)
    history = History(node)
    for at in range(1, 200, 7):
        assert await history._first_index_at(START + at) == at
        assert len(history._probes) <= 3
    node.db.close()


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "nwc:' OR 1=1 --",
        "nwc:a'b",
        "nwc:%",
        "nwc:_",
        "NWC:A",
        "nwc:a\n",
        "nwc:a\0",
        "nwc:ä",
        "nwc:٣",
        'nwc:"',
        "nwc:;",
        "a" * 129,
    ],
)
def test_a_label_prefix_of_another_form_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="label prefix"):
        InvoiceFilter(label_prefix=prefix, paid_only=False).where()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("nwc:a019;z"), max_size=8)
        | st.builds(str.__add__, st.sampled_from(["nwc:a0:", "nwc:a0", "nwc:a"]), st.text(max_size=3)),
        max_size=20,
    ).map(lambda labels: [label for label in labels if label.isprintable() and '"' not in label]),
    st.sampled_from(["nwc:a0:", "nwc:a", "n", "nwc:a9", "z"]),
)
def test_a_label_prefix_selects_labels_that_start_with_it(labels: list[str], prefix: str) -> None:
    node = SqlNode()
    for index, label in enumerate(labels, start=1):
        node.add(index, START, label)
    wanted = InvoiceFilter(label_prefix=prefix, paid_only=False)
    keys = asyncio.run(found(History(node), wanted))
    assert keys[::-1] == [n for n, label in enumerate(labels, start=1) if label.startswith(prefix)]
    node.db.close()


def test_a_filter_without_limits_selects_all_invoices() -> None:
    node = SqlNode()
    for index, label in enumerate(("nwc:template:0", "shop"), start=1):
        node.add(index, START, label)
    assert asyncio.run(found(History(node), InvoiceFilter(None, paid_only=False))) == [2, 1]
    assert asyncio.run(found(History(node), ALL)) == [2]
    node.db.close()


async def test_a_bound_that_is_not_a_number_is_refused() -> None:
    """A bound that is not a number cannot become part of a query."""
    bad: Any = "1; DROP TABLE invoices"
    for wanted in (
        InvoiceFilter(None, False, from_index=bad),
        InvoiceFilter(None, False, until_index=bad),
    ):
        with pytest.raises(ValueError, match="format code"):
            wanted.where()
    for name in ("from_time", "until_time"):
        with pytest.raises(ValueError, match="format code"):
            replace(PaymentFilter(False), **{name: bad}).where()


async def test_invoices_are_those_of_listinvoices(world: World) -> None:
    """Without updated_index, which is not used."""
    own = connection(ALICE)
    for n, description in enumerate(("", "plain", 'with "quotes" and \\', "new\nline\x7f")):
        made = await world.invoice(own, n, amount_msat=n, description=description)
        if n != 1:
            await world.pay(made["label"], amount_msat=5)
    await world.dev("dev-bolt12", label='odd "label"\n', description="é\t")
    await world.pay('odd "label"\n')
    listed = (await world.node.call("listinvoices"))["invoices"]
    for entry in listed:
        entry.pop("updated_index", None)
        entry.pop("local_offer_id", None)
    # An unpaid invoice has no preimage in the copy.
    assert await invoices(History(world.node), ALL) == listed[::-1]
    assert [row["label"] for row in await invoices(History(world.node), PAID)] == [
        entry["label"] for entry in reversed(listed) if entry["status"] == "paid"
    ]


async def test_new_changed_and_deleted_invoices_are_seen(world: World) -> None:
    """One change after another."""
    history = History(world.node)
    await world.invoices(connection(ALICE), 3)
    await world.invoices(connection(BOB), 2)
    assert await history.count_invoices(ALL) == 5
    assert await history.count_invoices(PAID) == 0
    made = await world.invoice(connection(BOB), 9)
    await world.pay(made["label"])
    assert await history.count_invoices(ALL) == 6
    assert await history.count_invoices(PAID) == 1
    assert await history.count_invoices(InvoiceFilter(PREFIX, paid_only=False)) == 3
    await world.node.delete_invoice(made["label"], "paid")
    assert await history.count_invoices(ALL) == 5
    again = await world.invoice(connection(BOB), 10)
    await world.pay(again["label"])
    assert await history.count_invoices(PAID) == 1


async def test_pages_together_are_all_invoices(world: World) -> None:
    await world.invoices(connection(ALICE), 5)
    history = History(world.node)
    pages = [await invoices(history, ALL, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [[row["created_index"] for row in page] for page in pages] == [[5, 4], [3, 2], [1], []]


async def test_payments_are_found_by_hash(world: World) -> None:
    await world.payment(
        {"groupid": 1, "status": "failed", "created_at": START, "completed_at": START + 90},
        {"groupid": 2, "partid": 1, "created_at": START + 5, "completed_at": START + 7},
        {"groupid": 2, "partid": 2, "created_at": START + 6, "completed_at": START + 8},
        payment_hash="11" * 32,
        preimage="77" * 32,
        description='a "text"',
    )
    await world.payment({"status": "pending", "created_at": START + 1}, payment_hash="22" * 32)
    await world.payment({"status": "failed", "created_at": START + 1}, payment_hash="33" * 32)
    history = History(world.node)

    async def payments(wanted: PaymentFilter, limit: int = 10, offset: int = 0) -> list[str]:
        rows = await history.find_payments(wanted, limit=limit, offset=offset)
        return [str(row.key)[:2] for row in rows]

    assert await payments(PaymentFilter(settled_only=False)) == ["33", "22", "11"]
    assert await payments(PaymentFilter(settled_only=True)) == ["11"]
    for settled_only, count in ((True, 1), (False, 3)):
        assert await history.count_payments(PaymentFilter(settled_only)) == count
    inclusive = PaymentFilter(False, from_time=START + 1, until_time=START + 1)
    assert await payments(inclusive) == ["33", "22"]
    assert await payments(inclusive, limit=1, offset=1) == ["22"]
    assert await history.count_payments(inclusive) == 2
    assert await history.count_payments(PaymentFilter(False, until_time=START - 1)) == 0


async def test_parts_are_those_of_listsendpays(world: World) -> None:
    """Without the columns that are not used."""
    for n, status in enumerate(("complete", "pending", "failed")):
        await world.payment(
            {"groupid": 1, "status": "failed", "created_at": START + n},
            {"groupid": 2, "partid": 1, "status": status, "created_at": START + n},
            {"groupid": 2, "partid": 2, "status": status, "created_at": START + n},
            payment_hash=f"{n}1" * 32,
            description='a "text"',
        )
    history = History(world.node)
    rows = await history.find_payments(PaymentFilter(settled_only=False), limit=10)
    read = await history.payments([*rows, Found("00" * 32, START), Found("'", START)])
    assert read.pop("00" * 32) == read.pop("'") == []
    for key, parts in read.items():
        listed = await world.node.payment_parts(str(key))
        shown = [{k: v for k, v in entry.items() if k in _PART_COLUMNS} for entry in listed]
        assert parts == shown
    assert len(read) == 3
    assert await history.payments([]) == {}
    assert await history.invoices([]) == {}


async def test_lightningd_allows_every_query(world: World) -> None:
    """The double refuses the functions that lightningd's authorizer refuses."""
    with pytest.raises(RpcCallError) as caught:
        await world.node.call("sql", query="SELECT replace(label, 'a', 'b') FROM invoices")
    assert caught.value.code == -1
    assert caught.value.message.startswith("query failed with not authorized to use function: replace")


async def test_the_newest_pay_index_is_found(world: World) -> None:
    """It is found without `sql`, also if some paid invoices are deleted."""
    assert await world.node.newest_pay_index() == 0
    for paid in range(1, 40):
        made = await world.invoice(connection(ALICE), paid)
        await world.pay(made["label"])
        assert await world.node.newest_pay_index() == paid
    for deleted in (1, 2, 3, 17, 31, 32, 33, 38):
        await world.node.delete_invoice(f"nwc:{ALICE}:{deleted:064x}", "paid")
        assert await world.node.newest_pay_index() == 39
    await world.node.delete_invoice(f"nwc:{ALICE}:{39:064x}", "paid")
    assert await world.node.newest_pay_index() == 37
    assert not {method for method, _ in world.node.calls} & {"sql", "listinvoices"}


async def test_the_newest_pay_index_takes_few_calls(world: World) -> None:
    await world.invoices(connection(ALICE), 100_000, paid_every=1)
    world.node.calls.clear()
    assert await world.node.newest_pay_index() == 100_000
    assert len(world.node.calls) <= 40
