"""Info events: how many are under way, which is in force, and what becomes of those a relay refuses."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio

from nwc.nip47.encryption import Cipher
from nwc.nip47.rate_limit import RateLimit
from nwc.nostr.event import Event, verify_event
from nwc.nostr.keys import KeyPair
from nwc.wallet import announcer as announcer_module
from nwc.wallet.announcer import MAX_AT_ONCE_PER_RELAY, PUBLISHED, WAITING, Announcer
from nwc.wallet.connections import Connection
from nwc.wallet.live import LiveConnection, LiveConnections
from tests.unit.helpers import until
from tests.unit.wallet.scene import FakePool

A, B = "wss://a.example", "wss://b.example"


@dataclass
class Stage:
    """An announcer with a relay that does what the test says."""

    pool: FakePool = field(default_factory=FakePool)
    connections: LiveConnections = field(default_factory=LiveConnections)

    def __post_init__(self) -> None:
        self.announcer = Announcer(self.pool, self.connections, notifications=True)

    def connect(self, name: str, relays: tuple[str, ...] = (A,)) -> LiveConnection:
        client, wallet = KeyPair.generate(), KeyPair.generate()
        record = Connection(name, client.public_key, relays, 0)
        live = LiveConnection(record, wallet, Cipher(wallet, client.public_key), RateLimit(1, 1, 0))
        self.connections.add(live)
        return live

    def published(self) -> list[str]:
        """The wallet keys whose info events were tried, in this order."""
        return [event.pubkey for event in self.pool.attempts]


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.announcer.stop()


def hold(stage: Stage) -> None:
    stage.pool.holds.clear()


async def let_go(stage: Stage) -> None:
    stage.pool.holds.set()
    await until(lambda: not len(stage.announcer._tasks))


async def test_many_are_published_a_few_at_once(stage: Stage) -> None:
    lives = [stage.connect(str(number)) for number in range(3 * MAX_AT_ONCE_PER_RELAY)]
    hold(stage)
    stage.announcer.relay_connected(A)
    await until(lambda: len(stage.pool.attempts) == MAX_AT_ONCE_PER_RELAY)
    assert len(stage.announcer._tasks) == MAX_AT_ONCE_PER_RELAY
    assert sum(live.info is not None for live in lives) == MAX_AT_ONCE_PER_RELAY, (
        "the rest is not signed"
    )
    await let_go(stage)
    assert stage.published() == [live.wallet_pubkey for live in lives]
    assert all(live.announced == {A: PUBLISHED} and live.is_announced.is_set() for live in lives)
    for event in stage.pool.taken:
        verify_event(event)


async def test_relays_do_not_wait_for_each_other(stage: Stage) -> None:
    for number in range(MAX_AT_ONCE_PER_RELAY + 1):
        stage.connect(str(number), (A, B))
    hold(stage)
    stage.announcer.relay_connected(A)
    stage.announcer.relay_connected(B)
    await until(lambda: len(stage.pool.attempts) == 2 * MAX_AT_ONCE_PER_RELAY)


async def test_the_same_event_on_all_relays(stage: Stage) -> None:
    live = stage.connect("app", (A, B))
    stage.announcer.relay_connected(A)
    await until(lambda: live.announced == {A: PUBLISHED})
    stage.announcer.relay_connected(B)
    await until(lambda: live.announced == {A: PUBLISHED, B: PUBLISHED})
    first, second = stage.pool.taken
    assert first == second == live.info


async def test_relays_that_are_away_get_it_when_they_are_back(stage: Stage) -> None:
    live = stage.connect("app")
    stage.pool.state = "disconnected"
    stage.announcer.announce(live)
    assert (live.announced, live.info) == ({A: WAITING}, None)
    stage.pool.state = "connected"
    stage.announcer.relay_connected(B)
    stage.announcer.relay_connected(A)
    await until(lambda: live.announced == {A: PUBLISHED})
    assert stage.published() == [live.wallet_pubkey]


async def test_what_is_said_of_an_older_one_does_not_count(stage: Stage) -> None:
    live = stage.connect("app")
    hold(stage)
    stage.announcer.announce(live)
    await until(lambda: len(stage.pool.attempts) == 1)
    [old] = stage.pool.attempts
    stage.connections.update(live, replace(live.record, methods=("get_info",)))
    stage.pool.takes = lambda event: event != old
    stage.announcer.announce(live)
    await let_go(stage)
    [new] = stage.pool.taken
    assert new.content == "get_info notifications"
    assert new.created_at > old.created_at, "relays keep the newer of the two"
    assert live.announced == {A: PUBLISHED}
    assert live.info == new
    assert len(stage.pool.attempts) == 2, "the older one is not published again"


async def test_revoked_while_it_waits(stage: Stage) -> None:
    stays = [stage.connect(str(number)) for number in range(MAX_AT_ONCE_PER_RELAY)]
    goes, moves = stage.connect("goes"), stage.connect("moves")
    hold(stage)
    stage.announcer.relay_connected(A)
    stage.connections.remove(goes)
    stage.connections.update(moves, replace(moves.record, relays=(B,)))
    await let_go(stage)
    assert stage.published() == [live.wallet_pubkey for live in stays]


def refuse(stage: Stage, times: int) -> None:
    """Have the relay take no event until it has said no so many times."""

    def takes(_: Event) -> bool:
        return len(stage.pool.attempts) > times

    stage.pool.takes = takes


async def test_refused_and_published_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer_module, "RETRY_DELAYS_S", (0, 0, 0))
    live = stage.connect("app")
    refuse(stage, times=3)
    stage.announcer.announce(live)
    await until(lambda: live.announced == {A: PUBLISHED})
    assert stage.published() == [live.wallet_pubkey] * 4
    assert live.is_announced.is_set()


async def test_a_refusal_that_two_hear_of_is_one(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay came back while the info event was still waiting for it."""
    monkeypatch.setattr(announcer_module, "RETRY_DELAYS_S", (3600, 3600))
    live = stage.connect("app")
    refuse(stage, times=99)
    hold(stage)
    stage.announcer.announce(live)
    await until(lambda: len(stage.pool.attempts) == 1)
    stage.announcer.relay_connected(A)
    await until(lambda: len(stage.pool.attempts) == 2)
    await let_go(stage)
    assert stage.announcer._queues[A].refusals[live.wallet_pubkey] == 1


