"""lightningd's RPC socket disappears and comes back. Meanwhile requests may be answered with INTERNAL.

Connections that are open outlive the socket: calls over them still succeed.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.app import Answer
from tests.wire.fixtures import Connect, ConnectedApp, budget_of, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.test_exactly_once import invoices_of
from tests.wire.test_log_lines import lines
from tests.wire.test_receiving import make

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "get_info": ("get_info", {}),
    "get_balance": ("get_balance", {}),
    "get_budget": ("get_budget", {}),
    "make_invoice": ("make_invoice", {"amount": 1000}),
    "with metadata": ("make_invoice", {"amount": 1000, "metadata": {"order": 1}}),
    "bare hash": ("make_invoice", {"amount": 1000, "description_hash": "5a" * 32}),
    "lookup_invoice": ("lookup_invoice", {"payment_hash": "00" * 32}),
    "list_transactions": ("list_transactions", {}),
    "pay_keysend": ("pay_keysend", {"pubkey": f"02{'79be667e' * 8}", "amount": 1000}),
}
MAX_ATTEMPTS = 10


@pytest.fixture
def restored_socket(node: NodeUnderTest) -> Iterator[None]:
    """Show the RPC socket again after the test."""
    yield
    node.show_rpc_socket()


def outcome(answer: Answer) -> str:
    return "ok" if answer.body["error"] is None else answer.code


def ask_all(app: ConnectedApp) -> dict[str, str]:
    """Send all requests at once, and return their outcomes by name."""
    requests = {name: app.request(*request) for name, request in REQUESTS.items()}
    for request in requests.values():
        app.send(request)
    return {name: outcome(app.answer_to(request)) for name, request in requests.items()}


@pytest.mark.usefixtures("restored_socket")
def test_requests_without_the_socket_are_answered(node: NodeUnderTest, connect: Connect) -> None:
    app = connect(budget="1000sat", view="node")
    usual = ask_all(app)
    made = len(invoices_of(node, app))
    since = node.mark()
    node.hide_rpc_socket()
    meanwhile = ask_all(app)
    assert [name for name in usual if meanwhile[name] not in (usual[name], "INTERNAL")] == []
    node.show_rpc_socket()
    assert ask_all(app) == usual
    succeeded = [name for name in REQUESTS if REQUESTS[name][0] == "make_invoice"]
    expected = made + len(succeeded) + sum(meanwhile[name] == "ok" for name in succeeded)
    assert len(invoices_of(node, app)) == expected
    assert budget_of(node, app.name)["reserved_msat"] == 0
    check_log(node, since, "pay_keysend")


@pytest.mark.usefixtures("restored_socket")
def test_a_payment_without_the_socket_is_announced_once(node: NodeUnderTest, connect: Connect) -> None:
    """The payment is counted once, and the app is notified once in each kind."""
    app = connect(budget="received")
    made = make(app, amount=5000)
    since = node.mark()
    node.hide_rpc_socket()
    node.pay(made["invoice"])
    node.wait_for_log("waiting for paid invoices failed|payment received", since=since)
    node.show_rpc_socket()
    app.wait_for_notifications(made["payment_hash"])
    node.wait_for_log("payment received", since=since)
    assert budget_of(node, app.name)["granted_msat"] == 5000
    next_one = make(app, amount=7000)
    node.pay(next_one["invoice"])
    app.wait_for_notifications(next_one["payment_hash"])
    assert len(app.notifications()) == 4
    assert budget_of(node, app.name)["granted_msat"] == 12_000
    check_log(node, since, "payment received")


@pytest.mark.usefixtures("restored_socket")
def test_the_plugin_starts_without_the_socket(node: NodeUnderTest, app: ConnectedApp) -> None:
    """`plugin start` does not wait for the socket. Requests are served when it is back."""
    node.stop_plugin()
    since = node.mark()
    node.hide_rpc_socket()
    node.start_plugin()
    node.wait_for_log("connections are not loaded yet", since=since)
    node.show_rpc_socket()
    wait_until_announced(node, app.name)
    assert app.ask("get_info").result["pubkey"]
    check_log(node, since, "not loaded yet")
    assert len(lines(node, "INFO", since)) == 1


def check_log(node: NodeUnderTest, since: int, expected: str = "nothing") -> None:
    """Check that nothing unexpected was logged above debug, and that retries were few."""
    for level in ("INFO", "UNUSUAL", r"\*\*BROKEN\*\*"):
        assert [line for line in lines(node, level, since) if expected not in line] == []
    retries = [line for line in lines(node, "DEBUG", since) if "followed" in line or "loaded" in line]
    assert len(retries) < MAX_ATTEMPTS
