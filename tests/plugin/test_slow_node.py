"""A slow or failing lightningd: an error that gives nothing away, and nobody else waits."""

from collections.abc import Iterator

import pytest

from nwc.wallet.context import INVOICES_AT_ONCE
from tests.cases.exactly_once import invoices_of
from tests.cases.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.plugin.double_node import DoubleNode
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until

COFFEE = {"amount": 1000, "description": "coffee"}
BARE_HASH = {"amount": 1000, "description_hash": "5a" * 32}
LONG_S = 600
SECRET_WORDS = "disk /var/lib/lightning is full"


@pytest.fixture(autouse=True)
def healthy(node: DoubleNode) -> Iterator[None]:
    """Leave no fault behind, nor a plugin that waits for a late answer."""
    yield
    if node.late:
        for method in tuple(node.late):
            node.delay(method, 0)
        node.late.clear()
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
def test_lightningd_refuses(
    node: DoubleNode,
    app: ConnectedApp,
    rpc_method: str,
    method: str,
    params: dict[str, object],
    code: int,
) -> None:
    node.kill_plugin()  # so that it has no template
    node.start_plugin()
    wait_until_announced(node, app.name)
    position = node.mark()
    node.fail(rpc_method, code, SECRET_WORDS)
    answer = app.ask(method, params)
    assert answer.code == "INTERNAL"
    assert answer.message == "the node could not do this now"
    assert answer.body["result_type"] == method
    node.wait_for_log(f"{method} of .* failed: {rpc_method}: error {code}", since=position)
    assert invoices_of(node, app) == []
    assert app.ask(method, params, tags=[["n", "2"]]).result


def test_lightningd_takes_too_long(node: DoubleNode, app: ConnectedApp) -> None:
    """A read is answered within the ten seconds that clients wait."""
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
    wait_until(lambda: node.commits().get("invoice", 0) > before, "invoices are under way")
    assert node.rpc.call("nwc-list", {"name": app.name})["connections"]
    assert node.rpc.call("nwc-status")["version"]
    assert node.rpc.getinfo()["id"]
    assert not any(app.answers_to(request["id"]) for request in requests)
    node.delay("invoice", 0)
    assert all(app.answer_to(request).result for request in requests)
    assert len(invoices_of(node, app)) == 20


def test_too_many_at_once(node: DoubleNode, scripted_relay: ScriptedRelay, connect: Connect) -> None:
    """While lightningd is slow, a connection has 128 requests under way; more are refused, not queued.

    Each of them is told so: it was not too fast.
    """
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
    # The owner can end it.
    node.rpc.call("nwc-revoke", {"name": app.name})
    assert node.rpc.call("nwc-list")["connections"] == []


def test_reads_do_not_wait_for_invoices(node: DoubleNode, connect: Connect) -> None:
    """Reads time out early at the client: as many slow invoices as may be must not hold them up."""
    slow, quick = connect(), connect()
    before = node.commits().get("invoice", 0)
    node.delay("invoice", LONG_S)
    for i in range(1, 21):
        slow.send(slow.request("make_invoice", {"amount": i}))
    wait_until(lambda: node.commits().get("invoice", 0) > before, "invoices are under way")
    request = quick.request("get_info")
    assert quick.ask_with(request).result["pubkey"]
    assert slow.answered_ids() == []


def test_slow_makesecret_holds_up_nothing_else(
    node: DoubleNode, relay: RestartableRelay, app: ConnectedApp
) -> None:
    """nwc-connect waits for lightningd; requests of others do not."""
    node.delay("makesecret", 2)
    try:
        assert app.ask("make_invoice", COFFEE).result["invoice"]
        assert node.rpc.call("nwc-connect", {"name": "slow"})["uri"]
    finally:
        node.delay("makesecret", 0)
