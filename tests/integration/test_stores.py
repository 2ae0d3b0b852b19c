"""The cases of what an app has stored (tests/cases/stores.py), on a real node."""

from typing import Any

import pytest

from tests.cases.stores import *  # noqa: F403
from tests.integration.network import line
from tests.integration.payee import RealPayee
from tests.integration.real_node import RealNode, plugin_options
from tests.support.restartable_relay import RestartableRelay


@pytest.fixture(scope="module")
def nodes(node_factory: Any, bitcoind: Any, relay: RestartableRelay) -> list[RealNode]:
    """Two nodes. The node under test has all of the channel's capacity."""
    return line(node_factory, bitcoind, [plugin_options(relay.url), {}])


@pytest.fixture(scope="module")
def node(nodes: list[RealNode]) -> RealNode:
    return nodes[0]


@pytest.fixture
def payee(nodes: list[RealNode]) -> RealPayee:
    return RealPayee(nodes[1].pyln)