async def test_given_up_until_the_relay_is_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer_module, "RETRY_DELAYS_S", (0, 0))
    live = stage.connect("app")
    refuse(stage, times=3)
    stage.announcer.announce(live)
    await until(lambda: len(stage.pool.attempts) == 3)
    await until(lambda: not len(stage.announcer._tasks))
    assert live.announced[A].startswith("not published")
    assert not stage.announcer._queues[A].retries
    assert not live.is_announced.is_set()
    refuse(stage, times=5)
    stage.announcer.relay_connected(A)
    await until(lambda: live.announced == {A: PUBLISHED})


async def test_published_again_is_newer_than_what_the_relay_may_have(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer_module, "RETRY_DELAYS_S", (0,))
    times = iter([100, 102, 102])
    monkeypatch.setattr(time, "time", lambda: next(times))
    live = stage.connect("app")
    refuse(stage, times=1)
    stage.announcer.announce(live)
    await until(lambda: live.announced == {A: PUBLISHED})
    assert [event.created_at for event in stage.pool.attempts] == [100, 102]


async def test_nothing_is_published_after_the_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer_module, "RETRY_DELAYS_S", (3600,))
    live = stage.connect("app")
    refuse(stage, times=99)
    stage.announcer.announce(live)
    await until(lambda: live.announced[A].startswith("not published"))
    [retry] = stage.announcer._queues[A].retries.values()
    assert not retry.cancelled()
    await stage.announcer.stop()
    assert retry.cancelled()
