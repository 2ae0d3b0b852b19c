"""One request makes one invoice: over two relays, after a stop, after a kill.

`scripted_relay` delivers the same event twice. Tests in which lightningd is slow or fails at a chosen
moment are in tests/wire/only_double/test_exactly_once_faults.py.
"""

from typing import Any

import pytest

from tests.support.app import App
from tests.support.channel import Json
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.wire.fixtures import Connect, wait_until_announced
from tests.wire.node import NodeUnderTest

PLAIN = {"amount": 1000, "description": "once", "metadata": {"order": 1}}
BARE_HASH = {"amount": 1000, "description_hash": "5a" * 32}
LONG_AND_FOREIGN = {**BARE_HASH, "description": "not the preimage " * 50, "metadata": {"order": 1}}
each_kind = pytest.mark.parametrize(
    "params", [PLAIN, BARE_HASH, LONG_AND_FOREIGN], ids=["plain", "bare hash", "long and bare hash"]
)


def invoices_of(node: NodeUnderTest, app: App) -> list[Json]:
    """Return the invoices made for an app."""
    prefix = f"nwc:{app.pubkey[:16]}:"
    return [i for i in node.rpc.listinvoices()["invoices"] if i["label"].startswith(prefix)]


def templates(node: NodeUnderTest) -> list[str]:
    """Return the labels of all templates in lightningd."""
    labels = [invoice["label"] for invoice in node.rpc.listinvoices()["invoices"]]
    return [label for label in labels if label.startswith("nwc:template")]


def send_again(app: App, relay: ScriptedRelay, request: Json) -> Json:
    """Deliver a request again, and return the result of the new answer."""
    before = len(app.answers_to(request["id"]))
    relay.send(request)
    relay.received.wait_for(
        lambda event: ["e", request["id"]] in event["tags"], "another answer", count=before + 1
    )
    return app.open(app.answers_to(request["id"])[-1], request).result


@each_kind
def test_a_request_over_two_relays_makes_one_invoice(
    node: NodeUnderTest,
    relay: RestartableRelay,
    second_relay: RestartableRelay,
    connect: Connect,
    params: Json,
) -> None:
    app = connect(relays=[relay.url, second_relay.url])
    request = app.request("make_invoice", params)
    result = app.ask_with(request).result
    app.ask("get_info")  # the request is handled before this one
    [invoice] = invoices_of(node, app)
    assert invoice["bolt11"] == result["invoice"]
    copies = app.answers_to(request["id"])
    assert len(copies) == 2
    assert copies[0]["id"] == copies[1]["id"]


@each_kind
def test_a_replay_while_the_request_is_handled_makes_no_second_invoice(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect, params: Json
) -> None:
    app = connect(relays=[scripted_relay.url], channels=[scripted_relay])
    request = app.request("make_invoice", params)
    scripted_relay.send(request)
    scripted_relay.send(request)
    app.ask_with(request)
    scripted_relay.send(request)
    app.ask("get_info")
    assert len(app.answers_to(request["id"])) == 1
    assert len(invoices_of(node, app)) == 1


@pytest.mark.parametrize("end", ["stop", "kill", "node"])
@each_kind
def test_a_replay_after_a_restart_gets_the_same_invoice(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect, params: Json, end: str
) -> None:
    app = connect(relays=[scripted_relay.url], channels=[scripted_relay])
    request = app.request("make_invoice", params)
    first = app.ask_with(request).result
    restart(node, end)
    wait_until_announced(node, app.name)
    assert send_again(app, scripted_relay, request) == first
    assert len(invoices_of(node, app)) == 1


def restart(node: NodeUnderTest, end: str) -> None:
    """Restart the plugin or the node; `end` is "stop", "kill" or "node"."""
    if end == "node":
        node.restart_node()
        return
    node.stop_plugin() if end == "stop" else node.kill_plugin()
    node.start_plugin()


@pytest.mark.parametrize(
    ("method", "end"), [("make_invoice", "stop"), ("receive", "stop"), ("receive", "kill")]
)
def test_a_stored_request_gets_the_same_invoice_after_a_restart(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect, method: str, end: str
) -> None:
    app = connect(relays=[scripted_relay.url], channels=[scripted_relay])
    request = app.request(method, PLAIN)
    first = app.ask_with(request).result
    scripted_relay.kept.append(request)
    restart(node, end)
    answers = scripted_relay.received.wait_for(
        lambda event: ["e", request["id"]] in event["tags"], "an answer to the kept request", count=2
    )
    assert app.open(answers[1], request).result == first
    assert len(invoices_of(node, app)) == 1


def test_two_requests_make_two_invoices(node: NodeUnderTest, connect: Connect) -> None:
    app = connect()
    hashes = {
        app.ask("make_invoice", PLAIN, tags=[["n", str(i)]]).result["payment_hash"] for i in (1, 2)
    }
    assert len(hashes) == len(invoices_of(node, app)) == 2


def test_bare_hashes_at_once_each_get_their_own_invoice(node: NodeUnderTest, connect: Connect) -> None:
    app = connect()
    requests = [
        app.request("make_invoice", {"amount": i, "description_hash": f"{i:064x}"}) for i in range(1, 41)
    ]
    for request in requests:
        app.send(request)
    for i, request in enumerate(requests, 1):
        result = app.answer_to(request).result
        decoded: Any = node.rpc.call("decode", {"string": result["invoice"]})
        assert (decoded["amount_msat"], decoded["description_hash"]) == (i, f"{i:064x}")
    assert len(invoices_of(node, app)) == 40
    assert len(templates(node)) <= 8  # one for each power of two
