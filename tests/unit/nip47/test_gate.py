import random
from dataclasses import dataclass, field, replace

import pytest

from nwc.nip47 import gate as module
from nwc.nip47.gate import (
    MAX_BEHIND_S,
    Admitted,
    Gate,
    Rejected,
    Rejection,
)
from nwc.nip47.rate_limit import RateLimit
from nwc.nostr.event import Event, verify_event
from nwc.nostr.keys import KeyPair
from tests.unit.helpers import CLIENT, NOW, STRANGER, WALLET, request_event

MAX_AGE = 120


class Counting:
    """Replaces `verify_event`: does the same and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, event: Event) -> None:
        self.calls += 1
        verify_event(event)


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setattr(module, "verify_event", counting)
    return counting


@dataclass(frozen=True)
class Sender:
    """What the gate knows of a connection."""

    client_pubkey: str
    rate_limit: RateLimit = field(compare=False)


def make_sender(keys: KeyPair = CLIENT, per_second: float = 1, burst: float = 1000) -> Sender:
    return Sender(keys.public_key, RateLimit(per_second, burst, NOW))


SENDER = make_sender()
ADMITTED = Admitted(SENDER)


def rejected(reason: Rejection, ahead_s: int | None = None) -> Rejected[Sender]:
    """Return the verdict on an event that names a connection and its client."""
    return Rejected(reason, SENDER, ahead_s)


def make_gate(burst: float = 1000, per_second: float = 1) -> Gate[Sender]:
    sender = make_sender(per_second=per_second, burst=burst)
    return Gate({WALLET.public_key: sender}.get, MAX_AGE)


def forged(event: Event) -> Event:
    """Return the event with the signature of another event."""
    return replace(event, sig=request_event("{}").sig)


def test_an_authentic_request_is_admitted_once(verifications: Counting) -> None:
    gate, event = make_gate(), request_event()
    assert gate.check(event, NOW) == ADMITTED
    assert gate.check(event, NOW) == rejected(Rejection.SEEN)
    assert verifications.calls == 1


@pytest.mark.parametrize("before", [["p", STRANGER.public_key], ["p"], ["p", ""], ["p", "x", "y"]])
def test_any_p_tag_may_name_the_wallet(before: list[str]) -> None:
    """The order of tags has no meaning (NIP-01), and relays match the event by any of them."""
    event = request_event(recipient=STRANGER.public_key, more_tags=[before, ["p", WALLET.public_key]])
    assert make_gate().check(event, NOW) == ADMITTED
    assert make_gate().check(replace(event, sig="0" * 128), NOW) == rejected(Rejection.FORGED)


def test_of_two_wallet_keys_the_authors_is_meant() -> None:
    other, mine = make_sender(STRANGER, burst=0), make_sender(burst=1)
    gate = Gate({STRANGER.public_key: other, WALLET.public_key: mine}.get, MAX_AGE)
    event = request_event(recipient=STRANGER.public_key, more_tags=[["p", WALLET.public_key]])
    verdict = gate.check(event, NOW)
    assert verdict == ADMITTED
    assert verdict.connection is mine


JUNK = {
    "kind 1": (request_event(kind=1), Rejection.WRONG_KIND),
    "a response": (request_event(kind=23195), Rejection.WRONG_KIND),
    "no p tag": (replace(request_event(), tags=()), Rejection.FOREIGN),
    "p tag without value": (replace(request_event(), tags=(("p",),)), Rejection.FOREIGN),
    "p tag of another": (request_event(recipient=STRANGER.public_key), Rejection.FOREIGN),
    "empty p tag": (request_event(recipient=""), Rejection.FOREIGN),
    "a stranger names our key in the second p tag": (
        request_event(
            keys=STRANGER, recipient=STRANGER.public_key, more_tags=[["p", WALLET.public_key]]
        ),
        Rejection.UNKNOWN_AUTHOR,
    ),
    "a stranger": (request_event(keys=STRANGER), Rejection.UNKNOWN_AUTHOR),
    "our own key": (request_event(keys=WALLET), Rejection.UNKNOWN_AUTHOR),
    "too old": (request_event(created_at=NOW - MAX_AGE - 1), Rejection.STALE),
    "too far ahead": (request_event(created_at=NOW + MAX_AGE + 1), Rejection.STALE),
    "ages ago": (request_event(created_at=0), Rejection.STALE),
    "the end of time": (request_event(created_at=2**53 - 1), Rejection.STALE),
    "expired": (request_event(more_tags=[["expiration", str(NOW - 1)]]), Rejection.EXPIRED),
    "expired long ago": (request_event(more_tags=[["expiration", "0"]]), Rejection.EXPIRED),
}


NAMES_NO_CLIENT = {Rejection.WRONG_KIND, Rejection.FOREIGN, Rejection.UNKNOWN_AUTHOR}


@pytest.mark.parametrize(("event", "reason"), JUNK.values(), ids=JUNK)
def test_junk_is_ignored_without_checking_its_signature(
    event: Event, reason: Rejection, verifications: Counting
) -> None:
    gate = make_gate()
    gate.check(
        request_event(keys=CLIENT, created_at=NOW - MAX_AGE - 1), NOW
    )  # the one of this second whose signature is checked
    verifications.calls = 0
    sender = None if reason in NAMES_NO_CLIENT else SENDER
    assert gate.check(event, NOW) == Rejected(reason, sender)
    assert gate.check(forged(event), NOW) == Rejected(reason, sender)
    assert verifications.calls == 0


@pytest.mark.parametrize("offset", [10 - MAX_BEHIND_S, -MAX_AGE - 1, MAX_AGE + 10, 10**9])
def test_a_wrong_clock_is_noticed_once_a_second(offset: int, verifications: Counting) -> None:
    """Behind or ahead; only events with the client's valid signature count."""
    gate, event = make_gate(), request_event(created_at=NOW + offset)
    again = request_event(created_at=NOW + offset)
    assert gate.check(event, NOW) == rejected(Rejection.STALE, offset)
    assert gate.check(again, NOW + 0.9) == rejected(Rejection.STALE)
    assert verifications.calls == 1
    assert gate.check(forged(event), NOW + 2) == rejected(Rejection.STALE)
    assert verifications.calls == 2


