"""RelaySession as a state machine: frames in, frames out, and the time as an argument."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nwc.nostr import session as module
from nwc.nostr.auth import (
    ANSWER_TIMEOUT_S,
    KIND_CLIENT_AUTH,
    NEXT_ROUND_FIRST_S,
    NEXT_ROUND_MAX_S,
    PROMPT_ROUNDS,
    SIGN_BATCH,
)
from nwc.nostr.event import Event, parse_event, sign_event, verify_event
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import MessageError, NoticeReceived
from nwc.nostr.session import (
    CLOCK_ERROR_S,
    CLOCK_STEP_S,
    RESUBSCRIBE_FIRST_S,
    RESUBSCRIBE_MAX_S,
    UNANSWERED_FIRST_S,
    UNANSWERED_MAX_S,
    Published,
    RelaySession,
)
from nwc.nostr.subscriptions import Recipient
from tests.unit.helpers import as_json

URL = "wss://relay.example"
MAX_AGE = 120
REACH_S = MAX_AGE + CLOCK_ERROR_S
# Seconds of the monotonic clock, and Unix time.
T = 5000.0
UNIX = 1_750_000_000.0
KEYS = [KeyPair.from_secret(number.to_bytes(32, "big")) for number in range(1, 251)]
RECIPIENTS = [Recipient(keys, "a" * 64) for keys in KEYS]
EVENTS = [
    sign_event(KEYS[0], kind=1, content=f"event {number}", tags=[], created_at=1) for number in range(8)
]
AUTH_REQUIRED = "auth-required: who are you?"

Frame = list[Any]


def frames(session: RelaySession, unix_now: float = UNIX) -> list[Frame]:
    sent: list[str] = []
    while session.has_data_to_send:
        sent += session.data_to_send(unix_now)
    return [json.loads(frame) for frame in sent]


def of_type(kind: str, sent: list[Frame]) -> list[Frame]:
    return [frame for frame in sent if frame[0] == kind]


def event_ids(sent: list[Frame]) -> list[str]:
    return [frame[1]["id"] for frame in of_type("EVENT", sent)]


def receive(
    session: RelaySession, *message: Any, now: float = T
) -> Event | Published | NoticeReceived | None:
    return session.receive(json.dumps(message), now)


def make_session(*, recipients: int = 0, connected: bool = True) -> RelaySession:
    """Return a session that has nothing to send."""
    session = RelaySession(URL, kinds=(23194,), max_age=MAX_AGE)
    for recipient in RECIPIENTS[:recipients]:
        session.subscribe(recipient, T)
    if connected:
        session.connected(T)
    session.data_to_send(UNIX)
    return session


def authenticate(session: RelaySession, *verdicts: bool) -> list[Frame]:
    """Send a challenge, accept or refuse each AUTH in turn, and return the frames sent after that."""
    receive(session, "AUTH", "challenge")
    asked = of_type("AUTH", frames(session))
    assert len(asked) == len(verdicts)
    for frame, accepted in zip(asked, verdicts, strict=True):
        receive(session, "OK", frame[1]["id"], accepted, "")
    return frames(session)


# Subscriptions


def test_a_subscription_names_recipients_authors_kinds_and_since() -> None:
    session = make_session()
    session.subscribe(RECIPIENTS[0], T)
    [[kind, subscription_id, filter_]] = frames(session, UNIX + 0.9)
    assert kind == "REQ"
    assert isinstance(subscription_id, str)
    assert filter_ == {
        "kinds": [23194],
        "#p": [KEYS[0].public_key],
        "authors": ["a" * 64],
        "since": int(UNIX) - REACH_S,
    }
    assert len(session) == 1


def test_nothing_is_sent_while_disconnected() -> None:
    session = RelaySession(URL, kinds=(1,), max_age=1)
    session.subscribe(RECIPIENTS[0], T)
    session.publish(EVENTS[0], T + 10)
    session.unsubscribe(KEYS[0].public_key, T)
    receive(session, "AUTH", "challenge")
    session.tick(T + 1, UNIX)
    assert session.data_to_send(UNIX) == []
    session.connected(T)
    session.subscribe(RECIPIENTS[1], T)
    session.publish(EVENTS[1], T + 10)
    session.disconnected()
    assert session.data_to_send(UNIX) == []


def test_a_new_connection_requests_all_subscriptions_with_a_new_since() -> None:
    session = make_session(recipients=250)
    session.disconnected()
    session.connected(T + 1000)
    requests = of_type("REQ", frames(session, UNIX + 1000))
    assert len(requests) == 3
    assert {filter_["since"] for _, _, filter_ in requests} == {int(UNIX) + 1000 - REACH_S}
    asked = [key for _, _, filter_ in requests for key in filter_["#p"]]
    assert sorted(asked) == sorted(keys.public_key for keys in KEYS)


def test_adding_a_recipient_requests_one_subscription() -> None:
    session = make_session(recipients=249)
    session.subscribe(RECIPIENTS[249], T)
    [[kind, _, filter_]] = frames(session, UNIX + 5)
    assert kind == "REQ"
    assert KEYS[249].public_key in filter_["#p"]
    assert filter_["since"] == int(UNIX) + 5 - REACH_S


def test_removing_a_recipient_requests_one_subscription() -> None:
    session = make_session(recipients=250)
    session.unsubscribe(KEYS[3].public_key, T)
    [[kind, _, filter_]] = frames(session)
    assert kind == "REQ"
    assert len(filter_["#p"]) == 99
    assert KEYS[3].public_key not in filter_["#p"]


def test_removing_the_last_recipient_closes_the_subscription() -> None:
    session = make_session()
    session.subscribe(RECIPIENTS[0], T)
    [[_, subscription_id, _]] = frames(session)
    session.unsubscribe(KEYS[0].public_key, T)
    assert frames(session) == [["CLOSE", subscription_id]]
    assert len(session) == 0
    assert receive(session, "CLOSED", subscription_id, "error: x") is None
    session.unsubscribe(KEYS[0].public_key, T)
    assert frames(session) == []


def test_eose_means_listening_until_the_connection_is_lost() -> None:
    session = make_session(recipients=1)
    key = KEYS[0].public_key
    assert not session.is_listening(key)
    receive(session, "EOSE", "nwc1")
    assert session.is_listening(key)
    assert not session.is_listening(KEYS[1].public_key)
    session.disconnected()
    assert not session.is_listening(key)
    session.connected(T)
    assert not session.is_listening(key)
    receive(session, "EOSE", "nwc1")
    receive(session, "CLOSED", "nwc1", "error: x")
    assert not session.is_listening(key)


def test_a_recipient_added_to_a_confirmed_subscription_is_not_confirmed_yet() -> None:
    session = make_session(recipients=1)
    receive(session, "EOSE", "nwc1")
    session.subscribe(RECIPIENTS[1], T)
    assert not session.is_listening(KEYS[1].public_key)
    receive(session, "EOSE", "nwc1")
    assert session.is_listening(KEYS[1].public_key)


def test_notices_and_reasons_of_the_relay_are_returned() -> None:
    session = make_session(recipients=1)
    assert receive(session, "NOTICE", "hello") == NoticeReceived("hello")
    assert receive(session, "CLOSED", "nwc1", "x") == NoticeReceived("subscription closed: x")
    assert receive(session, "EOSE", "unknown") is None
    with pytest.raises(MessageError):
        session.receive("junk", T)


def test_events_of_unknown_subscriptions_are_ignored() -> None:
    session = make_session(recipients=1)
    assert receive(session, "EVENT", "unknown", as_json(EVENTS[0])) is None
    assert receive(session, "EVENT", "nwc1", as_json(EVENTS[0])) == EVENTS[0]
    session.unsubscribe(KEYS[0].public_key, T)
    assert receive(session, "EVENT", "nwc1", as_json(EVENTS[0])) is None


def test_a_refused_subscription_is_requested_again_with_growing_delays() -> None:
    session = make_session(recipients=1)
    now, delays = T, []
    for _ in range(12):
        receive(session, "CLOSED", "nwc1", "rate-limited: slow down", now=now)
        assert frames(session) == []
        delay = 0
        while not of_type("REQ", frames(session)):
            delay += 1
            session.tick(now + delay, UNIX)
        delays.append(delay)
        now += delay
    assert delays[:3] == [RESUBSCRIBE_FIRST_S, 2 * RESUBSCRIBE_FIRST_S, 4 * RESUBSCRIBE_FIRST_S]
    assert delays == sorted(delays)
    assert delays[-1] == RESUBSCRIBE_MAX_S


def test_a_refused_subscription_is_requested_only_once_at_a_time() -> None:
    session = make_session(recipients=1)
    receive(session, "CLOSED", "nwc1", "error: x")
    session.tick(T + 1000, UNIX)
    assert len(frames(session)) == 1
    session.tick(T + 1000 + UNANSWERED_FIRST_S - 1, UNIX)
    assert frames(session) == []


def times_asked(session: RelaySession, seconds: int, *, notice: str = "") -> list[int]:
    """Return the seconds in which a REQ is sent to a relay that answers with a NOTICE or nothing."""
    times = []
    for second in range(seconds):
        session.tick(T + second, UNIX)
        if of_type("REQ", frames(session)):
            times.append(second)
            if notice:
                receive(session, "NOTICE", notice, now=T + second)
    return times


@pytest.mark.parametrize("notice", ["", "ERROR: bad req: too many concurrent REQs"])
def test_an_unanswered_subscription_is_requested_again_with_growing_delays(notice: str) -> None:
    """nostr-rs-relay refuses a REQ by a NOTICE, and so does strfry if there are too many."""
    session = make_session(recipients=1)
    if notice:
        receive(session, "NOTICE", notice)
    times = times_asked(session, 3000, notice=notice)
    delays = [later - earlier for earlier, later in itertools.pairwise([0, *times])]
    first = UNANSWERED_FIRST_S
    assert delays[:4] == [first, 2 * first, 4 * first, 8 * first]
    assert set(delays[4:]) == {UNANSWERED_MAX_S}
    assert not session.is_listening(KEYS[0].public_key)
    receive(session, "EOSE", "nwc1", "finish", now=T + 3000)
    assert session.is_listening(KEYS[0].public_key)
    assert not session.is_unanswered
    session.tick(T + 9999, UNIX)
    assert frames(session) == []


@pytest.mark.parametrize("how", ["EOSE", "unsubscribed", "disconnected"])
def test_a_subscription_is_not_requested_again_after_eose_or_its_end(how: str) -> None:
    session = make_session(recipients=1)
    if how == "EOSE":
        receive(session, "EOSE", "nwc1")
    elif how == "unsubscribed":
        session.unsubscribe(KEYS[0].public_key, T)
        frames(session)
    else:
        session.disconnected()
    assert times_asked(session, 1000) == []


def test_only_the_unanswered_subscription_is_requested_again() -> None:
    session = make_session(recipients=250)
    receive(session, "EOSE", "nwc1")
    receive(session, "EOSE", "nwc3")
    session.tick(T + UNANSWERED_FIRST_S, UNIX)
    assert [name for _, name, _ in frames(session)] == ["nwc2"]


@pytest.mark.parametrize(("seconds", "unanswered"), [(UNANSWERED_FIRST_S - 1, False), (10_000, True)])
def test_a_session_with_an_unanswered_subscription_is_unanswered(seconds: int, unanswered: bool) -> None:
    session = make_session(recipients=1)
    session.tick(T + seconds, UNIX)
    assert session.is_unanswered is unanswered


def test_the_delay_of_an_unanswered_subscription_is_reset_by_an_answer() -> None:
    session = make_session(recipients=1)
    assert len(times_asked(session, 500)) == 4
    receive(session, "EOSE", "nwc1", now=T + 500)
    session.subscribe(RECIPIENTS[1], T + 500)
    frames(session)
    session.tick(T + 500 + UNANSWERED_FIRST_S, UNIX)
    assert len(frames(session)) == 1


def test_repeated_refusals_do_not_delay_the_retry() -> None:
    session = make_session(recipients=1)
    asked = []
    for second in range(40):
        for _ in range(3):
            receive(session, "CLOSED", "nwc1", "error: x", now=T + second)
        session.tick(T + second, UNIX)
        asked += [second] * len(frames(session))
    # The refusal of each REQ arrives a second later.
    first = RESUBSCRIBE_FIRST_S
    assert asked == [first, 1 + 3 * first, 2 + 7 * first]


def test_a_subscription_is_not_confirmed_after_its_end() -> None:
    """A relay, or a network of relays, may send messages in the wrong order."""
    session = make_session(recipients=1)
    receive(session, "CLOSED", "nwc1", "error: x")
    receive(session, "EOSE", "nwc1")
    assert not session.is_listening(KEYS[0].public_key)
    session.tick(T + RESUBSCRIBE_FIRST_S, UNIX)
    assert len(of_type("REQ", frames(session))) == 1
    receive(session, "EOSE", "nwc1")
    assert session.is_listening(KEYS[0].public_key)


@pytest.mark.parametrize("how", ["eose", "reconnect"])
def test_the_delay_of_a_refused_subscription_is_reset_by_success(how: str) -> None:
    session = make_session(recipients=1)
    for _ in range(5):
        receive(session, "CLOSED", "nwc1", "error: x")
    if how == "eose":
        session.tick(T + 1000, UNIX)
        receive(session, "EOSE", "nwc1")
    else:
        session.connected(T)
        receive(session, "EOSE", "nwc1")
    frames(session)
    session.tick(T + 10_000, UNIX)
    assert frames(session) == []
    receive(session, "CLOSED", "nwc1", "error: x")
    session.tick(T + RESUBSCRIBE_FIRST_S, UNIX)
    assert len(frames(session)) == 1


def test_a_refused_subscription_without_recipients_is_not_requested_again() -> None:
    session = make_session(recipients=1)
    receive(session, "CLOSED", "nwc1", "error: x")
    session.unsubscribe(KEYS[0].public_key, T)
    frames(session)
    session.tick(T + 1000, UNIX)
    assert frames(session) == []


# Publishing


@pytest.mark.parametrize(
    ("accepted", "reason", "is_accepted"),
    [
        (True, "", True),
        (False, "blocked: no", False),
        (False, "duplicate: have it", True),
        (True, "duplicate: have it", True),
        (False, "", False),
    ],
)
def test_the_relays_answer_ends_a_publication(accepted: bool, reason: str, is_accepted: bool) -> None:
    session = make_session()
    assert session.publish(EVENTS[0], T + 10) is None
    assert event_ids(frames(session)) == [EVENTS[0].id]
    result = receive(session, "OK", EVENTS[0].id, accepted, reason)
    assert result == Published(EVENTS[0].id, accepted=is_accepted, reason=reason)
    assert receive(session, "OK", EVENTS[0].id, accepted, reason) is None
    assert session.tick(T + 1000, UNIX) == []


def test_an_ok_for_an_unknown_id_changes_nothing() -> None:
    session = make_session()
    session.publish(EVENTS[0], T + 10)
    frames(session)
    assert receive(session, "OK", EVENTS[1].id, True, "") is None
    assert receive(session, "OK", "", False, AUTH_REQUIRED) is None
    assert frames(session) == []
    assert receive(session, "OK", EVENTS[0].id, True, "") is not None


def test_the_outbox_is_sent_again_on_a_new_connection() -> None:
    session = make_session()
    for event in EVENTS[:3]:
        session.publish(event, T + 1000)
    frames(session)
    receive(session, "OK", EVENTS[1].id, True, "")
    session.disconnected()
    session.publish(EVENTS[3], T + 1000)
    session.connected(T + 5)
    assert event_ids(frames(session)) == [EVENTS[0].id, EVENTS[2].id, EVENTS[3].id]


@pytest.mark.parametrize(
    ("connected", "reason"), [(True, "the relay did not answer"), (False, "the relay is not connected")]
)
def test_a_publication_is_given_up_at_its_deadline(connected: bool, reason: str) -> None:
    session = make_session(connected=connected)
    session.publish(EVENTS[0], T + 10)
    session.publish(EVENTS[1], T + 11)
    assert session.tick(T + 9.9, UNIX) == []
    assert session.tick(T + 10, UNIX) == [Published(EVENTS[0].id, accepted=False, reason=reason)]
    assert session.tick(T + 10, UNIX) == []
    assert receive(session, "OK", EVENTS[0].id, True, "") is None
    session.connected(T + 10)
    assert event_ids(frames(session)) == [EVENTS[1].id]


HOUR_S = 3600.0


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S])
def test_setting_the_clock_does_not_change_how_long_a_publication_may_take(by_s: float) -> None:
    session = make_session()
    session.publish(EVENTS[0], T + 10)
    assert session.tick(T + 9.9, UNIX + by_s) == []
    assert [published.event_id for published in session.tick(T + 10, UNIX + by_s)] == [EVENTS[0].id]


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S])
def test_setting_the_clock_does_not_change_the_retry_of_an_unanswered_subscription(by_s: float) -> None:
    session = make_session(recipients=1)
    session.tick(T, UNIX + by_s)
    frames(session, UNIX + by_s)  # if set back, the REQ is sent again at once
    session.tick(T + UNANSWERED_FIRST_S - 0.1, UNIX + by_s)
    assert frames(session) == []
    session.tick(T + UNANSWERED_FIRST_S, UNIX + by_s)
    assert [frame[1] for frame in frames(session)] == ["nwc1"]


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S])
def test_setting_the_clock_does_not_change_the_retry_of_a_refused_subscription(by_s: float) -> None:
    session = make_session(recipients=1)
    receive(session, "CLOSED", "nwc1", "error: x")
    session.tick(T + RESUBSCRIBE_FIRST_S - 0.1, UNIX + by_s)
    assert frames(session) == []
    session.tick(T + RESUBSCRIBE_FIRST_S, UNIX + by_s)
    assert [frame[1] for frame in frames(session)] == ["nwc1"]


def test_setting_the_clock_back_requests_the_subscriptions_again_once() -> None:
    """The relay would deliver no event before the old `since`."""
    session = make_session(recipients=250)
    receive(session, "CLOSED", "nwc2", "error: x")
    for _ in range(2):
        session.tick(T, UNIX - HOUR_S)
    requests = of_type("REQ", frames(session, UNIX - HOUR_S))
    assert [name for _, name, _ in requests] == ["nwc1", "nwc3"]
    assert {filter_["since"] for _, _, filter_ in requests} == {int(UNIX - HOUR_S) - REACH_S}
    session.tick(T, UNIX - HOUR_S)
    assert frames(session) == []


def test_setting_the_clock_back_requests_an_unconfirmed_subscription_again() -> None:
    session = make_session(recipients=1)
    receive(session, "CLOSED", "nwc1", "error: x")
    session.tick(T + RESUBSCRIBE_FIRST_S, UNIX)
    frames(session)
    session.tick(T + RESUBSCRIBE_FIRST_S, UNIX - HOUR_S)
    [[_, _, filter_]] = frames(session, UNIX - HOUR_S)
    assert filter_["since"] == int(UNIX - HOUR_S) - REACH_S


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S])
def test_setting_the_clock_does_not_change_the_timeout_of_an_auth(by_s: float) -> None:
    session = make_session(recipients=2)
    session.publish(EVENTS[0], T + 100)
    receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED)
    receive(session, "AUTH", "challenge")
    first, *_ = of_type("AUTH", frames(session))
    receive(session, "OK", first[1]["id"], True, "")
    session.tick(T, UNIX + by_s)
    frames(session, UNIX + by_s)
    session.tick(T + ANSWER_TIMEOUT_S - 0.1, UNIX + by_s)
    assert frames(session) == []
    session.tick(T + ANSWER_TIMEOUT_S, UNIX + by_s)
    assert event_ids(frames(session)) == [EVENTS[0].id]


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S])
def test_setting_the_clock_does_not_change_when_a_challenge_is_answered(by_s: float) -> None:
    session = make_session(recipients=1)
    for number in range(PROMPT_ROUNDS + 1):
        receive(session, "AUTH", str(number))
        challenges_answered(session)
    session.tick(T, UNIX + by_s)
    frames(session, UNIX + by_s)
    session.tick(T + NEXT_ROUND_FIRST_S - 0.1, UNIX + by_s)
    assert frames(session) == []
    session.tick(T + NEXT_ROUND_FIRST_S, UNIX + by_s)
    [asked] = frames(session, UNIX + by_s)
    assert dict(asked[1]["tags"])["challenge"] == str(PROMPT_ROUNDS)
    assert asked[1]["created_at"] == int(UNIX + by_s)


@pytest.mark.parametrize("by_s", [HOUR_S, -1.0])
def test_a_clock_that_is_set_forward_or_back_by_a_second_requests_no_subscription_again(
    by_s: float,
) -> None:
    session = make_session(recipients=1)
    session.tick(T, UNIX + by_s)
    assert frames(session) == []


def test_an_event_that_was_given_up_unsent_is_not_sent_later() -> None:
    """Otherwise all events for a relay that reads slowly would stay in memory."""
    session = make_session()
    for event in EVENTS:
        session.publish(event, T + 10)
    session.tick(T + 10, UNIX)
    assert not session.has_data_to_send
    session.publish(EVENTS[0], T + 20)
    receive(session, "OK", EVENTS[0].id, True, "")
    assert frames(session) == []


def test_a_full_outbox_refuses_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OUTBOX", 2)
    session = make_session(connected=False)
    assert session.publish(EVENTS[0], T + 10) is None
    assert session.publish(EVENTS[1], T + 10) is None
    refused = session.publish(EVENTS[2], T + 10)
    assert refused is not None
    assert not refused.accepted
    assert refused.event_id == EVENTS[2].id
    assert session.publish(EVENTS[1], T + 20) is None  # replaces itself in the outbox
    session.connected(T)
    assert event_ids(frames(session)) == [EVENTS[0].id, EVENTS[1].id]
    receive(session, "OK", EVENTS[0].id, True, "")
    assert session.publish(EVENTS[2], T + 10) is None


# AUTH


def test_a_challenge_is_answered_with_every_key() -> None:
    session = make_session(recipients=3)
    receive(session, "AUTH", "the challenge")
    asked = frames(session, UNIX + 3)
    assert [frame[0] for frame in asked] == ["AUTH"] * 3
    events = [parse_event(frame[1]) for frame in asked]
    assert {event.pubkey for event in events} == {keys.public_key for keys in KEYS[:3]}
    for event in events:
        verify_event(event)
        assert event.kind == KIND_CLIENT_AUTH
        assert event.tags == (("relay", URL), ("challenge", "the challenge"))
        assert event.created_at == int(UNIX) + 3


def test_a_key_added_later_is_authenticated_before_it_subscribes() -> None:
    session = make_session(recipients=1)
    authenticate(session, True)
    session.subscribe(RECIPIENTS[1], T)
    auth, request = frames(session)
    assert (auth[0], auth[1]["pubkey"]) == ("AUTH", KEYS[1].public_key)
    assert request[0] == "REQ"
    session.subscribe(RECIPIENTS[1], T)
    assert of_type("AUTH", frames(session)) == []
    session.unsubscribe(KEYS[1].public_key, T)
    session.subscribe(RECIPIENTS[1], T)
    assert len(of_type("AUTH", frames(session))) == 1


def test_no_auth_is_sent_without_a_challenge_on_the_same_connection() -> None:
    session = make_session()
    session.subscribe(RECIPIENTS[0], T)
    assert of_type("AUTH", frames(session)) == []
    authenticate(session, True)
    session.connected(T)
    session.subscribe(RECIPIENTS[1], T)
    assert of_type("AUTH", frames(session)) == []


def test_an_empty_challenge_is_ignored() -> None:
    session = make_session(recipients=1)
    receive(session, "AUTH", "")
    assert frames(session) == []


def challenges_answered(session: RelaySession, *, accepted: bool = True, now: float = T) -> list[str]:
    """Answer each AUTH that is sent and return the challenges that were signed."""
    asked = of_type("AUTH", frames(session))
    for frame in asked:
        receive(session, "OK", frame[1]["id"], accepted, "", now=now)
    return [dict(frame[1]["tags"])["challenge"] for frame in asked]


def test_the_newest_of_a_flood_of_challenges_is_answered_after_a_delay() -> None:
    session = make_session(recipients=1)
    answered = []
    for number in range(PROMPT_ROUNDS * 3):
        receive(session, "AUTH", str(number))
        answered += challenges_answered(session, accepted=False)
    assert answered == ["0", "1", "2"]
    session.tick(T + NEXT_ROUND_FIRST_S - 1, UNIX)
    assert frames(session) == []
    session.tick(T + NEXT_ROUND_FIRST_S, UNIX)
    assert challenges_answered(session) == ["8"]
    receive(session, "AUTH", "9", now=T + NEXT_ROUND_FIRST_S)
    session.tick(T + NEXT_ROUND_FIRST_S * 3 - 1, UNIX)
    assert of_type("AUTH", frames(session)) == []
    session.connected(T)
    frames(session)
    receive(session, "AUTH", "a new connection")
    assert len(challenges_answered(session)) == 1


def test_challenges_are_answered_one_after_the_other() -> None:
    """Of the challenges that arrive during a round, only the newest is answered."""
    session = make_session(recipients=2)
    receive(session, "AUTH", "0")
    first, second = frames(session)
    for number in range(1, 20):
        receive(session, "AUTH", str(number))
    receive(session, "OK", first[1]["id"], False, "void")
    assert frames(session) == []
    receive(session, "OK", second[1]["id"], False, "void")
    assert challenges_answered(session) == ["19", "19"]


def test_a_new_key_answers_the_newest_challenge_at_once() -> None:
    session = make_session(recipients=1)
    for number in range(PROMPT_ROUNDS * 3):
        receive(session, "AUTH", str(number))
        challenges_answered(session)
    session.subscribe(RECIPIENTS[1], T)
    assert challenges_answered(session) == ["8"]


def test_an_endless_flood_of_challenges_is_answered_only_every_five_minutes() -> None:
    session = make_session(recipients=1)
    answered = 0
    for second in range(3600):
        receive(session, "AUTH", str(second), now=T + second)
        session.tick(T + second, UNIX)
        answered += len(challenges_answered(session, now=T + second))
    assert answered <= 3600 / NEXT_ROUND_MAX_S + 10


def test_auth_is_signed_in_batches_and_sent_before_subscriptions() -> None:
    session = make_session(recipients=3 * SIGN_BATCH)
    session.publish(EVENTS[0], T + 100)
    receive(session, "AUTH", "challenge")
    session.subscribe(RECIPIENTS[200], T)
    turns = []
    while session.has_data_to_send:
        turns.append([json.loads(frame)[0] for frame in session.data_to_send(UNIX)])
    assert turns[0] == ["AUTH"] * SIGN_BATCH + ["EVENT"]
    assert turns[1] == turns[2] == ["AUTH"] * SIGN_BATCH
    assert turns[3:] == [["AUTH", "REQ"]]


def test_an_auth_without_an_answer_delays_others_only_until_its_timeout() -> None:
    session = make_session(recipients=2)
    session.publish(EVENTS[0], T + 100)
    receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED)
    frames(session)
    receive(session, "AUTH", "challenge")
    first, _ = frames(session)
    receive(session, "OK", first[1]["id"], True, "", now=T + 1)
    session.tick(T + ANSWER_TIMEOUT_S, UNIX)
    assert frames(session) == []
    session.tick(T + 1 + ANSWER_TIMEOUT_S, UNIX)
    assert event_ids(frames(session)) == [EVENTS[0].id]


def test_a_key_that_is_removed_before_it_has_signed_delays_no_other() -> None:
    session = make_session(recipients=SIGN_BATCH + 1)
    session.publish(EVENTS[0], T + 100)
    receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED)
    session.data_to_send(UNIX)
    receive(session, "AUTH", "challenge")
    for frame in session.data_to_send(UNIX):
        receive(session, "OK", json.loads(frame)[1]["id"], True, "")
    session.unsubscribe(KEYS[SIGN_BATCH].public_key, T)
    assert event_ids(frames(session)) == [EVENTS[0].id]


def test_an_auth_that_is_never_answered_is_named_at_the_deadline() -> None:
    session = make_session(recipients=1)
    session.publish(EVENTS[0], T + 100)
    receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED)
    receive(session, "AUTH", "challenge")
    [given_up] = session.tick(T + 100, UNIX)
    assert given_up.reason == "the relay wants AUTH, and has not accepted ours"


def test_the_reason_of_a_refused_auth_is_returned_once_all_are_refused() -> None:
    session = make_session(recipients=2)
    receive(session, "AUTH", "challenge")
    first, second = frames(session)
    assert receive(session, "OK", first[1]["id"], False, "blocked: no") is None
    notice = receive(session, "OK", second[1]["id"], False, "blocked: no")
    assert notice == NoticeReceived("AUTH refused: blocked: no")


def test_the_signer_of_an_event_is_authenticated_if_it_is_no_recipient() -> None:
    session = make_session(recipients=1)
    authenticate(session, True)
    session.publish(EVENTS[0], T + 100, KEYS[5])
    auth, event = frames(session)
    assert (auth[0], auth[1]["pubkey"]) == ("AUTH", KEYS[5].public_key)
    assert event[0] == "EVENT"
    receive(session, "OK", auth[1]["id"], True, "")
    receive(session, "AUTH", "a new challenge")
    assert {frame[1]["pubkey"] for frame in frames(session)} == {KEYS[0].public_key, KEYS[5].public_key}


def test_an_auth_that_the_relay_has_forgotten_is_sent_again() -> None:
    session = make_session(recipients=2)
    authenticate(session, True, True)
    receive(session, "EOSE", "nwc1")
    receive(session, "CLOSED", "nwc1", AUTH_REQUIRED, now=T + 500)
    session.tick(T + 500 + RESUBSCRIBE_FIRST_S, UNIX)
    assert [frame[0] for frame in frames(session)] == ["AUTH", "AUTH", "REQ"]


def test_an_auth_that_the_relay_forgets_each_time_is_sent_every_few_seconds() -> None:
    session = make_session(recipients=1)
    authenticate(session, True)
    sent = 0
    for second in range(100):
        receive(session, "EOSE", "nwc1", now=T + second)
        receive(session, "CLOSED", "nwc1", AUTH_REQUIRED, now=T + second)
        session.tick(T + second, UNIX)
        sent += len(challenges_answered(session, now=T + second))
    assert 1 < sent <= 100 / RESUBSCRIBE_FIRST_S


def test_a_subscription_that_is_refused_after_each_auth_is_requested_with_growing_delays() -> None:
    session = make_session(recipients=2)
    authenticate(session, True, True)
    receive(session, "CLOSED", "nwc1", AUTH_REQUIRED)
    times: list[int] = []
    for second in range(80):
        session.tick(T + second, UNIX)
        for frame in frames(session):
            if frame[0] == "AUTH":
                receive(session, "OK", frame[1]["id"], True, "", now=T + second)
            else:
                receive(session, "CLOSED", "nwc1", AUTH_REQUIRED, now=T + second)
                times.append(second)
    assert times == [5, 15, 35, 75]


@pytest.mark.parametrize("how", ["refused", "unanswered"])
def test_an_event_that_needs_auth_starts_a_new_round_if_none_was_accepted(how: str) -> None:
    session = make_session(recipients=1)
    receive(session, "AUTH", "challenge")
    [asked] = frames(session)
    if how == "refused":
        receive(session, "OK", asked[1]["id"], False, "error: try again")
    session.tick(T + ANSWER_TIMEOUT_S, UNIX)
    session.publish(EVENTS[0], T + 100)
    frames(session)
    receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED, now=T + ANSWER_TIMEOUT_S)
    assert challenges_answered(session, now=T + ANSWER_TIMEOUT_S) == ["challenge"]
    assert event_ids(frames(session)) == [EVENTS[0].id]


def test_events_that_need_auth_do_not_start_rounds_without_end() -> None:
    session = make_session(recipients=1)
    authenticate(session, False)
    made = 0
    for second in range(1, 3600):
        session.publish(EVENTS[0], T + second + 1)
        receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED, now=T + second)
        session.tick(T + second, UNIX)
        made += len(challenges_answered(session, accepted=False, now=T + second))
    assert 0 < made <= 3600 / NEXT_ROUND_MAX_S + 10


def test_a_subscription_that_needs_auth_is_requested_again_once_after_it() -> None:
    session = make_session(recipients=1)
    receive(session, "CLOSED", "nwc1", AUTH_REQUIRED)
    assert frames(session) == []
    assert [frame[:2] for frame in authenticate(session, True)] == [["REQ", "nwc1"]]
    receive(session, "EOSE", "nwc1")
    session.tick(T + 1000, UNIX)
    assert frames(session) == []


@pytest.mark.parametrize("eose_first", [True, False])
def test_subscriptions_older_than_a_challenge_are_requested_again_after_auth(eose_first: bool) -> None:
    """Chorus answers a REQ with a challenge and EOSE, and then forgets the REQ."""
    session = make_session(recipients=150)
    for name in ("nwc1", "nwc2"):
        receive(session, "EOSE", name)
    if not eose_first:
        session.subscribe(RECIPIENTS[150], T)
        frames(session)
    assert [frame[:2] for frame in authenticate(session, *[True] * len(session))] in (
        [["REQ", "nwc1"], ["REQ", "nwc2"]],
        [["REQ", "nwc2"], ["REQ", "nwc1"]],
    )
    assert frames(session) == []


def test_auth_of_a_new_key_requests_no_older_subscription_again() -> None:
    session = make_session(recipients=100)
    authenticate(session, *[True] * 100)
    session.subscribe(RECIPIENTS[100], T)
    auth, request = frames(session)
    assert request[:2] == ["REQ", "nwc2"]
    receive(session, "OK", auth[1]["id"], True, "")
    assert frames(session) == []


def test_a_refused_auth_requests_no_subscription_again() -> None:
    session = make_session(recipients=1)
    receive(session, "EOSE", "nwc1")
    assert authenticate(session, False) == []


def test_a_challenge_for_each_req_causes_no_endless_loop() -> None:
    session = make_session(recipients=1)
    receive(session, "AUTH", "challenge 0")
    asked = 0
    for second in range(3600):
        now = T + second
        session.tick(now, UNIX)
        while sent := frames(session):
            for frame in sent:
                if frame[0] == "AUTH":
                    receive(session, "OK", frame[1]["id"], True, "", now=now)
                else:
                    asked += 1
                    receive(session, "AUTH", f"challenge {asked}", now=now)
                    receive(session, "EOSE", "nwc1", now=now)
    assert asked <= 3600 / NEXT_ROUND_MAX_S + 10


def test_an_event_that_needs_auth_is_sent_again_once_after_it() -> None:
    session = make_session(recipients=1)
    session.publish(EVENTS[0], T + 100)
    frames(session)
    assert receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED) is None
    assert frames(session) == []
    assert event_ids(authenticate(session, True)) == [EVENTS[0].id]
    # Only once: the relay has accepted the AUTH.
    result = receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED)
    assert result == Published(EVENTS[0].id, accepted=False, reason=AUTH_REQUIRED)
    assert frames(session) == []


def test_nothing_is_sent_again_before_the_auth_of_every_key_is_answered() -> None:
    session = make_session(recipients=2)
    session.publish(EVENTS[0], T + 100)
    receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED)
    receive(session, "CLOSED", "nwc1", AUTH_REQUIRED)
    frames(session)
    receive(session, "AUTH", "challenge")
    first, second = frames(session)
    receive(session, "OK", first[1]["id"], True, "")
    assert frames(session) == []
    receive(session, "OK", second[1]["id"], True, "")
    assert [frame[0] for frame in frames(session)] == ["REQ", "EVENT"]


@pytest.mark.parametrize("verdicts", [(True, False), (False, True), (False, False)])
def test_an_event_is_sent_again_if_one_key_is_accepted(verdicts: tuple[bool, bool]) -> None:
    session = make_session(recipients=2)
    session.publish(EVENTS[0], T + 100)
    receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED)
    frames(session)
    assert event_ids(authenticate(session, *verdicts)) == [EVENTS[0].id] * any(verdicts)


def test_an_event_that_is_refused_after_the_auth_is_sent_again_once() -> None:
    """The relay checked the event before the AUTH and answered after it."""
    session = make_session(recipients=1)
    session.publish(EVENTS[0], T + 100)
    authenticate(session, True)
    receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED)
    assert event_ids(frames(session)) == [EVENTS[0].id]
    result = receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED)
    assert result == Published(EVENTS[0].id, accepted=False, reason=AUTH_REQUIRED)


def test_an_event_refused_with_too_many_challenges_is_sent_after_the_next_round() -> None:
    """The relay has forgotten our AUTH, and replaces the challenge with each refusal."""
    session = make_session(recipients=1)
    for _ in range(PROMPT_ROUNDS):
        authenticate(session, True)
    session.publish(EVENTS[0], T + 100)
    frames(session)
    for _ in range(2):
        receive(session, "AUTH", "a newer challenge")
        assert receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED) is None
        assert of_type("AUTH", frames(session)) == []  # the next round is not due yet
    session.tick(T + NEXT_ROUND_FIRST_S, UNIX)
    assert challenges_answered(session, now=T + NEXT_ROUND_FIRST_S) == ["a newer challenge"]
    assert event_ids(frames(session)) == [EVENTS[0].id]
    result = receive(session, "OK", EVENTS[0].id, True, "")
    assert result == Published(EVENTS[0].id, accepted=True, reason="")


def test_an_event_that_is_refused_without_end_is_sent_once_per_round() -> None:
    session = make_session(recipients=1)
    authenticate(session, True)
    session.publish(EVENTS[0], T + 3600)
    sent = answered = 0
    for second in range(3600):
        now = T + second
        session.tick(now, UNIX)
        while came := frames(session):
            for event_id in event_ids(came):
                sent += 1
                receive(session, "AUTH", f"challenge {sent}", now=now)
                receive(session, "OK", event_id, False, AUTH_REQUIRED, now=now)
            for _, auth in of_type("AUTH", came):
                answered += 1
                receive(session, "OK", auth["id"], True, "", now=now)
    assert answered <= 3600 / NEXT_ROUND_MAX_S + 10
    assert PROMPT_ROUNDS < sent <= answered + 2
    [given_up] = session.tick(T + 3600, UNIX)
    assert given_up.reason == "the relay wants AUTH, and has not accepted ours"


def test_a_new_connection_does_not_wait_for_auth() -> None:
    session = make_session(recipients=1)
    session.publish(EVENTS[0], T + 100)
    receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED)
    receive(session, "CLOSED", "nwc1", AUTH_REQUIRED)
    session.connected(T)
    assert [frame[0] for frame in frames(session)] == ["REQ", "EVENT"]
    assert receive(session, "OK", EVENTS[0].id, False, AUTH_REQUIRED) is None


def test_a_subscription_that_needs_auth_is_requested_again_without_a_challenge() -> None:
    session = make_session(recipients=1)
    receive(session, "CLOSED", "nwc1", AUTH_REQUIRED)
    session.tick(T + RESUBSCRIBE_FIRST_S, UNIX)
    assert [frame[0] for frame in frames(session)] == ["REQ"]


def test_auth_does_not_retry_a_subscription_that_was_closed_for_another_reason() -> None:
    session = make_session(recipients=1)
    receive(session, "CLOSED", "nwc1", "rate-limited: slow down")
    assert authenticate(session, True) == []


@pytest.mark.parametrize("accepted", [True, False])
def test_the_answer_to_the_auth_of_a_removed_key_is_ignored(accepted: bool) -> None:
    session = make_session(recipients=1)
    receive(session, "AUTH", "challenge")
    [asked] = frames(session)
    session.unsubscribe(KEYS[0].public_key, T)
    frames(session)
    assert receive(session, "OK", asked[1]["id"], accepted, "") is None
    assert frames(session) == []


# No recipient and no event is lost


class Relaying(RuleBasedStateMachine):
    """A relay that connects, drops, refuses and wants AUTH at random, and what must hold all the time.

    `wanted` has all recipients. `granted` has the subscriptions that a relay would hold if it accepted
    every frame so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.session = RelaySession(URL, kinds=(1,), max_age=MAX_AGE)
        self.now = T
        self.unix_now = UNIX
        self.since: dict[str, int] = {}
        self.wanted: set[str] = set()
        self.outbox: dict[str, float] = {}
        self.given_up: set[str] = set()
        self.connected = False
        self.granted: dict[str, set[str]] = {}
        self.refused: set[str] = set()
        self.arrived: set[str] = set()
        self.asked: dict[str, bool] = {}

    def receive_frames(self) -> None:
        for frame in frames(self.session, self.unix_now):
            match frame:
                case ["REQ", name, filter_]:
                    self.since[name] = filter_["since"]
                    self.granted[name] = set(filter_["#p"])
                    self.refused.discard(name)
                case ["CLOSE", name]:
                    self.granted.pop(name, None)
                    self.refused.discard(name)
                case ["EVENT", event]:
                    self.arrived.add(event["id"])
                case ["AUTH", event]:
                    assert event["pubkey"] in self.wanted
                    self.asked[event["id"]] = True

    @rule(number=st.integers(0, 249))
    def subscribe(self, number: int) -> None:
        self.session.subscribe(RECIPIENTS[number], self.now)
        self.wanted.add(KEYS[number].public_key)

    @rule()
    def subscribe_many(self) -> None:
        for recipient in RECIPIENTS[:120]:
            self.session.subscribe(recipient, self.now)
            self.wanted.add(recipient.keys.public_key)

    @rule(number=st.integers(0, 249))
    def unsubscribe(self, number: int) -> None:
        self.session.unsubscribe(KEYS[number].public_key, self.now)
        self.wanted.discard(KEYS[number].public_key)

    @rule(number=st.integers(0, len(EVENTS) - 1), timeout_s=st.integers(1, 60))
    def publish(self, number: int, timeout_s: int) -> None:
        event = EVENTS[number]
        assert self.session.publish(event, self.now + timeout_s) is None
        self.outbox[event.id] = self.now + timeout_s

    @rule()
    def connect(self) -> None:
        self.session.connected(self.now)
        self.connected = True
        self.granted, self.arrived, self.asked, self.refused = {}, set(), {}, set()

    @rule()
    def disconnect(self) -> None:
        self.session.disconnected()
        self.connected = False

    @rule(seconds=st.integers(1, 400), clock_set_by_s=st.integers(-2000, 2000))
    def wait(self, seconds: int, clock_set_by_s: int) -> None:
        self.now += seconds
        self.unix_now += seconds + clock_set_by_s
        due = {event_id for event_id, deadline in self.outbox.items() if self.now >= deadline}
        assert {result.event_id for result in self.session.tick(self.now, self.unix_now)} == due
        for event_id in due:
            del self.outbox[event_id]
        if self.connected:
            self.receive_frames()
            served = set(self.granted) - self.refused
            assert all(self.since[n] <= self.unix_now - REACH_S + CLOCK_STEP_S for n in served)

    @precondition(lambda self: self.connected)
    @rule(number=st.integers(0, len(EVENTS) - 1), accepted=st.booleans())
    def ok(self, number: int, accepted: bool) -> None:
        self.receive_frames()
        event_id = EVENTS[number].id
        result = receive(self.session, "OK", event_id, accepted, "", now=self.now)
        if event_id in self.outbox:
            assert result == Published(event_id, accepted=accepted, reason="")
            del self.outbox[event_id]
        else:
            assert result is None

    @precondition(lambda self: self.connected)
    @rule(number=st.integers(1, 4), reason=st.sampled_from(["error: x", AUTH_REQUIRED]))
    def closed(self, number: int, reason: str) -> None:
        self.receive_frames()
        receive(self.session, "CLOSED", f"nwc{number}", reason, now=self.now)
        self.refused.add(f"nwc{number}")

    @precondition(lambda self: self.connected)
    @rule(number=st.integers(1, 4))
    def eose(self, number: int) -> None:
        self.receive_frames()
        if f"nwc{number}" not in self.refused:
            receive(self.session, "EOSE", f"nwc{number}", now=self.now)

    @precondition(lambda self: self.connected)
    @rule()
    def challenge(self) -> None:
        self.receive_frames()
        receive(self.session, "AUTH", "challenge", now=self.now)

    @precondition(lambda self: self.connected)
    @rule(accepted=st.booleans())
    def auth_ok(self, accepted: bool) -> None:
        self.receive_frames()
        for event_id in list(self.asked):
            receive(self.session, "OK", event_id, accepted, "", now=self.now)
        self.asked.clear()

    @invariant()
    def everything_is_requested(self) -> None:
        if not self.connected:
            assert self.session.data_to_send(UNIX) == []
            return
        self.receive_frames()
        granted = [key for name, keys in self.granted.items() for key in keys]
        assert len(granted) == len(set(granted))
        assert set(granted) == self.wanted
        assert set(self.outbox) <= self.arrived
        assert len(self.session) == len(self.wanted)

    def teardown(self) -> None:
        """In the end the relay is connected and answers: everything is requested."""
        self.session.connected(self.now)
        self.connected, self.granted, self.arrived = True, {}, set()
        self.everything_is_requested()
        self.now += RESUBSCRIBE_MAX_S
        for name in self.granted:
            receive(self.session, "CLOSED", name, "error: x", now=self.now)
        before, self.granted = set(self.granted), {}
        self.now += RESUBSCRIBE_MAX_S
        self.session.tick(self.now, UNIX)
        self.receive_frames()
        assert set(self.granted) == before


TestNothingIsLost = Relaying.TestCase
TestNothingIsLost.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
