"""Payments that stay pending for long: other requests meanwhile, limits, and budgets that renew."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nwc.wallet.spending.pending_payments import MAX_PER_CONNECTION, MAX_SHARED
from tests.support.app import Answer
from tests.support.channel import Json
from tests.support.faults import FAULTY_PLUGIN, Faults
from tests.support.waiting import wait_for_the_next_second, wait_until
from tests.wire.fixtures import Connect, ConnectedApp, budget_of, wait_until_announced
from tests.wire.network import CAPACITY_SAT, second_channel
from tests.wire.paying import *  # noqa: F403
from tests.wire.paying import (
    FEE_MSAT,
    RESERVED_MSAT,
    Case,
    check_books,
    each_that_succeeds,
)
from tests.wire.real_node import RealNode
from tests.wire.real_payee import RealPayee
from tests.wire.test_receiving import listed, make
from tests.wire.test_spending import AMOUNT_MSAT, SECONDS_A_DAY, books, pay, really_sent
from tests.wire.three_nodes import *  # noqa: F403

SPENT_MSAT = AMOUNT_MSAT + FEE_MSAT


@pytest.fixture(scope="module")
def plugin_file() -> Path:
    return FAULTY_PLUGIN


# Errors while a part is pending


@pytest.fixture(scope="module")
def two_channels(nodes: list[RealNode], bitcoind: Any) -> int:
    """Two channels that can each send about a quarter of CAPACITY_SAT; an amount in msat for both."""
    node, neighbour = nodes[0], RealPayee(nodes[1].pyln)
    node.rpc.xpay(neighbour.invoice(CAPACITY_SAT * 250)["bolt11"])
    second_channel(bitcoind, node, neighbour, CAPACITY_SAT // 4)
    return CAPACITY_SAT * 350


@pytest.mark.parametrize("preimage", ["", "5a" * 32], ids=["failed", "taken"])
def test_no_error_is_answered_while_a_part_is_held(
    node: RealNode,
    two_channels: int,
    payee: RealPayee,
    connect: Connect,
    preimage: str,
) -> None:
    """The payee refuses one part and holds the other, which it can still take."""
    app = connect(budget="unlimited")
    payee.hold()
    invoice = payee.invoice(two_channels, preimage=preimage or None)
    request = send(app, invoice)
    wait_until(lambda: payee.held() == 2, "two parts to be held")
    payee.fail_one()
    wait_until(lambda: "failed" in states_of(node, invoice), "one part to have failed")
    assert payee.held() == 1
    assert books(node, app) == (0, two_channels + two_channels // 100)
    shown = app.ask("lookup_invoice", {"payment_hash": invoice["payment_hash"]}).result
    assert shown["state"] == "pending"
    assert app.answers_to(request["id"]) == []
    payee.release(fail=not preimage, preimage=preimage)
    if preimage:
        assert app.answer_to(request).result == {"preimage": preimage, "fees_paid": 0}
    else:
        assert app.answer_to(request).code == "PAYMENT_FAILED"
    sent_msat = really_sent(node, invoice["payment_hash"])
    assert bool(preimage) == (0 < sent_msat < two_channels)
    assert books(node, app) == (sent_msat, 0)


def states_of(node: RealNode, invoice: Json) -> list[str]:
    """Return the statuses of the parts of a payment."""
    listed = node.rpc.call("listsendpays", {"payment_hash": invoice["payment_hash"]})
    return [part["status"] for part in listed["payments"]]


# Other requests, and limits


@each_that_succeeds
def test_other_requests_are_served_while_a_payment_is_held(
    node: RealNode, nodes: list[RealNode], held: Case, connect: Connect, payee: RealPayee
) -> None:
    app, other = held.app, connect(budget="1000sat")
    made = make(app)
    assert app.ask("lookup_invoice", {"payment_hash": made["payment_hash"]}).result["state"] == "pending"
    assert app.ask("get_balance").result == {"balance": 1_000_000 - RESERVED_MSAT}
    assert [row["state"] for row in listed(app, unpaid_outgoing=True)["transactions"]] == ["pending"]
    neighbours = RealPayee(nodes[1].pyln).invoice(AMOUNT_MSAT)
    assert pay(other, neighbours).result["fees_paid"] == 0
    assert books(node, other) == (AMOUNT_MSAT, 0)
    assert node.rpc.call("nwc-status")["relays"]
    assert held.answers() == []
    payee.release()
    assert held.app.answer_to(held.request).result["fees_paid"] == FEE_MSAT
    check_books(held)


def test_too_many_pending_payments_are_refused_also_after_a_restart(
    node: RealNode, payee: RealPayee, connect: Connect
) -> None:
    """The pending payments of some connections cannot block the first one of another."""
    counts = [*divide(MAX_SHARED + 4, MAX_PER_CONNECTION)]
    apps = [connect(budget="unlimited") for _ in counts]
    payee.hold()
    requests = [
        (app, send(app, payee.invoice(1000)))
        for app, count in zip(apps, counts, strict=True)
        for _ in range(count)
    ]
    wait_until(lambda: payee.held() == sum(counts), "all to be held")
    check_refused(apps, payee)
    other = connect(budget="unlimited")
    requests.append((other, send(other, payee.invoice(1000))))
    wait_until(lambda: payee.held() == sum(counts) + 1, "the payment of another to be held too")
    node.kill_plugin()
    node.start_plugin()
    for app in apps:
        wait_until_announced(node, app.name)
    # After a restart, a request that is not newer than the last refused one is refused too.
    wait_for_the_next_second()
    check_refused(apps, payee)
    payee.release()
    for app, request in requests:
        assert app.answer_to(request).result["fees_paid"] == payee.fee_msat(1000)
    assert [books(node, app) for app in apps] == [(1001 * count, 0) for count in counts]
    assert pay(apps[0], payee.invoice(1000)).result


def divide(total: int, most: int) -> Iterator[int]:
    while total > 0:
        yield min(total, most)
        total -= most


def send(app: ConnectedApp, invoice: Json) -> Json:
    request = app.request("pay_invoice", {"invoice": invoice["bolt11"]})
    app.send(request)
    return request


def check_refused(apps: list[ConnectedApp], payee: RealPayee) -> None:
    """Assert that the first app is over the limit for one connection, and the last over that for all."""
    for app, words in ((apps[0], "of this connection"), (apps[-1], "too many payments are")):
        refused = pay(app, payee.invoice(1000))
        assert (refused.code, words in refused.message) == ("RATE_LIMITED", True), refused.message


# A budget that renews


def ask_tomorrow(app: ConnectedApp, method: str, params: Any = None) -> Answer:
    return app.ask(method, params, created_at=int(time.time()) + SECONDS_A_DAY)


def test_a_daily_budget_renews_on_the_next_day(
    node: RealNode, payee: RealPayee, connect: Connect, faults: Faults
) -> None:
    app = connect(budget=f"{SPENT_MSAT}msat", renewal="daily")
    assert pay(app, first := payee.invoice(AMOUNT_MSAT)).result
    used_up = pay(app, second := payee.invoice(AMOUNT_MSAT))
    assert used_up.code == "QUOTA_EXCEEDED"
    today = budget_of(node, app.name)
    faults.shift_clock(SECONDS_A_DAY)
    tomorrow = budget_of(node, app.name)
    assert tomorrow["renews_at"] == today["renews_at"] + SECONDS_A_DAY
    assert (tomorrow["spent_msat"], tomorrow["left_msat"]) == (0, SPENT_MSAT)
    assert ask_tomorrow(app, "get_budget").result == {
        "used_budget": 0,
        "total_budget": SPENT_MSAT,
        "renewal_period": "daily",
        "renews_at": tomorrow["renews_at"],
    }
    assert ask_tomorrow(app, "pay_invoice", {"invoice": second["bolt11"]}).result
    assert books(node, app) == (SPENT_MSAT, 0)
    third = payee.invoice(1)["bolt11"]
    assert ask_tomorrow(app, "pay_invoice", {"invoice": third}).code == "QUOTA_EXCEEDED"
    faults.shift_clock(0)
    assert pay(app, payee.invoice(1)).code == "QUOTA_EXCEEDED", "a clock set back renews nothing"
    assert really_sent(node, first["payment_hash"], second["payment_hash"]) == 2 * SPENT_MSAT


def test_a_payment_held_into_the_next_day_is_charged_to_that_day(
    node: RealNode, payee: RealPayee, connect: Connect, faults: Faults
) -> None:
    """A pending payment is charged to each period until it ends, and booked in the last one."""
    app = connect(budget=f"{RESERVED_MSAT}msat", renewal="daily")
    payee.hold()
    request = send(app, payee.invoice(AMOUNT_MSAT))
    wait_until(lambda: payee.held() == 1, "the payment to be held")
    faults.shift_clock(SECONDS_A_DAY)
    assert books(node, app) == (0, RESERVED_MSAT)
    refused = ask_tomorrow(app, "pay_invoice", {"invoice": payee.invoice(1)["bolt11"]})
    assert refused.code == "QUOTA_EXCEEDED"
    assert ask_tomorrow(app, "get_balance").result == {"balance": 0}
    payee.release()
    assert app.answer_to(request).result["fees_paid"] == FEE_MSAT
    assert books(node, app) == (SPENT_MSAT, 0)
    faults.shift_clock(2 * SECONDS_A_DAY)
    assert books(node, app) == (0, 0)
