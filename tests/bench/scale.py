"""Helpers of connections.py and relays.py: create connections in bulk, read a relay's traffic, send
requests all the time, wait.
"""

import asyncio
import json
import statistics
import time
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nwc.cln.node import Node
from nwc.nip47.uri import connection_uri
from nwc.nostr.keys import KeyPair
from nwc.wallet.connections.record import Connection, ConnectionStore, wallet_keys
from nwc.wallet.spending.ledgers import Ledgers
from tests.support.client import Json, NwcClient, RequestRefused

ASK_EVERY_S = 0.02
LOOK_EVERY_S = 0.05
SETTLE_TIMEOUT_S = 300


async def make_connections(rpc_path: str, names: Sequence[str], relays: tuple[str, ...]) -> list[str]:
    """Write records of connections that have each received a payment, and return their URIs.

    The records are as the plugin's. It serves the connections after its next start.
    """
    node = Node(rpc_path)
    store, ledgers = ConnectionStore(node), Ledgers(node)

    async def make(name: str) -> str:
        client = KeyPair.generate()
        record = Connection(name, client.public_key, relays, int(time.time()))
        await store.create(record)
        await ledgers.change(client.public_key, lambda ledger: ledger.receive(21_000, 1))
        wallet = await wallet_keys(node, client.public_key)
        return connection_uri(wallet.public_key, relays, client.secret_hex(), None)

    try:
        return await asyncio.gather(*map(make, names))
    finally:
        node.close()


def ask_relay(url: str, command: str) -> str:
    """Send a command to the fast relay: `/traffic` returns it, `/cut` cuts all connections."""
    with urllib.request.urlopen(f"http{url.removeprefix('ws')}{command}") as answer:
        return str(answer.read().decode())


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic of the fast relay so far; tests/support/fast_relay.py describes the fields."""

    subscriptions: int
    recipients: int
    frames: dict[str, int]
    characters: dict[str, int]
    longest: dict[str, int]
    kinds: dict[str, int]

    @classmethod
    def of(cls, url: str) -> "Traffic":
        """Return the traffic of a relay."""
        return cls(**json.loads(ask_relay(url, "/traffic")))

    def since(self, before: "Traffic") -> dict[str, tuple[int, int]]:
        """Return the numbers of frames and characters since `before`, by type."""
        return {
            name: (
                count - before.frames.get(name, 0),
                self.characters[name] - before.characters.get(name, 0),
            )
            for name, count in self.frames.items()
            if count > before.frames.get(name, 0)
        }


class Asker:
    """An app that sends requests all the time, also while earlier ones are pending.

    Attributes:
        first_answer_at: the time of the first answer, by time.perf_counter.
        latencies_ms: the latencies of all answers so far.

    """

    def __init__(self, uri: str) -> None:
        self.first_answer_at: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.latencies_ms: list[float] = []
        self._client = NwcClient(uri)
        self._asking: list[asyncio.Task[None]] = []
        self._main: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Asker":
        await self._client.__aenter__()
        self._main = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: Any) -> None:
        assert self._main
        self._main.cancel()
        await self._client.__aexit__(None, None, None)
        await asyncio.gather(self._main, *self._asking, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._asking.append(asyncio.create_task(self._ask()))
            await asyncio.sleep(ASK_EVERY_S)

    async def _ask(self) -> None:
        request = self._client.prepare("get_info", {})
        begin = time.perf_counter()
        with suppress(RequestRefused):
            await self._client.ask(request)
            self.latencies_ms.append((time.perf_counter() - begin) * 1000)
            if not self.first_answer_at.done():
                self.first_answer_at.set_result(time.perf_counter())


async def when(condition: Callable[[], bool]) -> float:
    """Wait until a condition is true, and return the time, by time.perf_counter."""
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - a relay sends no events
            await asyncio.sleep(LOOK_EVERY_S)
    return time.perf_counter()


async def worst_meanwhile(
    begin: Callable[[], Awaitable[Json]], action: Callable[[], Any]
) -> tuple[float, Any]:
    """Run an action in a thread; return the worst latency of requests meanwhile (ms), and its result."""
    running = asyncio.create_task(asyncio.to_thread(action))
    worst = 0.0
    while not running.done():
        at = time.perf_counter()
        await begin()
        worst = max(worst, (time.perf_counter() - at) * 1000)
        await asyncio.sleep(ASK_EVERY_S)
    return worst, await running


def p50(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
