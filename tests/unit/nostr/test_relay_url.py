import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.nostr.relay_url import (
    MAX_URL_LENGTH,
    is_local,
    is_onion,
    is_same_relay,
    parse_relay_url,
    parse_relay_urls,
    parse_stored_relay_url,
)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("wss://relay.example", "wss://relay.example"),
        ("  WSS://Relay.Example/ ", "wss://relay.example/"),
        ("wss://relay.example:443", "wss://relay.example:443"),
        ("wss://relay.example:443/", "wss://relay.example:443/"),
        ("wss://relay.example/Path", "wss://relay.example/Path"),
        ("wss://relay.example/path/", "wss://relay.example/path/"),
        ("wss://relay.example/?a=B", "wss://relay.example/?a=B"),
        ("wss://relay.example?a=B", "wss://relay.example?a=B"),
        ("wss://relay.example/?to=wss://b.example", "wss://relay.example/?to=wss://b.example"),
        ("wss://my_relay.example.", "wss://my_relay.example."),
        ("wss://relay.example/x?a=b&c", "wss://relay.example/x?a=b&c"),
        ("ws://127.0.0.1:7777/", "ws://127.0.0.1:7777/"),
        ("ws://[::1]:7777", "ws://[::1]:7777"),
        ("ws://[2001:DB8::1]", "ws://[2001:db8::1]"),
        ("ws://abc.onion", "ws://abc.onion"),
        ("wss://relay.example/\n", "wss://relay.example/"),
    ],
)
def test_the_owners_spelling_is_kept(text: str, url: str) -> None:
    """Some relays compare the URL in an AUTH event (NIP-42) with their own letter by letter."""
    assert parse_relay_url(text) == url
    assert parse_relay_url(url) == url
    assert parse_stored_relay_url(url) == url


@pytest.mark.parametrize(
    "other",
    [
        "wss://a.example/",
        "WSS://A.example",
        "wss://a.example:443",
        "wss://a.example:443/",
        "wss://a.example",
    ],
)
def test_spellings_of_one_relay_are_the_same_relay(other: str) -> None:
    url = parse_relay_url(other)
    assert is_same_relay(url, "wss://a.example")
    assert parse_relay_urls([url, "wss://a.example", "wss://b.example"]) == (url, "wss://b.example")


@pytest.mark.parametrize(
    "other",
    ["ws://a.example", "wss://a.example:80", "wss://a.example/x", "wss://a.example?x", "wss://b"],
)
def test_other_relays_are_not_the_same_relay(other: str) -> None:
    assert not is_same_relay(other, "wss://a.example")
    assert parse_relay_urls(["wss://a.example", other]) == ("wss://a.example", other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wss://wss://relay.example", "has two schemes"),
        ("WSS://https://relay.example", "has two schemes"),
        ("wss://a.example,wss://b.example", "has several URLs"),
        ("wss://a.example wss://b.example", "has several URLs"),
        ("wss://a.example; wss://b.example", "has several URLs"),
        ("wss://a.example,b.example", "the host has letters, digits"),
        ("wss://wss:", "the port after ':' is missing"),
        ("wss://relay.example:", "the port after ':' is missing"),
        ("wss://relay.example:/path", "the port after ':' is missing"),
        ("wss://[::1]:", "the port after ':' is missing"),
        ("wss://<host>", "the host has letters, digits"),
        ("wss://relay..example", "the host has letters, digits"),
        ("wss://.example", "the host has letters, digits"),
        ("wss://" + "a" * 64 + ".example", "the host has letters, digits"),
        ('wss://"relay.example"', "the host has letters, digits"),
        ("wss://relay%20.example", "the host has letters, digits"),
    ],
)
def test_a_probable_mistake_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"a relay URL is wss://") as caught:
        parse_relay_url(text)
    assert words in str(caught.value)
    assert text.lower() in str(caught.value).lower()


def test_a_stored_url_that_is_refused_today_is_still_read() -> None:
    """One bad URL must not keep a connection from being served over its other relays."""
    assert parse_stored_relay_url("wss://a.example,wss") == "wss://a.example,wss"


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
def test_a_wrong_url_is_refused_with_a_short_text(value: object) -> None:
    with pytest.raises(ValueError, match=r"a relay URL is wss://") as caught:
        parse_relay_url(value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["wss://user:secret@relay.example", "wss://secret@relay.example"])
def test_a_password_is_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="without user name") as caught:
        parse_relay_url(text)
    assert "secret" not in str(caught.value)


@given(st.text() | st.from_regex(r"(?i)wss?://[!-~]{0,60}", fullmatch=True))
def test_any_text_is_accepted_as_a_url_or_refused(text: str) -> None:
    try:
        url = parse_relay_url(text)
    except ValueError:
        return
    assert url.startswith(("ws://", "wss://"))
    assert parse_relay_url(url) == url
    assert parse_stored_relay_url(url) == url
    assert parse_relay_urls([url, url]) == (url,)


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
def test_an_onion_host_is_recognized(url: str, onion: bool) -> None:
    assert is_onion(url) is onion


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("umbrel.local", True),
        ("nas.lan.", True),
        ("nas", True),
        ("127.0.0.1", True),
        ("127.1", True),
        ("0x7f000001", True),
        ("2130706433", True),
        ("0.0.0.0", True),
        ("10.0.0.1:7777", True),
        ("192.168.1.2", True),
        ("172.31.0.1", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("224.0.0.1", True),
        ("[::1]", True),
        ("[::]", True),
        ("[fe80::1]", True),
        ("[fd00::1]", True),
        ("[::ffff:10.0.0.1]", True),
        ("[64:ff9b::7f00:1]", True),
        ("[2002:7f00:1::]", True),
        ("[::127.0.0.1]", True),
        ("[::ffff:0:127.0.0.1]", True),
        ("[64:ff9b:1::7f00:1]", True),
        ("[fec0::1]", True),
        ("localhost.localdomain", True),
        ("relay.corp", True),
        ("1.1.1.1", False),
        ("[2606:4700::1111]", False),
        ("relay.example", False),
        ("abc.onion", False),
        ("local.example", False),
        ("10.0.0.1.example", False),
    ],
)
def test_an_address_of_this_machine_or_a_private_network_is_recognized(host: str, local: bool) -> None:
    assert is_local(f"wss://{host}") is local
