"""lightningd is slow or fails: apps get an error without details, and other requests are not delayed."""

from collections.abc import Iterator

import pytest

from nwc.wallet.context import INVOICES_AT_ONCE
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.double_node import DoubleNode
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.test_exactly_once import invoices_of

COFFEE = {"amount": 1000, "description": "coffee"}
BARE_HASH = {"amount": 1000, "description_hash": "5a" * 32}
LONG_S = 600
SECRET_WORDS = "disk /var/lib/lightning is full"


@pytest.fixture(autouse=True)
def healthy(node: DoubleNode) -> Iterator[None]:
    """Remove all faults after a test, and restart the plugin if it may still wait for an answer."""
    yield
    if node.delayed:
        for method in tuple(node.delayed):
            node.delay(method, 0)
        node.delayed.clear()
        node.kill_plugin()
        node.start_plugin()


@pytest.mark.parametrize("code", [-1, -32602, 902, 2000])
@pytest.mark.parametrize(
    ("rpc_method", "method", "params"),
    [
        ("invoice", "make_invoice", COFFEE),
        ("invoice", "make_invoice", BARE_HASH),
        ("createinvoice", "make_invoice", BARE_HASH),
        ("datastore", "make_invoice", {**COFFEE, "metadata": {"order": 1}}),
        ("getinfo", "get_info", {}),
    ],
)
def test_an_error_of_lightningd_reaches_the_app_without_its_words(
    node: DoubleNode,
    app: ConnectedApp,
    rpc_method: str,
    method: str,
    params: dict[str, object],
    code: int,
) -> None:
    node.kill_plugin()  # a new plugin has no template
    position = node.mark()
    node.start_plugin()
    wait_until_announced(node, app.name)
    # The last step of a start; until then the plugin itself calls lightningd.
    node.wait_for_log("deleted [0-9]+ records of invoices", since=position)
    position = node.mark()
    node.fail(rpc_method, code, SECRET_WORDS)
    answer = app.ask(method, params)
    assert answer.code == "INTERNAL"
    assert answer.message == "the node could not do this now"
    assert answer.body["result_type"] == method
    node.wait_for_log(f"{method} of .* failed: {rpc_method}: error {code}", since=position)
    assert invoices_of(node, app) == []
    assert app.ask(method, params, tags=[["n", "2"]]).result


def test_a_read_is_answered_in_time_while_lightningd_is_slow(
    node: DoubleNode, app: ConnectedApp
) -> None:
    """Clients wait for ten seconds."""
    node.delay("getinfo", LONG_S)
    request = app.request("get_info")
    app.send(request)
    assert node.rpc.call("nwc-list", {"name": app.name})["connections"]
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    answer = app.answer_to(request)
    assert (answer.code, answer.message) == ("INTERNAL", "the node did not answer in time")


def test_commands_do_not_wait_for_invoices(node: DoubleNode, app: ConnectedApp) -> None:
    before = node.commits().get("invoice", 0)
    node.delay("invoice", 2)
    requests = [app.request("make_invoice", {"amount": i}) for i in range(1, 21)]
    for request in requests:
        app.send(request)
    wait_until(lambda: node.commits().get("invoice", 0) > before, "lightningd to make an invoice")
    assert node.rpc.call("nwc-list", {"name": app.name})["connections"]
    assert node.rpc.call("nwc-status")["version"]
    assert node.rpc.getinfo()["id"]
    assert not any(app.answers_to(request["id"]) for request in requests)
    node.delay("invoice", 0)
    assert all(app.answer_to(request).result for request in requests)
    assert len(invoices_of(node, app)) == 20


def test_requests_beyond_128_pending_ones_are_refused(
    node: DoubleNode, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """A connection can have 128 pending requests. More are not queued: each gets an error."""
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    before = node.commits().get("invoice", 0)
    node.delay("invoice", LONG_S)
    requests = [app.request("make_invoice", {"amount": i}) for i in range(1, 145)]
    for request in requests:
        app.send(request)
    refused = [app.answer_to(request) for request in requests[128:]]
    assert {answer.code for answer in refused} == {"INTERNAL"}
    assert {"in flight" in answer.message for answer in refused} == {True}
    assert sorted(app.answered_ids()) == sorted(request["id"] for request in requests[128:])
    wait_until(lambda: node.commits().get("invoice", 0) == before + INVOICES_AT_ONCE, "its turns")
    # The owner can revoke such a connection.
    node.rpc.call("nwc-revoke", {"name": app.name})
    assert node.rpc.call("nwc-list")["connections"] == []


def test_reads_do_not_wait_for_invoices(node: DoubleNode, connect: Connect) -> None:
    """Clients wait less long for reads, so slow invoices must not delay them."""
    slow, quick = connect(), connect()
    before = node.commits().get("invoice", 0)
    node.delay("invoice", LONG_S)
    for i in range(1, 21):
        slow.send(slow.request("make_invoice", {"amount": i}))
    wait_until(lambda: node.commits().get("invoice", 0) > before, "lightningd to make an invoice")
    request = quick.request("get_info")
    assert quick.ask_with(request).result["pubkey"]
    assert slow.answered_ids() == []


def test_a_slow_makesecret_delays_nothing_else(
    node: DoubleNode, relay: RestartableRelay, app: ConnectedApp
) -> None:
    """nwc-connect waits for lightningd; requests of other connections do not."""
    node.delay("makesecret", 2)
    try:
        assert app.ask("make_invoice", COFFEE).result["invoice"]
        assert node.rpc.call("nwc-connect", {"name": "slow"})["uri"]
    finally:
        node.delay("makesecret", 0)
