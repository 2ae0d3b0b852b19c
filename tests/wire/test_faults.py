"""A connection over two relays, one of which is faulty in every way that the tests know.

During the fault, requests over the other relay are served, and the plugin's memory, descriptors and log
stay bounded. Afterwards the faulty relay alone serves the connection again. Each case shows that the
fault took place: the proxy counts its acts, and nwc-status shows their effect.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]
import pytest

from tests.support import fault_proxy as faulty
from tests.support.channel import Json, RelaySocket, tag
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.node import NodeUnderTest
from tests.wire.test_relays import COFFEE, relay_state

MAX_GROWTH_BYTES = 16 << 20
# The plugin keeps up to 16 idle sockets to lightningd. The unit tests of relays would find a leak with
# each attempt to connect.
MAX_MORE_DESCRIPTORS = 20
MAX_MORE_THREADS = 4
# At debug: one line for each request, two for each connection that is made and lost.
MAX_LOG_LINES = 60
FORGED = "bad id or signature"
HONEST_REQUESTS = 8
MAX_ROUNDS = 8
# The pause before the retry has grown, and megabytes may have to be read first.
RECOVERY_PATIENCE_S = 60

Effect = Callable[[Json, Json], bool]


@dataclass(frozen=True)
class Case:
    """A fault and its effect.

    Attributes:
        fault: makes the fault.
        acts: how many acts of it the proxy must count.
        effect: compares what nwc-status shows of the relay before and now.

    """

    fault: Callable[[], Fault]
    acts: int
    effect: Effect


def is_lost(before: Json, now: Json) -> bool:
    return bool(now["state"] == "disconnected" or now["reconnects"] > before["reconnects"])


def is_invalid(before: Json, now: Json) -> bool:
    return bool(now["invalid_frames"] > before["invalid_frames"])


def has_error(words: str) -> Effect:
    return lambda _, now: words in str(now["last_error"])


def is_rejected(reason: str) -> Effect:
    return lambda before, now: (
        now["events_ignored"].get(reason, 0) > before["events_ignored"].get(reason, 0)
    )


def is_not_reconnected(before: Json, now: Json) -> bool:
    """Return True if there was no reconnect; only the proxy's count shows such a fault."""
    return bool(now["reconnects"] == before["reconnects"])


CASES = {
    "refuses": Case(faulty.Refuse, 2, is_lost),
    "resets": Case(lambda: faulty.Refuse(reset=True), 2, is_lost),
    "drops at once": Case(lambda: faulty.Drop(0), 2, is_lost),
    "drops after some frames": Case(lambda: faulty.Drop(2), 2, is_lost),
    "says nothing": Case(faulty.SayNothing, 1, is_lost),
    "stalls": Case(faulty.Stall, 1, is_not_reconnected),
    "delays": Case(lambda: faulty.Delay(0.2), 5, is_not_reconnected),
    "duplicates": Case(lambda: faulty.Rewrite(faulty.thrice), 5, is_rejected("seen before")),
    "reorders": Case(faulty.Reorder, 3, is_not_reconnected),
    "truncates": Case(lambda: faulty.Rewrite(faulty.cut), 5, is_invalid),
    "denies": Case(lambda: faulty.Rewrite(faulty.deny), 5, is_not_reconnected),
    "swallows OK": Case(lambda: faulty.Rewrite(faulty.swallow), 5, is_not_reconnected),
    "takes nothing": Case(faulty.TakeNothing, 5, is_not_reconnected),
    "notices": Case(lambda: faulty.Say(faulty.notices), 10_000, has_error("complaint")),
    "closes": Case(lambda: faulty.Say(faulty.closings), 10_000, has_error("subscription closed")),
    "challenges": Case(lambda: faulty.Say(faulty.challenges), 10_000, is_not_reconnected),
    "garbage": Case(lambda: faulty.Say(faulty.garbage), 10_000, is_invalid),
    "oversize": Case(lambda: faulty.Say(faulty.oversize), 3, is_lost),
    "forged ids": Case(lambda: faulty.Say(faulty.forged_ids), 500, is_rejected(FORGED)),
    "forged signatures": Case(lambda: faulty.Say(faulty.forged_signatures), 500, is_rejected(FORGED)),
    "strangers": Case(lambda: faulty.Say(faulty.strangers), 10_000, is_rejected("unknown author")),
    "replays": Case(lambda: faulty.Say(faulty.replays), 10_000, is_rejected("seen before")),
    "empty frames": Case(lambda: faulty.Write(b"\x81\0", 100_000), 100_000, is_invalid),
    "pings": Case(lambda: faulty.Write(b"\x89\0", 100_000), 100_000, is_not_reconnected),
    "pings unread": Case(
        lambda: faulty.Write(b"\x89\x7d" + bytes(125), 10**6, reads=False), 60_000, is_lost
    ),
    "fragments": Case(lambda: faulty.Write(b"\0\0", 10**6, first=b"\x01\0"), 100_000, is_lost),
}


