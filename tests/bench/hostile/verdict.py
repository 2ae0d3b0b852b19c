"""The checks after a run, of the state that the node shows."""

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
# The spendable amount depends on the feerate, which lightningd changes by some sat/kw.
FEERATES_MSAT = 200_000
# By then, failed payments have certainly ended, and the payee has failed incomplete sets of parts.
QUIET_TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Money:
    """The payer's money in its channels.

    Attributes:
        to_us_msat: the sum of its sides of the channels.
        spendable_msat: the part of it that can be sent.
        htlcs: the number of pending HTLCs.

    """

    to_us_msat: int
    spendable_msat: int
    htlcs: int

    @classmethod
    def of(cls, node: Lightningd) -> "Money":
        """Return the figures of listpeerchannels."""
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
    """Make the payee accept everything, and wait until no payment is in flight.

    Raises:
        TimeoutError: some still are after QUIET_TIMEOUT_S seconds.

    """
    network.payee.rpc.call("htlcs", {"mode": "accept"})

    def is_quiet() -> bool:
        budgets = [shown["budget"] for shown in connections(network.payer)]
        in_flight = any(budget.get("pending_payments") for budget in budgets)
        return not in_flight and not Money.of(network.payer).htlcs

    wait_until(is_quiet, "the end of all payments", QUIET_TIMEOUT_S)


def sent_by_connection(node: Lightningd) -> Counter[str]:
    """Return what each connection has sent according to the node, in msat, by its id in labels."""
    sent: Counter[str] = Counter()
    for part in node.rpc.call("listsendpays", {"status": "complete"})["payments"]:
        _, _, rest = str(part.get("label", "")).partition(":")
        sent[rest.partition(":")[0]] += int(part["amount_sent_msat"])
    return sent


def findings(network: Network, before: Money) -> Iterator[str]:
    """Yield everything that is wrong on the node."""
    payer = network.payer
    sent = sent_by_connection(payer)
    for shown in connections(payer):
        budget, id_ = shown["budget"], shown["client_pubkey"][:16]
        if budget.get("spent_msat", 0) != sent[id_]:
            yield f"{shown['name']}: {budget['spent_msat']} msat in the ledger, but {sent[id_]} sent"
        if budget.get("reserved_msat"):
            yield f"{shown['name']}: {budget['reserved_msat']} msat still reserved"
        granted = budget.get("granted_msat")
        if granted is not None and sent[id_] > granted:
            yield f"{shown['name']}: {sent[id_]} msat sent of a budget of {granted}"
        sent.pop(id_, None)
    if sent.total():
        yield f"payments without a connection: {dict(sent)}"
    after = Money.of(payer)
    total = sum(sent_by_connection(payer).values())
    if before.to_us_msat - after.to_us_msat != total:
        yield f"the channels lost {before.to_us_msat - after.to_us_msat} msat, but {total} were sent"
    less = before.spendable_msat - after.spendable_msat
    if abs(less - total) > FEERATES_MSAT:
        yield f"the spendable amount fell by {less} msat, but {total} were sent"
    if reserved := payer.rpc.call("askrene-listreservations")["reservations"]:
        yield f"{len(reserved)} reservations left in askrene, such as {reserved[0]}"
    if pending := payer.rpc.call("listsendpays", {"status": "pending"})["payments"]:
        yield f"{len(pending)} parts still pending"


def restart_plugin(node: Lightningd, plugin: str) -> float:
    """Restart the plugin, and return the seconds until nwc-list shows all info events as published."""
    before = len(connections(node))
    node.rpc.plugin_stop(plugin)
    begun = time.monotonic()
    node.rpc.call("plugin", {"subcommand": "start", "plugin": plugin})

    def is_ready() -> bool:
        shown = connections(node)
        relays = [relay for one in shown for relay in one["relays"]]
        return len(shown) == before and all(r["info_event"] == "published" for r in relays)

    wait_until(is_ready, "the plugin to publish all info events", 60)
    return time.monotonic() - begun


def percentiles(latencies_ms: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p99 and the maximum."""
    if len(latencies_ms) < 2:
        worst = max(latencies_ms, default=0.0)
        return worst, worst, worst
    cuts = statistics.quantiles(latencies_ms, n=100)
    return cuts[49], cuts[98], max(latencies_ms)
