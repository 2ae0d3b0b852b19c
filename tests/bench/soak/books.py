"""What was asked, what was answered and told, and which misfortunes there were. No I/O.

A request's answers are told apart by the ids of their events: the same event over two relays, or to two
clients of a connection, is one answer. `findings` says what was not as it must be.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.bench.soak.misfortunes import RESTARTS_PLUGIN, Misfortune
from tests.support.app import App
from tests.support.channel import Json

OK = "ok"
INTERNAL = "INTERNAL"
# What comes later than this after its request was not swallowed by relays that died then.
UNDER_WAY_S = 20.0
# Of one request, these stay as they are, whether or not its invoice is paid in between.
LASTING = (
    "invoice",
    "payment_hash",
    "amount",
    "description",
    "description_hash",
    "created_at",
    "metadata",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request to make, and what has to be the answer.

    Attributes:
        method: NIP-47 method.
        params: its parameters.
        outcome: `ok` or an error code.
        encryption: the scheme.
        alone: it comes by itself, not in a burst.

    """

    method: str
    params: Json
    outcome: str
    encryption: str
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Answered:
    """One distinct answer: when it came, its outcome, and the result of a make_invoice."""

    at: float
    outcome: str
    result: Json | None


@dataclass(slots=True)
class Asked:
    """A request that was sent."""

    app: App
    event: Json
    wanted: Wanted
    sent_at: float
    last_sent_at: float
    answers: list[Answered] = field(default_factory=list)

    @property
    def results(self) -> list[Json]:
        """The results of make_invoice it was answered with."""
        return [answer.result for answer in self.answers if answer.result is not None]

    @property
    def connection_id(self) -> str:
        """As it is in labels."""
        return str(self.app.pubkey[:16])

    def __str__(self) -> str:
        return f"{self.wanted.method} {self.event['id'][:8]}"


@dataclass(slots=True)
class Trouble:
    """A misfortune: from before it happened until everything was connected again."""

    misfortune: Misfortune
    began_at: float
    ended_at: float = float("inf")


@dataclass(slots=True)
class Books:
    """Everything that is known from the clients' side.

    Attributes:
        asked: by event id.
        open: ids of those that wait for an answer.
        told: notifications of a payment, by payment hash and kind: when each distinct one came.
        troubles: in their order.
        wrong: what was seen to be wrong when it came.
        copies: events that had come before, over another relay or to another client.
        replayed: ids of answered requests that were sent again after a restart.
        cut_payments: payments whose end was not seen, since the node stopped.

    """

    asked: dict[str, Asked] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    told: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    copies: int = 0
    replayed: set[str] = field(default_factory=set)
    cut_payments: int = 0
    events: set[str] = field(default_factory=set)

    @property
    def is_calm(self) -> bool:
        """Tell that no misfortune goes on."""
        return not self.troubles or self.troubles[-1].ended_at != float("inf")

    def is_new(self, event_id: str) -> bool:
        """Note that an event has come; tells whether it is the first copy."""
        if event_id in self.events:
            self.copies += 1
            return False
        self.events.add(event_id)
        return True

    def during(self, begin: float, end: float, *misfortunes: Misfortune) -> list[Trouble]:
        """Return the troubles of these sorts that went on at some time in between."""
        return [
            trouble
            for trouble in self.troubles
            if trouble.misfortune in misfortunes
            and trouble.began_at <= end
            and trouble.ended_at >= begin
        ]

    def is_excused(self, asked: Asked) -> bool:
        """Tell whether a request's answer may have died with both relays."""
        return any(
            asked.sent_at - 1 <= trouble.began_at <= asked.sent_at + UNDER_WAY_S
            for trouble in self.troubles
            if trouble.misfortune is Misfortune.BOTH_RELAYS
        )

    @property
    def excused(self) -> list[Asked]:
        """Those without an answer that cannot be blamed on the plugin."""
        return [a for a in self.asked.values() if not a.answers and self.is_excused(a)]

    @property
    def unanswered(self) -> list[Asked]:
        """Those without an answer that should have one."""
        return [a for a in self.asked.values() if not a.answers and not self.is_excused(a)]

    @property
    def answered_again(self) -> list[Asked]:
        """Those that a plugin answered once more after a restart."""
        return [asked for asked in self.asked.values() if len(asked.answers) > 1]

    @property
    def doubled(self) -> list[Asked]:
        """Those with more answers than a plugin's lives can explain."""
        return [a for a in self.answered_again if len(a.answers) > 1 + self._lives_between(a)]

    @property
    def contradicted(self) -> list[Asked]:
        """Those whose answers name different invoices."""
        return [asked for asked in self.answered_again if not _are_the_same(asked)]

    def _lives_between(self, asked: Asked) -> int:
        last = max(answer.at for answer in asked.answers)
        return len(self.during(asked.sent_at, last, *RESTARTS_PLUGIN))

    def latencies_ms(self) -> list[float]:
        """Return how long the first answer took, where all was well in the meantime."""
        return [
            (asked.answers[0].at - asked.sent_at) * 1000
            for asked in self.asked.values()
            if asked.wanted.alone
            and asked.answers
            and not self.during(asked.sent_at, asked.answers[0].at, *Misfortune)
        ]

    def findings(self) -> Iterator[str]:
        """Say what is not as it must be."""
        yield from self.wrong
        for asked in self.unanswered:
            yield f"{asked}: no answer, sent at {asked.sent_at:.1f}"
        for asked in self.doubled:
            yield f"{asked}: {len(asked.answers)} answers"
        for asked in self.contradicted:
            yield f"{asked}: different invoices: {[r['payment_hash'] for r in asked.results]}"
        for asked in self.asked.values():
            for answer in asked.answers:
                if not self._is_right(asked, answer):
                    yield f"{asked}: {answer.outcome} instead of {asked.wanted.outcome}"
        if self.replayed and not self.answered_again:
            yield "none of the requests sent again after a restart was answered again"

    def _is_right(self, asked: Asked, answer: Answered) -> bool:
        """A node that stops or starts may refuse what it is asked then, and only then."""
        if answer.outcome == asked.wanted.outcome:
            return True
        refused = answer.outcome == INTERNAL
        return refused and bool(self.during(asked.sent_at, answer.at, Misfortune.NODE))


def _are_the_same(asked: Asked) -> bool:
    # The amount of an invoice for any amount is what it was paid with, once it is.
    changing = {"amount"} if asked.wanted.params.get("amount") == 0 else set()
    lasting = [{name: r.get(name) for name in LASTING if name not in changing} for r in asked.results]
    return all(fields == lasting[0] for fields in lasting)
