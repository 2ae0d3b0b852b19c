"""The shared cases of payments, on three real nodes: l1, with the plugin, pays l3 through l2."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cases.empty_values import *  # noqa: F403
from tests.cases.log_lines import *  # noqa: F403
from tests.cases.paying_clients import *  # noqa: F403
from tests.cases.payment_rows import *  # noqa: F403
from tests.cases.spending import *  # noqa: F403
from tests.integration.network import CAPACITY_SAT, line
from tests.integration.payee import RealPayee
from tests.integration.real_node import RealNode, plugin_options
from tests.support.restartable_relay import RestartableRelay


@pytest.fixture(scope="module")
def nodes(node_factory: Any, bitcoind: Any, relay: RestartableRelay) -> list[RealNode]:
    """The three nodes. Each side of a channel has half of its capacity."""
    options = [plugin_options(relay.url), {}, {}]
    return line(node_factory, bitcoind, options, pushed_msat=CAPACITY_SAT * 500)


@pytest.fixture(scope="module")
def node(nodes: list[RealNode]) -> RealNode:
    return nodes[0]


@pytest.fixture
def payee(nodes: list[RealNode]) -> Iterator[RealPayee]:
    payee = RealPayee(nodes[2].pyln)
    yield payee
    payee.stop_holding()
