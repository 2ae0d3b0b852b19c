"""URIs of apps that make their own keys: NWC-08, and the older form of Alby's SDK."""

import re
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.nip47.walletauth import (
    MAX_AMOUNT_MSAT,
    MAX_RELAYS,
    MAX_URI_CHARACTERS,
    WalletAuth,
    is_wallet_auth,
    normal_form,
    parse_wallet_auth,
)
from tests.unit.helpers import CLIENT

KEY = CLIENT.public_key
RELAY = "wss://relay.example/v1"
START = f"nostr+walletauth://{KEY}?relay={quote(RELAY, safe='')}"
STATE = "9f2c4a" * 6


def test_all_fields_of_the_draft_are_read() -> None:
    query = urlencode(
        {
            "state": STATE,
            "name": "Ü App",
            "icon": "https://a.example/i.png",
            "return_to": "myapp://back?x=1",
            "expires_at": 1_800_000_000,
            "request_methods": "pay_invoice get_info",
            "optional_request_methods": "get_balance get_balance",
            "notification_types": "payment_sent",
            "max_amount": 1_000_000,
            "renewal_period": "monthly",
            "isolated": "false",
            "metadata": '{"a":"b"}',
            "colour": "red",
        },
        quote_via=quote,
    )
    assert parse_wallet_auth(f"  {START}&relay=ws%3A%2F%2Fb.example&{query}\n") == WalletAuth(
        client_pubkey=KEY,
        relays=(RELAY, "ws://b.example"),
        state=STATE,
        name="Ü App",
        required=("pay_invoice", "get_info"),
        optional=("get_balance",),
        notification_types=("payment_sent",),
        max_amount_msat=1_000_000,
        renewal="monthly",
        expires_at=1_800_000_000,
        isolated=False,
        return_to="myapp://back?x=1",
        unused=("colour",),
    )


def test_a_uri_needs_only_a_key_and_a_relay() -> None:
    assert parse_wallet_auth(START) == WalletAuth(KEY, (RELAY,))


@pytest.mark.parametrize(
    "scheme",
    [
        "nostr+walletauth://",
        "nostr+walletauth:",
        "nostr+walletauth+alby://",
        "nostr+walletauth+alby:",
        "NOSTR+WalletAuth://",
    ],
)
def test_every_form_of_the_scheme_is_read(scheme: str) -> None:
    uri = START.replace("nostr+walletauth://", scheme)
    assert is_wallet_auth(uri)
    assert parse_wallet_auth(uri) == WalletAuth(KEY, (RELAY,))
    assert parse_wallet_auth(uri.replace("?", "/?").replace(KEY, KEY.upper())).client_pubkey == KEY


def test_the_older_name_of_the_renewal_is_read() -> None:
    assert parse_wallet_auth(f"{START}&budget_renewal=weekly").renewal == "weekly"
    both = f"{START}&budget_renewal=weekly&renewal_period=weekly"
    assert parse_wallet_auth(both).renewal == "weekly"


def test_a_plus_is_a_space() -> None:
    asked = parse_wallet_auth(f"{START}&request_methods=get_info+pay_invoice&name=A+B%2BC")
    assert asked.required == ("get_info", "pay_invoice")
    assert asked.name == "A B+C"


def test_empty_values_count_as_absent() -> None:
    names = ("state", "name", "return_to", "expires_at", "max_amount", "isolated", "request_methods")
    query = "".join(f"&{name}=" for name in names)
    assert parse_wallet_auth(START + query) == WalletAuth(KEY, (RELAY,))


