"""The database commits that a request costs the node: one for the invoice itself."""

import time
from collections import Counter

import pytest

from tests.support.channel import Json
from tests.wire.double_node import DoubleNode
from tests.wire.fixtures import ConnectedApp

HASH = "5a" * 32
REPLIES = [
    pytest.param("get_info", {}, {}, id="get_info"),
    pytest.param("make_invoice", {"amount": 1000, "description": "x"}, {"invoice": 1}, id="plain"),
    pytest.param("make_invoice", {"amount": 0}, {"invoice": 1}, id="any amount"),
    pytest.param("make_invoice", {"amount": 1, "description": "x" * 999}, {"invoice": 1}, id="long"),
    pytest.param("make_invoice", {"amount": 1, "metadata": {}}, {"invoice": 1}, id="empty metadata"),
    pytest.param(
        "make_invoice",
        {"amount": 1, "metadata": {"a": 1}},
        {"datastore": 1, "invoice": 1},
        id="metadata",
    ),
    pytest.param(
        "make_invoice",
        {"amount": 1, "description_hash": HASH},
        {"createinvoice": 1},
        id="bare hash",
    ),
    pytest.param("make_invoice", {"amount": -1, "metadata": {"a": 1}}, {}, id="refused"),
    pytest.param("get_budget", {}, {}, id="get_budget"),
    pytest.param("get_balance", {}, {}, id="get_balance"),
]


@pytest.mark.parametrize(("method", "params", "cost"), REPLIES)
def test_a_request_costs_only_these_commits(
    node: DoubleNode, app: ConnectedApp, method: str, params: Json, cost: Json
) -> None:
    # The first bare hash makes a template, which is used for some minutes.
    app.ask(method, params, tags=[["n", "before"]])
    before = Counter(node.commits())
    app.ask(method, params)
    assert dict(Counter(node.commits()) - before) == cost


def test_a_refused_payment_costs_one_commit_in_a_second(node: DoubleNode, app: ConnectedApp) -> None:
    """The refusal is stored, so that it stays final after a restart."""
    created_at = int(time.time())
    costs = []
    for number in range(3):
        before = Counter(node.commits())
        answer = app.ask("pay_invoice", {}, created_at=created_at, tags=[["n", str(number)]])
        assert answer.code == "RESTRICTED"
        costs.append(dict(Counter(node.commits()) - before))
    assert costs == [{"datastore": 1}, {}, {}]
