import asyncio
import hashlib
import json
import time
from typing import Any

import pytest

from nwc.cln.bolt11 import expiry, timestamp
from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.response import MAX_PLAINTEXT_BYTES
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.context import LISTS_AT_ONCE
from nwc.wallet.invoice_record import InvoiceRecord
from tests.unit.in_process import ALICE, BOB, NEVER, START, World, connection, make_wallet

OWN, OTHER, NODE = connection(ALICE), connection(BOB), connection("c2" * 8, View.NODE)
PREIMAGE = "77" * 32


def times(answer: dict[str, Any]) -> list[int]:
    return [row["created_at"] for row in answer["transactions"]]


def hashes(answer: dict[str, Any]) -> list[str]:
    return [row["payment_hash"] for row in answer["transactions"]]


async def all_pages(world: World, asking: Connection, **params: Any) -> list[dict[str, Any]]:
    """Read all pages as an app does: the next offset is the number of rows so far."""
    rows: list[dict[str, Any]] = []
    while page := (await world.list(asking, offset=len(rows), **params))["transactions"]:
        rows += page
    return rows


async def refused(world: World, asking: Connection, **params: Any) -> Nip47Error:
    with pytest.raises(Nip47Error) as caught:
        await world.list(asking, **params)
    return caught.value


async def invoice_elsewhere(world: World) -> str:
    """Return an invoice to pay. The node's own serves for that."""
    made = await world.node.invoice(
        amount_msat=9000, label="elsewhere", description="a book", expiry=600
    )
    return str(made["bolt11"])


async def test_a_new_node_has_no_transactions(world: World) -> None:
    for asking in (OWN, NODE):
        assert await world.list(asking) == {"transactions": [], "total_count": 0}


async def test_a_page_is_newest_first_with_the_total_number(world: World) -> None:
    await world.invoices(OWN, 55, paid_every=1)
    answer = await world.list(OWN)
    assert times(answer) == [START + 54 - n for n in range(50)]
    assert answer["total_count"] == 55


@pytest.mark.parametrize(
    ("limit", "rows"), [(None, 50), (0, 50), (1, 1), (5, 5), (100, 100), (101, 100), (2**53, 100)]
)
async def test_a_page_has_at_most_limit_rows(
    world: World, limit: int | None, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nwc.wallet.methods.list_transactions.MAX_PLAINTEXT_BYTES", 10**6)
    await world.invoices(OWN, 120, paid_every=1)
    for asking in (OWN, NODE):
        answer = await world.list(asking, limit=limit)
        assert len(answer["transactions"]) == rows
        assert answer["total_count"] == 120


async def test_an_offset_skips_the_newest_rows(world: World) -> None:
    await world.invoices(OWN, 7, paid_every=1)
    for asking in (OWN, NODE):
        assert times(await world.list(asking, limit=3, offset=5)) == [START + 1, START]
        assert await world.list(asking, offset=7) == {"transactions": [], "total_count": 7}
        assert len(await all_pages(world, asking, limit=3)) == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", -1),
        ("limit", "20"),
        ("limit", 1.5),
        ("limit", True),
        ("limit", 2**53 + 1),
        ("offset", -1),
        ("offset", 10_000_001),
        ("from", "yesterday"),
        ("from", -1),
        ("from", 2**63),
        ("until", 2**41),
        ("until", [1]),
        ("type", "both"),
        ("type", 1),
        ("unpaid", "true"),
        ("unpaid", 1),
        ("unpaid_incoming", 0),
        ("unpaid_outgoing", {}),
    ],
)
async def test_malformed_params_are_refused_without_a_call(
    world: World, name: str, value: object
) -> None:
    error = await refused(world, OWN, **{name: value})
    assert error.code == ErrorCode.OTHER
    assert error.message.startswith(f"{name}: must be ")
    assert world.node.calls == []


