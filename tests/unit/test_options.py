from typing import Any

import pytest

from nwc.options import (
    DEFAULT_RELAYS,
    INVOICE_EXPIRY,
    MAX_RELAYS,
    MAX_REQUEST_AGE,
    RATE_LIMIT,
    OptionError,
    Settings,
    parse_relays,
    parse_settings,
)

INTEGER_OPTIONS = (INVOICE_EXPIRY, MAX_REQUEST_AGE, RATE_LIMIT)
OPTIONS: dict[str, Any] = {
    "nwc-relay": None,
    **{option.name: option.declared.default for option in INTEGER_OPTIONS},
}
CONFIGURATION: dict[str, Any] = {
    "lightning-dir": "/home/me/.lightning/bitcoin",
    "rpc-file": "lightning-rpc",
}
PROXY = {"type": "ipv4", "address": "127.0.0.1", "port": 9050}


def parse(options: dict[str, Any] | None = None, **configuration: Any) -> Settings:
    return parse_settings({**OPTIONS, **(options or {})}, {**CONFIGURATION, **configuration})


def test_the_defaults_are_those_of_the_manifest() -> None:
    assert parse() == Settings(
        rpc_path="/home/me/.lightning/bitcoin/lightning-rpc",
        relays=DEFAULT_RELAYS,
        invoice_expiry=86_400,
        max_request_age=120,
        rate_limit=20,
        notifications=True,
        proxy=None,
        always_use_proxy=False,
    )


@pytest.mark.parametrize("option", INTEGER_OPTIONS, ids=lambda option: option.name)
def test_the_default_keeps_its_own_rule(option: Any) -> None:
    default = option.declared.default
    assert option.parse(default) == default
    assert option.parse(option.minimum) == option.minimum
    assert option.parse(str(option.maximum)) == option.maximum


@pytest.mark.parametrize("option", INTEGER_OPTIONS, ids=lambda option: option.name)
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        "",
        "x",
        "1.5",
        1.5,
        "-1",
        -1,
        0,
        "0",
        "1e3",
        "٣",
        "²",
        "9" * 30,
        2**64,
        [],
        [1],
        "0x10",
    ],
)
def test_bad_numbers_are_refused(option: Any, value: object) -> None:
    with pytest.raises(OptionError) as caught:
        parse({option.name: value})
    rule = f"{option.name}: must be a whole number from {option.minimum} to {option.maximum}; got "
    assert str(caught.value).startswith(rule)


@pytest.mark.parametrize(("value", "expected"), [(60, 60), ("60", 60), (" 60 ", 60)])
def test_good_numbers_are_read(value: object, expected: int) -> None:
    assert parse({INVOICE_EXPIRY.name: value}).invoice_expiry == expected


@pytest.mark.parametrize(
    ("value", "relays"),
    [
        (None, DEFAULT_RELAYS),
        ([], DEFAULT_RELAYS),
        ("", DEFAULT_RELAYS),
        (["", " , "], DEFAULT_RELAYS),
        ("WSS://A.example/", ("wss://a.example/",)),
        (["wss://a.example", "wss://b.example"], ("wss://a.example", "wss://b.example")),
        ("wss://a.example, wss://b.example,", ("wss://a.example", "wss://b.example")),
        (
            ["wss://b.example", "wss://a.example,wss://b.example/"],
            ("wss://b.example", "wss://a.example"),
        ),
    ],
)
def test_relay_urls_are_read(value: object, relays: tuple[str, ...]) -> None:
    assert parse({"nwc-relay": value}).relays == relays


