"""The plugin or lightningd is stopped under load: no request is left half done or handled twice."""

import itertools
from collections.abc import Callable

import pytest

from tests.support.channel import KIND_RESPONSE, Json
from tests.support.scripted_relay import ScriptedRelay
from tests.wire.fixtures import Connect, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.test_exactly_once import invoices_of, send_again, templates
from tests.wire.test_log_lines import lines

BURST = 40
# Answers to wait for before the stop.
ANSWERED = 4

_numbers = itertools.count(1)


def params_of(number: int) -> Json:
    """Return parameters of make_invoice: in turn plain, with metadata, and with a bare hash."""
    kinds = (
        {"description": "x"},
        {"metadata": {"order": number}},
        {"description_hash": f"{number:064x}"},
    )
    return {"amount": number, **kinds[number % 3]}


def stop_plugin(node: NodeUnderTest) -> None:
    node.stop_plugin()
    assert templates(node) == []
    node.start_plugin()


def restart_node(node: NodeUnderTest) -> None:
    node.restart_node()


@pytest.mark.parametrize("restart", [stop_plugin, restart_node])
def test_each_request_makes_one_invoice_despite_a_stop_under_load(
    node: NodeUnderTest,
    scripted_relay: ScriptedRelay,
    connect: Connect,
    restart: Callable[[NodeUnderTest], None],
) -> None:
    app = connect(relays=[scripted_relay.url], channels=[scripted_relay])
    numbers = list(itertools.islice(_numbers, BURST))
    requests = {number: app.request("make_invoice", params_of(number)) for number in numbers}
    since = node.mark()
    for request in requests.values():
        app.send(request)
    scripted_relay.received.wait_for(
        lambda event: event["kind"] == KIND_RESPONSE, "answers", count=ANSWERED
    )
    restart(node)
    wait_until_announced(node, app.name)
    for level in ("UNUSUAL", r"\*\*BROKEN\*\*"):
        assert lines(node, level, since) == []
    first = {number: app.answers_to(request["id"]) for number, request in requests.items()}
    assert max(map(len, first.values())) == 1
    made = {}
    for number, request in requests.items():
        again = send_again(app, scripted_relay, request)
        made[again["invoice"]] = number
        assert again["amount"] == number
        assert again["metadata"] == params_of(number).get("metadata", {})
        for answer in first[number]:
            opened = app.open(answer, request)
            assert opened.body["result"] == again or opened.code == "INTERNAL"
    stored = invoices_of(node, app)
    assert sorted(made) == sorted(invoice["bolt11"] for invoice in stored)
    assert len(stored) == BURST