BAD = {
    "another scheme": (f"nostr+walletconnect://{KEY}?relay=wss://a.example&secret={'5a' * 32}", "begin"),
    "no scheme": (KEY, "begin with"),
    "no key": ("nostr+walletauth://?relay=wss://a.example", "public key"),
    "a short key": (START.replace(KEY, KEY[:-1]), "public key"),
    "npub": (START.replace(KEY, "npub1" + "q" * 58), "public key"),
    "a key off the curve": (START.replace(KEY, "f" * 64), "not a public key"),
    "no relay": (f"nostr+walletauth://{KEY}?name=x", "relay: must be given 1 to 10 times"),
    "too many relays": (START + f"&relay={quote(RELAY)}" * MAX_RELAYS, "relay: must be given"),
    "a relay of another scheme": (f"{START}&relay=https%3A%2F%2Fa.example", "relay: a relay URL is"),
    "a relay with a password": (f"{START}&relay=wss%3A%2F%2Fa%3Ab%40c.example", "relay: .*password"),
    "a broken escape": (f"{START}&name=50%", "'%' without two hex digits"),
    "a half escape": (f"{START}&name=%4", "'%' without two hex digits"),
    "no UTF-8": (f"{START}&name=%FF", "not UTF-8"),
    "an overlong UTF-8": (f"{START}&name=%C0%80", "not UTF-8"),
    "a space": (f"{START}&name=a b", "a character that no URI has"),
    "a line break": (f"{START}\n&name=ab", "a character that no URI has"),
    "a quote": (f'{START}&name="', "a character that no URI has"),
    "a fragment": (f"{START}#x", "a character that no URI has"),
    "a raw letter": (f"{START}&name=é", "a character that no URI has"),
    "100 KB of metadata": (f"{START}&metadata={'x' * 100_000}", f"at most {MAX_URI_CHARACTERS}"),
    "5 KB of metadata": (f"{START}&metadata={'x' * 5_000}", "'metadata': must have at most 4096"),
    "a long name": (f"{START}&name={'x' * 257}", "'name': must have at most 256"),
    "a long icon": (f"{START}&icon={'x' * 2_049}", "'icon': must have at most 2048"),
    "many parameters": (START + "&a=1" * 64, "at most 64 parameters"),
    "two names": (f"{START}&name=a&name=b", "two values of name"),
    "two renewals": (f"{START}&budget_renewal=daily&renewal_period=weekly", "two values of renewal"),
    "a state that is no token": (f"{START}&state=%E2%80%AE", "state: must be 1 to 256 letters"),
    "a long state": (f"{START}&state={'a' * 257}", "state: must be 1 to 256 letters"),
    "an odd method": (f"{START}&request_methods=get_info,pay", "request_methods: must be words"),
    "a method with controls": (f"{START}&request_methods=%1B%5B2J", "request_methods: must be words"),
    "many methods": (
        f"{START}&request_methods={'+'.join(f'm{n}' for n in range(65))}",
        "request_methods: must be at most 64",
    ),
    "no amount": (f"{START}&max_amount=0", "max_amount: must be a whole number"),
    "a negative amount": (f"{START}&max_amount=-1", "max_amount: must be a whole number"),
    "a fraction": (f"{START}&max_amount=1.5", "max_amount: must be a whole number"),
    "an amount in words": (f"{START}&max_amount=1000sat", "max_amount: must be a whole number"),
    "foreign digits": (f"{START}&max_amount=%D9%A3", "max_amount: must be a whole number"),
    "a huge amount": (f"{START}&max_amount={MAX_AMOUNT_MSAT + 1}", "max_amount: must be a whole"),
    "a longer amount": (f"{START}&max_amount={'9' * 2000}", "max_amount: must be a whole number"),
    "a time in words": (f"{START}&expires_at=never", "expires_at: must be a whole number"),
    "an unknown renewal": (f"{START}&renewal_period=hourly", "renewal_period: must be one of"),
    "isolated=1": (f"{START}&isolated=1", "isolated: must be true or false"),
    "a return link of controls": (f"{START}&return_to=a%3A%1B", "return_to: must be a URI"),
    "a return link with a backslash": (f"{START}&return_to=a%3A%5Cnb", "return_to: must be a URI"),
    "a relay with a backslash": (f"{START}&relay=wss%3A%2F%2Fa.example%2F%5Cn", "relay: must have only"),
    "no return link": (f"{START}&return_to=back", "return_to: must be a URI"),
    "the first form": (f"{START}&required_commands=pay_invoice", "the first form"),
    "the first form's secret": (f"{START}&secret={'5a' * 16}", "the first form"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_uri_is_refused_with_the_reason(case: str) -> None:
    uri, reason = BAD[case]
    with pytest.raises(ValueError, match=reason) as raised:
        parse_wallet_auth(uri)
    text = str(raised.value)
    assert len(text) < 500
    assert text.isprintable()
    assert "5a5a" not in text


NUMBERS = ["expires_at", "max_amount"]
METHODS = ["request_methods", "optional_request_methods", "notification_types"]
TEXTS = ["relay", "state", "name", "return_to", "isolated", "metadata", "budget_renewal", "secret", "x"]
NAMES = st.sampled_from([*NUMBERS, *METHODS, *TEXTS])
VALUES = st.text(max_size=40) | st.sampled_from(
    [RELAY, "wss://a.example", "daily", "true", "1000", "get_info pay_invoice", "9" * 30, "a:b"]
)
ESCAPED = VALUES.map(lambda text: quote(text.encode(errors="replace")))


def read(uri: str) -> WalletAuth | None:
    """Return what is read; None if the URI is refused, with a text that a terminal can show."""
    reason = ""
    try:
        return parse_wallet_auth(uri)
    except ValueError as error:
        reason = str(error)
    assert reason.isprintable()
    assert len(reason) < 1000
    return None


@given(st.lists(st.tuples(NAMES, ESCAPED), max_size=12))
def test_whatever_is_read_is_bounded(pairs: list[tuple[str, str]]) -> None:
    uri = f"{START}&{'&'.join(f'{name}={value}' for name, value in pairs)}"
    asked = read(uri)
    if asked is None:
        return
    assert 1 <= len(asked.relays) <= MAX_RELAYS
    assert all(re.fullmatch("[a-z0-9_]{1,64}", word) for word in (*asked.required, *asked.optional))
    assert asked.max_amount_msat is None or 0 < asked.max_amount_msat <= MAX_AMOUNT_MSAT
    assert asked.state is None or (asked.state.isascii() and len(asked.state) <= 256)
    assert asked.return_to is None or (asked.return_to.isascii() and asked.return_to.isprintable())
    assert parse_wallet_auth(normal_form(uri)) == asked
    assert "'" not in normal_form(uri)


@given(st.text() | st.text().map(lambda text: START + text))
def test_any_text_is_read_or_refused(text: str) -> None:
    asked = read(text)
    assert asked is None or asked.relays
