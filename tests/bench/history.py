"""The cost of list_transactions and lookup_invoice on a node with a long history.

    python -m tests.bench.history [--invoices N ...] [--rounds N]

It calls the handlers directly, over the node's RPC socket and without a relay, and bare RPC calls in
the same run. It needs lightningd and bitcoind on PATH, and measures one lightningd with 1,000 and then
10,000 invoices made by `invoice`; `--invoices 1000 10000 100000` takes some minutes more. It prints
figures without a verdict.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyln.client import LightningRpc, RpcError

from nwc.cln.node import Json, Node
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.context import Call, Handler, Wallet
from nwc.wallet.methods.list_transactions import list_transactions
from nwc.wallet.methods.lookup_invoice import lookup_invoice
from tests.support.ports import free_port
from tests.unit.in_process import make_wallet

OWN = Connection("own", "a1" * 32, ("wss://relay.example",), 0)
NODE = Connection("node", "b0" * 32, ("wss://relay.example",), 0, view=View.NODE)
PREFIX = f"nwc:{OWN.id}:"
REAL_THREADS = 16
REAL_PAID = 1500
BLOCKS = 5
START_TIMEOUT_S = 60
RELOADS = 5
CHANGES = 20
MAX_LISTED = 20_000

Action = Callable[[], Awaitable[Any]]
Figures = dict[str, float]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="tests.bench.history", description=__doc__)
    parser.add_argument(
        "--invoices", type=int, nargs="+", default=[1_000, 10_000], help="numbers of invoices"
    )
    parser.add_argument("--rounds", type=int, default=100, help="calls of each kind")
    arguments = parser.parse_args()
    sys.stdout.write(f"{os.cpu_count()} CPUs, load average before: {os.getloadavg()[0]:.1f}\n")
    measured: dict[str, Figures] = {}
    with (
        tempfile.TemporaryDirectory(prefix="nwc-bench-") as name,
        running_lightningd(Path(name) / "real") as path,
    ):
        for count, made in zip(arguments.invoices, [0, *arguments.invoices], strict=False):
            fill_lightningd(path, made, count)
            measured[f"{count:,}"] = asyncio.run(report(path, count, arguments.rounds))
    show_together(measured)


# Measuring


async def report(rpc_path: Path, count: int, rounds: int) -> Figures:
    """Measure one node, print a line for each action, and return the p50s in ms by title."""
    node = Node(str(rpc_path))
    wallet = make_wallet(node)
    begin = time.perf_counter()
    for table in ("invoices", "sendpays"):
        await node.call("sql", query=f"SELECT count(*) FROM {table}")
    cold_s = time.perf_counter() - begin
    sys.stdout.write(f"\n{count:,} invoices; first `sql` {cold_s * 1000:,.0f} ms\n")
    sys.stdout.write(f"{'':46}{'p50 ms':>9}{'p99 ms':>9}\n")
    figures: Figures = {}
    for title, action in await actions(node, wallet):
        await action()
        figures[title] = show(title, [await timed(action) for _ in range(rounds)])
    if count <= MAX_LISTED:
        show("bare listinvoices, all", [await timed(lambda: node.call("listinvoices"))])
    for view, asking in (("own", OWN), ("node", NODE)):
        changes = [
            await after_an_invoice(node, wallet, asking, f"{count}:{number}")
            for number in range(CHANGES)
        ]
        title = f"{view}, first page, after `invoice`"
        figures[title] = show(title, changes)
    title = "own, first page, after `delinvoice`"
    reloads = [await after_a_deletion(node, wallet, f"{count}:{number}") for number in range(RELOADS)]
    figures[title] = show(title, reloads)
    node.close()
    return figures


async def actions(node: Node, wallet: Wallet) -> list[tuple[str, Action]]:
    """Return the titled actions that are measured repeatedly."""
    newest = (await ask(wallet, list_transactions, OWN))["transactions"]
    middle = await ask(wallet, list_transactions, OWN, offset=500, limit=1)
    until, row = middle["transactions"][0]["created_at"], newest[-1]

    window = {"from": until - 3600, "until": until}

    def page(asking: Connection, **params: Any) -> Action:
        return lambda: ask(wallet, list_transactions, asking, **params)

    bare = (
        "SELECT label, bolt11, payment_hash FROM invoices WHERE status = 'paid' "
        "ORDER BY created_index DESC LIMIT 20"
    )
    return [
        ("bare sql, 20 paid", lambda: node.call("sql", query=bare)),
        (
            "bare sql, count of paid",
            lambda: node.call("sql", query="SELECT count(*) FROM invoices WHERE status = 'paid'"),
        ),
        (
            "bare listinvoices, one",
            lambda: node.call("listinvoices", payment_hash=row["payment_hash"]),
        ),
        ("own, first page", page(OWN)),
        ("own, first page, limit 100", page(OWN, limit=100)),
        ("own, offset 1000", page(OWN, offset=1000)),
        ("own, from and until", page(OWN, **window)),
        ("own, unpaid", page(OWN, unpaid=True)),
        ("node, first page", page(NODE)),
        ("node, first page, incoming", page(NODE, type="incoming")),
        ("node, first page, outgoing", page(NODE, type="outgoing")),
        ("node, offset 1000", page(NODE, offset=1000)),
        ("node, from and until", page(NODE, **window)),
        ("node, from and until, outgoing", page(NODE, type="outgoing", **window)),
        ("node, unpaid", page(NODE, unpaid=True)),
        (
            "lookup_invoice, own",
            lambda: ask(wallet, lookup_invoice, OWN, payment_hash=row["payment_hash"]),
        ),
        ("lookup_invoice, by invoice", lambda: ask(wallet, lookup_invoice, OWN, invoice=row["invoice"])),
    ]


async def ask(wallet: Wallet, handler: Handler, asking: Connection, **params: Any) -> Json:
    """Return a handler's result, called as the dispatcher does."""
    return await handler(wallet, Call("00" * 32, params, asking))


