import asyncio
import hashlib
import sqlite3
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.cln.errors import RpcFailed
from nwc.cln.history import History, InvoiceFilter, PaymentFilter
from nwc.cln.node import Node
from tests.double import bolt11
from tests.double.bolt11 import Bolt11
from tests.double.bulk import Template
from tests.double.sql import TABLES
from tests.unit.cln.test_bolt12 import encoded, field
from tests.unit.in_process import ALICE, BOB, START, World, connection

PREFIX = f"nwc:{ALICE}:"
PAID = InvoiceFilter(label_prefix=None, paid_only=True)
ALL = InvoiceFilter(label_prefix=None, paid_only=False)
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

    def add(self, index: int, at: int, label: str = "x", bolt12: str | None = None) -> None:
        """Add a paid invoice made at a time, a BOLT11 one unless the other is given."""
        preimage = hashlib.sha256(f"{index}".encode()).digest()
        bolt11 = TEMPLATE.invoice(at, hashlib.sha256(preimage).digest()) if bolt12 is None else None
        self.db.execute(
            "INSERT INTO invoices (created_index, label, status, bolt11, bolt12, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (index, label, "paid", bolt11, bolt12, at + 90),
        )


# Times of invoices in their order, gaps in the numbering, and whether they are BOLT12 invoices.
TIMES = st.lists(
    st.tuples(st.integers(0, 40) | st.integers(0, 2**35 - 1), st.integers(1, 3), st.booleans()),
    max_size=30,
).map(lambda rows: sorted(rows, key=lambda row: row[0]))
MOMENTS = st.none() | st.integers(-1, 41) | st.integers(0, 2**40)


async def window(history: History, from_: int | None, until: int | None) -> InvoiceFilter:
    """The bounds as list_transactions asks for them."""
    return InvoiceFilter(
        label_prefix=None,
        paid_only=False,
        from_index=None if from_ is None else await history.first_index_at(from_),
        until_index=None if until is None else await history.first_index_at(until + 1) - 1,
    )


@settings(max_examples=150, deadline=None)
@given(TIMES, MOMENTS, MOMENTS)
def test_window_is_inclusive(
    rows: list[tuple[int, int, bool]], from_: int | None, until: int | None
) -> None:
    node = SqlNode()
    index, expected = 0, []
    for at, gap, is_bolt12 in rows:
        index += gap
        node.add(index, at, bolt12=encoded(field(164, at.to_bytes(8, "big"))) if is_bolt12 else None)
        if (from_ is None or at >= from_) and (until is None or at <= until):
            expected.append(index)

    async def found() -> list[int]:
        wanted = await window(History(node), from_, until)
        rows = await History(node).invoices(wanted, limit=100)
        assert await History(node).count_invoices(wanted) == len(rows)
        return [row["created_index"] for row in rows]

    assert asyncio.run(found()) == expected[::-1]
    node.db.close()


@settings(max_examples=60, deadline=None)
@given(TIMES, st.integers(0, 41))
def test_windows_side_by_side_share_no_row(rows: list[tuple[int, int, bool]], at: int) -> None:
    """Also BOLT12 invoices that cannot be read are in exactly one of them."""
    node = SqlNode()
    for index, (made_at, _, is_bolt12) in enumerate(rows, start=1):
        node.add(index, made_at, bolt12="lni1qqg" if is_bolt12 else None)

    async def both() -> list[int]:
        history = History(node)
        before = await history.invoices(await window(history, None, at), limit=100)
        after = await history.invoices(await window(history, at + 1, None), limit=100)
        return [row["created_index"] for row in (*after, *before)]

    assert asyncio.run(both()) == list(range(len(rows), 0, -1))
    node.db.close()


async def test_bisection_takes_few_queries() -> None:
    node = SqlNode()
    for index in range(1, 2001):
        node.add(index, START + index)
    assert await History(node).first_index_at(START + 1234) == 1234
    assert len(node.queries) <= 13
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
def test_prefix_of_another_form_is_refused(prefix: str) -> None:
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
def test_prefix_means_startswith(labels: list[str], prefix: str) -> None:
    node = SqlNode()
    for index, label in enumerate(labels, start=1):
        node.add(index, START, label)
    wanted = InvoiceFilter(label_prefix=prefix, paid_only=False)
    rows = asyncio.run(History(node).invoices(wanted, limit=100))
    found = [row["created_index"] for row in reversed(rows)]
    assert found == [n for n, label in enumerate(labels, start=1) if label.startswith(prefix)]
    node.db.close()


