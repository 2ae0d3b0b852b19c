"""The output of a run: its setting, a row from time to time, the figures at the end."""

import os
import statistics
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.soak.books import Books, Trouble
from tests.bench.soak.misfortunes import Misfortune
from tests.bench.soak.reconcile import NodeBooks, unknown_outcome
from tests.bench.soak.vitals import MB, Vitals
from tests.support.app import NOTIFICATION_KINDS
from tests.support.node import missing_programs

MAX_FINDINGS = 30


@dataclass(frozen=True, slots=True)
class Rests:
    """The plugin's vitals at rest before and after the last third, and the requests in between."""

    begin: Vitals
    end: Vitals
    requests: int

    @property
    def plugin_cpu(self) -> float:
        """The part of one core that the plugin used in between."""
        return (self.end.cpu_s - self.begin.cpu_s) / (self.end.at - self.begin.at)


def print_setting(minutes: float, rate: float, connections: int, seed: int) -> None:
    """Print the node, the relays, the options and the machine, and the heading of the rows."""
    if missing := missing_programs():
        print(f"node: the TEST DOUBLE of lightningd; not on PATH: {', '.join(missing)}")
    else:
        done = subprocess.run(["lightningd", "--version"], check=True, capture_output=True, text=True)
        print(f"node: real lightningd {done.stdout.strip()} with bitcoind, regtest")
    print("relay A: rust-nostr's LocalRelay; relay B: tests.support.fast_relay")
    print(f"{minutes:g} minutes, {rate:g} requests per second, {connections} connections, --seed {seed}")
    print(f"{os.cpu_count()} CPUs, load average before: {os.getloadavg()[0]:.1f}\n")
    print(
        f"{'time':>7}{'asked':>8}{'open':>6}{'plugin: MB':>13}{'fds':>5}{'threads':>9}"
        f"{'node: MB':>11}{'fds':>5}{'relay A: MB':>14}{'relay B: MB':>14}",
        flush=True,
    )


def print_row(seconds: float, books: Books, vitals: Sequence[Vitals | None]) -> None:
    """Print the current vitals of the plugin, the node and both relays; "-" if one is down."""
    plugin, node, relay_a, relay_b = vitals
    print(
        f"{_clock(seconds):>7}{len(books.asked):>8}{len(books.open):>6}{_rss(plugin):>13}"
        f"{plugin.fds if plugin else '-':>5}{plugin.threads if plugin else '-':>9}"
        f"{_rss(node):>11}{node.fds if node else '-':>5}{_rss(relay_a):>14}{_rss(relay_b):>14}",
        flush=True,
    )


def print_trouble(seconds: float, trouble: Trouble) -> None:
    """Print a misfortune after its end."""
    lasted = trouble.ended_at - trouble.began_at
    print(f"{_clock(seconds):>7}  {trouble.misfortune}; recovered after {lasted:.1f} s", flush=True)


def print_figures(minutes: float, books: Books, node: NodeBooks, rests: Rests) -> None:
    """Print the figures of the whole run."""
    print()
    for name, value in _figures(minutes, books, node, rests).items():
        print(f"{name:36}{value}")


def print_findings(findings: Sequence[str]) -> None:
    """Print the findings, MAX_FINDINGS at most, and the verdict."""
    for finding in findings[:MAX_FINDINGS]:
        print(f"WRONG: {finding}")
    if len(findings) > MAX_FINDINGS:
        print(f"WRONG: … and {len(findings) - MAX_FINDINGS} more")
    print(f"{len(findings)} findings" if findings else "Everything is right.")


def _figures(minutes: float, books: Books, node: NodeBooks, rests: Rests) -> dict[str, str]:
    asked = books.asked.values()
    outcomes = Counter(a.answers[0].outcome for a in asked if a.answers)
    happened = Counter(trouble.misfortune for trouble in books.troubles)
    latencies = books.latencies_ms()
    notified = sum(1 for made in node.paid.values() if _is_notified(books, made["payment_hash"]))
    repeated = sum(1 for times in books.notified.values() if len(times) > 1)
    again = books.answered_again
    templates = Counter(str(template["status"]) for template in node.templates)
    return {
        "minutes": f"{minutes:g}",
        "requests": f"{len(asked)} ({', '.join(f'{n} {o}' for o, n in outcomes.most_common())})",
        **{str(misfortune): str(happened[misfortune]) for misfortune in Misfortune},
        "requests without an answer": str(len(books.unanswered)),
        "  lost with both relays": str(len(books.excused)),
        "requests answered more than once": str(len(books.doubled)),
        "  by a restarted plugin": f"{len(again)}; {len(books.replayed)} were sent again for this",
        "    with another invoice": str(len(books.contradicted)),
        "invoices": str(len(node.invoices)),
        "  without a result for the app": str(len(unknown_outcome(books, node))),
        "  paid": f"{len(node.paid)}; {notified} notified; {repeated} notifications repeated",
        "  templates for bare hashes": str(dict(templates)),
        "copies of answers and notifications": str(books.copies),
        "p50, p99 without a misfortune": _percentiles(latencies),
        "plugin at rest, before": str(rests.begin),
        "plugin at rest, after": f"{rests.end}; after {rests.requests} requests",
        "plugin's CPU": f"{rests.plugin_cpu:.1%} of a core",
    }


def _is_notified(books: Books, payment_hash: str) -> bool:
    return all((payment_hash, kind) in books.notified for kind in NOTIFICATION_KINDS)


def _percentiles(latencies_ms: list[float]) -> str:
    if len(latencies_ms) < 2:
        return "-"
    cuts = statistics.quantiles(latencies_ms, n=100)
    return f"{cuts[49]:.1f} ms, {cuts[98]:.1f} ms of {len(latencies_ms)} requests"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _rss(vitals: Vitals | None) -> str:
    return f"{vitals.rss / MB:.1f}" if vitals else "-"