@dataclass(frozen=True)
class Footprint:
    """The resources that the plugin uses: memory in bytes, descriptors, threads."""

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, node: NodeUnderTest) -> "Footprint":
        process = psutil.Process(node.plugin_pid)
        return cls(process.memory_info().rss, process.num_fds(), process.num_threads())

    def growth_since(self, before: "Footprint") -> str:
        """Return which resources have grown too much, "" if none has."""
        allowed = {
            "memory": MAX_GROWTH_BYTES,
            "descriptors": MAX_MORE_DESCRIPTORS,
            "threads": MAX_MORE_THREADS,
        }
        growth = {name: getattr(self, name) - getattr(before, name) for name in allowed}
        return ", ".join(f"{name}: +{n}" for name, n in growth.items() if n > allowed[name])


@dataclass(frozen=True)
class TwoRelays:
    """An app, its faulty relay, and two channels to honest relays.

    Attributes:
        app: the app; `over` sets its channels.
        proxy: the faulty relay.
        honest: a channel to the other relay.
        behind: a channel to the honest relay behind the proxy.

    """

    app: ConnectedApp
    proxy: FaultProxy
    honest: RelaySocket
    behind: RelaySocket

    def over(self, *channels: RelaySocket) -> ConnectedApp:
        """Return the app, which from now on uses these channels."""
        self.app.channels = channels
        return self.app


@pytest.fixture(scope="module")
def relay_behind() -> Iterator[RestartableRelay]:
    """The real relay behind all proxies of the module."""
    with RestartableRelay() as relay:
        yield relay


@pytest.fixture
def two_relays(
    relay: RestartableRelay, relay_behind: RestartableRelay, connect: Connect
) -> Iterator[TwoRelays]:
    """A connection over an honest relay and a proxy that has no fault yet. Both have served it."""
    with FaultProxy(relay_behind.url) as proxy:
        app = connect(relays=[relay.url, proxy.url])
        honest, through_proxy = app.channels
        assert isinstance(honest, RelaySocket)
        through_proxy.close()
        with RelaySocket(relay_behind.url, app.answer_filter) as behind:
            two = TwoRelays(app, proxy, honest, behind)
            for channel in (honest, behind):
                assert two.over(channel).ask("make_invoice", COFFEE).result["invoice"]
            yield two


def wait_for_effect(node: NodeUnderTest, two: TwoRelays, case: Case, before: Json) -> None:
    """Wait until the fault has acted often enough and nwc-status shows its effect."""
    url = two.proxy.url
    two.proxy.wait_for_acts(case.acts)
    wait_until(lambda: case.effect(before, relay_state(node, url)), f"{relay_state(node, url)}")


def ask_honestly(two: TwoRelays) -> list[Json]:
    """Ask over both relays; return the results of those over the honest one."""
    results = []
    for _ in range(HONEST_REQUESTS):
        two.behind.send(two.app.request("get_info"))
        request = two.app.request("make_invoice", COFFEE)
        results.append(two.over(two.honest).ask_with(request).result)
        assert len(two.app.answers_to(request["id"])) == 1
    return results


def answers_a_probe(two: TwoRelays) -> bool:
    """Return True if a new request over the faulty relay is answered within a second."""
    probe = two.app.request("get_info")
    two.behind.send(probe)
    try:
        two.behind.received.wait_for(lambda event: tag(event, "e") == probe["id"], "", timeout_s=1)
    except TimeoutError:
        return False
    return True


def log_lines(node: NodeUnderTest, since: int, url: str) -> list[str]:
    """Return the plugin's log lines at all levels, without those about other relays than this one."""
    ours = re.compile(rf"plugin-plugin\.py: (?!.* relay (?!{re.escape(url)}:))")
    return [line for line in node.log_text().splitlines()[since:] if ours.search(line)]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_faulty_relay_does_not_affect_the_other(
    node: NodeUnderTest, two_relays: TwoRelays, case: Case
) -> None:
    two, proxy = two_relays, two_relays.proxy
    status, since, footprint = relay_state(node, proxy.url), node.mark(), Footprint.of(node)
    proxy.switch_on(case.fault())
    results = ask_honestly(two)
    wait_for_effect(node, two, case, status)
    results += ask_honestly(two)
    assert len({result["payment_hash"] for result in results}) == 2 * HONEST_REQUESTS
    assert Footprint.of(node).growth_since(footprint) == ""
    proxy.switch_off()
    wait_until(lambda: answers_a_probe(two), "the relay to serve again", RECOVERY_PATIENCE_S)
    last = two.app.request("make_invoice", COFFEE)
    assert two.over(two.behind).ask_with(last).result["invoice"]
    assert len(two.app.answers_to(last["id"])) == 1
    assert Footprint.of(node).growth_since(footprint) == ""
    logged = log_lines(node, since, proxy.url)
    assert len(logged) <= MAX_LOG_LINES
    assert [line for line in logged if " DEBUG " not in line] == []


@pytest.mark.parametrize(("name", "message"), [("challenges", "AUTH"), ("closes", "REQ")])
def test_endless_messages_are_answered_a_few_times_only(
    node: NodeUnderTest, two_relays: TwoRelays, name: str, message: str
) -> None:
    """Each AUTH costs the plugin a signature, each REQ costs the relay a search."""
    two, proxy = two_relays, two_relays.proxy
    proxy.switch_on(CASES[name].fault())
    wait_until(lambda: proxy.heard[message], f"{message} of the plugin")
    proxy.wait_for_acts(CASES[name].acts)
    assert two.over(two.honest).ask("make_invoice", COFFEE).result["invoice"]
    assert proxy.heard[message] <= MAX_ROUNDS
