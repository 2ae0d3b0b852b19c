"""The apps of a run: a hostile one, one that makes invoices, one that pays small ones."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.bench.hostile.attacks import Attacks, Request
from tests.support.client import NwcClient, RequestRefused

# A payment has certainly ended by then, also a failed one.
ANSWER_TIMEOUT_S = 180
# Of the hostile app's requests without an answer; its relay has to keep them.
MAX_PENDING = 400
RECEIVE_EVERY_S, PAY_EVERY_S = 1.0, 5.0
PAID_MSAT = 10_000


@dataclass
class Record:
    """The outcomes of an app's requests.

    Attributes:
        outcomes: how often each method had each outcome: `ok`, an error code, or `no answer`.
        latencies_ms: the latencies of the answers, by method.
        failures: the failed requests of an honest app.

    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """The number of requests that have ended."""
        return self.outcomes.total()


async def ask(client: NwcClient, record: Record, request: Request) -> str:
    """Send a request, record its outcome and return it."""
    method, params = request
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer = await client.ask(client.prepare(method, params))
        record.latencies_ms.setdefault(method, []).append((time.perf_counter() - begun) * 1000)
        client.open(answer)
        outcome = "ok"
    except TimeoutError:
        outcome = "no answer"
    except RequestRefused as error:
        outcome = str(error).partition(":")[0]
    record.outcomes[method, outcome] += 1
    return outcome


async def attack(client: NwcClient, record: Record, attacks: Attacks, rng: random.Random) -> None:
    """Send bursts of requests forever, without waiting for their answers."""
    pending: set[asyncio.Task[str]] = set()
    for burst in attacks:
        # The next burst makes invoices by blocking calls, so the other tasks run first.
        await asyncio.sleep(rng.choice((0.01, 0.1, 0.2, 0.5)))
        for request in burst:
            if len(pending) < MAX_PENDING:
                pending.add(task := asyncio.create_task(ask(client, record, request)))
                task.add_done_callback(pending.discard)


async def receive(client: NwcClient, record: Record) -> None:
    """Request an invoice and the balance, forever."""
    while True:
        for request in (("make_invoice", {"amount": 21_000, "description": "tea"}), ("get_balance", {})):
            await _expect_success(client, record, request)
        await asyncio.sleep(RECEIVE_EVERY_S)


async def pay(client: NwcClient, record: Record, invoice: Callable[[int], str]) -> None:
    """Pay small invoices of an honest payee, forever."""
    while True:
        made = await asyncio.to_thread(invoice, PAID_MSAT)
        await _expect_success(client, record, ("pay_invoice", {"invoice": made}))
        await asyncio.sleep(PAY_EVERY_S)


async def _expect_success(client: NwcClient, record: Record, request: Request) -> None:
    at = time.time()
    outcome = await ask(client, record, request)
    if outcome != "ok":
        record.failures.append(f"{request[0]} of an honest app at {at:.1f}: {outcome}")


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
