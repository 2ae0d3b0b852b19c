"""make_invoice costs the node no more database commits than the bare RPC."""

import sqlite3
from collections.abc import Callable

from tests.wire.fixtures import ConnectedApp
from tests.wire.real_node import RealNode

ROUNDS = 20


def commits(node: RealNode) -> int:
    """Return how often lightningd has committed to its database; it counts that in the table `vars`."""
    path = node.directory / "lightningd.sqlite3"
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        query = "SELECT intval FROM vars WHERE name = 'data_version'"
        (count,) = connection.execute(query).fetchone()
    finally:
        connection.close()
    return int(count)


def commits_of(node: RealNode, action: Callable[[int], object]) -> int:
    """Return the number of commits that one action costs: the smallest of several rounds.

    The node also commits by itself now and then, which can only make a round look more expensive.
    """
    costs = []
    for number in range(ROUNDS):
        before = commits(node)
        action(number)
        costs.append(commits(node) - before)
    return min(costs)


def bare_invoice(node: RealNode, label: str) -> None:
    node.rpc.call(
        "invoice", {"amount_msat": 1000, "label": label, "description": "coffee", "expiry": 600}
    )


def test_make_invoice_costs_one_commit(node: RealNode, app: ConnectedApp) -> None:
    bare = commits_of(node, lambda number: bare_invoice(node, f"bare {number}"))
    params = {"amount": 1000, "description": "coffee", "expiry": 600}
    ours = commits_of(node, lambda _: app.ask("make_invoice", params).result)
    assert bare == 1
    assert ours == bare


def test_make_invoice_with_a_description_hash_alone_costs_one_commit(
    node: RealNode, app: ConnectedApp
) -> None:
    """Its template is made once, and used for some minutes."""
    params = {"amount": 1000, "description_hash": "5a" * 32}
    assert commits_of(node, lambda _: app.ask("make_invoice", params).result) == 1


def test_get_info_writes_nothing(node: RealNode, app: ConnectedApp) -> None:
    assert commits_of(node, lambda _: app.ask("get_info").result) == 0


def test_connecting_costs_one_commit_and_revoking_two(node: RealNode) -> None:
    """Revoking deletes the record, and notes the id of the connection."""
    names = [f"commits {number}" for number in range(ROUNDS)]
    assert commits_of(node, lambda number: node.rpc.call("nwc-connect", [names[number]])) == 1
    assert commits_of(node, lambda number: node.rpc.call("nwc-revoke", [names[number]])) == 2
