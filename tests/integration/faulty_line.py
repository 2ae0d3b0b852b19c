"""A line of three real nodes: l1, which runs faulty_plugin.py, pays l3 through l2."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.network import CAPACITY_SAT, line
from tests.integration.payee import RealPayee
from tests.integration.real_node import RealNode, plugin_options
from tests.support.faults import FAULTY_PLUGIN
from tests.support.restartable_relay import RestartableRelay


@pytest.fixture(scope="module")
def nodes(node_factory: Any, bitcoind: Any, relay: RestartableRelay) -> list[RealNode]:
    """The three nodes. Each side of a channel has half of its capacity."""
    options = [plugin_options(relay.url, {"plugin": str(FAULTY_PLUGIN)}), {}, {}]
    return line(node_factory, bitcoind, options, pushed_msat=CAPACITY_SAT * 500)


@pytest.fixture(scope="module")
def node(nodes: list[RealNode]) -> RealNode:
    return RealNode(nodes[0].pyln, FAULTY_PLUGIN)


@pytest.fixture
def payee(nodes: list[RealNode]) -> Iterator[RealPayee]:
    payee = RealPayee(nodes[2].pyln)
    yield payee
    payee.stop_holding()
