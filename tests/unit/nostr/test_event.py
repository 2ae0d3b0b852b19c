import copy
import dataclasses
import json
from typing import Any

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.nostr import event as module
from nwc.nostr.event import Event, EventError, event_id, parse_event, sign_event, verify_event
from nwc.nostr.keys import KeyPair
from tests.unit.helpers import as_json

KEYS = KeyPair.generate()
RUST_KEYS = nostr_sdk.Keys.parse(KEYS.secret_hex())
# Characters that JSON writers escape differently.
TRICKY = "\"\\/\b\t\n\f\r\x00\x01\x1f\x7f\x80\u2028\u2029\ufeff\ufffe\U0001f984é漢<>&'"
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(TRICKY), max_size=60)
TAGS = st.lists(st.lists(TEXT, min_size=1, max_size=4), max_size=4)


def make_event(**changes: Any) -> dict[str, Any]:
    """Return the JSON value of a valid event with some fields replaced, or removed (`...`)."""
    event = sign_event(
        KEYS, kind=23194, content="x", tags=[["p", KEYS.public_key]], created_at=1_700_000_000
    )
    value = {**as_json(event), **changes}
    return {name: field for name, field in value.items() if field is not ...}


@settings(max_examples=200)
@given(kind=st.integers(0, 65_535), content=TEXT, tags=TAGS, created_at=st.integers(0, 2**53 - 1))
def test_rust_nostr_accepts_our_events(
    kind: int, content: str, tags: list[list[str]], created_at: int
) -> None:
    event = sign_event(KEYS, kind=kind, content=content, tags=tags, created_at=created_at)
    theirs = nostr_sdk.Event.from_json(event.to_json())
    assert theirs.verify()
    assert theirs.content() == content
    assert parse_event(json.loads(event.to_json())) == event
    verify_event(event)


@settings(max_examples=100)
@given(kind=st.integers(0, 65_535), content=TEXT, created_at=st.integers(0, 2**53 - 1))
def test_we_accept_events_of_rust_nostr(kind: int, content: str, created_at: int) -> None:
    builder = nostr_sdk.EventBuilder(nostr_sdk.Kind(kind), content)
    builder = builder.tags([nostr_sdk.Tag.parse(["x", content, ""])])
    builder = builder.custom_created_at(nostr_sdk.Timestamp.from_secs(created_at))
    theirs = builder.finalize(RUST_KEYS)
    event = parse_event(json.loads(theirs.as_json()))
    verify_event(event)
    assert event.id == theirs.id().to_hex()
    assert event.content == content
    assert event.tag("x") == content


def test_control_characters_are_hashed_as_in_rust_nostr() -> None:
    content = "".join(map(chr, range(0x100)))
    event = sign_event(KEYS, kind=1, content=content, tags=[[content]], created_at=0)
    assert nostr_sdk.Event.from_json(event.to_json()).verify_id()


def test_json_is_compact_and_unescaped() -> None:
    event = Event("a" * 64, "b" * 64, 1, 2, (("p", "é"),), '"🦄', "c" * 128)
    assert event.to_json() == (
        f'{{"id":"{"a" * 64}","pubkey":"{"b" * 64}","created_at":1,"kind":2,'
        f'"tags":[["p","é"]],"content":"\\"🦄","sig":"{"c" * 128}"}}'
    )