async def test_a_large_offset_needs_a_type_or_a_single_list(world: World) -> None:
    assert (await refused(world, NODE, offset=10_001)).code == ErrorCode.OTHER
    assert (await world.list(NODE, offset=10_001, type="incoming"))["transactions"] == []
    assert (await world.list(NODE, offset=10_001, type="outgoing"))["transactions"] == []
    assert (await world.list(OWN, offset=10_001))["transactions"] == []


async def test_unsettled_transactions_are_listed_only_if_asked_for(world: World) -> None:
    await world.invoices(OWN, 4, paid_every=2, expiry=NEVER)
    for n, status in enumerate(("complete", "pending", "failed")):
        await world.payment({"status": status, "created_at": START + 10 + n})

    async def states(asking: Connection, **params: Any) -> list[str]:
        answer = await world.list(asking, **params)
        assert answer["total_count"] == len(answer["transactions"])
        return [f"{row['type']} {row['state']}" for row in answer["transactions"]]

    incoming = ["incoming settled", "incoming pending"] * 2
    outgoing = ["outgoing failed", "outgoing pending", "outgoing settled"]
    assert await states(OWN) == ["incoming settled"] * 2
    assert await states(OWN, unpaid=False, unpaid_incoming=None) == ["incoming settled"] * 2
    assert await states(OWN, unpaid=True) == incoming
    assert await states(OWN, unpaid_incoming=True) == incoming
    assert await states(OWN, unpaid_outgoing=True) == ["incoming settled"] * 2
    assert await states(NODE) == [outgoing[2], *["incoming settled"] * 2]
    assert await states(NODE, unpaid=True) == [*outgoing, *incoming]
    assert await states(NODE, unpaid_incoming=True) == [outgoing[2], *incoming]
    assert await states(NODE, unpaid_outgoing=True) == [*outgoing, *["incoming settled"] * 2]
    assert await states(NODE, type="outgoing") == [outgoing[2]]
    assert await states(NODE, type="outgoing", unpaid=True) == outgoing
    assert await states(NODE, type="incoming", unpaid=True) == incoming
    assert await states(OWN, type="outgoing", unpaid=True) == []
    assert await states(OWN, type="") == ["incoming settled"] * 2


async def test_an_expired_invoice_is_listed_as_expired(world: World) -> None:
    await world.invoices(OWN, 1, expiry=60)
    [row] = (await world.list(OWN, unpaid=True))["transactions"]
    assert (row["state"], row["expires_at"]) == ("expired", START + 60)


@pytest.mark.parametrize(
    ("from_", "until", "seen"),
    [
        (None, None, range(5)),
        (0, None, range(5)),
        (START + 10, None, range(1, 5)),
        (START + 11, None, range(2, 5)),
        (None, START + 30, range(4)),
        (None, START + 29, range(3)),
        (START + 10, START + 30, range(1, 4)),
        (START + 20, START + 20, range(2, 3)),
        (START + 21, START + 29, range(0)),
        (START + 30, START + 10, range(0)),
        (START + 41, None, range(0)),
        (None, 0, range(5)),
        (0, 0, range(5)),
        (START + 30, 0, range(3, 5)),
        (None, START - 1, range(0)),
        (2**40, 2**40, range(0)),
    ],
)
async def test_from_and_until_are_inclusive(
    world: World, from_: int | None, until: int | None, seen: range
) -> None:
    await world.invoices(OWN, 5, paid_every=1, step=10)
    for n in range(5):
        await world.payment({"created_at": START + 10 * n})
    expected = [START + 10 * n for n in reversed(seen)]
    window = {"from": from_, "until": until}
    assert times(await world.list(OWN, **window)) == expected
    assert times(await world.list(NODE, type="incoming", **window)) == expected
    assert times(await world.list(NODE, type="outgoing", **window)) == expected
    both = await world.list(NODE, **window)
    assert times(both) == sorted(expected * 2, reverse=True)
    assert both["total_count"] == 2 * len(seen)


