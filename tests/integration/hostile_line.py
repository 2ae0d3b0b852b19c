"""Three real nodes in a line, for tests about payees and apps that mean harm: l1, with the plugin, has
two channels to l2, and pays l2 and l3. Deprecated commands are allowed, as is lightningd's default.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyln.client import RpcError

from tests.cases.fixtures import ConnectedApp, budget_of
from tests.cases.node import PLUGIN
from tests.cases.spending import books
from tests.integration.network import CAPACITY_SAT, line, second_channel
from tests.integration.payee import RealPayee
from tests.integration.real_node import RealNode, plugin_options
from tests.support.app import Answer
from tests.support.channel import Json
from tests.support.processes import ROOT
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until

SLOW_PLUGIN = ROOT / "tests" / "support" / "slow_plugin.py"
# Until lightningd may not begin anything any more for a payment that failed, and the plugin knows it.
END_TIMEOUT_S = 180.0
# Options of the payer's, beside the plugin's own.
PAYER_OPTIONS: dict[str, Any] = {"allow-deprecated-apis": True}


@pytest.fixture(scope="module")
def payer_options() -> dict[str, Any]:
    """What l1 is started with; a module may have its own."""
    return PAYER_OPTIONS


@pytest.fixture(scope="module")
def nodes(
    node_factory: Any, bitcoind: Any, relay: RestartableRelay, payer_options: dict[str, Any]
) -> list[RealNode]:
    """Half of each announced channel is on each side; the second channel is all l1's."""
    options = [plugin_options(relay.url, payer_options), {}, {}]
    nodes = line(node_factory, bitcoind, options, pushed_msat=CAPACITY_SAT * 500)
    second_channel(bitcoind, nodes[0], nodes[1], CAPACITY_SAT // 4)
    return nodes


@pytest.fixture
def node(nodes: list[RealNode], payer_options: dict[str, Any]) -> RealNode:
    """l1; if a test has ended it, it runs again, so that each test shows its own fault."""
    node = RealNode(nodes[0].pyln, Path(payer_options.get("plugin", PLUGIN)))
    wait_until(lambda: not is_running(node) or is_answering(node), "lightningd to answer or to end")
    if not is_running(node):
        node.start_node()
    wait_until(lambda: all(map(is_usable, node.rpc.listpeerchannels()["channels"])), "the channels")
    return node


@pytest.fixture
def payee(nodes: list[RealNode]) -> Iterator[RealPayee]:
    """l3, which costs a fee."""
    payee = RealPayee(nodes[2].pyln)
    yield payee
    payee.let_go()


@pytest.fixture
def neighbour(nodes: list[RealNode]) -> Iterator[RealPayee]:
    """l2, which can be paid in parts over two channels."""
    neighbour = RealPayee(nodes[1].pyln)
    yield neighbour
    neighbour.let_go()


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
    """Return what the node can send over all its channels, as listpeerchannels says."""
    return sum(spendable_by_channel(node))


def spendable_by_channel(node: RealNode) -> list[int]:
    """Return what the node can send over each of its channels, in msat."""
    channels = node.rpc.listpeerchannels()["channels"]
    return [int(channel["spendable_msat"]) for channel in channels]


def two_part_amount(node: RealNode) -> int:
    """Return an amount in msat that fits, with a wide margin, in two channels but not in one."""
    largest, *others = sorted(spendable_by_channel(node), reverse=True)
    return largest + others[0] // 2


def parts(node: RealNode, payment_hash: str = "") -> list[Json]:
    """Return the parts of a payment, or of all payments, that lightningd knows of."""
    params = {"payment_hash": payment_hash} if payment_hash else {}
    listed: list[Json] = node.rpc.call("listsendpays", params)["payments"]
    return listed


def sent_or_pending_msat(node: RealNode, *payment_hashes: str) -> int:
    """Return what has left the node, or still may, for these payments."""
    return sum(
        part["amount_sent_msat"]
        for payment_hash in payment_hashes
        for part in parts(node, payment_hash)
        if part["status"] != "failed"
    )


def reservations(node: RealNode) -> list[Json]:
    """Return what askrene believes to be in use."""
    listed: list[Json] = node.rpc.call("askrene-listreservations")["reservations"]
    return listed


def ask_patiently(node: RealNode, app: ConnectedApp, method: str, params: Json) -> Answer:
    """Ask, and wait for the answer until a failed payment is certain to have ended."""
    request = app.request(method, params)
    app.send(request)
    return patient_answer(node, app, request)


def patient_answer(node: RealNode, app: ConnectedApp, request: Json) -> Answer:
    """Wait for an answer, as long as a failed payment may take to end."""
    wait_living(node, lambda: app.answers_to(request["id"]), "an answer")
    return app.answer_to(request)


def wait_until_free(node: RealNode, app: ConnectedApp) -> None:
    """Wait until nothing of a connection is reserved in its books or pending."""
    wait_living(
        node, lambda: not budget_of(node, app.name)["pending_payments"], "all payments to have ended"
    )
    assert books(node, app)[1] == 0


def wait_living(node: RealNode, condition: Callable[[], object], what: str) -> None:
    """Wait, as long as a failed payment may take to end, and as long as lightningd lives."""
    wait_until(lambda: not is_running(node) or condition(), what, END_TIMEOUT_S)
    assert is_running(node), f"lightningd ended while we waited for {what}"