async def timed(action: Action) -> float:
    """Return how long an action takes, in milliseconds."""
    begin = time.perf_counter()
    await action()
    return (time.perf_counter() - begin) * 1000


async def after_an_invoice(node: Node, wallet: Wallet, asking: Connection, number: str) -> float:
    """Return the time of a page in milliseconds, just after a new invoice."""
    label = f"made:{asking.name}:{number}"
    await node.invoice(amount_msat=1, label=label, description="", expiry=60)
    return await timed(lambda: ask(wallet, list_transactions, asking))


async def after_a_deletion(node: Node, wallet: Wallet, number: str) -> float:
    """Return the time of a page in milliseconds, when a deletion makes lightningd rebuild its mirror."""
    label = f"deleted:{number}"
    await node.invoice(amount_msat=1, label=label, description="", expiry=60)
    await node.delete_invoice(label, "unpaid")
    return await timed(lambda: ask(wallet, list_transactions, OWN))


def show(title: str, latencies_ms: list[float]) -> float:
    """Print one line, and return the p50."""
    p50 = statistics.median(latencies_ms)
    p99 = sorted(latencies_ms)[min(len(latencies_ms) - 1, int(len(latencies_ms) * 0.99))]
    sys.stdout.write(f"{title:46}{p50:9.1f}{p99:9.1f}\n")
    sys.stdout.flush()
    return p50


def show_together(measured: dict[str, Figures]) -> None:
    """Print the p50s side by side."""
    sys.stdout.write(f"\n{'p50 ms, by invoices':40}{''.join(f'{name:>16}' for name in measured)}\n")
    for title in next(iter(measured.values()), {}):
        values = "".join(f"{figures[title]:16.1f}" for figures in measured.values())
        sys.stdout.write(f"{title:40}{values}\n")


# The node


def fill_lightningd(path: Path, made: int, count: int) -> None:
    """Make invoices on lightningd until there are `count`, and pay some of them."""
    begin = time.perf_counter()
    labels = [f"{PREFIX}{number:064d}" for number in range(made, count)]

    def make(label: str) -> None:
        rpc = LightningRpc(str(path))  # type: ignore[no-untyped-call]
        params = {"amount_msat": 21_000, "label": label, "description": "made in bulk"}
        bolt11 = str(rpc.call("invoice", params)["bolt11"])  # type: ignore[no-untyped-call]
        if int(label[-64:]) % max(1, len(labels) // REAL_PAID) == 0:
            # The node pays itself, which makes a paid invoice and a payment.
            rpc.call("pay", {"bolt11": bolt11})  # type: ignore[no-untyped-call]

    with ThreadPoolExecutor(REAL_THREADS) as threads:
        list(threads.map(make, labels))
    seconds = time.perf_counter() - begin
    sys.stdout.write(f"\n{len(labels):,} invoices made in {seconds:.0f} s\n")


@contextmanager
def running_lightningd(directory: Path) -> Iterator[Path]:
    """Run bitcoind and lightningd on a new regtest chain, and yield the RPC socket."""
    chain, port = directory / "bitcoind", free_port()
    chain.mkdir(parents=True)
    where = [f"-datadir={chain}", "-regtest", f"-rpcport={port}"]
    bitcoind = ["bitcoind", *where, "-listen=0", "-disablewallet", "-dnsseed=0"]
    lightningd = [
        "lightningd",
        f"--lightning-dir={directory}",
        "--network=regtest",
        "--offline",
        f"--log-file={directory / 'log'}",
        f"--bitcoin-datadir={chain}",
        f"--bitcoin-rpcport={port}",
    ]
    path = directory / "regtest" / "lightning-rpc"
    with _process(bitcoind):
        mine = ["bitcoin-cli", *where, "-rpcwait", "generatetodescriptor", str(BLOCKS), "raw(51)"]
        subprocess.run(mine, check=True, capture_output=True, timeout=START_TIMEOUT_S)
        with _process(lightningd):
            _wait_until_it_answers(path)
            yield path


@contextmanager
def _process(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(path: Path) -> None:
    rpc = LightningRpc(str(path))  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if rpc.call("getinfo")["blockheight"] >= BLOCKS:  # type: ignore[no-untyped-call]
                return
        except (OSError, RpcError, ValueError) as error:
            if time.monotonic() > deadline:
                raise TimeoutError("lightningd does not answer") from error
        time.sleep(0.1)


if __name__ == "__main__":
    main()