async def test_a_window_is_found_among_invoices_of_other_connections(world: World) -> None:
    """The bisection runs over all invoices, visible or not."""
    for asking, first in ((OWN, START), (OTHER, START + 100), (OWN, START + 200)):
        prefix = f"nwc:{asking.id}:{first}"
        await world.invoices(asking, 10, paid_every=1, created_at=first, label_prefix=prefix)
    answer = await world.list(OWN, **{"from": START + 5, "until": START + 204}, limit=100)
    assert sorted(times(answer)) == [
        *range(START + 5, START + 10),
        *range(START + 200, START + 205),
    ]


async def test_incoming_and_outgoing_are_merged_by_time(world: World) -> None:
    await world.invoices(OWN, 6, paid_every=1, step=10)
    for n in range(8):
        await world.payment({"created_at": START + 7 * n})
    expected = sorted([*range(START, START + 60, 10), *range(START, START + 56, 7)], reverse=True)
    whole = await world.list(NODE)
    assert times(whole) == expected
    assert whole["total_count"] == 14
    for limit in (1, 3, 5):
        assert await all_pages(world, NODE, limit=limit) == whole["transactions"]


async def test_a_page_ends_before_it_is_too_long(world: World) -> None:
    metadata = {"comment": "ü" * 2000}
    for n in range(40):
        made = await world.invoice(OWN, n, description="ö" * 300, record=InvoiceRecord(metadata))
        await world.pay(made["label"])
    answer = await world.list(OWN, limit=40)
    body = {"result_type": "list_transactions", "error": None, "result": answer}
    size = len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
    assert MAX_PLAINTEXT_BYTES - 8000 < size <= MAX_PLAINTEXT_BYTES
    assert answer["total_count"] == 40
    rows = await all_pages(world, OWN, limit=40)
    assert len(rows) == len({row["payment_hash"] for row in rows}) == 40
    assert all(row["metadata"] == metadata for row in rows)


async def test_a_description_too_long_for_any_answer_hides_no_row(world: World) -> None:
    """LNURL servers on the same node make invoices for metadata with an image in it."""
    await world.node.invoice(
        amount_msat=1000, label="lnurl", description="x" * 100_000, expiry=60, deschashonly=True
    )
    await world.pay("lnurl")
    made = await world.invoice(OWN, 1, description="after it")
    await world.pay(made["label"])
    rows = await all_pages(world, NODE)
    assert len(rows) == 2
    assert len(json.dumps(rows).encode()) < MAX_PLAINTEXT_BYTES
    assert rows[1]["description_hash"] == hashlib.sha256(b"x" * 100_000).hexdigest()


async def test_a_connection_sees_only_its_own_invoices(world: World) -> None:
    mine = await world.invoice(OWN, 1)
    neighbours = [
        f"nwc:{ALICE[:-1]}0:{1:064x}",
        f"nwc:{ALICE[:-1]}2:{1:064x}",
        f"nwc:{ALICE}0:{1:064x}",
        f"nwc:{ALICE};{1:064x}",
        f"nwc:{ALICE}",
        f"nwc:{ALICE[:-1]}:{1:064x}",
        f"NWC:{ALICE.upper()}:{1:064x}",
        f" nwc:{ALICE}:{1:064x}",
        f"nwc:{BOB}:nwc:{ALICE}:{1:064x}",
        "nwc:template:0",
        "",
    ]
    for label in neighbours:
        await world.node.invoice(amount_msat=1, label=label, description="", expiry=60)
        await world.pay(label)
    await world.dev("dev-bolt12", label="offer")
    await world.pay("offer")
    await world.pay(mine["label"])
    await world.payment({})
    answer = await world.list(OWN, unpaid=True)
    assert hashes(answer) == [mine["payment_hash"]]
    assert answer["total_count"] == 1
    assert await world.list(OTHER, type="outgoing") == {"transactions": [], "total_count": 0}


async def test_the_view_of_the_node_shows_all_but_templates(world: World) -> None:
    made = [
        await world.node.invoice(amount_msat=1, label=label, description="", expiry=60)
        for label in ("mine", f"nwc:{ALICE}:x", "nwc:template:15", "nwc:template", "nwc:templates")
    ]
    answer = await world.list(NODE, unpaid=True)
    assert sorted(hashes(answer)) == sorted(made[n]["payment_hash"] for n in (0, 1, 3, 4))
    assert answer["total_count"] == 4


