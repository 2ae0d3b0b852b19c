"""The plugin is stopped while lightningd works on a request: a short one is finished, a long one is cut.

tests/wire/test_stopping.py has the tests that need no slow lightningd.
"""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil  # type: ignore[import-untyped]
import pytest
from pyln.client import RpcError

from tests.support.channel import Json
from tests.support.patient_plugin import PATIENT_PLUGIN
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import PATIENCE_S, wait_until
from tests.wire.double_node import DoubleNode
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.node import MakeNode
from tests.wire.test_exactly_once import BARE_HASH, PLAIN, invoices_of, send_again, templates
from tests.wire.test_log_lines import lines

# The plugin of these tests waits much longer than SHORT_S. LONG_S is longer than any test.
SHORT_S = 0.5
LONG_S = 600
_numbers = itertools.count(10)


@pytest.fixture(autouse=True)
def healthy(node: DoubleNode) -> Iterator[None]:
    """Remove all faults after a test, and start the plugin if it does not run."""
    yield
    for method in tuple(node.delayed):
        node.delay(method, 0)
    if not node.rpc.plugin_list()["plugins"]:
        node.start_plugin()


@pytest.fixture
def app(scripted_relay: ScriptedRelay, connect: Connect) -> ConnectedApp:
    """An app on a relay that can deliver an event again."""
    return connect(relays=[scripted_relay.url], channels=[scripted_relay])


@pytest.fixture
def patient_node(make_node: MakeNode) -> DoubleNode:
    """A node with patient_plugin.py, which finishes short requests even on a busy machine."""
    node = make_node(plugin=PATIENT_PLUGIN)
    assert isinstance(node, DoubleNode)
    return node


def wait_until_ended(process: psutil.Process) -> None:
    """Wait until a process has ended, and somebody has asked for its exit code."""
    wait_until(lambda: not process.is_running(), "the plugin to end")


def stop_plugin(node: DoubleNode) -> None:
    stopping = threading.Thread(target=node.stop_plugin)
    stopping.start()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()


def signal_plugin(number: signal.Signals) -> Callable[[DoubleNode], None]:
    def end(node: DoubleNode) -> None:
        os.kill(node.plugin_pid, number)
        node.wait_until_plugin_died()

    return end


def stop_node(node: DoubleNode) -> None:
    node.rpc.stop()
    assert node.double.wait() == 0


def kill_node(node: DoubleNode) -> None:
    node.double.kill()


def check_quiet(node: DoubleNode, since: int) -> None:
    """Assert that the plugin has logged no warning and no error, not even at its end."""
    for level in ("UNUSUAL", r"\*\*BROKEN\*\*"):
        assert lines(node, level, since) == []
    log = "\n".join(node.log_text().splitlines()[since:])
    assert "Traceback" not in log, log


def start_again(node: DoubleNode, app: ConnectedApp) -> None:
    """Start the node or the plugin again, without faults."""
    if not psutil.pid_exists(node.double.pid) or psutil.Process(node.double.pid).status() == "zombie":
        node.double.start()
    else:
        for method in tuple(node.delayed):
            node.delay(method, 0)
        node.start_plugin()
    node.delayed.clear()
    wait_until_announced(node, app.name)


ENDS = {
    "plugin stop": stop_plugin,
    "SIGTERM": signal_plugin(signal.SIGTERM),
    "SIGINT": signal_plugin(signal.SIGINT),
    "stop": stop_node,
}
each_end = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)


def begin(node: DoubleNode, app: ConnectedApp, relay: ScriptedRelay, params: Json, slow: str) -> Json:
    """Send a request, and return it once lightningd works on it."""
    before = node.commits().get(slow, 0)
    request = app.request("make_invoice", params)
    relay.send(request)
    wait_until(lambda: node.commits().get(slow, 0) > before, f"{slow} was called")
    return request


@each_end
def test_a_short_request_is_finished_before_the_end(
    patient_node: DoubleNode,
    scripted_relay: ScriptedRelay,
    connect: Connect,
    end: Callable[[DoubleNode], None],
) -> None:
    """The answer is sent before the process ends."""
    node = patient_node
    app = connect(node=node, relays=[scripted_relay.url], channels=[scripted_relay])
    node.delay("invoice", SHORT_S)
    request = begin(node, app, scripted_relay, PLAIN, "invoice")
    process, position = psutil.Process(node.plugin_pid), node.mark()
    end(node)
    wait_until_ended(process)
    result = app.answer_to(request).result
    check_quiet(node, position)
    start_again(node, app)
    assert send_again(app, scripted_relay, request) == result
    [invoice] = invoices_of(node, app)
    assert invoice["bolt11"] == result["invoice"]


@pytest.mark.parametrize("slow", ["invoice", "createinvoice", "datastore"])
@pytest.mark.parametrize("end", [*ENDS.values(), kill_node], ids=[*ENDS, "kill -9"])
def test_a_hanging_request_is_cut_and_makes_one_invoice_when_repeated(
    node: DoubleNode,
    scripted_relay: ScriptedRelay,
    app: ConnectedApp,
    end: Callable[[DoubleNode], None],
    slow: str,
) -> None:
    """The process ends nevertheless."""
    amount = 1 << next(_numbers)  # each power of two needs a template of its own
    params = {**BARE_HASH, "amount": amount, "metadata": {"order": 1}}
    node.delay(slow, LONG_S)
    request = begin(node, app, scripted_relay, params, slow)
    process, position = psutil.Process(node.plugin_pid), node.mark()
    end(node)
    wait_until_ended(process)
    # If lightningd itself ended, the plugin may have had time to answer with an error.
    assert all(app.open(answer, request).code == "INTERNAL" for answer in app.answers_to(request["id"]))
    check_quiet(node, position)
    start_again(node, app)
    wait_until(lambda: not templates(node), "the templates to be deleted")
    result = send_again(app, scripted_relay, request)
    [invoice] = invoices_of(node, app)
    assert invoice["bolt11"] == result["invoice"]
    assert result["metadata"] == {"order": 1}


@pytest.mark.parametrize("slow", ["makesecret", "datastore"])
def test_a_connection_exists_after_the_end_only_if_its_command_succeeded(
    patient_node: DoubleNode, slow: str
) -> None:
    """A short command is finished before the end; a command that is cut off fails."""
    node = patient_node
    node.delay(slow, SHORT_S)
    made: list[Json] = []
    name = f"made at the end {slow}"

    def ask() -> None:
        with suppress(RpcError):  # it may be cut off
            made.append(node.rpc.call("nwc-connect", [name]))

    asking = threading.Thread(target=ask)
    before = node.commits().get(slow, 0)
    asking.start()
    if slow == "datastore":
        wait_until(lambda: node.commits().get(slow, 0) > before, "the record to be written")
    stop_plugin(node)
    asking.join(PATIENCE_S)
    node.delay(slow, 0)
    node.start_plugin()
    listed = [c["name"] for c in node.rpc.call("nwc-list")["connections"]]
    assert (name in listed) == bool(made)
    if slow == "datastore":
        assert made[0]["uri"]
    if made:
        node.rpc.call("nwc-revoke", [name])
