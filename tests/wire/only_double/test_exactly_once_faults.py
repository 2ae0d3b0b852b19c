"""One request makes one invoice, even if the plugin is killed at any moment.

Only the double can test it: its `dev-delay` delays a method's answer, but not what the method does. So a
kill during the delay is a kill after lightningd's commit, and the answer is lost.
"""

from collections.abc import Iterator

import pytest

from tests.support.channel import Json
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.double_node import DoubleNode
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.test_exactly_once import (
    BARE_HASH,
    PLAIN,
    each_kind,
    invoices_of,
    send_again,
    templates,
)

LONG_S = 600


@pytest.fixture(autouse=True)
def healthy(node: DoubleNode) -> Iterator[None]:
    """Remove all faults after a test."""
    yield
    for method in tuple(node.delayed):
        node.delay(method, 0)


@pytest.fixture
def app(scripted_relay: ScriptedRelay, connect: Connect) -> ConnectedApp:
    """An app on a relay that can deliver an event again."""
    return connect(relays=[scripted_relay.url], channels=[scripted_relay])


def replay_after_kill(
    node: DoubleNode, app: ConnectedApp, relay: ScriptedRelay, request: Json, slow: str
) -> Json:
    """Kill the plugin while `slow` hangs; return the result of the request when it is repeated."""
    forget_templates(node, app)
    before = node.commits().get(slow, 0)
    node.delay(slow, LONG_S)
    relay.send(request)
    wait_until(lambda: node.commits().get(slow, 0) > before, f"{slow} was called")
    node.kill_plugin()
    node.delay(slow, 0)
    assert app.answers_to(request["id"]) == []
    node.start_plugin()
    wait_until_announced(node, app.name)
    return send_again(app, relay, request)


def forget_templates(node: DoubleNode, app: ConnectedApp) -> None:
    """Restart the plugin, so that the next bare hash needs a new template."""
    node.kill_plugin()
    node.start_plugin()
    wait_until_announced(node, app.name)


def check_one_invoice(node: DoubleNode, app: ConnectedApp, result: Json, params: Json) -> None:
    """Assert that the invoice of the answer is the app's only one."""
    [invoice] = invoices_of(node, app)
    assert invoice["bolt11"] == result["invoice"]
    decoded = node.rpc.call("decode", {"string": result["invoice"]})
    assert decoded.get("description_hash") == params.get("description_hash")
    assert result["metadata"] == params.get("metadata", {})


def test_a_kill_after_the_invoice_makes_no_second_one(
    node: DoubleNode, scripted_relay: ScriptedRelay, app: ConnectedApp
) -> None:
    request = app.request("make_invoice", PLAIN)
    result = replay_after_kill(node, app, scripted_relay, request, "invoice")
    check_one_invoice(node, app, result, PLAIN)


def test_a_kill_after_the_metadata_makes_no_second_invoice(
    node: DoubleNode, scripted_relay: ScriptedRelay, app: ConnectedApp
) -> None:
    request = app.request("make_invoice", PLAIN)
    result = replay_after_kill(node, app, scripted_relay, request, "datastore")
    check_one_invoice(node, app, result, PLAIN)


@pytest.mark.parametrize("slow", ["invoice", "createinvoice"])
def test_a_kill_between_the_steps_of_a_bare_hash_makes_no_second_invoice(
    node: DoubleNode, scripted_relay: ScriptedRelay, app: ConnectedApp, slow: str
) -> None:
    request = app.request("make_invoice", BARE_HASH)
    result = replay_after_kill(node, app, scripted_relay, request, slow)
    check_one_invoice(node, app, result, BARE_HASH)


def test_templates_of_a_killed_plugin_are_deleted(
    node: DoubleNode, scripted_relay: ScriptedRelay, app: ConnectedApp
) -> None:
    for amount in (1, 1000, 10**6):
        app.ask("make_invoice", {**BARE_HASH, "amount": amount})
    node.delay("invoice", LONG_S)
    scripted_relay.send(app.request("make_invoice", {**BARE_HASH, "amount": 10**9}))
    wait_until(lambda: len(templates(node)) == 4, "four templates")
    node.kill_plugin()
    node.delay("invoice", 0)
    assert len(templates(node)) == 4
    node.start_plugin()
    wait_until(lambda: not templates(node), "no template is left")
    assert len(invoices_of(node, app)) == 3


@each_kind
def test_a_request_cut_by_plugin_stop_makes_one_invoice_when_repeated(
    node: DoubleNode, scripted_relay: ScriptedRelay, app: ConnectedApp, params: Json
) -> None:
    """`plugin stop` does not wait for a slow lightningd."""
    forget_templates(node, app)
    before = node.commits().get("invoice", 0)
    node.delay("invoice", LONG_S)
    request = app.request("make_invoice", params)
    scripted_relay.send(request)
    wait_until(lambda: node.commits().get("invoice", 0) > before, "invoice was called")
    node.stop_plugin()
    node.delay("invoice", 0)
    node.start_plugin()
    wait_until_announced(node, app.name)
    result = send_again(app, scripted_relay, request)
    check_one_invoice(node, app, result, params)


@pytest.mark.parametrize("slow", ["invoice", "createinvoice"])
def test_a_kill_of_lightningd_before_its_answer_makes_no_second_invoice(
    node: DoubleNode, scripted_relay: ScriptedRelay, app: ConnectedApp, slow: str
) -> None:
    params = BARE_HASH if slow == "createinvoice" else PLAIN
    before = node.commits().get(slow, 0)
    node.delay(slow, LONG_S)
    request = app.request("make_invoice", params)
    scripted_relay.send(request)
    wait_until(lambda: node.commits().get(slow, 0) > before, f"{slow} was called")
    node.double.kill()
    node.double.start()
    wait_until_announced(node, app.name)
    result = send_again(app, scripted_relay, request)
    check_one_invoice(node, app, result, params)


@pytest.mark.parametrize("params", [PLAIN, BARE_HASH], ids=["plain", "bare hash"])
def test_a_failed_make_invoice_can_be_retried(node: DoubleNode, app: ConnectedApp, params: Json) -> None:
    forget_templates(node, app)
    node.fail("invoice", -1, "the database is locked")
    assert app.ask("make_invoice", params).code == "INTERNAL"
    assert invoices_of(node, app) == []
    result = app.ask("make_invoice", params, tags=[["n", "2"]]).result
    check_one_invoice(node, app, result, params)
