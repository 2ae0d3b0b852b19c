"""What has to be true after a run, as the node itself shows it."""

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench.hostile.network import Lightningd, Network
from tests.support.channel import Json
from tests.support.waiting import wait_until

MAX_P99_MS = 1000.0
MAX_RESTART_S = 5.0
# What can be sent follows the feerate, which lightningd changes by some sat/kw.
FEERATES_MSAT = 200_000
# A payment that failed is certain to have ended then, and the payee has given up incomplete sets.
QUIET_TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Money:
    """What the payer owns in its channels.

    Attributes:
        to_us_msat: its side of all channels together.
        spendable_msat: what it can send of that.
        htlcs: how many are pending.

    """

    to_us_msat: int
    spendable_msat: int
    htlcs: int

    @classmethod
    def of(cls, node: Lightningd) -> "Money":
        """Read it of listpeerchannels."""
        channels = node.rpc.listpeerchannels()["channels"]
        return cls(
            sum(int(channel["to_us_msat"]) for channel in channels),
            sum(int(channel["spendable_msat"]) for channel in channels),
            sum(len(channel["htlcs"]) for channel in channels),
        )


def connections(node: Lightningd) -> list[Json]:
    """Return all connections as nwc-list shows them."""
    listed: list[Json] = node.rpc.call("nwc-list")["connections"]
    return listed


def wait_until_quiet(network: Network) -> None:
    """Have the payee accept everything, and wait until no payment is in flight."""
    network.payee.rpc.call("htlcs", {"mode": "accept"})

    def is_quiet() -> bool:
        budgets = [shown["budget"] for shown in connections(network.payer)]
        in_flight = any(budget.get("pending_payments") for budget in budgets)
        return not in_flight and not Money.of(network.payer).htlcs

    wait_until(is_quiet, "all payments to have ended", QUIET_TIMEOUT_S)


def sent_by_connection(node: Lightningd) -> Counter[str]:
    """Return what each connection has really sent, in msat, by its id as labels have it."""
    sent: Counter[str] = Counter()
    for part in node.rpc.call("listsendpays", {"status": "complete"})["payments"]:
        _, _, rest = str(part.get("label", "")).partition(":")
        sent[rest.partition(":")[0]] += int(part["amount_sent_msat"])
    return sent


def findings(network: Network, before: Money) -> Iterator[str]:
    """Say what of the node is not as it must be."""
    payer = network.payer
    sent = sent_by_connection(payer)
    for shown in connections(payer):
        budget, id_ = shown["budget"], shown["client_pubkey"][:16]
        if budget.get("spent_msat", 0) != sent[id_]:
            yield f"{shown['name']}: {budget['spent_msat']} msat booked, {sent[id_]} sent"
        if budget.get("reserved_msat"):
            yield f"{shown['name']}: {budget['reserved_msat']} msat are still reserved"
        granted = budget.get("granted_msat")
        if granted is not None and sent[id_] > granted:
            yield f"{shown['name']}: {sent[id_]} msat sent of a budget of {granted}"
        sent.pop(id_, None)
    if sent.total():
        yield f"payments of nobody: {dict(sent)}"
    after = Money.of(payer)
    total = sum(sent_by_connection(payer).values())
    if before.to_us_msat - after.to_us_msat != total:
        yield f"the channels have {before.to_us_msat - after.to_us_msat} msat less, {total} were sent"
    less = before.spendable_msat - after.spendable_msat
    if abs(less - total) > FEERATES_MSAT:
        yield f"{less} msat less can be sent, though {total} were sent"
    if reserved := payer.rpc.call("askrene-listreservations")["reservations"]:
        yield f"{len(reserved)} reservations are left in askrene: {reserved[0]}"
    if pending := payer.rpc.call("listsendpays", {"status": "pending"})["payments"]:
        yield f"{len(pending)} parts are still pending"


def restart_plugin(node: Lightningd, plugin: str) -> float:
    """Stop and start the plugin; return the seconds until nwc-list shows all connections published."""
    before = len(connections(node))
    node.rpc.plugin_stop(plugin)
    begun = time.monotonic()
    node.rpc.call("plugin", {"subcommand": "start", "plugin": plugin})

    def is_back() -> bool:
        shown = connections(node)
        relays = [relay for one in shown for relay in one["relays"]]
        return len(shown) == before and all(r["info_event"] == "published" for r in relays)

    wait_until(is_back, "the plugin to be back", 60)
    return time.monotonic() - begun


def percentiles(latencies_ms: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p99 and the worst."""
    if len(latencies_ms) < 2:
        worst = max(latencies_ms, default=0.0)
        return worst, worst, worst
    cuts = statistics.quantiles(latencies_ms, n=100)
    return cuts[49], cuts[98], max(latencies_ms)
