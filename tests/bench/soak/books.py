"""The clients' books: requests, answers, notifications and misfortunes. No I/O.

The id of its event identifies an answer: the same event over two relays, or to two clients of a
connection, is one answer. `findings` yields everything that is wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.bench.soak.misfortunes import RESTARTS_PLUGIN, Misfortune
from tests.support.app import App
from tests.support.channel import Json

OK = "ok"
INTERNAL = "INTERNAL"
# Relays that die later than this after a request cannot have lost its answer.
MAX_DELIVERY_S = 20.0
# The fields that are the same in all answers to a request, whether or not its invoice is paid meanwhile.
CONSTANT_FIELDS = (
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
    """A request to send, and its expected outcome.

    Attributes:
        method: the NIP-47 method.
        params: its parameters.
        outcome: `ok` or an error code.
        encryption: the scheme.
        alone: False for a request of a burst.

    """

    method: str
    params: Json
    outcome: str
    encryption: str
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Answered:
    """One distinct answer: its time (Unix seconds), its outcome, and the result of a make_invoice."""

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
        """The results of make_invoice in its answers."""
        return [answer.result for answer in self.answers if answer.result is not None]

    @property
    def connection_id(self) -> str:
        """The connection's id, as in labels."""
        return str(self.app.pubkey[:16])

    def __str__(self) -> str:
        return f"{self.wanted.method} {self.event['id'][:8]}"


@dataclass(slots=True)
class Trouble:
    """A misfortune that has happened, from just before it until everything was connected again."""

    misfortune: Misfortune
    began_at: float
    ended_at: float = float("inf")


@dataclass(slots=True)
class Books:
    """Everything that the clients know.

    Attributes:
        asked: the requests, by event id.
        open: event ids of pending requests.
        notified: the times of distinct notifications of a payment, by payment hash and kind.
        troubles: the misfortunes, in order.
        wrong: errors that were found during the run.
        copies: number of events that had come before, over another relay or to another client.
        replayed: event ids of answered requests that were sent again after a restart.
        cut_payments: number of payments with an unknown end, because the node stopped.
        events: ids of all received events.

    """

    asked: dict[str, Asked] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    notified: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    copies: int = 0
    replayed: set[str] = field(default_factory=set)
    cut_payments: int = 0
    events: set[str] = field(default_factory=set)

    @property
    def is_calm(self) -> bool:
        """True if there is no misfortune now."""
        return not self.troubles or self.troubles[-1].ended_at != float("inf")

    def is_new(self, event_id: str) -> bool:
        """Record an event, and return True if it is the first copy."""
        if event_id in self.events:
            self.copies += 1
            return False
        self.events.add(event_id)
        return True

    def during(self, begin: float, end: float, *misfortunes: Misfortune) -> list[Trouble]:
        """Return the troubles of these sorts that overlap with a period."""
        return [
            trouble
            for trouble in self.troubles
            if trouble.misfortune in misfortunes
            and trouble.began_at <= end
            and trouble.ended_at >= begin
        ]

    def is_excused(self, asked: Asked) -> bool:
        """Return True if a request's answer may have been lost with both relays."""
        return any(
            asked.sent_at - 1 <= trouble.began_at <= asked.sent_at + MAX_DELIVERY_S
            for trouble in self.troubles
            if trouble.misfortune is Misfortune.BOTH_RELAYS
        )

    @property
    def excused(self) -> list[Asked]:
        """The requests without an answer that are not the plugin's fault."""
        return [a for a in self.asked.values() if not a.answers and self.is_excused(a)]

    @property
    def unanswered(self) -> list[Asked]:
        """The requests without an answer that should have one."""
        return [a for a in self.asked.values() if not a.answers and not self.is_excused(a)]

    @property
    def answered_again(self) -> list[Asked]:
        """The requests with more than one answer, as after a restart of the plugin."""
        return [asked for asked in self.asked.values() if len(asked.answers) > 1]

    @property
    def doubled(self) -> list[Asked]:
        """The requests with more answers than restarts of the plugin can explain."""
        return [a for a in self.answered_again if len(a.answers) > 1 + self._restarts(a)]

    @property
    def contradicted(self) -> list[Asked]:
        """The requests whose answers have different invoices."""
        return [asked for asked in self.answered_again if not _are_the_same(asked)]

    def _restarts(self, asked: Asked) -> int:
        last = max(answer.at for answer in asked.answers)
        return len(self.during(asked.sent_at, last, *RESTARTS_PLUGIN))

    def latencies_ms(self) -> list[float]:
        """Return the latencies of first answers without a misfortune meanwhile."""
        return [
            (asked.answers[0].at - asked.sent_at) * 1000
            for asked in self.asked.values()
            if asked.wanted.alone
            and asked.answers
            and not self.during(asked.sent_at, asked.answers[0].at, *Misfortune)
        ]

    def findings(self) -> Iterator[str]:
        """Yield everything that is wrong."""
        yield from self.wrong
        for asked in self.unanswered:
            yield f"{asked}: no answer to the request of {asked.sent_at:.1f}"
        for asked in self.doubled:
            yield f"{asked}: {len(asked.answers)} answers"
        for asked in self.contradicted:
            yield f"{asked}: different invoices: {[r['payment_hash'] for r in asked.results]}"
        for asked in self.asked.values():
            for answer in asked.answers:
                if not self._is_right(asked, answer):
                    yield f"{asked}: {answer.outcome} instead of {asked.wanted.outcome}"
        if self.replayed and not self.answered_again:
            yield "no request that was sent again after a restart was answered again"

    def _is_right(self, asked: Asked, answer: Answered) -> bool:
        """Return True if the outcome is the expected one, or an error while the node restarts."""
        if answer.outcome == asked.wanted.outcome:
            return True
        refused = answer.outcome == INTERNAL
        return refused and bool(self.during(asked.sent_at, answer.at, Misfortune.NODE))


def _are_the_same(asked: Asked) -> bool:
    # The payment of an invoice for any amount sets its amount.
    changing = {"amount"} if asked.wanted.params.get("amount") == 0 else set()
    names = [name for name in CONSTANT_FIELDS if name not in changing]
    constant = [{name: result.get(name) for name in names} for result in asked.results]
    return all(fields == constant[0] for fields in constant)
