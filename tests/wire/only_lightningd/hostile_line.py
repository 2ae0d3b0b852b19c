"""Three real nodes in a line, for tests with hostile payees and apps.

l1, with the plugin, has two channels to l2, and pays l2 and l3. Deprecated commands are allowed, as they
are by lightningd's default.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyln.client import RpcError

from tests.support.app import Answer
from tests.support.channel import Json
from tests.support.processes import ROOT
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import ConnectedApp, budget_of
from tests.wire.network import CAPACITY_SAT, line, second_channel
from tests.wire.node import PLUGIN
from tests.wire.real_node import RealNode, plugin_options
from tests.wire.real_payee import RealPayee
from tests.wire.test_spending import books

SLOW_PLUGIN = ROOT / "tests" / "support" / "slow_plugin.py"
OVERCHARGING_PLUGIN = ROOT / "tests" / "support" / "overcharging_plugin.py"
# By then lightningd can start no more parts of a failed payment, and the plugin knows that.
END_TIMEOUT_S = 180.0
# Options of the payer, besides the plugin's own.
PAYER_OPTIONS: dict[str, Any] = {"allow-deprecated-apis": True}


@pytest.fixture(scope="module")
def payer_options() -> dict[str, Any]:
    """The options of l1; a module may override this fixture."""
    return PAYER_OPTIONS


@pytest.fixture(scope="module")
def nodes(
    node_factory: Any, bitcoind: Any, relay: RestartableRelay, payer_options: dict[str, Any]
) -> list[RealNode]:
    """The three nodes.

    Each side of the first channels has half of the capacity; l1 has all of the second channel's.
    """
    options = [plugin_options(relay.url, payer_options), {}, {}]
    nodes = line(node_factory, bitcoind, options, pushed_msat=CAPACITY_SAT * 500)
    second_channel(bitcoind, nodes[0], nodes[1], CAPACITY_SAT // 4)
    return nodes


@pytest.fixture
def node(nodes: list[RealNode], payer_options: dict[str, Any]) -> RealNode:
    """l1, which is started again if the test before has ended it."""
    node = RealNode(nodes[0].pyln, Path(payer_options.get("plugin", PLUGIN)))
    wait_until(lambda: not is_running(node) or is_answering(node), "lightningd to answer or to end")
    if not is_running(node):
        node.start_node()
    wait_until(lambda: all(map(is_usable, node.rpc.listpeerchannels()["channels"])), "the channels")
    return node


@pytest.fixture
def payee(nodes: list[RealNode]) -> Iterator[RealPayee]:
    """l3, whose payments cost a fee."""
    payee = RealPayee(nodes[2].pyln)
    yield payee
    payee.stop_holding()


@pytest.fixture
def neighbour(nodes: list[RealNode]) -> Iterator[RealPayee]:
    """l2, which can be paid in parts over the two channels."""
    neighbour = RealPayee(nodes[1].pyln)
    yield neighbour
    neighbour.stop_holding()


def is_running(node: RealNode) -> bool:
    """True if the process has not ended."""
    return node.pyln.daemon.proc.poll() is None


def is_usable(channel: Json) -> bool:
    """True if payments can be sent over a channel now."""
    return channel["state"] == "CHANNELD_NORMAL" and bool(channel.get("reestablished"))


def is_answering(node: RealNode) -> bool:
    """True if lightningd answers a command."""
    try:
        return bool(node.rpc.getinfo()["id"])
    except (OSError, RpcError):
        return False


def is_alive(node: RealNode) -> bool:
    """True if lightningd runs and answers."""
    return is_running(node) and is_answering(node)


def spendable_msat(node: RealNode) -> int:
    """Return what the node can send over all its channels, in msat (listpeerchannels)."""
    return sum(spendable_by_channel(node))


def spendable_by_channel(node: RealNode) -> list[int]:
    """Return what the node can send over each of its channels, in msat (listpeerchannels)."""
    channels = node.rpc.listpeerchannels()["channels"]
    return [int(channel["spendable_msat"]) for channel in channels]


def two_part_amount(node: RealNode) -> int:
    """Return an amount in msat that needs two channels, and fits into them with a wide margin."""
    largest, *others = sorted(spendable_by_channel(node), reverse=True)
    return largest + others[0] // 2


def parts(node: RealNode, payment_hash: str = "") -> list[Json]:
    """Return the parts of a payment, or of all payments, that lightningd lists."""
    params = {"payment_hash": payment_hash} if payment_hash else {}
    listed: list[Json] = node.rpc.call("listsendpays", params)["payments"]
    return listed


def sent_or_pending_msat(node: RealNode, *payment_hashes: str) -> int:
    """Return the sum of all parts of these payments that have not failed, in msat."""
    return sum(
        part["amount_sent_msat"]
        for payment_hash in payment_hashes
        for part in parts(node, payment_hash)
        if part["status"] != "failed"
    )


def reservations(node: RealNode) -> list[Json]:
    """Return askrene's reservations."""
    listed: list[Json] = node.rpc.call("askrene-listreservations")["reservations"]
    return listed


def ask_patiently(node: RealNode, app: ConnectedApp, method: str, params: Json) -> Answer:
    """Return the answer to a request, which may take as long as a failed payment takes to end."""
    request = app.request(method, params)
    app.send(request)
    return patient_answer(node, app, request)


def patient_answer(node: RealNode, app: ConnectedApp, request: Json) -> Answer:
    """Return the answer to a request already sent; waits as long as a failed payment takes to end."""
    wait_while_running(node, lambda: app.answers_to(request["id"]), "an answer")
    return app.answer_to(request)


def wait_until_free(node: RealNode, app: ConnectedApp) -> None:
    """Wait until a connection has no pending payment. Asserts that nothing is reserved then."""
    wait_while_running(
        node, lambda: not budget_of(node, app.name)["pending_payments"], "all payments to have ended"
    )
    assert books(node, app)[1] == 0


def wait_while_running(node: RealNode, condition: Callable[[], object], what: str) -> None:
    """Wait as long as a failed payment may take to end. Asserts that lightningd still runs."""
    wait_until(lambda: not is_running(node) or condition(), what, END_TIMEOUT_S)
    assert is_running(node), f"lightningd ended during the wait for {what}"
