"""Runs the shared cases on the test double."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

for module in (
    "tests.cases",
    "tests.plugin.paying_commands",
    "tests.support.app",
    "tests.support.channel",
):
    pytest.register_assert_rewrite(module)

from tests.cases.fixtures import *  # noqa: E402, F403
from tests.cases.node import BASE_OPTIONS, PLUGIN, MakeNode, Options  # noqa: E402
from tests.cases.shared import *  # noqa: E402, F403
from tests.cases.shared import shared  # noqa: E402
from tests.plugin.double_node import DoubleNode  # noqa: E402
from tests.plugin.payee import DoublePayee  # noqa: E402
from tests.support.restartable_relay import RestartableRelay  # noqa: E402


@pytest.fixture(scope="session")
def plugin_file() -> Path:
    """The program that the node starts as the plugin."""
    return PLUGIN


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, relay: RestartableRelay, plugin_file: Path
) -> Iterator[DoubleNode]:
    """A node that the cases of a module share."""
    options = {**BASE_OPTIONS, "nwc-relay": relay.url}
    node = DoubleNode(tmp_path_factory.mktemp("node"), plugin_file, options)
    with node.double, shared(node):
        yield node


@pytest.fixture
def payee(node: DoubleNode) -> Iterator[DoublePayee]:
    """A payee. Payments that it still holds at the end of the test are failed."""
    payee = DoublePayee(node)
    yield payee
    payee.release(fail=True)


@pytest.fixture
def make_node(
    tmp_path_factory: pytest.TempPathFactory, relay: RestartableRelay, plugin_file: Path
) -> Iterator[MakeNode]:
    """A function that starts nodes for one test."""
    with ExitStack() as running:

        def make(options: Options | None = None, plugin: Path = plugin_file) -> DoubleNode:
            combined = {**BASE_OPTIONS, "nwc-relay": relay.url, **(options or {})}
            node = DoubleNode(tmp_path_factory.mktemp("node"), plugin, combined)
            running.enter_context(node.double)
            return node

        yield make