def test_an_old_request_says_nothing_about_clocks(verifications: Counting) -> None:
    """A relay, or somebody else, may have kept it."""
    event = request_event(created_at=NOW - MAX_BEHIND_S - 1)
    assert make_gate().check(event, NOW) == rejected(Rejection.STALE)
    assert verifications.calls == 0


@pytest.mark.parametrize("offset", [-MAX_AGE, 0, MAX_AGE])
def test_a_request_is_admitted_up_to_the_maximum_age(offset: int) -> None:
    assert make_gate().check(request_event(created_at=NOW + offset), NOW) == ADMITTED


def test_the_checks_run_in_order() -> None:
    """An event with every fault is ignored for the first; after mending that, for the next."""
    gate = make_gate(burst=1)
    seen = request_event(more_tags=[["expiration", str(NOW)]], created_at=NOW)
    assert gate.check(seen, NOW) == ADMITTED
    late = NOW + MAX_AGE + 1
    faulty = replace(seen, kind=1, tags=(("p", "x"),), pubkey=STRANGER.public_key)
    reasons = []
    for change in (
        {"kind": 23194},
        {"tags": seen.tags},
        {"pubkey": seen.pubkey},
        {"id": "0" * 64},
        {"created_at": late},
    ):
        verdict = gate.check(faulty, late)
        assert isinstance(verdict, Rejected)
        reasons.append(verdict.reason)
        faulty = replace(faulty, **change)
    assert reasons == [
        Rejection.WRONG_KIND,
        Rejection.FOREIGN,
        Rejection.UNKNOWN_AUTHOR,
        Rejection.SEEN,
        Rejection.STALE,
    ]
    assert gate.check(faulty, late) == rejected(Rejection.EXPIRED)
    unexpired = replace(faulty, tags=(("p", WALLET.public_key),))
    assert gate.check(unexpired, late) == rejected(Rejection.FORGED)


@pytest.mark.parametrize("field", ["id", "sig", "content", "created_at", "tags"])
def test_a_change_of_any_field_is_a_forgery(field: str) -> None:
    event = request_event()
    change = {
        "id": "0" * 64,
        "sig": "0" * 128,
        "content": event.content + "A",
        "created_at": event.created_at + 1,
        "tags": (*event.tags, ("x", "y")),
    }[field]
    bad = replace(event, **{field: change})  # type: ignore[arg-type]
    assert make_gate().check(bad, NOW) == rejected(Rejection.FORGED)


def test_a_forged_copy_does_not_shut_out_the_real_one() -> None:
    gate, event = make_gate(), request_event()
    assert gate.check(forged(event), NOW) == rejected(Rejection.FORGED)
    assert gate.check(event, NOW) == ADMITTED


def test_forgeries_cost_the_client_nothing() -> None:
    gate = make_gate(burst=2, per_second=0.001)
    for number in range(50):
        assert gate.check(forged(request_event(created_at=NOW + number)), NOW) == rejected(
            Rejection.FORGED
        )
    assert gate.check(request_event(created_at=NOW + 1), NOW) == ADMITTED
    assert gate.check(request_event(created_at=NOW + 2), NOW) == ADMITTED


def test_requests_over_the_limit_are_answered_up_to_ten_times_the_limit(verifications: Counting) -> None:
    gate = make_gate(burst=1, per_second=1)
    requests = [request_event(created_at=NOW + number) for number in range(14)]
    verdicts = [gate.check(request, NOW) for request in requests[:13]]
    assert verdicts[0] == ADMITTED
    assert verdicts[1:11] == [Admitted(SENDER, rate_limited=True)] * 10
    assert verdicts[11:] == [rejected(Rejection.RATE_LIMITED)] * 2
    assert verifications.calls == 11  # not for ignored requests
    assert gate.check(requests[1], NOW) == rejected(Rejection.SEEN)
    assert gate.check(requests[12], NOW + 0.2) == Admitted(SENDER, rate_limited=True)
    assert gate.check(requests[13], NOW + 1) == ADMITTED


def test_a_forgery_does_not_use_up_a_rate_limited_answer() -> None:
    gate = make_gate(burst=1, per_second=0.001)
    gate.check(request_event(), NOW)
    assert gate.check(forged(request_event(created_at=NOW + 1)), NOW) == rejected(Rejection.FORGED)
    assert gate.check(request_event(created_at=NOW + 2), NOW) == Admitted(SENDER, rate_limited=True)


def test_a_flood_of_forgeries_changes_no_verdict_on_real_requests() -> None:
    """The same requests get the same verdicts with and without forgeries."""
    chance = random.Random(1)
    requests = [request_event(created_at=NOW + number) for number in range(30)]
    quiet, flooded = make_gate(burst=5), make_gate(burst=5)
    for number, event in enumerate(requests):
        now = NOW + number / 10
        for _ in range(chance.randrange(4)):
            flooded.check(forged(chance.choice(requests)), now)
        assert flooded.check(event, now) == quiet.check(event, now)


def test_a_request_with_a_malformed_expiration_is_admitted() -> None:
    """Its author gets an error (test_request.py)."""
    assert make_gate().check(request_event(more_tags=[["expiration", "x"]]), NOW) == ADMITTED
