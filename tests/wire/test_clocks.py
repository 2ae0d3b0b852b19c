"""The system clock is wrong, or is set while the plugin runs (see tests/support/faulty_plugin.py)."""

from collections.abc import Iterator

import pytest

from tests.support.channel import Json, stored_events
from tests.support.faults import FAULTY_PLUGIN, Faults
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.node import MakeNode, NodeUnderTest
from tests.wire.test_relays import relay_state, wait_until_lost
from tests.wire.test_silence import COFFEE, rejected

HOUR_S = 3600
KIND_DELETION = 5


@pytest.fixture
def node_with_clock(make_node: MakeNode) -> NodeUnderTest:
    """A node whose plugin's clock can be shifted."""
    return make_node(plugin=FAULTY_PLUGIN)


@pytest.fixture
def clock(node_with_clock: NodeUnderTest) -> Iterator[Faults]:
    faults = Faults(node_with_clock.directory)
    yield faults
    faults.clear()


def shown(node: NodeUnderTest, app: ConnectedApp) -> Json:
    """Return the entry of nwc-status for a connection."""
    [use] = [use for use in node.rpc.call("nwc-status")["connections"] if use["name"] == app.name]
    return dict(use)


@pytest.mark.parametrize("seconds", [-100, 100])
def test_requests_are_served_with_a_clock_100_seconds_off(
    node_with_clock: NodeUnderTest, clock: Faults, connect: Connect, seconds: int
) -> None:
    """`App` checks that no answer is dated before its request."""
    clock.shift_clock(seconds)
    app = connect(node=node_with_clock)
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    assert "warning" not in shown(node_with_clock, app)


@pytest.mark.parametrize(
    ("seconds", "words"), [(300, "seconds behind this"), (-300, "seconds ahead of")]
)
def test_the_owner_is_warned_of_a_clock_minutes_off(
    node_with_clock: NodeUnderTest, clock: Faults, connect: Connect, seconds: int, words: str
) -> None:
    """Requests are ignored until the clock is right, and nwc-status shows a warning."""
    clock.shift_clock(seconds)
    app = connect(node=node_with_clock)
    request = app.request("make_invoice", COFFEE)
    app.send(request)
    wait_until(lambda: "warning" in shown(node_with_clock, app), "a warning")
    assert words in shown(node_with_clock, app)["warning"]
    assert rejected(node_with_clock) == {"stale": 1}
    clock.shift_clock(0)
    assert app.ask("make_invoice", COFFEE, tags=[["n", "2"]]).result["invoice"]
    assert "warning" not in shown(node_with_clock, app)
    assert app.answers_to(request["id"]) == []


def test_requests_are_served_after_the_clock_is_set_back(
    node_with_clock: NodeUnderTest, clock: Faults, connect: Connect
) -> None:
    """The `since` of the subscription is then in the future."""
    clock.shift_clock(2 * HOUR_S)
    app = connect(node=node_with_clock)
    clock.shift_clock(0)
    url = app.shown["relays"][0]["url"]
    requests = (app.request("get_info", tags=[["n", str(number)]]) for number in range(1000))

    def is_answered() -> bool:
        app.send(next(requests))
        return bool(app.answered_ids())

    wait_until(is_answered, "an answer")
    assert relay_state(node_with_clock, url)["reconnects"] == 0


def test_pending_events_survive_a_jump_of_the_clock(
    node_with_clock: NodeUnderTest, clock: Faults, own_relay: RestartableRelay, connect: Connect
) -> None:
    """Events that wait for the relay are kept although by the clock their hour has passed."""
    app = connect(node=node_with_clock, relays=own_relay.url)
    own_relay.kill()
    wait_until_lost(node_with_clock, own_relay)
    node_with_clock.rpc.call("nwc-revoke", {"name": app.name})
    for jumps in (1, 2):  # two events wait in turn
        clock.shift_clock(2 * jumps * HOUR_S)
        # This waits a second for the relay, in which the plugin checks its deadlines.
        node_with_clock.rpc.call("nwc-connect", {"name": f"another {jumps}", "relays": own_relay.url})
    own_relay.start()
    wait_until_announced(node_with_clock, "another 2")
    deletions = {"kinds": [KIND_DELETION], "authors": [app.wallet_pubkey]}
    wait_until(lambda: stored_events(own_relay.url, deletions), "the info event to be withdrawn")
