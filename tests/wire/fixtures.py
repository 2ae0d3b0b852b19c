"""The fixtures that all tests on the wire share."""

import contextlib
import itertools
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from nostr_sdk import Keys
from pyln.client import RpcError

from nwc.commands.shown import STILL_STARTING
from tests.support.app import App
from tests.support.channel import Channel, Json
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.node import PLUGIN, MakeNode, NodeUnderTest
from tests.wire.payee import Payee

_numbers = itertools.count(1)


def fresh_name() -> str:
    """Return a name that no connection has yet."""
    return f"app {next(_numbers)}"


def announced(node: NodeUnderTest, name: str) -> bool:
    """Return True if the info event of a connection is on all its relays."""
    [shown] = node.rpc.call("nwc-list", {"name": name})["connections"]
    return all(relay["info_event"] == "published" for relay in shown["relays"])


def wait_until_announced(node: NodeUnderTest, name: str) -> None:
    """Wait until the info event of a connection is on all its relays."""
    wait_until(lambda: announced(node, name), f"info event of {name!r} everywhere")


def budget_of(node: NodeUnderTest, name: str) -> Json:
    """Wait until the plugin has read its ledgers; return the budget as nwc-list shows it."""

    def read() -> Json:
        [shown] = node.rpc.call("nwc-list", {"name": name})["connections"]
        budget: Json = shown["budget"]
        return {} if budget.get("warning") == STILL_STARTING else budget

    return wait_until(read, "the ledgers to be read")


class ConnectedApp(App):
    """An app that has a connection.

    Attributes:
        shown: the result of nwc-connect.

    """

    def __init__(self, shown: Json, channels: Sequence[Channel], keys: Keys | None) -> None:
        super().__init__(shown["uri"], channels, keys)
        self.shown = shown

    @property
    def name(self) -> str:
        """The connection's name."""
        return str(self.shown["name"])


class Connect(Protocol):
    """The fixture `connect`."""

    def __call__(
        self,
        *,
        node: NodeUnderTest | None = None,
        channels: Sequence[Channel] = (),
        keys: Keys | None = None,
        wait: bool = True,
        **params: Any,
    ) -> ConnectedApp:
        """Make a connection and return an app that has it.

        Args:
            node: the node to connect to, the fixture `node` by default.
            channels: used by the app instead of the relays of its URI.
            keys: the keys of an app that brings its own.
            wait: whether to wait until the info event is on all relays.
            params: the parameters of nwc-connect; `name` is a fresh one by default.

        """


@pytest.fixture(scope="session")
def plugin_file() -> Path:
    """The program that the nodes start as the plugin; a module may override this fixture."""
    return PLUGIN


@pytest.fixture(scope="module")
def node(node_kind: str, request: pytest.FixtureRequest) -> NodeUnderTest:
    """A node with the plugin that the tests of a module share, of the kind that the test runs on."""
    node: NodeUnderTest = request.getfixturevalue(f"{node_kind}_node")
    return node


@pytest.fixture
def payee(node_kind: str, request: pytest.FixtureRequest) -> Payee:
    """A node that `node` can pay. On lightningd, the module has to import its `lightningd_payee`."""
    payee: Payee = request.getfixturevalue(f"{node_kind}_payee")
    return payee


@pytest.fixture
def make_node(node_kind: str, request: pytest.FixtureRequest) -> MakeNode:
    """A function that starts nodes for one test, of the kind that the test runs on."""
    make: MakeNode = request.getfixturevalue(f"make_{node_kind}_node")
    return make


@pytest.fixture(scope="session")
def how_it_runs() -> Json:
    """The fields of nwc-status that say how the node under test runs the plugin."""
    return {"installation": "source", "python_version": platform.python_version()}


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make connections and apps for them; revoke them after the test."""
    made: list[tuple[NodeUnderTest, ConnectedApp]] = []

    def make(
        *,
        node: NodeUnderTest | None = None,
        channels: Sequence[Channel] = (),
        keys: Keys | None = None,
        wait: bool = True,
        **params: Any,
    ) -> ConnectedApp:
        chosen: NodeUnderTest = node or request.getfixturevalue("node")
        if keys is not None:
            params["pubkey"] = keys.public_key().to_hex()
        shown = chosen.rpc.call("nwc-connect", {"name": fresh_name(), **params})
        if wait:
            wait_until_announced(chosen, shown["name"])
        app = ConnectedApp(shown, channels, keys)
        made.append((chosen, app))
        return app

    yield make
    for chosen, app in made:
        app.close()
        # Otherwise the plugin retries the relays of this test until the end of the module.
        with contextlib.suppress(RpcError, OSError):
            chosen.rpc.call("nwc-revoke", {"name": app.name})


@pytest.fixture
def app(connect: Connect) -> ConnectedApp:
    """An app with a connection of its own over `relay`."""
    return connect()


@pytest.fixture
def spender(connect: Connect) -> ConnectedApp:
    """An app that may spend 1,000 sat a day."""
    return connect(budget="1000sat", renewal="daily")


@pytest.fixture(scope="module")
def relay() -> Iterator[RestartableRelay]:
    """A real relay that the tests of a module share; do not kill it."""
    with RestartableRelay() as relay:
        yield relay


@pytest.fixture
def own_relay() -> Iterator[RestartableRelay]:
    """A real relay for one test, which may kill it."""
    with RestartableRelay() as relay:
        yield relay


@pytest.fixture
def second_relay() -> Iterator[RestartableRelay]:
    """A second real relay for one test."""
    with RestartableRelay() as relay:
        yield relay


@pytest.fixture
def scripted_relay() -> Iterator[ScriptedRelay]:
    """A relay that does what the test tells it to do."""
    with ScriptedRelay() as relay:
        yield relay