@pytest.mark.parametrize(
    "value",
    [
        "https://a.example",
        ["wss://a.example", "x"],
        5,
        [None],
        [["wss://a.example"]],
        {"a": 1},
        "wss://wss://a.example",
        "wss://a.example:",
        "wss://a.example,b.example",
    ],
)
def test_bad_relay_urls_are_refused(value: object) -> None:
    with pytest.raises(OptionError, match=r"^nwc-relay: a relay URL is "):
        parse({"nwc-relay": value})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"wss://a.example"', "write the value without quotes"),
        ("'wss://a.example,wss://b.example'", "write the value without quotes"),
        ("“wss://a.example”", "write the value without quotes"),
        ("wss://a.example # my own", "a comment cannot follow a value"),
        ("# wss://a.example", "a comment cannot follow a value"),
        ("wss://a.example wss://b.example", "holds more than one URL: separate them by commas, or give"),
        ("wss://a.example;wss://b.example", "holds more than one URL"),
        ("wss://a.example, wss://b.example wss://c.example", "holds more than one URL"),
    ],
)
def test_common_mistakes_are_named(value: str, words: str) -> None:
    for option in (value, [value], ["wss://good.example", value]):
        with pytest.raises(OptionError) as caught:
            parse({"nwc-relay": option})
        assert str(caught.value).startswith("nwc-relay: ")
        assert words in str(caught.value)
        assert f"got {value!r}" in str(caught.value)


@pytest.mark.parametrize("value", ['"20"', "20 # a second", "“20”"])
def test_common_mistakes_with_numbers_are_named(value: str) -> None:
    with pytest.raises(OptionError, match=r"got .*: (write the value without|a comment cannot)"):
        parse({"nwc-rate-limit": value})


def test_a_long_value_is_shortened_in_the_error() -> None:
    with pytest.raises(OptionError, match=r"x{90}") as caught:
        parse({"nwc-rate-limit": "x" * 100_000})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", ["true", 1, None])
def test_notifications_are_true_or_false(value: object) -> None:
    with pytest.raises(OptionError, match=r"^nwc-notifications: must be true or false; got "):
        parse({"nwc-notifications": value})


def test_too_many_relays_are_refused() -> None:
    urls = [f"wss://{number}.example" for number in range(MAX_RELAYS + 1)]
    assert len(parse_relays(urls[1:])) == MAX_RELAYS
    with pytest.raises(
        OptionError, match=rf"^nwc-relay: at most {MAX_RELAYS} relays; got {MAX_RELAYS + 1}"
    ):
        parse_relays(urls)


@pytest.mark.parametrize(
    ("proxy", "url"),
    [
        (None, None),
        ("", None),
        ({}, None),
        ({"address": ""}, None),
        (PROXY, "socks5h://127.0.0.1:9050"),
        ({"type": "ipv6", "address": "::1", "port": 9150}, "socks5h://[::1]:9150"),
        ({"address": "tor.local"}, "socks5h://tor.local:9050"),
    ],
)
def test_the_proxy_becomes_a_url(proxy: object, url: str | None) -> None:
    assert parse(proxy=proxy).proxy == url


@pytest.mark.parametrize(("value", "expected"), [(True, True), (False, False), (None, False)])
def test_always_use_proxy_is_read(value: object, expected: bool) -> None:
    assert parse(proxy=PROXY, always_use_proxy=value).always_use_proxy is expected


@pytest.mark.parametrize("proxy", [None, {}, {"address": ""}])
def test_always_use_proxy_without_a_proxy_is_refused(proxy: object) -> None:
    with pytest.raises(OptionError, match=r"^always-use-proxy: .*option proxy"):
        parse(proxy=proxy, always_use_proxy=True)


@pytest.mark.parametrize(
    ("proxy", "always", "url", "is_used"),
    [
        (False, False, "wss://relay.example", False),
        (False, False, "ws://abc.onion", False),
        (True, False, "wss://relay.example", False),
        (True, False, "ws://abc.onion", True),
        (True, True, "wss://relay.example", True),
        (True, True, "ws://127.0.0.1:7777", True),
    ],
)
def test_the_proxy_is_used_for_onions_or_always(
    proxy: bool, always: bool, url: str, is_used: bool
) -> None:
    settings = parse(proxy=PROXY if proxy else None, always_use_proxy=always)
    assert settings.proxy_for(url) == (settings.proxy if is_used else None)
