"""How a Relay comes back, on a clock that stands still while nothing happens, over a fake network."""

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
from nwc.nostr.subscriptions import Inbox
from tests.unit.virtual_loop import VirtualLoop

KEYS = KeyPair.generate()
BACK_WITHIN_S = 10.0
HANDSHAKE_S = 0.5


class FakeConnection:
    """In the place of a BoundedConnection: confirms the subscription, until the network drops it."""

    latency = 0.0
    is_open = can_send = False

    def __init__(self, *, serves: bool) -> None:
        self._serves = serves
        self._is_closed = asyncio.Event()
        self.transport = self
        self.close_exc = OSError("dropped")

    def listen(self, on_message: Callable[[str], None], _on_writable: object) -> None:
        if self._serves:
            on_message(json.dumps(["EOSE", "nwc1"]))

    def drop(self) -> None:
        self._is_closed.set()

    abort = drop

    async def ping(self) -> None:
        pass

    async def wait_closed(self) -> None:
        await self._is_closed.wait()

    async def close(self) -> None:
        self.drop()


class Network:
    """What a Relay connects over.

    Attributes:
        is_up: connections can be made.
        hangs: an attempt begun while it is down hangs for good, instead of failing at once.
        serves: the relay confirms subscriptions.
        drops_at_once: the relay drops each connection as soon as it is made.
        attempts: when each attempt began.
        open: the connections there are.

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
    monkeypatch.setattr(module, "_connect", network)
    return network


@pytest.fixture
def run() -> Iterator[Run]:
    """Return what runs a scenario with a relay that is started, in no time."""
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
        relay.subscribe(Inbox(KEYS, "a" * 64))
        relay.start()
        await scenario(relay)
        await relay.stop()

    yield lambda scenario: loop.run_until_complete(whole(scenario))
    loop.end()


async def back_after(relay: Relay) -> float:
    """Wait until the relay serves; return how long that took."""
    began = now()
    while not (relay.info().state == "connected" and relay.is_listening(KEYS.public_key)):
        await asyncio.sleep(0.1)
        assert now() - began < 1000
    return now() - began


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_back_in_service_however_rough_the_last_ten_minutes_were(
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


def test_six_short_drops_in_a_row(network: Network, run: Run) -> None:
    async def drops(relay: Relay) -> None:
        for _ in range(6):
            await back_after(relay)
            network.go_down()
            await asyncio.sleep(0.1)
            network.is_up = True
        assert await back_after(relay) <= BACK_WITHIN_S

    run(drops)


@pytest.mark.parametrize("hangs", [False, True])
def test_just_before_an_outage_is_ten_minutes_long(network: Network, run: Run, hangs: bool) -> None:
    network.hangs = hangs

    async def outage(relay: Relay) -> None:
        await back_after(relay)
        network.go_down()
        await asyncio.sleep(OUTAGE_S - 10)
        network.is_up = True
        assert await back_after(relay) <= BACK_WITHIN_S

    run(outage)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_longer_outage_goes_to_pauses_of_a_minute_and_ends_with_service(
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
def test_a_relay_that_drops_connections_at_once_is_not_hammered(
    network: Network, run: Run, serves: bool
) -> None:
    network.serves, network.drops_at_once = serves, True

    async def drops(_: Relay) -> None:
        for minutes in (1, 10, 60):
            await asyncio.sleep(60 * minutes - now())
            assert len(network.attempts) <= 60 * minutes / 5

    run(drops)


def test_short_connections_that_serve_are_no_outage(network: Network, run: Run) -> None:
    """For twenty minutes the relay is there for five seconds at a time."""

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


def test_an_attempt_beside_one_that_hangs_leaves_one_connection(
    network: Network, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.HANDSHAKE_S", 9.0)

    async def slow(relay: Relay) -> None:
        assert await back_after(relay) <= BACK_WITHIN_S
        await asyncio.sleep(60)
        assert len(network.attempts) == 2
        assert len(network.open) == 1

    run(slow)
