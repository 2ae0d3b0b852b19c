"""The checks of the soak (tests/bench/soak), without any process."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from nostr_sdk import Keys

from tests.bench.soak import reconcile
from tests.bench.soak.books import OK, Answered, Asked, Books, Trouble, Wanted
from tests.bench.soak.clients import Link
from tests.bench.soak.misfortunes import OF_RELAYS, Misfortune, plan
from tests.bench.soak.reconcile import NodeBooks
from tests.bench.soak.vitals import FULL_FDS, FULL_THREADS, MAX_GROWTH_BYTES, Vitals, is_not_flat
from tests.support.app import NIP44, NOTIFICATION_KINDS, App
from tests.support.channel import KIND_NOTIFICATION, Json

RELAY = "ws://127.0.0.1:1"
RESULT: Json = {"invoice": "lnbcrt1", "payment_hash": "aa" * 32, "amount": 1000, "metadata": {}}
MADE: Json = {
    "bolt11": "lnbcrt1",
    "payment_hash": "aa" * 32,
    "amount_msat": 1000,
    "status": "paid",
    "paid_at": 105,
}
VITALS = Vitals(at=0, pid=1, rss=50_000_000, fds=FULL_FDS, threads=FULL_THREADS, cpu_s=1)


@pytest.fixture
def asked() -> Asked:
    """Return a make_invoice request that was sent at second 100."""
    wallet, client = Keys.generate(), Keys.generate()
    secret, pubkey = client.secret_key().to_hex(), wallet.public_key().to_hex()
    app = App(f"nostr+walletconnect://{pubkey}?relay={RELAY}&secret={secret}", [Link(RELAY)])
    wanted = Wanted("make_invoice", {"amount": 1000}, OK, NIP44)
    return Asked(app, app.request("make_invoice", wanted.params), wanted, sent_at=100, last_sent_at=100)


@pytest.fixture
def books(asked: Asked) -> Books:
    """Return books without a fault: a request, its answer, its payment and the notifications."""
    asked.answers.append(Answered(101, OK, RESULT))
    notified = {(RESULT["payment_hash"], kind): [106.0] for kind in NOTIFICATION_KINDS}
    return Books(asked={asked.event["id"]: asked}, notified=notified)


@pytest.fixture
def node(asked: Asked) -> NodeBooks:
    """Return the books of a node that has the requested invoice."""
    made = {(asked.connection_id, asked.event["id"]): MADE}
    return NodeBooks(made, [], [], {MADE["payment_hash"]: ""}, set(), [])


def wrong(findings: Iterator[str]) -> str:
    """Return the only finding."""
    [finding] = findings
    return finding


def test_books_without_a_fault_have_no_findings(books: Books, node: NodeBooks) -> None:
    assert [*books.findings(), *reconcile.findings(books, node)] == []


def test_a_missing_answer_is_found_unless_both_relays_failed(books: Books, asked: Asked) -> None:
    asked.answers.clear()
    assert "no answer" in wrong(books.findings())
    books.troubles.append(Trouble(Misfortune.RELAY_A, 101, 102))
    assert "no answer" in wrong(books.findings())
    books.troubles.append(Trouble(Misfortune.BOTH_RELAYS, 101, 102))
    assert [*books.findings()] == []


def test_a_second_answer_is_found_unless_the_plugin_was_killed(books: Books, asked: Asked) -> None:
    asked.answers.append(Answered(120, OK, RESULT))
    assert "2 answers" in wrong(books.findings())
    books.troubles.append(Trouble(Misfortune.PLUGIN_KILL, 110, 115))
    assert [*books.findings()] == []


def test_a_second_answer_with_another_invoice_is_found(books: Books, asked: Asked) -> None:
    books.troubles.append(Trouble(Misfortune.PLUGIN_KILL, 110, 115))
    asked.answers.append(Answered(120, OK, {**RESULT, "payment_hash": "bb" * 32}))
    assert "different invoices" in wrong(books.findings())


def test_a_second_answer_may_have_the_paid_amount_of_an_invoice_without_one(
    books: Books, asked: Asked
) -> None:
    books.troubles.append(Trouble(Misfortune.PLUGIN_KILL, 110, 115))
    asked.answers.append(Answered(120, OK, {**RESULT, "amount": 21_000}))
    assert "different invoices" in wrong(books.findings())
    asked.wanted.params["amount"] = 0
    assert [*books.findings()] == []


def test_an_error_is_found_unless_the_node_failed(books: Books, asked: Asked) -> None:
    asked.answers[0] = Answered(101, "INTERNAL", None)
    assert "INTERNAL instead of ok" in wrong(books.findings())
    books.troubles.append(Trouble(Misfortune.NODE, 99, 115))
    assert [*books.findings()] == []


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"invoices": {}}, "is not on the node"),
        ({"strange": [{"label": "nwc:x"}]}, "unexplained"),
        ({"records": {("c", "r")}}, "record without an invoice"),
        ({"pending": [["nwc"]]}, "never sent"),
    ],
)
def test_other_records_on_the_node_are_found(
    books: Books, node: NodeBooks, changes: dict[str, Any], finding: str
) -> None:
    assert finding in wrong(reconcile.findings(books, replace(node, **changes)))


def test_an_invoice_without_a_request_is_found(books: Books, node: NodeBooks) -> None:
    other = {**MADE, "payment_hash": "bb" * 32, "status": "unpaid"}
    node.invoices["0" * 16, "0" * 64] = other
    assert "no request for" in wrong(reconcile.findings(books, node))


@pytest.mark.parametrize(("name", "value"), [("bolt11", "lnbcrt2"), ("amount_msat", 2000)])
def test_an_invoice_that_differs_from_its_answer_is_found(
    books: Books, node: NodeBooks, name: str, value: object
) -> None:
    [key] = node.invoices
    node.invoices[key] = {**MADE, name: value}
    assert len([*reconcile.findings(books, node)]) == 1


def test_payment_not_told(books: Books, node: NodeBooks) -> None:
    books.notified.clear()
    assert "no notification" in wrong(reconcile.findings(books, node))


def test_payment_told_twice(books: Books, node: NodeBooks) -> None:
    books.notified[RESULT["payment_hash"], KIND_NOTIFICATION].append(107)
    assert "2 notifications" in wrong(reconcile.findings(books, node))
    books.troubles.append(Trouble(Misfortune.PLUGIN_KILL, 106, 107))
    assert [*reconcile.findings(books, node)] == []


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"pid": 2}, "another"),
        ({"rss": VITALS.rss + 2 * MAX_GROWTH_BYTES}, "memory grew"),
        ({"fds": FULL_FDS + 3}, "descriptors"),
        ({"threads": FULL_THREADS + 3}, "threads"),
    ],
)
def test_growth_is_found(changes: dict[str, int], finding: str) -> None:
    assert [*is_not_flat(VITALS, VITALS, 100)] == []
    assert finding in wrong(is_not_flat(VITALS, replace(VITALS, **changes), 100))


@pytest.mark.parametrize(("sorts", "seconds"), [(tuple(Misfortune), 20), (OF_RELAYS, 1080)])
def test_a_plan_is_repeatable_and_has_all_misfortunes(
    sorts: tuple[Misfortune, ...], seconds: float
) -> None:
    planned = plan(random.Random(1), sorts, seconds)
    assert planned == plan(random.Random(1), sorts, seconds)
    assert {one.misfortune for one in planned} == set(sorts)
    assert all(first.after_s < second.after_s < seconds for first, second in pairwise(planned))