async def test_numbers_only() -> None:
    """A bound that is not a number cannot become part of a query."""
    bad: Any = "1; DROP TABLE invoices"
    for wanted in (
        InvoiceFilter(None, False, from_index=bad),
        InvoiceFilter(None, False, until_index=bad),
    ):
        with pytest.raises(ValueError, match="format code"):
            wanted.where()
    for payments in (PaymentFilter(False, from_time=bad), PaymentFilter(False, until_time=bad)):
        with pytest.raises(ValueError, match="format code"):
            payments.having()


async def test_invoices_as_listinvoices_shows_them(world: World) -> None:
    """But for updated_index, which nobody needs."""
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
    found = await History(world.node).invoices(ALL, limit=10)
    # `unpaid` has a preimage nowhere.
    assert found == listed[::-1]
    assert [row["label"] for row in await History(world.node).invoices(PAID, limit=10)] == [
        entry["label"] for entry in reversed(listed) if entry["status"] == "paid"
    ]


async def test_mirror_follows(world: World) -> None:
    """New, changed and deleted invoices, one after another."""
    history = History(world.node)
    await world.invoices(connection(ALICE), 3)
    await world.invoices(connection(BOB), 2)
    assert await history.count_invoices(ALL) == 5
    assert await history.count_invoices(PAID) == 0
    assert await history.newest_pay_index() == 0
    made = await world.invoice(connection(BOB), 9)
    await world.pay(made["label"])
    assert await history.count_invoices(ALL) == 6
    assert await history.count_invoices(PAID) == 1
    assert await history.newest_pay_index() == 1
    assert await history.count_invoices(InvoiceFilter(PREFIX, paid_only=False)) == 3
    await world.node.delete_invoice(made["label"], "paid")
    assert await history.count_invoices(ALL) == 5
    again = await world.invoice(connection(BOB), 10)
    await world.pay(again["label"])
    assert await history.count_invoices(PAID) == 1
    assert await history.newest_pay_index() == 2


async def test_pages(world: World) -> None:
    await world.invoices(connection(ALICE), 5)
    history = History(world.node)
    pages = [await history.invoices(ALL, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [[row["created_index"] for row in page] for page in pages] == [[5, 4], [3, 2], [1], []]


async def test_payments_by_hash(world: World) -> None:
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
    rows = await history.payments(PaymentFilter(settled_only=False), limit=10)
    assert [(row["payment_hash"][:2], row["state"]) for row in rows] == [("22", 1), ("33", 0), ("11", 2)]
    assert rows[2] == {
        "payment_hash": "11" * 32,
        "state": 2,
        "created_at": START,
        "completed_at": START + 7,
        "complete_msat": 2000,
        "complete_sent_msat": 2000,
        "failed_msat": 1000,
        "payment_preimage": "77" * 32,
        "description": 'a "text"',
    }
    assert await history.payments(PaymentFilter(settled_only=True), limit=10) == [rows[2]]
    for settled_only, count in ((True, 1), (False, 3)):
        assert await history.count_payments(PaymentFilter(settled_only)) == count
    inclusive = PaymentFilter(False, from_time=START + 1, until_time=START + 1)
    assert await history.payments(inclusive, limit=10) == rows[:2]
    assert await history.payments(inclusive, limit=1, offset=1) == [rows[1]]
    assert await history.count_payments(inclusive) == 2
    assert await history.count_payments(PaymentFilter(False, until_time=START - 1)) == 0


async def test_every_query_is_one_that_lightningd_allows(world: World) -> None:
    """The double refuses functions that the real authorizer refuses."""
    with pytest.raises(RpcFailed) as caught:
        await world.node.call("sql", query="SELECT replace(label, 'a', 'b') FROM invoices")
    assert caught.value.code == -1
    assert caught.value.message.startswith("query failed with not authorized to use function: replace")
