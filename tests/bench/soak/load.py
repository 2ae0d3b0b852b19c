"""Steady load: a mix of requests from a seed, and payments of some of the invoices."""

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
# Apps that wake up together: now and then so many requests come at once.
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

# Requests that are wrong in themselves, and the error each has to get.
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
    """Return parameters for an invoice of some kind."""
    amount = 0 if rng.random() < 0.05 else rng.randint(1, MAX_AMOUNT_MSAT)
    words = {"description": "An order of bread and cheese"}
    long_words = {"description": "Every word of a long contract. " * rng.randint(25, 60)}
    bare_hash = {"description_hash": rng.randbytes(32).hex()}
    metadata = {"metadata": {"order": rng.randint(1, 10**9), "note": "ünïcode"}}
    kinds: tuple[Json, ...] = (
        {},
        words,
        long_words,
        bare_hash,
        {**words, **bare_hash},
        {**words, **metadata},
        {**long_words, **bare_hash, **metadata},
    )
    return {"amount": amount, **rng.choice(kinds)}


def any_request(rng: random.Random, client: Client, *, alone: bool) -> Wanted:
    """Return a request of any sort, fit for a client."""
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
    """Asks and pays at random moments, until it is cancelled."""

    def __init__(self, rng: random.Random, node: Node, books: Books, rate: float) -> None:
        self.clients: Sequence[Client] = ()
        self._rng = rng
        self._node = node
        self._books = books
        self._rate = rate
        self._goes_on = asyncio.Event()
        self._paying: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Ask, on average `rate` times a second, while it is not paused."""
        while True:
            await self._goes_on.wait()
            await asyncio.sleep(self._rng.expovariate(self._rate))
            if self._goes_on.is_set():
                self.ask(BURST if self._rng.random() < BURSTS_OF_ALL else 1)

    def resume(self) -> None:
        """Begin, or go on."""
        self._goes_on.set()

    async def pause(self) -> None:
        """Ask no more, and wait until nothing is under way; that is bounded by the age of requests."""
        self._goes_on.clear()
        while self._books.open or self._paying:  # noqa: ASYNC110 - two things, both bounded
            await asyncio.sleep(0.1)

    def ask(self, count: int) -> None:
        """Ask so many things at once."""
        for _ in range(count):
            client = self._rng.choice(self.clients)
            client.ask(any_request(self._rng, client, alone=count == 1))

    def on_invoice(self, made: Json) -> None:
        """Have some of the invoices paid, a little later."""
        if self._rng.random() < PAID_OF_ALL:
            task = asyncio.create_task(self._pay(made, self._rng.uniform(0, 3)))
            self._paying.add(task)
            task.add_done_callback(self._paid)

    def _paid(self, task: "asyncio.Task[None]") -> None:
        self._paying.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._books.wrong.append(f"paying: {error!r}")

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
    """Have an invoice of the node paid: by itself on a real one, which needs no channel."""
    if isinstance(node, RegtestNode):
        node.rpc.call("xpay", {"invstring": invoice, **amount})
    else:
        node.rpc.call("dev-pay", {"bolt11": invoice, **amount})
