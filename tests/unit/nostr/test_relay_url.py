import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.nostr.relay_url import MAX_URL_LENGTH, is_onion, parse_relay_url


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("wss://relay.example", "wss://relay.example"),
        ("  WSS://Relay.Example/ ", "wss://relay.example"),
        ("wss://relay.example/Path", "wss://relay.example/Path"),
        ("wss://relay.example/path/", "wss://relay.example/path/"),
        ("wss://relay.example/?a=B", "wss://relay.example?a=B"),
        ("wss://relay.example/x?a=b&c", "wss://relay.example/x?a=b&c"),
        ("ws://127.0.0.1:7777/", "ws://127.0.0.1:7777"),
        ("ws://[::1]:7777", "ws://[::1]:7777"),
        ("ws://[2001:DB8::1]", "ws://[2001:db8::1]"),
        ("wss://relay.example:", "wss://relay.example"),
        ("ws://abc.onion", "ws://abc.onion"),
        ("wss://relay.example/\n", "wss://relay.example"),
    ],
)
def test_normal_form(text: str, normal: str) -> None:
    assert parse_relay_url(text) == normal
    assert parse_relay_url(normal) == normal


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        b"wss://relay.example",
        ["wss://relay.example"],
        "",
        "  ",
        "relay.example",
        "https://relay.example",
        "wss:relay.example",
        "wss://",
        "wss:///path",
        "wss://:443",
        "wss://relay.example:0",
        "wss://relay.example:65536",
        "wss://relay.example:x",
        "wss://[::1",
        "wss://relay.example/a b",
        "wss://relay\n.example",
        "wss://relay.example/\x00x",
        "wss://rélay.example",
        "wss://relay.example/\ud800",
        "wss://relay.example#part",
        "wss://" + "a" * MAX_URL_LENGTH,
    ],
)
def test_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"a relay URL is wss://") as caught:
        parse_relay_url(value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["wss://user:secret@relay.example", "wss://secret@relay.example"])
def test_a_password_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="without user name") as caught:
        parse_relay_url(text)
    assert "secret" not in str(caught.value)


@given(st.text() | st.from_regex(r"(?i)wss?://[!-~]{0,60}", fullmatch=True))
def test_any_text_has_one_normal_form_or_none(text: str) -> None:
    try:
        normal = parse_relay_url(text)
    except ValueError:
        return
    assert normal.startswith(("ws://", "wss://"))
    assert parse_relay_url(normal) == normal


@pytest.mark.parametrize(
    ("url", "onion"),
    [
        ("ws://abc.onion", True),
        ("ws://sub.abc.onion:80/x", True),
        ("ws://abc.onion.", True),
        ("ws://abc.onion.:80", True),
        ("wss://abc.onion.example", False),
        ("wss://onion", False),
        ("wss://relay.example/x.onion", False),
    ],
)
def test_onion(url: str, onion: bool) -> None:
    assert is_onion(url) is onion
