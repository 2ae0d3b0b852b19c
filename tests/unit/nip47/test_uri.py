from urllib.parse import parse_qs, urlsplit

import nostr_sdk
import pytest

from nwc.nip47.uri import connection_uri
from tests.unit.helpers import CLIENT, WALLET

SECRET = CLIENT.secret_hex()


def test_all_parts_of_the_uri_are_percent_encoded() -> None:
    uri = connection_uri(WALLET.public_key, ["wss://a.example/x?y=1&z"], SECRET, "me+1@a.example")
    assert uri == (
        f"nostr+walletconnect://{WALLET.public_key}"
        f"?relay=wss%3A%2F%2Fa.example%2Fx%3Fy%3D1%26z&secret={SECRET}&lud16=me%2B1%40a.example"
    )


@pytest.mark.parametrize(
    "relays",
    [
        ["wss://a.example"],
        ["wss://a.example", "ws://[::1]:7777/x y", "wss://b.example/?a=b&c=d#e"],
        ["wss://a.example/%41"],
    ],
)
@pytest.mark.parametrize("lud16", [None, "me@a.example"])
def test_any_uri_parses_back_to_its_parts(relays: list[str], lud16: str | None) -> None:
    parts = urlsplit(connection_uri(WALLET.public_key, relays, SECRET, lud16))
    query = parse_qs(parts.query, strict_parsing=True)
    assert parts.hostname == WALLET.public_key
    assert query.pop("relay") == relays
    assert query.pop("secret") == [SECRET]
    assert query.pop("lud16", [None]) == [lud16]
    assert query == {}
    assert parts.fragment == ""


@pytest.mark.parametrize("relays", [["wss://a.example"], ["wss://a.example", "wss://b.example/x?y=1"]])
@pytest.mark.parametrize("lud16", [None, "me@a.example"])
def test_rust_nostr_parses_the_uri(relays: list[str], lud16: str | None) -> None:
    theirs = nostr_sdk.NostrWalletConnectUri.parse(
        connection_uri(WALLET.public_key, relays, SECRET, lud16)
    )
    assert theirs.public_key().to_hex() == WALLET.public_key
    assert [str(relay).removesuffix("/") for relay in theirs.relays()] == relays
    assert theirs.secret().to_hex() == SECRET
    assert theirs.lud16() == lud16


def test_without_a_secret_the_uri_has_none() -> None:
    uri = connection_uri(WALLET.public_key, ["wss://a.example"], None, None)
    assert uri == f"nostr+walletconnect://{WALLET.public_key}?relay=wss%3A%2F%2Fa.example"
