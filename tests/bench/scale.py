"""What connections.py and relays.py share: connections made in bulk, what a relay saw, asking all the
time and waiting.
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
CHECK_EVERY_S = 0.05
SETTLE_TIMEOUT_S = 300


async def make_connections(rpc_path: str, names: Sequence[str], relays: tuple[str, ...]) -> list[str]:
    """Write the records of connections that have each received a payment, as the plugin writes them.

    It serves them from its next start on.

    Returns:
        Their URIs.

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


def ask_relay(url: str, what: str) -> str:
    """Ask the fast relay for `/traffic`, or to `/cut` all its connections."""
    with urllib.request.urlopen(f"http{url.removeprefix('ws')}{what}") as answer:
        return str(answer.read().decode())


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the fast relay has seen so far; see there."""

    subscriptions: int
    recipients: int
    frames: dict[str, int]
    characters: dict[str, int]
    longest: dict[str, int]
    kinds: dict[str, int]

    @classmethod
    def of(cls, url: str) -> "Traffic":
        """Ask the relay."""
        return cls(**json.loads(ask_relay(url, "/traffic")))

    def since(self, before: "Traffic") -> dict[str, tuple[int, int]]:
        """Return frames and characters since then, by type."""
        return {
            name: (
                count - before.frames.get(name, 0),
                self.characters[name] - before.characters.get(name, 0),
            )
            for name, count in self.frames.items()
            if count > before.frames.get(name, 0)
        }


class Asker:
    """An app that asks again and again, whether it is answered or not.

    Attributes:
        first_answer_at: when there was one.
        latencies_ms: of all answers so far.

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
    """Wait until something is so, and return the time of it."""
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - a relay announces nothing
            await asyncio.sleep(CHECK_EVERY_S)
    return time.perf_counter()


async def worst_meanwhile(
    begin: Callable[[], Awaitable[Json]], action: Callable[[], Any]
) -> tuple[float, Any]:
    """Do something in a thread, and return the longest that requests took meanwhile, in ms."""
    doing = asyncio.create_task(asyncio.to_thread(action))
    worst = 0.0
    while not doing.done():
        at = time.perf_counter()
        await begin()
        worst = max(worst, (time.perf_counter() - at) * 1000)
        await asyncio.sleep(ASK_EVERY_S)
    return worst, await doing


def p50(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
