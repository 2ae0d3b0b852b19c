"""lightningd hangs: affected requests and commands fail in time, others succeed, and later all succeed.

The plugin is impatient_plugin.py, which waits seconds instead of half a minute.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyln.client import RpcError

from tests.support.channel import Json
from tests.support.impatient_plugin import IMPATIENT_PLUGIN
from tests.support.waiting import PATIENCE_S, wait_until
from tests.wire.double_node import DoubleNode
from tests.wire.double_payee import DoublePayee
from tests.wire.fixtures import Connect, ConnectedApp, fresh_name, wait_until_announced
from tests.wire.test_exactly_once import invoices_of
from tests.wire.test_log_lines import lines
from tests.wire.test_spending import books

LONG_S = 600
# Requests that hang at once.
MANY = 32

PLAIN = {"amount": 1000}
REQUESTS: list[tuple[str, str, Json]] = [
    ("getinfo", "get_info", {}),
    ("listpeerchannels", "get_balance", {}),
    ("invoice", "make_invoice", PLAIN),
    ("datastore", "make_invoice", {**PLAIN, "metadata": {"order": 1}}),
    ("createinvoice", "make_invoice", {**PLAIN, "description_hash": "5a" * 32}),
    ("listinvoices", "lookup_invoice", {"payment_hash": "00" * 32}),
    ("listsendpays", "lookup_invoice", {"payment_hash": "00" * 32}),
    ("sql", "list_transactions", {}),
]


@pytest.fixture(scope="module")
def plugin_file() -> Path:
    return IMPATIENT_PLUGIN


@pytest.fixture(autouse=True)
def healthy(node: DoubleNode) -> Iterator[None]:
    """Remove all faults after a test, and restart the plugin, which may still wait for an answer."""
    yield
    for method in tuple(node.delayed):
        node.delay(method, 0)
    node.delayed.clear()
    node.kill_plugin()
    node.start_plugin()


@pytest.fixture
def app(connect: Connect) -> ConnectedApp:
    return connect(budget="1000sat", view="node")


@pytest.mark.parametrize(
    ("rpc_method", "method", "params"), REQUESTS, ids=lambda value: value if type(value) is str else ""
)
def test_requests_fail_in_time_while_their_rpc_method_hangs_and_others_succeed(
    node: DoubleNode, app: ConnectedApp, rpc_method: str, method: str, params: Json
) -> None:
    """Later they succeed again."""
    since = node.mark()
    node.delay(rpc_method, LONG_S)
    requests = [app.request(method, params, tags=[["n", str(i)]]) for i in range(MANY)]
    for request in requests:
        app.send(request)
    for _, other, other_params in [one for one in REQUESTS if one[0] != rpc_method]:
        if other != method:
            assert works(app, other, other_params), other
    codes = {app.answer_to(request).code for request in requests}
    assert codes == {"INTERNAL"}
    node.delay(rpc_method, 0)
    wait_until(lambda: works(app, method, params), f"{method} works again")
    for level in ("INFO", "UNUSUAL", r"\*\*BROKEN\*\*"):
        assert lines(node, level, since) == []


def works(app: ConnectedApp, method: str, params: Json) -> bool:
    error = app.ask(method, params).body["error"]
    return error is None or error["code"] == "NOT_FOUND"


def failure_of(node: DoubleNode, method: str, params: Any) -> str:
    """Return the error message of a command. Asserts that the command fails in time."""
    errors: list[str] = []

    def call() -> None:
        with pytest.raises(RpcError) as caught:
            node.rpc.call(method, params)
        error: Any = caught.value.error
        errors.append(error["message"])

    asking = threading.Thread(target=call)
    asking.start()
    asking.join(PATIENCE_S)
    assert errors, "the command was never answered"
    return errors[0]


@pytest.mark.parametrize(
    ("rpc_method", "command"),
    [
        ("makesecret", "nwc-connect"),
        ("datastore", "nwc-connect"),
        ("datastore", "nwc-update"),
        ("deldatastore", "nwc-revoke"),
    ],
)
def test_a_command_fails_in_time_while_lightningd_hangs(
    node: DoubleNode, connect: Connect, rpc_method: str, command: str
) -> None:
    """Commands work again when lightningd does."""
    app = connect(budget="1000sat")
    forget(node)
    given = {"name": fresh_name() if command == "nwc-connect" else app.name}
    more = {"budget": "2000sat"} if command in ("nwc-update", "nwc-connect") else {}
    node.delay(rpc_method, LONG_S)
    assert "lightningd" in failure_of(node, command, {**given, **more})
    # The command that hangs does not delay others.
    assert node.rpc.call("nwc-status")["version"]
    node.delay(rpc_method, 0)
    wait_until(lambda: answers(node, "nwc-connect", {"name": fresh_name()}), "commands work again")


def test_a_connection_revoked_while_lightningd_hangs_is_served_no_more(
    node: DoubleNode, connect: Connect
) -> None:
    """The owner may be losing money. The record is deleted as soon as lightningd answers."""
    app, witness = connect(budget="1000sat"), connect()
    node.delay("deldatastore", LONG_S)
    assert f"'{app.name}' is revoked, but" in failure_of(node, "nwc-revoke", {"name": app.name})
    request = app.request("make_invoice", PLAIN)
    app.send(request)
    assert works(witness, "make_invoice", PLAIN)
    assert app.answers_to(request["id"]) == []
    node.wait_for_log(f"connection '{app.name}' is revoked, but its record is not deleted yet")
    node.delay("deldatastore", 0)
    node.wait_for_log(f"connection '{app.name}' revoked")
    forget(node)
    assert app.name not in [shown["name"] for shown in node.rpc.call("nwc-list")["connections"]]


def forget(node: DoubleNode) -> None:
    """Restart the plugin, so that it knows only what it loads."""
    node.kill_plugin()
    node.start_plugin()
    wait_until(lambda: answers(node, "nwc-status", {}), "the connections")


def answers(node: DoubleNode, command: str, params: Json) -> bool:
    try:
        return bool(node.rpc.call(command, params))
    except RpcError:
        return False


def test_a_command_fails_in_time_while_lightningd_is_slow_at_its_start(node: DoubleNode) -> None:
    node.kill_plugin()
    node.delay("listdatastore", LONG_S)
    node.start_plugin()
    assert "lightningd did not answer in time" in failure_of(node, "nwc-status", {})
    node.delay("listdatastore", 0)
    wait_until(lambda: answers(node, "nwc-status", {}), "commands work")


@pytest.mark.parametrize(
    "rpc_method", ["decode", "getinfo", "help", "listsendpays", "listdatastore", "datastore"]
)
def test_a_hang_before_a_payment_leaves_nothing_reserved(
    node: DoubleNode, connect: Connect, rpc_method: str
) -> None:
    """Nothing is paid. A reservation is released as soon as lightningd answers."""
    payee = DoublePayee(node)
    app = connect(budget="1000sat")
    forget(node)
    connect()  # once it is subscribed, `app` is too; `app`'s ledger has not been read yet
    node.delay(rpc_method, LONG_S)
    invoice = payee.invoice(1000)["bolt11"]
    request = app.request("pay_invoice", {"invoice": invoice})
    assert app.ask_with(request).code == "INTERNAL"
    node.delay(rpc_method, 0)
    wait_until(lambda: is_free(node, app), "nothing reserved")
    wait_until(
        lambda: app.ask("pay_invoice", {"invoice": invoice}, tags=[["n", "2"]]).body["result"],
        "the payment",
    )
    assert books(node, app) == (1001, 0)
    assert payee.received_msat() % 1000 == 0


def is_free(node: DoubleNode, app: ConnectedApp) -> bool:
    """Return True if nothing is spent or reserved; False also if lightningd does not answer."""
    try:
        return books(node, app) == (0, 0)
    except RpcError:
        return False


def test_a_plugin_started_while_lightningd_hangs_works_later(
    node: DoubleNode, app: ConnectedApp
) -> None:
    before = len(invoices_of(node, app))
    node.kill_plugin()
    node.delay("makesecret", LONG_S)
    since = node.mark()
    node.start_plugin()
    node.wait_for_log("connections are not loaded yet", since=since)
    node.delay("makesecret", 0)
    wait_until_announced(node, app.name)
    assert app.ask("make_invoice", PLAIN).result
    assert len(invoices_of(node, app)) == before + 1