async def test_a_row_has_the_fields_of_a_transaction(world: World) -> None:
    record = InvoiceRecord({"order": 7}, "the long text")
    made = await world.invoice(OWN, 1, amount_msat=5000, description="short", record=record)
    [pending] = (await world.list(OWN, unpaid=True))["transactions"]
    assert pending == {
        "type": "incoming",
        "state": "pending",
        "invoice": made["bolt11"],
        "description": "the long text",
        "payment_hash": made["payment_hash"],
        "amount": 5000,
        "fees_paid": 0,
        "created_at": made["expires_at"] - 3600,
        "expires_at": made["expires_at"],
        "metadata": {"order": 7},
    }
    paid = await world.pay(made["label"], amount_msat=6000)
    [settled] = (await world.list(OWN))["transactions"]
    assert settled == pending | {
        "state": "settled",
        "amount": 6000,
        "preimage": paid["payment_preimage"],
        "settled_at": paid["paid_at"],
    }


@pytest.mark.parametrize(
    "description", ['say "hi"', "line\nline\ttab", "C:\\new", "\\", '\\"', "käse ☕", "a/b", "\\u0041"]
)
async def test_descriptions_are_returned_unchanged(world: World, description: str) -> None:
    """The tables of `sql` contain texts with JSON's escapes (lightningd's plugins/sql.c)."""
    made = await world.invoice(OWN, 1, description=description)
    await world.pay(made["label"])
    hashed = await world.invoice(OWN, 2, description=description, deschashonly=True)
    await world.pay(hashed["label"])
    await world.payment({}, payment_hash="11" * 32, description=description)
    rows = (await world.list(NODE))["transactions"]
    assert [row["description"] for row in rows] == [description] * 3


async def test_only_the_view_of_the_node_lists_bolt12_invoices(world: World) -> None:
    paid = await world.dev("dev-bolt12", label="paid", amount_msat=7000, description="coffee")
    await world.pay("paid")
    await world.dev("dev-bolt12", expiry=NEVER)
    pending, settled = (await world.list(NODE, unpaid=True))["transactions"]
    assert pending["state"] == "pending"
    assert pending["invoice"].startswith("lni1")
    assert pending["description"] == ""
    assert "preimage" not in pending
    assert settled["state"] == "settled"
    assert settled["amount"] == 7000
    assert settled["description"] == "coffee"
    assert settled["payment_hash"] == paid["payment_hash"]
    assert {"preimage", "settled_at", "created_at", "expires_at"} <= settled.keys()
    assert (await world.list(OWN, unpaid=True))["total_count"] == 0


async def test_bolt12_invoices_are_ordered_by_creation_time(world: World) -> None:
    """An old BOLT12 invoice does not become new by being paid late."""
    start = int(time.time()) - 100
    await world.dev("dev-bolt12", label="old", created_at=start)
    await world.invoices(OWN, 3, created_at=start + 10, paid_every=1)
    await world.pay("old")
    created = times(await world.list(NODE))
    assert created == [start + 12, start + 11, start + 10, start]


async def test_pages_show_every_row_once(world: World) -> None:
    """Even if times and lightningd's order disagree."""
    start = int(time.time()) - 100
    for n in range(6):
        await world.dev("dev-bolt12", label=f"offer {n}", created_at=start + n)
        await world.dev(
            "dev-invoices", count=1, label_prefix=f"x{n}", paid_every=1, created_at=start + 9 - n
        )
        await world.payment({"created_at": start + 4 * n})
        await world.pay(f"offer {n}")
    whole = hashes(await world.list(NODE))
    assert len(whole) == 18
    for limit in (1, 2, 3, 5):
        rows = await all_pages(world, NODE, limit=limit)
        assert [row["payment_hash"] for row in rows] == whole


