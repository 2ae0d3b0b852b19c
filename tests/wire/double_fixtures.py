"""The fixtures of nodes on the double; fixtures.py chooses between them and those on lightningd."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.restartable_relay import RestartableRelay
from tests.wire.double_node import DoubleNode
from tests.wire.double_payee import DoublePayee
from tests.wire.node import BASE_OPTIONS, MakeNode, Options
from tests.wire.shared import shared


@pytest.fixture(scope="module")
def double_node(
    node_kind: str,
    tmp_path_factory: pytest.TempPathFactory,
    relay: RestartableRelay,
    plugin_file: Path,
) -> Iterator[DoubleNode]:
    """A double that the tests of a module share. It ends when they go on to the other kind of node."""
    options = {**BASE_OPTIONS, "nwc-relay": relay.url}
    node = DoubleNode(tmp_path_factory.mktemp("node"), plugin_file, options)
    with node.double, shared(node):
        yield node


@pytest.fixture
def double_payee(node: DoubleNode) -> Iterator[DoublePayee]:
    """A payee. Payments that it still holds at the end of the test are failed."""
    payee = DoublePayee(node)
    yield payee
    payee.release(fail=True)


@pytest.fixture
def make_double_node(
    tmp_path_factory: pytest.TempPathFactory, relay: RestartableRelay, plugin_file: Path
) -> Iterator[MakeNode]:
    """A function that starts doubles for one test."""
    with ExitStack() as running:

        def make(options: Options | None = None, plugin: Path = plugin_file) -> DoubleNode:
            combined = {**BASE_OPTIONS, "nwc-relay": relay.url, **(options or {})}
            node = DoubleNode(tmp_path_factory.mktemp("node"), plugin, combined)
            running.enter_context(node.double)
            return node

        yield make
