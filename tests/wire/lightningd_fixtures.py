"""pyln-testing's fixtures with wider scopes: one bitcoind for all modules, and nodes for each module.

pyln-testing starts new ones for every test, which would take an hour. Its checks of the nodes (BROKEN
lines, crashes, leaks, exit codes) are unchanged; they run at the end of a module.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyln.testing import fixtures as pyln
from pyln.testing.utils import LightningNode

from tests.support.restartable_relay import RestartableRelay
from tests.wire.node import PLUGIN, MakeNode, Options
from tests.wire.real_node import RealNode, plugin_options
from tests.wire.shared import shared


def _of_module(fixture: Callable[..., Any]) -> Any:
    return pytest.fixture(scope="module")(inspect.unwrap(fixture))


test_base_dir = pyln.test_base_dir
directory = _of_module(pyln.directory)
teardown_checks = _of_module(pyln.teardown_checks)
executor = _of_module(pyln.executor)
db_provider = _of_module(pyln.db_provider)
jsonschemas = _of_module(pyln.jsonschemas)
node_factory = _of_module(pyln.node_factory)


@pytest.fixture(scope="session")
def bitcoind(request: pytest.FixtureRequest, test_base_dir: str) -> Iterator[Any]:
    """bitcoind on a regtest chain that grows from module to module."""
    directory = str(Path(test_base_dir) / "bitcoind")
    for bitcoind in inspect.unwrap(pyln.bitcoind)(request, directory, None):
        # A transaction's locktime may be up to 100 blocks back (lightningd), and Bitcoin Knots relays
        # none with the locktime 21. So the chain must be longer than that.
        bitcoind.generate_block(100)
        yield bitcoind


@pytest.fixture(scope="module")
def test_name(request: pytest.FixtureRequest) -> str:
    """The name of the module's directory, which pyln-testing keeps if its checks fail."""
    return str(request.node.path.stem)


class _Node(LightningNode):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        # If cln-grpc is installed, all nodes would listen on its default port.
        self.daemon.opts["disable-plugin"] = "cln-grpc"
        # `#!/usr/bin/env python3` must find the interpreter of the tests.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.daemon.env["PATH"] = path


@pytest.fixture(scope="module")
def node_cls() -> type[LightningNode]:
    return _Node


@pytest.fixture(scope="module")
def lightningd_node(node_kind: str, node_factory: Any, relay: RestartableRelay) -> Iterator[RealNode]:
    """A node with the plugin, shared by the tests of a module."""
    with shared(RealNode(node_factory.get_node(options=plugin_options(relay.url)))) as node:
        yield node


@pytest.fixture
def make_lightningd_node(node_factory: Any, relay: RestartableRelay) -> Iterator[MakeNode]:
    """A function that starts nodes for one test. pyln-testing checks them at the end of the module."""
    started: list[RealNode] = []

    def make(options: Options | None = None, plugin: Path = PLUGIN) -> RealNode:
        given = {**plugin_options(relay.url, options), "plugin": str(plugin)}
        started.append(RealNode(node_factory.get_node(options=given), plugin))
        return started[-1]

    yield make
    for node in started:
        node.pyln.stop()
