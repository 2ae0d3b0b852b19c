"""A line of three real nodes: l1, with the plugin, pays l3 through l2.

Tests of a module that imports these fixtures run on l1 when they run on lightningd.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.restartable_relay import RestartableRelay
from tests.wire.network import CAPACITY_SAT, line
from tests.wire.real_node import RealNode, plugin_options
from tests.wire.real_payee import RealPayee
from tests.wire.shared import shared


@pytest.fixture(scope="module")
def nodes(
    node_factory: Any, bitcoind: Any, relay: RestartableRelay, plugin_file: Path
) -> list[RealNode]:
    """The three nodes. Each side of a channel has half of its capacity."""
    options = [plugin_options(relay.url, {"plugin": str(plugin_file)}), {}, {}]
    return line(node_factory, bitcoind, options, pushed_msat=CAPACITY_SAT * 500)


@pytest.fixture(scope="module")
def lightningd_node(node_kind: str, nodes: list[RealNode], plugin_file: Path) -> Iterator[RealNode]:
    with shared(RealNode(nodes[0].pyln, plugin_file)) as node:
        yield node


@pytest.fixture
def lightningd_payee(nodes: list[RealNode]) -> Iterator[RealPayee]:
    payee = RealPayee(nodes[2].pyln)
    yield payee
    payee.stop_holding()
