"""Steady load: a random mixture of requests, and payments of some of the invoices."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from pyln.client import RpcError

from tests.bench.soak.books import OK, Books, Wanted
from tests.bench.soak.clients import Client
from tests.support.channel import Json
from tests.support.node import Node, RegtestNode

MAX_AMOUNT_MSAT = 100_000_000
PAID_OF_ALL = 0.15
# Now and then, as when apps wake up together, so many requests are sent at once.
BURST = 48
BURSTS_OF_ALL = 0.002

WEIGHTS = {
    "make_invoice": 60,
    "lookup_invoice": 12,
    "get_info": 8,
    "get_balance": 6,
    "list_transactions": 5,
    "bad": 9,
}

# Invalid requests, and the error that each must get.
BAD: tuple[tuple[str, Json, str], ...] = (
    ("make_invoice", {"amount": -1}, "OTHER"),
    ("make_invoice", {"amount": "1000"}, "OTHER"),
    ("make_invoice", {"amount": 1000, "expiry": 2**60}, "OTHER"),
    ("make_invoice", {"amount": 1000, "description_hash": "zz"}, "OTHER"),
    ("make_invoice", {"description": "no amount"}, "OTHER"),
    ("lookup_invoice", {"payment_hash": "00" * 32}, "NOT_FOUND"),
    ("pay_invoice", {"invoice": "lnbcrt1"}, "RESTRICTED"),
    ("mine_block", {}, "NOT_IMPLEMENTED"),
)


def invoice_params(rng: random.Random) -> Json:
    """Return random parameters for make_invoice."""
    amount = 0 if rng.random() < 0.05 else rng.randint(1, MAX_AMOUNT_MSAT)
    short = {"description": "An order of bread and cheese"}
    long = {"description": "Every word of a long contract. " * rng.randint(25, 60)}
    bare_hash = {"description_hash": rng.randbytes(32).hex()}
    metadata = {"metadata": {"order": rng.randint(1, 10**9), "note": "ünïcode"}}
    kinds: tuple[Json, ...] = (
        {},
        short,
        long,
        bare_hash,
        {**short, **bare_hash},
        {**short, **metadata},
        {**long, **bare_hash, **metadata},
    )
    return {"amount": amount, **rng.choice(kinds)}


def any_request(rng: random.Random, client: Client, *, alone: bool) -> Wanted:
    """Return a random request of a client, with its expected outcome."""
    [sort] = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
    method, outcome = sort, OK
    params: Json = {}
    match sort:
        case "bad":
            method, params, outcome = rng.choice(BAD)
        case "lookup_invoice" if client.payment_hashes:
            params = {"payment_hash": rng.choice(client.payment_hashes)}
        case "list_transactions":
            params = {"limit": rng.randint(1, 20)}
        case "make_invoice" | "lookup_invoice":
            method, params = "make_invoice", invoice_params(rng)
    return Wanted(method, params, outcome, client.encryption, alone)


class Load:
    """Sends requests and pays invoices at random times, until it is cancelled."""

    def __init__(self, rng: random.Random, node: Node, books: Books, rate: float) -> None:
        self.clients: Sequence[Client] = ()
        self._rng = rng
        self._node = node
        self._books = books
        self._rate = rate
        self._is_running = asyncio.Event()
        self._paying: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send `rate` requests per second on average, while not paused."""
        while True:
            await self._is_running.wait()
            await asyncio.sleep(self._rng.expovariate(self._rate))
            if self._is_running.is_set():
                self.ask(BURST if self._rng.random() < BURSTS_OF_ALL else 1)

    def resume(self) -> None:
        """Start or resume the requests."""
        self._is_running.set()

    async def pause(self) -> None:
        """Stop the requests, and wait until none is pending; the age limit of requests bounds that."""
        self._is_running.clear()
        while self._books.open or self._paying:  # noqa: ASYNC110 - two things, both bounded
            await asyncio.sleep(0.1)

    def ask(self, count: int) -> None:
        """Send `count` requests at once."""
        for _ in range(count):
            client = self._rng.choice(self.clients)
            client.ask(any_request(self._rng, client, alone=count == 1))

    def on_invoice(self, made: Json) -> None:
        """Pay some of the invoices, after a random delay."""
        if self._rng.random() < PAID_OF_ALL:
            task = asyncio.create_task(self._pay(made, self._rng.uniform(0, 3)))
            self._paying.add(task)
            task.add_done_callback(self._on_payment_end)

    def _on_payment_end(self, task: "asyncio.Task[None]") -> None:
        self._paying.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._books.wrong.append(f"payment failed: {error!r}")

    async def _pay(self, made: Json, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        amount = {} if made["amount"] else {"amount_msat": 21_000}
        try:
            await asyncio.to_thread(pay, self._node, made["invoice"], amount)
        except (RpcError, OSError, ValueError):
            if self._books.is_calm:
                raise
            self._books.cut_payments += 1


def pay(node: Node, invoice: str, amount: dict[str, Any]) -> None:
    """Pay an invoice of the node: lightningd pays itself, which needs no channel."""
    if isinstance(node, RegtestNode):
        node.rpc.call("xpay", {"invstring": invoice, **amount})
    else:
        node.rpc.call("dev-pay", {"bolt11": invoice, **amount})
