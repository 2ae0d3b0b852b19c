"""Info events: how many are sent at once, which one is current, and when a refused one is retried."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio

from nwc.nip47.encryption import Cipher
from nwc.nip47.rate_limit import RateLimit
from nwc.nostr.event import Event, verify_event
from nwc.nostr.keys import KeyPair
from nwc.wallet.connections import info_publisher as publisher_module
from nwc.wallet.connections.info_publisher import (
    MAX_AT_ONCE_PER_RELAY,
    PERIOD_S,
    PUBLISHED,
    WAITING,
    InfoPublisher,
)
from nwc.wallet.connections.record import Connection
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection
from tests.unit.helpers import until
from tests.unit.wallet.scene import FakePool

A, B = "wss://a.example", "wss://b.example"


@dataclass
class Stage:
    """An InfoPublisher with a relay that does what the test says."""

    pool: FakePool = field(default_factory=FakePool)
    connections: ConnectionRegistry = field(default_factory=ConnectionRegistry)

    def __post_init__(self) -> None:
        self.info_publisher = InfoPublisher(self.pool, self.connections, notifications=True)

    def connect(self, name: str, relays: tuple[str, ...] = (A,)) -> LiveConnection:
        client, wallet = KeyPair.generate(), KeyPair.generate()
        record = Connection(name, client.public_key, relays, 0)
        live = LiveConnection(record, wallet, Cipher(wallet, client.public_key), RateLimit(1, 1, 0))
        self.connections.add(live)
        return live

    def published(self) -> list[str]:
        """Return the wallet keys of all published info events, in order."""
        return [event.pubkey for event in self.pool.attempts]


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.info_publisher.stop()


def hold(stage: Stage) -> None:
    stage.pool.holds.clear()


async def release(stage: Stage) -> None:
    stage.pool.holds.set()
    await until(lambda: not len(stage.info_publisher._tasks))


async def test_many_info_events_are_published_a_few_at_once(stage: Stage) -> None:
    lives = [stage.connect(str(number)) for number in range(3 * MAX_AT_ONCE_PER_RELAY)]
    hold(stage)
    stage.info_publisher.relay_connected(A)
    await until(lambda: len(stage.pool.attempts) == MAX_AT_ONCE_PER_RELAY)
    assert sum(live.info is not None for live in lives) == MAX_AT_ONCE_PER_RELAY, (
        "the rest is not signed"
    )
    await release(stage)
    assert stage.published() == [live.wallet_pubkey for live in lives]
    assert all(live.info_states == {A: PUBLISHED} and live.is_published.is_set() for live in lives)
    for event in stage.pool.accepted:
        verify_event(event)


async def test_relays_do_not_wait_for_each_other(stage: Stage) -> None:
    for number in range(MAX_AT_ONCE_PER_RELAY + 1):
        stage.connect(str(number), (A, B))
    hold(stage)
    stage.info_publisher.relay_connected(A)
    stage.info_publisher.relay_connected(B)
    await until(lambda: len(stage.pool.attempts) == 2 * MAX_AT_ONCE_PER_RELAY)


async def test_all_relays_get_the_same_event(stage: Stage) -> None:
    live = stage.connect("app", (A, B))
    stage.info_publisher.relay_connected(A)
    await until(lambda: live.info_states == {A: PUBLISHED})
    stage.info_publisher.relay_connected(B)
    await until(lambda: live.info_states == {A: PUBLISHED, B: PUBLISHED})
    first, second = stage.pool.accepted
    assert first == second == live.info


async def test_a_disconnected_relay_gets_the_info_event_when_it_connects(stage: Stage) -> None:
    live = stage.connect("app")
    stage.pool.state = "disconnected"
    stage.info_publisher.publish(live)
    assert (live.info_states, live.info) == ({A: WAITING}, None)
    stage.pool.state = "connected"
    stage.info_publisher.relay_connected(B)
    stage.info_publisher.relay_connected(A)
    await until(lambda: live.info_states == {A: PUBLISHED})
    assert stage.published() == [live.wallet_pubkey]


async def test_the_answer_to_an_older_info_event_is_ignored(stage: Stage) -> None:
    live = stage.connect("app")
    hold(stage)
    stage.info_publisher.publish(live)
    await until(lambda: len(stage.pool.attempts) == 1)
    [old] = stage.pool.attempts
    live.record = replace(live.record, methods=("get_info",))
    stage.pool.accepts = lambda event: event != old
    stage.info_publisher.publish(live)
    await release(stage)
    [new] = stage.pool.accepted
    assert new.content == "get_info notifications"
    assert new.created_at > old.created_at, "relays keep the newer one"
    assert live.info_states == {A: PUBLISHED}
    assert live.info == new
    assert len(stage.pool.attempts) == 2, "the older one is not published again"


async def test_a_queued_info_event_of_a_revoked_or_moved_connection_is_not_published(
    stage: Stage,
) -> None:
    stays = [stage.connect(str(number)) for number in range(MAX_AT_ONCE_PER_RELAY)]
    goes, moves = stage.connect("goes"), stage.connect("moves")
    hold(stage)
    stage.info_publisher.relay_connected(A)
    stage.connections.remove(goes)
    moves.record = replace(moves.record, relays=(B,))
    await release(stage)
    assert stage.published() == [live.wallet_pubkey for live in stays]


def refuse(stage: Stage, times: int) -> None:
    """Let the relay refuse the first events."""

    def accepts(_: Event) -> bool:
        return len(stage.pool.attempts) > times

    stage.pool.accepts = accepts


async def test_a_refused_info_event_is_published_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_DELAYS_S", (0, 0, 0))
    live = stage.connect("app")
    refuse(stage, times=3)
    stage.info_publisher.publish(live)
    await until(lambda: live.info_states == {A: PUBLISHED})
    assert stage.published() == [live.wallet_pubkey] * 4
    assert live.is_published.is_set()


async def test_info_events_that_wait_for_a_retry_do_not_delay_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_DELAYS_S", (3600,))
    refused = [stage.connect(str(number)) for number in range(MAX_AT_ONCE_PER_RELAY)]
    refuse(stage, times=MAX_AT_ONCE_PER_RELAY)
    stage.info_publisher.relay_connected(A)
    await until(lambda: all(live.info_states.get(A, "").startswith("not") for live in refused))
    other = stage.connect("other")
    stage.info_publisher.publish(other)
    await until(lambda: other.info_states == {A: PUBLISHED})


async def test_a_changed_connection_counts_as_unpublished_until_a_relay_has_the_new_info_event(
    stage: Stage,
) -> None:
    live = stage.connect("app")
    stage.info_publisher.publish(live)
    await until(live.is_published.is_set)
    hold(stage)
    stage.info_publisher.publish(live)
    assert not live.is_published.is_set()
    await release(stage)
    assert live.is_published.is_set()


async def test_the_answer_of_a_relay_that_a_connection_has_left_is_ignored(stage: Stage) -> None:
    live = stage.connect("app")
    hold(stage)
    stage.info_publisher.publish(live)
    await until(lambda: len(stage.pool.attempts) == 1)
    live.record = replace(live.record, relays=(B,))
    live.info_states = {B: WAITING}
    await release(stage)
    assert live.info_states == {B: WAITING}
    assert not live.is_published.is_set()


async def test_no_notifications_are_offered_if_the_owner_has_switched_them_off(stage: Stage) -> None:
    live = stage.connect("app")
    publisher = InfoPublisher(stage.pool, stage.connections, notifications=False)
    publisher.publish(live)
    await until(lambda: len(stage.pool.accepted) == 1)
    assert "notifications" not in stage.pool.accepted[0].content
    assert not any(tag[0] == "notifications" for tag in stage.pool.accepted[0].tags)
    await publisher.stop()


async def test_a_reconnect_while_an_answer_is_pending_does_not_double_the_retries(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_DELAYS_S", (0, 0))
    live = stage.connect("app")
    refuse(stage, times=99)
    hold(stage)
    stage.info_publisher.publish(live)
    await until(lambda: len(stage.pool.attempts) == 1)
    stage.info_publisher.relay_connected(A)
    await until(lambda: len(stage.pool.attempts) == 2)
    await release(stage)
    assert len(stage.pool.attempts) == 4, "two attempts of the two connections, and two retries"


async def test_after_the_last_retry_only_a_reconnect_publishes_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_DELAYS_S", (0, 0))
    live = stage.connect("app")
    refuse(stage, times=3)
    stage.info_publisher.publish(live)
    await until(lambda: len(stage.pool.attempts) == 3)
    await until(lambda: not len(stage.info_publisher._tasks))
    assert live.info_states[A].startswith("not published")
    assert not live.is_published.is_set()
    refuse(stage, times=5)
    stage.info_publisher.relay_connected(A)
    await until(lambda: live.info_states == {A: PUBLISHED})


async def test_a_retried_info_event_is_newer_than_any_that_the_relay_may_have(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_DELAYS_S", (0,))
    times = iter([100, 102, 102])
    monkeypatch.setattr(time, "time", lambda: next(times))
    live = stage.connect("app")
    refuse(stage, times=1)
    stage.info_publisher.publish(live)
    await until(lambda: live.info_states == {A: PUBLISHED})
    assert [event.created_at for event in stage.pool.attempts] == [100, 102]


class Clock:
    """The wall clock, which the test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(1_800_000_000)
    monkeypatch.setattr(publisher_module, "time", clock)
    return clock


