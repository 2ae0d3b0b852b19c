"""The plugin is stopped while lightningd works on a request: what is short is finished, the rest is cut.

What needs no slow lightningd is in tests/cases/stopping.py.
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

from tests.cases.exactly_once import BARE_HASH, PLAIN, invoices_of, send_again, templates
from tests.cases.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.cases.log_lines import lines
from tests.cases.node import MakeNode
from tests.plugin.double_node import DoubleNode
from tests.support.channel import Json
from tests.support.patient_plugin import PATIENT_PLUGIN
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import PATIENCE_S, wait_until

# The plugin of these tests waits for much longer; long enough that the end comes first.
SHORT_S = 0.5
LONG_S = 600
_numbers = itertools.count(10)


@pytest.fixture(autouse=True)
def healthy(node: DoubleNode) -> Iterator[None]:
    """Leave no fault behind, and the plugin running."""
    yield
    for method in tuple(node.late):
        node.delay(method, 0)
    if not node.rpc.plugin_list()["plugins"]:
        node.start_plugin()


@pytest.fixture
def app(scripted_relay: ScriptedRelay, connect: Connect) -> ConnectedApp:
    """An app on a relay that can hand on an event again."""
    return connect(relays=[scripted_relay.url], channels=[scripted_relay])


@pytest.fixture
def patient_node(make_node: MakeNode) -> DoubleNode:
    """A node whose plugin finishes what is short, however busy the machine is."""
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
    """Check that the plugin had nothing to complain of, at its end neither."""
    for level in ("UNUSUAL", r"\*\*BROKEN\*\*"):
        assert lines(node, level, since) == []
    log = "\n".join(node.log_text().splitlines()[since:])
    assert "Traceback" not in log, log


def begin_again(node: DoubleNode, app: ConnectedApp) -> None:
    """Start what was ended, with a lightningd that is in good health."""
    if not psutil.pid_exists(node.double.pid) or psutil.Process(node.double.pid).status() == "zombie":
        node.double.start()
    else:
        for method in tuple(node.late):
            node.delay(method, 0)
        node.start_plugin()
    node.late.clear()
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
def test_what_is_short_is_finished(
    patient_node: DoubleNode,
    scripted_relay: ScriptedRelay,
    connect: Connect,
    end: Callable[[DoubleNode], None],
) -> None:
    """The answer has left before the process ends."""
    node = patient_node
    app = connect(node=node, relays=[scripted_relay.url], channels=[scripted_relay])
    node.delay("invoice", SHORT_S)
    request = begin(node, app, scripted_relay, PLAIN, "invoice")
    process, position = psutil.Process(node.plugin_pid), node.mark()
    end(node)
    wait_until_ended(process)
    result = app.answer_to(request).result
    check_quiet(node, position)
    begin_again(node, app)
    assert send_again(app, scripted_relay, request) == result
    [invoice] = invoices_of(node, app)
    assert invoice["bolt11"] == result["invoice"]


@pytest.mark.parametrize("slow", ["invoice", "createinvoice", "datastore"])
@pytest.mark.parametrize("end", [*ENDS.values(), kill_node], ids=[*ENDS, "kill -9"])
def test_what_hangs_is_cut(
    node: DoubleNode,
    scripted_relay: ScriptedRelay,
    app: ConnectedApp,
    end: Callable[[DoubleNode], None],
    slow: str,
) -> None:
    """The process ends all the same, and the request is served when it comes again, once."""
    amount = 1 << next(_numbers)  # for each power of two another template is needed
    params = {**BARE_HASH, "amount": amount, "metadata": {"order": 1}}
    node.delay(slow, LONG_S)
    request = begin(node, app, scripted_relay, params, slow)
    process, position = psutil.Process(node.plugin_pid), node.mark()
    end(node)
    wait_until_ended(process)
    # Where lightningd itself went, there may have been time to say so.
    assert all(app.open(answer, request).code == "INTERNAL" for answer in app.answers_to(request["id"]))
    check_quiet(node, position)
    begin_again(node, app)
    wait_until(lambda: not templates(node), "those of before to be deleted")
    result = send_again(app, scripted_relay, request)
    [invoice] = invoices_of(node, app)
    assert invoice["bolt11"] == result["invoice"]
    assert result["metadata"] == {"order": 1}


@pytest.mark.parametrize("slow", ["makesecret", "datastore"])
def test_command_under_way(patient_node: DoubleNode, slow: str) -> None:
    """An owner whose command is cut off is told so; what is short is finished."""
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
        wait_until(lambda: node.commits().get(slow, 0) > before, "the record is written")
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
