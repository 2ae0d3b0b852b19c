import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.nostr.event import parse_event, sign_event
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import (
    MAX_CHALLENGE_LENGTH,
    MAX_MESSAGE_LENGTH,
    AuthReceived,
    ClosedReceived,
    EoseReceived,
    EventReceived,
    MessageError,
    NoticeReceived,
    OkReceived,
    RelayMessage,
    auth_message,
    close_message,
    event_message,
    parse_relay_message,
    req_message,
)
from tests.unit.helpers import JSON_VALUES, as_json

EVENT = sign_event(KeyPair.generate(), kind=1, content='é"\n', tags=[["p", "x"]], created_at=1)
EVENT_VALUE = as_json(EVENT)


@pytest.mark.parametrize(
    ("message", "parsed"),
    [
        (["EVENT", "sub", EVENT_VALUE], EventReceived("sub", EVENT)),
        (["OK", "id", True, ""], OkReceived("id", True, "")),
        (["OK", "id", False, "blocked: no"], OkReceived("id", False, "blocked: no")),
        (["OK", "id", True], OkReceived("id", True, "")),
        (["OK", "id", True, 5], OkReceived("id", True, "")),
        (["EVENT", "sub", EVENT_VALUE, "more"], EventReceived("sub", EVENT)),
        (["OK", "id", True, "", "more"], OkReceived("id", True, "")),
        (["EOSE", "sub"], EoseReceived("sub")),
        (["EOSE", "sub", "finish"], EoseReceived("sub")),  # NIP-67
        (["EOSE", "sub", {"more": 1}, None], EoseReceived("sub")),
        (["CLOSED", "sub", "error: x"], ClosedReceived("sub", "error: x")),
        (["CLOSED", "sub"], ClosedReceived("sub", "")),
        (["CLOSED", "sub", "error: x", "more"], ClosedReceived("sub", "error: x")),
        (["NOTICE", "words", 5], NoticeReceived("words")),
        (["AUTH", "challenge", {"more": 1}], AuthReceived("challenge")),
        (["NOTICE", "words"], NoticeReceived("words")),
        (["NOTICE", "two\nlines\x1b[31m\ud800"], NoticeReceived("two?lines?[31m?")),
        (["NOTICE", "x" * 1000], NoticeReceived("x" * 200)),
        (["AUTH", "challenge"], AuthReceived("challenge")),
        (["AUTH", "c" * MAX_CHALLENGE_LENGTH], AuthReceived("c" * MAX_CHALLENGE_LENGTH)),
    ],
)
def test_a_message_is_parsed(message: list[Any], parsed: RelayMessage) -> None:
    assert parse_relay_message(json.dumps(message)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "5",
        '"EVENT"',
        "{}",
        "[]",
        '["EVENT"]',
        '["EVENT","sub"]',
        '["EVENT","sub",null]',
        '["EVENT","sub",{}]',
        '["EVENT",5,{}]',
        json.dumps(["EVENT", "sub", {**EVENT_VALUE, "id": "x"}]),
        '["OK","id"]',
        '["OK","id",1,""]',
        '["OK","id","true",""]',
        '["OK",5,true,""]',
        '["EOSE",5]',
        '["CLOSED",null]',
        '["NOTICE",5]',
        '["AUTH",5]',
        '["AUTH",{}]',
        json.dumps(["AUTH", "c" * (MAX_CHALLENGE_LENGTH + 1)]),
        '["AUTH","\\ud800"]',
        '["REQ","sub",{}]',
        '["event","sub",{}]',
        '[["EVENT"],"sub",{}]',
        "[" * 100_000,
        '["NOTICE",' + "[" * 50_000 + "]" * 50_000 + "]",
        '["NOTICE",' + "9" * 5000 + "]",
        '["NOTICE","' + "x" * MAX_MESSAGE_LENGTH + '"]',
        "\ufeff[]",
        "\x00",
    ],
)
def test_a_malformed_message_is_refused_with_a_short_text(text: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse_relay_message(text)
    assert len(str(caught.value)) < 200


@given(st.text())
def test_arbitrary_text_raises_a_message_error(text: str) -> None:
    with pytest.raises(MessageError):
        parse_relay_message(text)


@given(
    st.sampled_from(["EVENT", "OK", "EOSE", "CLOSED", "NOTICE", "AUTH", "COUNT"]),
    st.lists(JSON_VALUES | st.just("sub") | st.just(EVENT_VALUE), max_size=4),
)
def test_arbitrary_arguments_raise_only_message_errors(kind: str, arguments: list[Any]) -> None:
    try:
        message = parse_relay_message(json.dumps([kind, *arguments]))
    except MessageError:
        return
    if isinstance(message, OkReceived | ClosedReceived | NoticeReceived):
        assert message.reason == "" or message.reason.isprintable()
    if isinstance(message, AuthReceived):
        message.challenge.encode()


@given(st.sampled_from(list(EVENT_VALUE)), JSON_VALUES)
def test_an_arbitrary_event_field_raises_only_message_errors(field: str, value: object) -> None:
    try:
        message = parse_relay_message(json.dumps(["EVENT", "s", {**EVENT_VALUE, field: value}]))
    except MessageError:
        return
    assert isinstance(message, EventReceived)
    message.event.to_json().encode()


def test_messages_to_a_relay_are_json() -> None:
    assert json.loads(event_message(EVENT)) == ["EVENT", EVENT_VALUE]
    kind, event = json.loads(auth_message(EVENT))
    assert (kind, parse_event(event)) == ("AUTH", EVENT)
    assert json.loads(req_message("s", {"kinds": [1]})) == ["REQ", "s", {"kinds": [1]}]
    assert json.loads(close_message("s")) == ["CLOSE", "s"]