async def pass_time(stage: Stage, clock: Clock, seconds: int, step: int = 600) -> None:
    for _ in range(0, seconds, step):
        clock.now += step
        stage.info_publisher._renew_old(clock.now)
        await until(lambda: not len(stage.info_publisher._tasks))


async def test_an_info_event_is_published_again_each_day(stage: Stage, clock: Clock) -> None:
    live = stage.connect("app", (A, B))
    stage.info_publisher.publish(live)
    await until(lambda: live.info_states == {A: PUBLISHED, B: PUBLISHED})
    await pass_time(stage, clock, 10 * PERIOD_S)
    dates = sorted({event.created_at for event in stage.pool.accepted})
    assert len(dates) == 11
    assert len(stage.pool.accepted) == 22, "each on both relays"
    assert {later - earlier for earlier, later in itertools.pairwise(dates)} == {PERIOD_S}
    assert live.info_states == {A: PUBLISHED, B: PUBLISHED}


async def test_a_renewed_info_event_counts_as_published_until_a_relay_refuses_it(
    stage: Stage, clock: Clock
) -> None:
    live = stage.connect("app")
    stage.info_publisher.publish(live)
    await until(lambda: live.info_states == {A: PUBLISHED})
    hold(stage)
    clock.now += PERIOD_S
    stage.info_publisher._renew_old(clock.now)
    await until(lambda: len(stage.pool.attempts) == 2)
    assert live.info_states == {A: PUBLISHED}
    assert live.is_published.is_set()
    await release(stage)