async def test_one_payment_is_one_row(world: World) -> None:
    """It has several parts, and two attempts failed before."""
    bolt11 = await invoice_elsewhere(world)
    first = await world.payment(
        {"groupid": 1, "status": "failed", "amount_msat": 9000, "created_at": START},
        {"groupid": 2, "partid": 1, "status": "failed", "amount_msat": 4500, "created_at": START + 1},
        {
            "groupid": 3,
            "partid": 1,
            "amount_msat": 5000,
            "amount_sent_msat": 5003,
            "created_at": START + 3,
            "completed_at": START + 8,
        },
        {
            "groupid": 3,
            "partid": 2,
            "amount_msat": 4000,
            "amount_sent_msat": 4004,
            "created_at": START + 4,
            "completed_at": START + 8,
        },
        {
            "groupid": 2,
            "partid": 2,
            "status": "failed",
            "amount_msat": 4500,
            "created_at": START + 2,
            "completed_at": START + 60,
        },
        bolt11=bolt11,
        preimage=PREIMAGE,
    )
    answer = await world.list(NODE, type="outgoing")
    assert answer["total_count"] == 1
    [row] = answer["transactions"]
    invoice = (await world.node.invoice_by_label("elsewhere")) or {}
    assert row == {
        "type": "outgoing",
        "state": "settled",
        "invoice": bolt11,
        "description": "a book",
        "payment_hash": first["payment_hash"],
        "amount": 9000,
        "fees_paid": 7,
        "created_at": START,
        # From the invoice; lightningd's own may be one second later.
        "expires_at": timestamp(invoice["bolt11"]) + expiry(invoice["bolt11"]),
        "settled_at": START + 8,
        "preimage": PREIMAGE,
        "metadata": {},
    }


async def test_an_unsettled_payment_shows_no_preimage(world: World) -> None:
    bolt11 = await invoice_elsewhere(world)
    await world.payment(
        {"status": "failed", "groupid": 1, "amount_msat": 9000},
        {"status": "pending", "groupid": 2, "amount_msat": 4000},
        {"status": "pending", "groupid": 2, "partid": 2, "amount_msat": 5000},
        bolt11=bolt11,
    )
    await world.payment({"status": "failed", "amount_msat": 3000, "created_at": START})
    failed, pending = (await world.list(NODE, unpaid=True, type="outgoing"))["transactions"]
    assert (pending["state"], pending["amount"], pending["fees_paid"]) == ("pending", 9000, 0)
    assert (failed["state"], failed["amount"], failed["fees_paid"]) == ("failed", 3000, 0)
    for row in (pending, failed):
        assert not {"preimage", "settled_at"} & row.keys()


async def test_a_pending_payment_is_listed_once_it_settles(world: World) -> None:
    await world.payment({"status": "pending"}, payment_hash="22" * 32)
    assert (await world.list(NODE))["total_count"] == 0
    await world.payment({"status": "complete"}, payment_hash="22" * 32, preimage=PREIMAGE)
    [row] = (await world.list(NODE))["transactions"]
    assert (row["state"], row["preimage"]) == ("settled", PREIMAGE)


async def test_a_payment_of_unknown_amount_shows_what_was_sent(world: World) -> None:
    """Older payments, and onions made by other programs, have no amount_msat."""
    await world.payment({"amount_msat": 0, "amount_sent_msat": 1005})
    [row] = (await world.list(NODE))["transactions"]
    assert (row["amount"], row["fees_paid"]) == (1005, 0)


@pytest.mark.parametrize("invstring", ["lnbc1garbage", "hello", "", "lnbc" + "1q" * 9000])
async def test_a_payment_with_an_unreadable_invoice_hides_no_row(world: World, invstring: str) -> None:
    """`sendpay` stores whatever it is given as bolt11."""
    await world.payment({"created_at": START}, bolt11=invstring, payment_hash="33" * 32)
    await world.payment({"created_at": START + 1}, payment_hash="44" * 32)
    answer = await world.list(NODE)
    assert hashes(answer) == ["44" * 32, "33" * 32]


