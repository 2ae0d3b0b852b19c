import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.asyncio.server import ServerConnection

from nwc.nostr import relay
from nwc.nostr.event import Event, sign_event
from nwc.nostr.keys import KeyPair
from nwc.nostr.pool import RelayPool
from nwc.nostr.session import Published
from nwc.nostr.subscriptions import Recipient
from tests.support.waiting import PATIENCE_S
from tests.unit.helpers import until
from tests.unit.nostr.fake_relay import FakeRelay

KEYS, OTHER = KeyPair.generate(), KeyPair.generate()
RECIPIENT, OTHER_RECIPIENT = Recipient(KEYS, "a" * 64), Recipient(OTHER, "b" * 64)
EVENT = sign_event(KEYS, kind=1, content="x", tags=[], created_at=1)
LONG_S = 60.0
# A timeout that passes in the test, but not before the steps ahead of it, even on a busy machine.
SHORT_S = 2.0


def make_relay(url: str) -> relay.Relay:
    def on_event(event: Event, url: str) -> str | None:
        raise AssertionError(event)

    return relay.Relay(
        url, kinds=(23194,), max_age=120, proxy=None, on_event=on_event, on_connected=lambda url: None
    )


@pytest_asyncio.fixture
async def servers() -> AsyncIterator[list[FakeRelay]]:
    async with FakeRelay() as first, FakeRelay() as second:
        yield [first, second]


@pytest_asyncio.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RelayPool]:
    monkeypatch.setattr(relay, "TICK_S", 0.01)
    pool = RelayPool(make_relay)
    yield pool
    await pool.stop()


async def test_each_relay_gets_one_connection(servers: list[FakeRelay], pool: RelayPool) -> None:
    urls = [server.url for server in servers]
    pool.subscribe(RECIPIENT, urls)
    pool.subscribe(OTHER_RECIPIENT, urls[:1])
    await until(lambda: all(pool.is_listening(KEYS.public_key, url) for url in urls))
    assert servers[0].arrivals.qsize() == servers[1].arrivals.qsize() == 1
    await until(lambda: pool.is_listening(OTHER.public_key, urls[0]))
    assert not pool.is_listening(OTHER.public_key, urls[1])
    assert not pool.is_listening(KEYS.public_key, "ws://unknown")
    assert [info.url for info in pool.info()] == urls
    assert [info.url for info in pool.info(["ws://unknown", urls[1]])] == [urls[1]]


async def test_an_event_is_published_on_all_known_relays(
    servers: list[FakeRelay], pool: RelayPool
) -> None:
    urls = [server.url for server in servers]
    pool.subscribe(RECIPIENT, urls)
    results = await pool.publish(EVENT, [*urls, "ws://unknown"], LONG_S)
    assert {url: result.accepted for url, result in results.items()} == dict.fromkeys(urls, True)
    for server in servers:
        assert (await server.next("EVENT"))[1]["id"] == EVENT.id


async def test_a_relay_that_does_not_answer_does_not_hide_the_answer_of_another(
    servers: list[FakeRelay], pool: RelayPool
) -> None:
    servers[1].answers = False
    urls = [server.url for server in servers]
    pool.subscribe(RECIPIENT, urls)
    results = await pool.publish(EVENT, urls, SHORT_S)
    assert [results[url].accepted for url in urls] == [True, False]


async def test_publishing_on_no_known_relay_returns_nothing(pool: RelayPool) -> None:
    assert await pool.publish(EVENT, ["ws://unknown"], LONG_S) == {}


async def test_a_released_relay_without_recipients_is_closed(
    servers: list[FakeRelay], pool: RelayPool
) -> None:
    urls = [server.url for server in servers]
    pool.subscribe(RECIPIENT, urls)
    pool.subscribe(OTHER_RECIPIENT, urls[:1])
    connections = [await server.arrival() for server in servers]
    pool.unsubscribe(KEYS.public_key, [*urls, "ws://unknown"])
    assert len(pool.info()) == 2  # a pending publication may end first
    for url in [*urls, "ws://unknown"]:
        pool.release(url)
    assert [info.url for info in pool.info()] == urls[:1]
    await asyncio.wait_for(connections[1].wait_closed(), PATIENCE_S)
    assert connections[0].close_code is None


async def publish_unanswered(
    server: FakeRelay, pool: RelayPool, timeout_s: float
) -> tuple[ServerConnection, asyncio.Task[dict[str, Published]]]:
    """Publish to a relay that does not answer; return its connection and the publication."""
    server.answers = False
    pool.subscribe(RECIPIENT, [server.url])
    connection = await server.arrival()
    publishing = asyncio.create_task(pool.publish(EVENT, [server.url], timeout_s))
    await server.next("EVENT")
    return connection, publishing


async def test_a_relay_is_released_when_its_last_publication_has_ended(
    servers: list[FakeRelay], pool: RelayPool
) -> None:
    """A relay that never answers an event must not be kept for ever."""
    url = servers[0].url
    connection, publishing = await publish_unanswered(servers[0], pool, SHORT_S)
    pool.unsubscribe(KEYS.public_key, [url])
    pool.release(url)
    assert [info.url for info in pool.info()] == [url]
    await asyncio.wait_for(connection.wait_closed(), PATIENCE_S)
    assert pool.info() == []
    assert not (await publishing)[url].accepted


async def test_a_relay_with_a_new_recipient_is_not_released(
    servers: list[FakeRelay], pool: RelayPool
) -> None:
    url = servers[0].url
    _, publishing = await publish_unanswered(servers[0], pool, SHORT_S)
    pool.unsubscribe(KEYS.public_key, [url])
    pool.release(url)
    pool.subscribe(OTHER_RECIPIENT, [url])
    await publishing
    await until(lambda: not pool._closing)
    assert [info.state for info in pool.info()] == ["connected"]


async def test_a_released_relay_can_be_used_again(servers: list[FakeRelay], pool: RelayPool) -> None:
    url = servers[0].url
    for _ in range(2):
        pool.subscribe(RECIPIENT, [url])
        await servers[0].arrival()
        pool.unsubscribe(KEYS.public_key, [url])
        pool.release(url)
    pool.subscribe(RECIPIENT, [url])
    await servers[0].arrival()
    assert (await pool.publish(EVENT, [url], LONG_S))[url].accepted


async def test_stop_closes_all_connections_and_ends_publications(
    servers: list[FakeRelay], pool: RelayPool
) -> None:
    connection, publishing = await publish_unanswered(servers[0], pool, LONG_S)
    await pool.stop()
    assert not (await publishing)[servers[0].url].accepted
    await asyncio.wait_for(connection.wait_closed(), PATIENCE_S)
    assert pool.info() == []
