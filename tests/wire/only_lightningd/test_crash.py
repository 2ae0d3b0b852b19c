"""lightningd or the plugin is killed or stopped: nothing is lost, and nothing happens twice."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.app import App
from tests.support.channel import KIND_RESPONSE, EventLog, Json, tag
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, wait_until
from tests.wire.fixtures import ConnectedApp, announced, fresh_name, wait_until_announced
from tests.wire.node import BASE_OPTIONS, MakeNode
from tests.wire.real_node import RealNode, wait_until_gone

BURST = 60
TEMPLATE = "nwc:template:"


def invoices_of(node: RealNode, app: App) -> dict[str, Json]:
    """Return the invoices of a connection by their request ids."""
    prefix = f"nwc:{app.pubkey[:16]}:"
    listed = node.rpc.listinvoices()["invoices"]
    return {i["label"].removeprefix(prefix): i for i in listed if i["label"].startswith(prefix)}


def templates(node: RealNode) -> list[str]:
    labels = [invoice["label"] for invoice in node.rpc.listinvoices()["invoices"]]
    return [label for label in labels if label.startswith(TEMPLATE)]


def params_of(number: int) -> Json:
    """Return parameters of make_invoice: odd numbers give a description, even ones a hash alone."""
    kind = {"description": "x"} if number % 2 else {"description_hash": f"{number:064x}"}
    return {"amount": number, **kind}


def test_invoices_are_neither_lost_nor_made_twice_when_lightningd_is_killed(
    node: RealNode, app: ConnectedApp
) -> None:
    requests = [app.request("make_invoice", params_of(n)) for n in range(1, BURST + 1)]
    received = app.channels[0].received
    with ThreadPoolExecutor(1) as sender:
        sent = sender.submit(send_all, app, requests)
        received.wait_for(lambda event: event["kind"] == KIND_RESPONSE, "answers", count=4)
        node.kill_node()
        sent.result(PATIENCE_S)
    first = results(app, received, requests)
    assert 0 < len(first) < BURST

    node.start_node()
    wait_until_announced(node, app.name)
    wait_until(lambda: not templates(node), "the templates to be deleted")
    with App(app.uri) as again:
        second = {request["id"]: again.ask_with(request).result for request in requests}

    assert {request_id: second[request_id] for request_id in first} == first
    stored = invoices_of(node, app)
    assert {i: result["invoice"] for i, result in second.items()} == {
        i: invoice["bolt11"] for i, invoice in stored.items()
    }
    assert [second[r["id"]]["amount"] for r in requests] == list(range(1, BURST + 1))


def send_all(app: App, requests: list[Json]) -> None:
    for request in requests:
        app.send(request)


def results(app: App, received: EventLog, requests: list[Json]) -> dict[str, Json]:
    """Return the results so far by request id, without errors, which some requests got at the kill."""
    by_id = {request["id"]: request for request in requests}
    answered = {tag(event, "e") or "": event for event in received.all()}
    opened = {i: app.open(event, by_id[i]).body for i, event in answered.items()}
    return {i: body["result"] for i, body in opened.items() if body["error"] is None}


def test_a_connection_survives_a_kill_of_lightningd(node: RealNode, app: ConnectedApp) -> None:
    keys = ("name", "client_pubkey", "wallet_pubkey", "methods", "created_at", "expires_at")
    [before] = node.rpc.call("nwc-list", [app.name])["connections"]
    node.kill_node()
    node.start_node()
    wait_until_announced(node, app.name)
    [after] = node.rpc.call("nwc-list", [app.name])["connections"]
    assert {k: after[k] for k in keys} == {k: before[k] for k in keys}
    assert app.ask("make_invoice", {"amount": 1}).result["invoice"]


@pytest.mark.parametrize("expiry", [1, 3600], ids=["expired", "unpaid"])
def test_a_template_left_by_a_crash_is_deleted(node: RealNode, expiry: int) -> None:
    node.stop_plugin()
    label = f"{TEMPLATE}0"
    node.rpc.invoice(1000, label, "", expiry=expiry)
    status = "expired" if expiry == 1 else "unpaid"
    wait_until(lambda: node.rpc.listinvoices(label)["invoices"][0]["status"] == status, status)
    node.start_plugin()
    wait_until(lambda: not templates(node), "the template to be deleted")


def test_a_foreign_invoice_with_a_label_like_a_templates_is_left_alone(
    node: RealNode, app: ConnectedApp
) -> None:
    node.stop_plugin()
    label = f"{TEMPLATE}x"
    node.rpc.invoice(1000, label, "")
    node.start_plugin()
    wait_until_announced(node, app.name)
    assert app.ask("make_invoice", params_of(2)).result["invoice"]
    assert label in templates(node)
    node.rpc.delinvoice(label, "unpaid")


def test_command_line_options_survive_a_restart_of_the_plugin(make_node: MakeNode) -> None:
    node = make_node({"nwc-invoice-expiry": 4321})
    node.stop_plugin()
    node.start_plugin()
    configs = node.rpc.listconfigs()["configs"]
    assert configs["nwc-invoice-expiry"]["value_int"] == 4321
    assert configs["nwc-rate-limit"]["value_int"] == BASE_OPTIONS["nwc-rate-limit"]
    name = fresh_name()
    with App(node.rpc.call("nwc-connect", [name])["uri"]) as app:
        wait_until(lambda: announced(node, name), "the relay of the command line")
        made = app.ask("make_invoice", {"amount": 1}).result
    assert node.rpc.decode(made["invoice"])["expiry"] == 4321


@pytest.mark.parametrize("is_reachable", [True, False], ids=["relay", "no relay"])
def test_the_plugin_ends_cleanly_when_lightningd_stops(make_node: MakeNode, is_reachable: bool) -> None:
    node = make_node({} if is_reachable else {"nwc-relay": f"ws://127.0.0.1:{free_port()}"})
    assert isinstance(node, RealNode)
    name = fresh_name()
    shown = node.rpc.call("nwc-connect", [name])
    if is_reachable:
        wait_until_announced(node, name)
        with App(shown["uri"]) as app:
            assert app.ask("make_invoice", {"amount": 1}).result["invoice"]
    pid, mark = node.plugin_pid, node.mark()
    assert node.pyln.stop(timeout=10) == 0
    wait_until_gone(pid)
    log = "\n".join(node.log_text().splitlines()[mark:])
    assert "JSON-RPC shutdown" in log
    for bad in ("failed to self-terminate", "BROKEN", "Traceback"):
        assert bad not in log, bad