async def test_deleted_invoices_are_not_listed(world: World) -> None:
    made = [await world.invoice(OWN, n) for n in range(3)]
    for one in made:
        await world.pay(one["label"])
    assert (await world.list(OWN))["total_count"] == 3
    await world.node.delete_invoice(made[1]["label"], "paid")
    answer = await world.list(OWN)
    assert sorted(hashes(answer)) == sorted(made[n]["payment_hash"] for n in (0, 2))


async def test_an_unreadable_record_is_left_out(world: World) -> None:
    made = await world.invoice(OWN, 1, description="text")
    key = ("nwc", "invoices", OWN.id, f"{1:064x}", "record")
    for damaged in ('{"version":99,"metadata":{"a":1}}', "{", '"x"', "[]"):
        await world.node.datastore_put(key, damaged)
        [row] = (await world.list(OWN, unpaid=True))["transactions"]
        assert (row["metadata"], row["description"]) == ({}, "text")
    assert made["payment_hash"] == row["payment_hash"]


async def test_a_node_without_sql_gives_not_implemented(world: World) -> None:
    await world.dev("dev-fail", method="sql", code=-32601, message="Unknown command 'sql'", times=9)
    for asking in (OWN, NODE):
        assert (await refused(world, asking)).code == ErrorCode.NOT_IMPLEMENTED


async def test_errors_of_the_node_are_raised(world: World) -> None:
    await world.dev("dev-fail", method="sql", code=-1, message="query failed with …", times=9)
    with pytest.raises(RpcCallError):
        await world.list(OWN)
    world.node.away = True
    with pytest.raises(NodeUnavailableError):
        await world.list(OWN)


async def test_list_and_lookup_agree(world: World) -> None:
    await world.invoices(OWN, 3, paid_every=2, expiry=NEVER)
    made = await world.invoice(OWN, 9, description='"', record=InvoiceRecord({"a": [1]}))
    await world.pay(made["label"])
    await world.invoice(OWN, 10, description="hashed", deschashonly=True)
    await world.dev("dev-bolt12", label="offer")
    await world.pay("offer")
    await world.payment({}, description="text\n")
    await world.payment({"status": "failed"}, bolt11=await invoice_elsewhere(world))
    await world.payment({}, bolt12="lni1qqg")
    await world.payment({"status": "pending", "amount_msat": 5}, {"status": "failed", "amount_msat": 9})
    await world.payment(
        {"groupid": 1, "status": "failed", "created_at": START, "completed_at": START + 99},
        {"groupid": 2, "created_at": START + 1, "completed_at": START + 50, "amount_sent_msat": 1010},
    )
    rows = (await world.list(NODE, unpaid=True))["transactions"]
    assert len(rows) == 12
    ours = next(row for row in rows if row["description"] == "a book" and row["type"] == "incoming")
    for row in rows:
        # Of an own invoice that this node tried to pay, look-up finds the incoming side.
        is_ours = row["payment_hash"] == ours["payment_hash"]
        expected = ours if is_ours else row
        assert await world.lookup(NODE, payment_hash=row["payment_hash"]) == expected


async def test_an_unsettled_payment_shows_the_amount_that_was_tried(world: World) -> None:
    """Also between two attempts, and if its parts have different states."""
    cases: list[list[dict[str, Any]]] = [
        [{"status": "failed", "amount_msat": 3000}],
        [{"groupid": 1, "status": "failed"}, {"groupid": 2, "status": "failed", "amount_msat": 900}],
        [{"partid": 1, "status": "pending", "amount_msat": 5}, {"partid": 2, "status": "failed"}],
        [{"partid": 1, "amount_msat": 5}, {"partid": 2, "amount_msat": 6}, {"groupid": 2}],
        [{"groupid": 1, "status": "failed"}, {"groupid": 2}, {"groupid": 3, "status": "pending"}],
    ]
    for n, parts in enumerate(cases):
        await world.payment(*parts, payment_hash=f"{n}a" * 32)
    rows = (await world.list(NODE, unpaid=True))["transactions"]
    assert [(row["state"], row["amount"]) for row in reversed(rows)] == [
        ("failed", 3000),
        ("failed", 1000),
        ("pending", 5),
        ("settled", 1011),
        ("settled", 1000),
    ]
    for row in rows:
        assert await world.lookup(NODE, payment_hash=row["payment_hash"]) == row


