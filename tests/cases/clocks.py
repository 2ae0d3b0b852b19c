"""A clock that is wrong, or is set while the plugin runs (tests/support/faulty_plugin.py has one)."""

from collections.abc import Iterator

import pytest

from tests.cases.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.cases.node import MakeNode, NodeUnderTest
from tests.cases.relays import relay_state, wait_until_lost
from tests.cases.silence import COFFEE, rejected
from tests.support.channel import Json, stored_events
from tests.support.faults import FAULTY_PLUGIN, Faults
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until

HOUR_S = 3600
KIND_DELETION = 5


@pytest.fixture
def moved_node(make_node: MakeNode) -> NodeUnderTest:
    """A node whose plugin has a clock to be moved."""
    return make_node(plugin=FAULTY_PLUGIN)


@pytest.fixture
def clock(moved_node: NodeUnderTest) -> Iterator[Faults]:
    faults = Faults(moved_node.directory)
    yield faults
    faults.clear()


def shown(node: NodeUnderTest, app: ConnectedApp) -> Json:
    """Return what nwc-status says of a connection."""
    [use] = [use for use in node.rpc.call("nwc-status")["connections"] if use["name"] == app.name]
    return dict(use)


@pytest.mark.parametrize("seconds", [-100, 100])
def test_a_clock_that_is_a_little_wrong(
    moved_node: NodeUnderTest, clock: Faults, connect: Connect, seconds: int
) -> None:
    """All is served, and no answer is dated before its request."""
    clock.shift_clock(seconds)
    app = connect(node=moved_node)
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    assert "warning" not in shown(moved_node, app)


@pytest.mark.parametrize(
    ("seconds", "words"), [(300, "seconds behind this"), (-300, "seconds ahead of")]
)
def test_a_clock_that_is_minutes_off(
    moved_node: NodeUnderTest, clock: Faults, connect: Connect, seconds: int, words: str
) -> None:
    """Requests are ignored and the owner is told why, until the clock is right."""
    clock.shift_clock(seconds)
    app = connect(node=moved_node)
    request = app.request("make_invoice", COFFEE)
    app.send(request)
    wait_until(lambda: "warning" in shown(moved_node, app), "a warning")
    assert words in shown(moved_node, app)["warning"]
    assert rejected(moved_node) == {"stale": 1}
    clock.shift_clock(0)
    assert app.ask("make_invoice", COFFEE, tags=[["n", "2"]]).result["invoice"]
    assert "warning" not in shown(moved_node, app)
    assert app.answers_to(request["id"]) == []


def test_a_clock_that_is_set_back(moved_node: NodeUnderTest, clock: Faults, connect: Connect) -> None:
    """The relay was asked for what comes from a time on that is now ahead."""
    clock.shift_clock(2 * HOUR_S)
    app = connect(node=moved_node)
    clock.shift_clock(0)
    url = app.shown["relays"][0]["url"]
    requests = (app.request("get_info", tags=[["n", str(number)]]) for number in range(1000))

    def is_answered() -> bool:
        app.send(next(requests))
        return bool(app.answered_ids())

    wait_until(is_answered, "an answer")
    assert relay_state(moved_node, url)["reconnects"] == 0


def test_a_clock_that_jumps_while_a_relay_is_away(
    moved_node: NodeUnderTest, clock: Faults, own_relay: RestartableRelay, connect: Connect
) -> None:
    """What waits for the relay waits on, though by the clock its hour is over."""
    app = connect(node=moved_node, relays=own_relay.url)
    own_relay.kill()
    wait_until_lost(moved_node, own_relay)
    moved_node.rpc.call("nwc-revoke", {"name": app.name})
    for jumps in (1, 2):  # two events wait, one after the other
        clock.shift_clock(2 * jumps * HOUR_S)
        # This waits a second for the relay: time enough to look at deadlines.
        moved_node.rpc.call("nwc-connect", {"name": f"another {jumps}", "relays": own_relay.url})
    own_relay.start()
    wait_until_announced(moved_node, "another 2")
    deletions = {"kinds": [KIND_DELETION], "authors": [app.wallet_pubkey]}
    wait_until(lambda: stored_events(own_relay.url, deletions), "the withdrawal")
