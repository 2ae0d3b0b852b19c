"""How a Relay reconnects, over a fake network and on a clock that skips all waiting."""

import asyncio
import itertools
import json
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from nwc.nostr import relay as module
from nwc.nostr.keys import KeyPair
from nwc.nostr.reconnect_pace import LONG_PAUSE_S, OUTAGE_S
from nwc.nostr.relay import Relay
from nwc.nostr.subscriptions import Recipient
from tests.unit.virtual_loop import VirtualLoop

KEYS = KeyPair.generate()
BACK_WITHIN_S = 10.0
HANDSHAKE_S = 0.5


class FakeConnection:
    """Replaces a RelaySocket: confirms the subscription, until the network drops it."""

    latency_s = None
    is_open = can_send = False

    def __init__(self, *, serves: bool) -> None:
        self._serves = serves
        self._is_closed = asyncio.Event()
        self.close_exc = OSError("dropped")

    def listen(self, on_message: Callable[[str], None], _on_writable: object) -> None:
        if self._serves:
            on_message(json.dumps(["EOSE", "nwc1"]))

    def drop(self) -> None:
        self._is_closed.set()

    abort = drop

    async def wait_closed(self) -> None:
        await self._is_closed.wait()

    async def close(self) -> None:
        self.drop()


class Network:
    """The network of a Relay.

    Attributes:
        is_up: True if connections can be made.
        hangs: True if an attempt that begins during an outage hangs instead of failing at once.
        serves: True if the relay confirms subscriptions.
        drops_at_once: True if the relay drops each connection as soon as it is made.
        attempts: when each attempt began.
        open: the open connections.

    """

    def __init__(self) -> None:
        self.is_up = True
        self.hangs = False
        self.serves = True
        self.drops_at_once = False
        self.attempts: list[float] = []
        self.open: list[FakeConnection] = []

    async def __call__(self, *_: object, **__: object) -> FakeConnection:
        self.attempts.append(now())
        if self.is_up:
            await asyncio.sleep(HANDSHAKE_S)
        if not self.is_up:
            if self.hangs:
                await asyncio.Event().wait()
            raise ConnectionRefusedError
        connection = FakeConnection(serves=self.serves)
        self.open.append(connection)
        if self.drops_at_once:
            connection.drop()
        return connection

    def go_down(self) -> None:
        self.is_up = False
        for connection in self.open:
            connection.drop()
        self.open.clear()


def now() -> float:
    return asyncio.get_running_loop().time()


Scenario = Callable[[Relay], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(module, "open_socket", network)
    return network


@pytest.fixture
def run() -> Iterator[Run]:
    """Return a function that runs a scenario with a started relay, without real waiting."""
    loop = VirtualLoop()

    async def whole(scenario: Scenario) -> None:
        relay = Relay(
            "wss://relay.example",
            kinds=(23194,),
            max_age=120,
            proxy=None,
            on_event=lambda _event, _url: None,
            on_connected=lambda _url: None,
        )
        relay.subscribe(Recipient(KEYS, "a" * 64))
        relay.start()
        await scenario(relay)
        await relay.stop()

    yield lambda scenario: loop.run_until_complete(whole(scenario))
    loop.end()


async def back_after(relay: Relay) -> float:
    """Wait until the relay serves and return how many seconds that took."""
    began = now()
    while not (relay.info().state == "connected" and relay.is_listening(KEYS.public_key)):
        await asyncio.sleep(0.1)
        assert now() - began < 1000
    return now() - began


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_a_relay_is_back_in_service_soon_after_every_outage_under_ten_minutes(
    network: Network, run: Run, hangs: bool, seed: int
) -> None:
    chance = random.Random(seed)
    network.hangs = hangs

    async def rough(relay: Relay) -> None:
        longest_s = 0.0
        while now() < 3600:
            network.is_up = True
            longest_s = max(longest_s, await back_after(relay))
            await asyncio.sleep(chance.choice([0, 0.1, 1, 5, 20, 40, 90]))
            network.go_down()
            await asyncio.sleep(chance.choice([0.1, 1, 3, 7, 13, 31, 120, 400]))
        assert longest_s <= BACK_WITHIN_S

    run(rough)


def test_a_relay_is_back_in_service_soon_after_six_short_drops(network: Network, run: Run) -> None:
    async def drops(relay: Relay) -> None:
        for _ in range(6):
            await back_after(relay)
            network.go_down()
            await asyncio.sleep(0.1)
            network.is_up = True
        assert await back_after(relay) <= BACK_WITHIN_S

    run(drops)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_relay_is_back_in_service_soon_after_almost_ten_minutes(
    network: Network, run: Run, hangs: bool
) -> None:
    network.hangs = hangs

    async def outage(relay: Relay) -> None:
        await back_after(relay)
        network.go_down()
        await asyncio.sleep(OUTAGE_S - 10)
        network.is_up = True
        assert await back_after(relay) <= BACK_WITHIN_S

    run(outage)


@pytest.mark.parametrize("hangs", [False, True])
def test_the_pauses_of_a_longer_outage_are_a_minute_until_the_relay_serves(
    network: Network, run: Run, hangs: bool
) -> None:
    network.hangs = hangs

    async def outage(relay: Relay) -> None:
        await back_after(relay)
        network.go_down()
        await asyncio.sleep(OUTAGE_S + 30)
        network.attempts.clear()
        await asyncio.sleep(3600)
        gaps = [later - earlier for earlier, later in itertools.pairwise(network.attempts)]
        assert min(gaps) >= LONG_PAUSE_S / 2
        network.is_up = True
        assert await back_after(relay) <= LONG_PAUSE_S + BACK_WITHIN_S
        for _ in range(3):
            network.go_down()
            await asyncio.sleep(20)
            network.is_up = True
            assert await back_after(relay) <= BACK_WITHIN_S

    run(outage)


@pytest.mark.parametrize("serves", [False, True])
def test_a_relay_that_drops_connections_at_once_is_not_flooded(
    network: Network, run: Run, serves: bool
) -> None:
    network.serves, network.drops_at_once = serves, True

    async def drops(_: Relay) -> None:
        for minutes in (1, 10, 60):
            await asyncio.sleep(60 * minutes - now())
            assert len(network.attempts) <= 60 * minutes / 5

    run(drops)


def test_short_connections_that_serve_are_not_an_outage(network: Network, run: Run) -> None:
    """For twenty minutes, each connection lasts five seconds."""

    async def short(relay: Relay) -> None:
        while now() < 2 * OUTAGE_S:
            assert await back_after(relay) <= BACK_WITHIN_S
            await asyncio.sleep(5)
            network.go_down()
            await asyncio.sleep(0.1)
            network.is_up = True

    run(short)


def test_a_relay_that_is_slow_to_answer_gets_one_connection(
    network: Network, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.HANDSHAKE_S", 4.0)

    async def slow(relay: Relay) -> None:
        await back_after(relay)
        await asyncio.sleep(60)
        assert len(network.attempts) == 1

    run(slow)


def test_a_second_attempt_beside_a_slow_one_leaves_one_connection(
    network: Network, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.HANDSHAKE_S", 9.0)

    async def slow(relay: Relay) -> None:
        assert await back_after(relay) <= BACK_WITHIN_S
        await asyncio.sleep(60)
        assert len(network.attempts) == 2
        assert len(network.open) == 1

    run(slow)