async def test_a_relay_that_is_disconnected_at_the_renewal_gets_it_when_it_connects(
    stage: Stage, clock: Clock
) -> None:
    live = stage.connect("app")
    stage.info_publisher.publish(live)
    await until(lambda: len(stage.pool.accepted) == 1)
    stage.pool.state = "disconnected"
    await pass_time(stage, clock, 2 * PERIOD_S)
    assert len(stage.pool.attempts) == 1
    stage.pool.state = "connected"
    stage.info_publisher.relay_connected(A)
    await until(lambda: len(stage.pool.accepted) == 2)
    assert stage.pool.accepted[1].created_at == clock.now


async def test_info_events_are_renewed_until_the_task_is_cancelled(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "CHECK_EVERY_S", 0)
    stage.info_publisher.publish(stage.connect("app"))
    keeping = asyncio.create_task(stage.info_publisher.keep_fresh())
    for count in range(1, 4):
        await until(lambda: len(stage.pool.accepted) == count)  # noqa: B023
        clock.now += PERIOD_S
    keeping.cancel()


async def test_another_spelling_of_a_relay_in_use_gets_no_withdrawal(stage: Stage) -> None:
    """It is the same relay: the withdrawal would delete the new info event."""
    live = stage.connect("app", (f"{A}/",))
    await stage.info_publisher.withdraw(live, A, 100)
    assert stage.pool.attempts == []
    await stage.info_publisher.withdraw(live, B, 100)
    assert len(stage.pool.attempts) == 2


async def test_a_withdrawal_ends_if_its_connection_comes_back(stage: Stage) -> None:
    """Its second event would delete the new info event."""
    live = stage.connect("app", (B,))
    hold(stage)
    withdrawing = asyncio.create_task(stage.info_publisher.withdraw(live, A, 100))
    await until(lambda: len(stage.pool.attempts) == 1)
    live.record = replace(live.record, relays=(A, B))
    await release(stage)
    await withdrawing
    assert len(stage.pool.attempts) == 1


async def test_nothing_is_published_after_a_stop(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_DELAYS_S", (3600,))
    live = stage.connect("app")
    refuse(stage, times=99)
    stage.info_publisher.publish(live)
    await until(lambda: live.info_states[A].startswith("not published"))
    assert len(stage.info_publisher._tasks) == 1, "the retry"
    await stage.info_publisher.stop()
    assert len(stage.info_publisher._tasks) == 0