async def test_a_giant_invoice_string_hides_no_row(world: World) -> None:
    """Neither BOLT12 nor `createinvoice` has a limit."""
    giants = {"bolt12": "lni1" + "q" * 50_000, "bolt11": "lnbcrt1" + "q" * 50_000}
    for column, text in giants.items():
        await world.node.invoice(amount_msat=1, label=column, description="x" * 600, expiry=60)
        paid = await world.pay(column)
        world.node.lightningd.state.db.execute(
            f"UPDATE invoices SET bolt11 = NULL, {column} = ? WHERE label = ?",
            (text, column),
        )
        found = await world.lookup(NODE, payment_hash=paid["payment_hash"])
        assert (found["invoice"], found["description"]) == ("", "x" * 600)
    await world.payment({}, bolt12="lni1" + "q" * 50_000, description="y" * 32_000)
    await world.invoice(OWN, 1)
    rows = await all_pages(world, NODE, unpaid=True, limit=1)
    assert len(rows) == 4
    assert (await all_pages(world, NODE, unpaid=True))[:3] == rows[:3]
    assert all(len(json.dumps(row)) < MAX_PLAINTEXT_BYTES - 500 for row in rows)


async def test_a_long_invoice_string_is_shown_if_it_fits(world: World) -> None:
    text = "lni1" + "q" * 20_000
    await world.payment({}, bolt12=text)
    [row] = (await world.list(NODE))["transactions"]
    assert row["invoice"] == text


async def test_one_connection_does_not_take_all_slots(world: World) -> None:
    """Its calls over the limit wait; another connection's call is served."""
    await world.invoices(OWN, 3, paid_every=1)
    held, running = asyncio.Event(), 0

    async def hold(method: str, params: dict[str, Any]) -> None:
        nonlocal running
        if method == "sql" and ALICE in params["query"] and not held.is_set():
            running += 1
            await held.wait()

    world.node.before = hold
    asked = [asyncio.create_task(world.list(OWN)) for _ in range(20)]
    await world.node.called(lambda: running == LISTS_AT_ONCE)
    assert (await world.list(OTHER))["total_count"] == 0
    for task in asked[:2] + asked[-2:]:
        task.cancel()
    assert running == LISTS_AT_ONCE
    held.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, dict) for answer in answers) == 16


async def test_no_record_is_read_if_there_is_none(world: World) -> None:
    await world.invoices(OWN, 3, paid_every=1)
    await world.list(OWN)
    world.node.calls.clear()
    await world.list(OWN)
    assert "listdatastore" not in {method for method, _ in world.node.calls}


async def test_a_record_is_found_after_a_restart_and_if_it_is_the_first(world: World) -> None:
    await world.list(OWN)
    record = InvoiceRecord({"order": 7})
    made = await world.invoice(OWN, 1, record=record)
    for _ in range(2):
        [row] = (await world.list(OWN, unpaid=True))["transactions"]
        assert row["metadata"] == {"order": 7}
        assert await world.lookup(OWN, payment_hash=made["payment_hash"]) == row
        world.wallet = make_wallet(world.node)


async def test_total_count_is_right_after_each_change(world: World) -> None:
    made = [await world.invoice(OWN, n) for n in range(3)]
    for paid, one in enumerate(reversed(made), start=1):
        await world.pay(one["label"])
        for asking in (OWN, NODE):
            answer = await world.list(asking)
            assert one["payment_hash"] in hashes(answer)
            assert answer["total_count"] == paid
    await world.node.delete_invoice(made[1]["label"], "paid")
    assert (await world.list(OWN))["total_count"] == 2