def test_an_event_is_hashable_and_frozen() -> None:
    event = parse_event(make_event())
    assert hash(event) == hash(parse_event(make_event(sig=event.sig)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.kind = 1  # type: ignore[misc]


def test_tags_are_found_by_name() -> None:
    tags = [["p", "1", "relay"], ["e"], ["P", "3"], ["p", "2"], ["e", "later"]]
    event = sign_event(KEYS, kind=1, content="", tags=tags, created_at=0)
    assert event.tag("p") == "1"
    assert event.tag("e") is None  # the first one has no value
    assert event.tag("missing") is None
    assert event.tags_named("p") == (("p", "1", "relay"), ("p", "2"))
    assert event.tags_named("missing") == ()


def test_unknown_fields_are_ignored() -> None:
    assert parse_event(make_event(extra=1)).kind == 23194


@pytest.mark.parametrize("value", [None, [], "{}", 1, True])
def test_an_event_that_is_not_an_object_is_refused(value: object) -> None:
    with pytest.raises(EventError, match="event must be an object"):
        parse_event(value)


BAD_VALUES: dict[str, list[object]] = {
    "id": [
        *(..., None, 1, "", ["a"] * 64, "a" * 63, "a" * 65, "A" * 64, "g" * 64),
        *("a" * 63 + "\n", "a" * 64 + "\n", "\u0661" * 64),
    ],
    "pubkey": [..., None, "a" * 63, "A" * 64, "\u0661" * 64],
    "sig": [..., None, "a" * 64, "a" * 127, "A" * 128, "a" * 129],
    "created_at": [..., None, True, -1, 2**53, 1.0, 1e300, "1", [1]],
    "kind": [..., None, False, -1, 65_536, 1.0, "1"],
    "content": [..., None, 1, ["x"], "x" * 131_073, "\ud800", "é\udfff"],
    "tags": [
        *(..., None, {}, "p", [None], ["p"], [[]], [["p"]] * 257, [["p"] * 65]),
        *([["p", 1]], [["p", None]], [[["p"]]]),
        *([["p", "x" * 1_025]], [["\ud800"]], [["p", "\udc00x"]]),
    ],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in BAD_VALUES for value in BAD_VALUES[name]]
)
def test_a_bad_field_is_named_in_the_error(name: str, value: object) -> None:
    with pytest.raises(EventError, match=f"^{name} "):
        parse_event(make_event(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("created_at", 0),
        ("created_at", 2**53 - 1),
        ("kind", 0),
        ("kind", 65_535),
        ("content", "🦄" * module.MAX_CONTENT_LENGTH),
        ("tags", [["p"]] * module.MAX_TAGS),
        ("tags", [[""] * module.MAX_TAG_ITEMS]),
        ("tags", [["é" * module.MAX_TAG_ITEM_LENGTH]]),
    ],
)
def test_values_at_the_limits_are_accepted(name: str, value: object) -> None:
    assert as_json(parse_event(make_event(**{name: value})))[name] == value


def test_a_lone_surrogate_in_a_json_escape_is_refused() -> None:
    text = json.dumps(make_event()).replace('"x"', r'"\ud83e"')
    with pytest.raises(EventError, match="content"):
        parse_event(json.loads(text))
    paired = json.dumps(make_event()).replace('"x"', r'"\ud83e\udd84"')
    assert parse_event(json.loads(paired)).content == "🦄"


def test_an_event_with_a_lone_surrogate_is_not_signed() -> None:
    with pytest.raises(EventError, match="surrogates"):
        sign_event(KEYS, kind=1, content="\ud800", tags=[], created_at=0)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(name=st.sampled_from(list(make_event())), value=JSON_VALUES)
def test_parsing_raises_only_event_errors(name: str, value: object) -> None:
    try:
        event = parse_event(make_event(**{name: value}))
    except EventError:
        return
    assert as_json(event)[name] == value
    event.to_json().encode()


@pytest.mark.parametrize(
    "change",
    [
        {"content": "y"},
        {"created_at": 1_700_000_001},
        {"kind": 23195},
        {"tags": []},
        {"tags": [["p", KEYS.public_key], ["p", ""]]},
        {"pubkey": KeyPair.generate().public_key},
        {"id": "0" * 64},
    ],
)
def test_the_id_of_a_changed_event_is_wrong(change: dict[str, object]) -> None:
    with pytest.raises(EventError, match=r"^id "):
        verify_event(parse_event(make_event(**change)))


@pytest.mark.parametrize("pubkey", [KeyPair.generate().public_key, "0" * 64])
def test_the_signature_of_another_author_is_wrong(pubkey: str) -> None:
    event = parse_event(make_event(pubkey=pubkey))
    identifier = event_id(pubkey, event.created_at, event.kind, event.tags, event.content)
    with pytest.raises(EventError, match=r"^signature "):
        verify_event(dataclasses.replace(event, id=identifier))


def test_the_signature_of_another_event_is_wrong() -> None:
    other = sign_event(KEYS, kind=1, content="", tags=[], created_at=0)
    with pytest.raises(EventError, match=r"^signature "):
        verify_event(parse_event(make_event(sig=other.sig)))


def test_sign_event_keeps_no_reference_to_the_tags() -> None:
    tags = [["p", "1"]]
    event = sign_event(KEYS, kind=1, content="", tags=tags, created_at=0)
    expected = copy.deepcopy(event.tags)
    tags[0][1] = "2"
    assert event.tags == expected
    verify_event(event)
