"""The nwc-* commands, as an owner uses them."""

# ruff: noqa: RUF001 - names of people in all scripts
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from nostr_sdk import Keys, NostrWalletConnectUri
from pyln.client import RpcError

import nwc
from nwc.nip47.methods import METHODS
from tests.support.channel import Json, tag
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, announced, budget_of, fresh_name, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.test_relays import info_events

COFFEE = {"amount": 1000, "description": "coffee"}
RECEIVING = "get_info get_balance get_budget make_invoice receive lookup_invoice list_transactions"
PAYING = "pay pay_invoice pay_keysend"
BY_NAME = "sign_message"
HEX_64 = re.compile("[0-9a-f]{64}")
COMMANDS = {
    "nwc-connect": "[name] [budget] [renewal] [view] [methods] [expires] [relays] [pubkey] [lud16] [qr] "
    "[notifications] [max_payment] [uri] [confirm]",
    "nwc-list": "[name]",
    "nwc-update": "name [new_name] [methods] [expires] [relays] [view] [notifications] [budget] "
    "[renewal] [max_payment] [resume]",
    "nwc-revoke": "name",
    "nwc-payments": "name [limit] [offset]",
    "nwc-status": "",
    "nwc-export": "",
    "nwc-import": "connections",
    "nwc-forget": "[confirm]",
}


@pytest.fixture
def name(node: NodeUnderTest) -> Iterator[str]:
    """A new name; its connection is revoked after the test."""
    name = fresh_name()
    yield name
    if name in names(node):
        node.rpc.call("nwc-revoke", [name])


def names(node: NodeUnderTest) -> list[str]:
    return [shown["name"] for shown in node.rpc.call("nwc-list")["connections"]]


def listed(node: NodeUnderTest, name: str) -> Json:
    budget_of(node, name)  # waits until the plugin has started
    [shown] = node.rpc.call("nwc-list", [name])["connections"]
    return dict(shown)


def error_of(node: NodeUnderTest, command: str, params: Any) -> str:
    """Return the error message of a wrong command; its code must be JSON-RPC's "invalid params"."""
    with pytest.raises(RpcError) as raised:
        node.rpc.call(command, params)
    error: Any = raised.value.error
    assert error["code"] == -32602
    assert "Traceback" not in json.dumps(error)
    return str(error["message"])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_parameters_of_each_command(node: NodeUnderTest, command: str) -> None:
    [entry] = node.rpc.call("help", [command])["help"]
    usage, _, text = entry["command"].partition("\n")
    assert usage.split() == [command, *COMMANDS[command].split()]
    assert len(text.strip()) > 20


# nwc-connect


def test_connect_makes_a_connection_with_safe_defaults(
    node: NodeUnderTest, relay: RestartableRelay, name: str
) -> None:
    before = int(time.time())
    shown = node.rpc.call("nwc-connect", [name])
    wait_until(lambda: announced(node, name), "the info event")
    assert shown["name"] == name
    assert [entry["url"] for entry in shown["relays"]] == [relay.url]
    assert {"url", "state", "info_event"} <= shown["relays"][0].keys()
    assert shown["methods"] == RECEIVING.split()
    assert (shown["view"], shown["notifications"]) == ("own", ["payment_received"])
    assert shown["budget"] == {"kind": "nothing"}
    assert shown["expires_at"] is None
    assert before <= shown["created_at"] <= int(time.time())
    uri = NostrWalletConnectUri.parse(shown["uri"])
    assert uri.public_key().to_hex() == shown["wallet_pubkey"]
    assert Keys(uri.secret()).public_key().to_hex() == shown["client_pubkey"]
    assert HEX_64.fullmatch(shown["wallet_pubkey"])
    assert shown["wallet_pubkey"] != shown["client_pubkey"]


def test_connect_takes_every_parameter_by_name(
    node: NodeUnderTest, relay: RestartableRelay, second_relay: RestartableRelay, name: str
) -> None:
    shown = node.rpc.call(
        "nwc-connect",
        {
            "name": name,
            "budget": "50000sat",
            "renewal": "weekly",
            "max_payment": "1000sat",
            "view": "node",
            "notifications": False,
            "methods": "pay_invoice make_invoice",
            "expires": "30d",
            "relays": f"{relay.url}/a?b=c&d=e, {second_relay.url}",
            "lud16": "alice+tips@example.com",
        },
    )
    relays = [f"{relay.url}/a?b=c&d=e", second_relay.url]
    assert [entry["url"] for entry in shown["relays"]] == relays
    assert shown["methods"] == ["make_invoice", "pay_invoice"]
    assert shown["budget"] == {
        "kind": "amount",
        "granted_msat": 50_000_000,
        "spent_msat": 0,
        "reserved_msat": 0,
        "left_msat": 50_000_000,
        "renewal": "weekly",
        "renews_at": shown["created_at"] + 7 * 86_400,
        "max_payment_msat": 1_000_000,
        "pending_payments": 0,
    }
    assert abs(shown["expires_at"] - time.time() - 30 * 86_400) < 30
    assert shown["lud16"] == "alice+tips@example.com"
    assert (shown["view"], shown["notifications"]) == ("node", [])
    # Percent-encoded, as NIP-47 requires.
    parts = urlsplit(shown["uri"])
    assert parts.scheme == "nostr+walletconnect"
    assert not re.search(r"[/:?@+]", parts.query)
    assert parse_qs(parts.query)["relay"] == relays
    uri = NostrWalletConnectUri.parse(shown["uri"])
    assert [str(url) for url in uri.relays()] == relays
    assert uri.lud16() == "alice+tips@example.com"


def test_connect_takes_every_parameter_by_position(
    node: NodeUnderTest, relay: RestartableRelay, name: str
) -> None:
    """All twelve parameters, in the order of the help text."""
    key = Keys.generate().public_key()
    given = [
        name,
        "1sat",
        "daily",
        "own",
        "get_info",
        "1y",
        relay.url,
        key.to_hex(),
        "a@b.c",
        "false",
        "false",
        "500",
    ]
    shown = node.rpc.call("nwc-connect", given)
    assert shown["client_pubkey"] == key.to_hex()
    assert shown["methods"] == ["get_info"]
    assert shown["lud16"] == "a@b.c"
    assert "qr" not in shown
    assert shown["notifications"] == []
    budget = shown["budget"]
    assert (budget["granted_msat"], budget["renewal"]) == (1000, "daily")
    assert budget["max_payment_msat"] == 500


BUDGETS: list[tuple[Json, Json]] = [
    ({"budget": "nothing"}, {"kind": "nothing"}),
    ({"budget": 0}, {"kind": "nothing"}),
    ({"budget": "unlimited"}, {"kind": "unlimited", "renewal": "never"}),
    ({"budget": "received"}, {"kind": "received", "granted_msat": 0, "left_msat": 0}),
    ({"budget": "50000sat"}, {"kind": "amount", "granted_msat": 50_000_000, "left_msat": 50_000_000}),
    ({"budget": "1msat", "renewal": "yearly"}, {"kind": "amount", "renewal": "yearly"}),
    ({"budget": "unlimited", "max_payment": "5sat"}, {"kind": "unlimited", "max_payment_msat": 5000}),
]


@pytest.mark.parametrize(("params", "budget"), BUDGETS, ids=str)
def test_each_kind_of_budget_is_shown(
    node: NodeUnderTest, name: str, params: Json, budget: Json
) -> None:
    shown = node.rpc.call("nwc-connect", {"name": name, **params})
    assert {field: shown["budget"].get(field) for field in budget} == budget
    assert shown["budget"] == listed(node, name)["budget"]
    can_spend = budget["kind"] != "nothing"
    assert shown["methods"] == f"{RECEIVING} {PAYING if can_spend else ''}".split()
    assert shown["notifications"] == ["payment_received", *(["payment_sent"] if can_spend else [])]


@pytest.mark.parametrize("form", ["hex", "capitals", "npub"])
def test_an_app_can_bring_its_own_key(node: NodeUnderTest, name: str, form: str) -> None:
    key = Keys.generate().public_key()
    text = {"hex": key.to_hex(), "capitals": key.to_hex().upper(), "npub": key.to_bech32()}[form]
    shown = node.rpc.call("nwc-connect", {"name": name, "pubkey": text})
    assert shown["client_pubkey"] == key.to_hex()
    assert "secret" not in shown["uri"]


def test_an_app_with_its_own_key_is_served(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    app = connect(keys=Keys.generate(), relays=scripted_relay.url, channels=[scripted_relay])
    assert app.ask("make_invoice", COFFEE).result["invoice"]


def test_connect_shows_a_qr_code(node: NodeUnderTest, name: str) -> None:
    shown = node.rpc.call("nwc-connect", {"name": name, "qr": True})
    assert shown["format-hint"] == "simple"
    lines = shown["qr"].strip("\n").split("\n")
    assert len(lines) > 20
    assert len({len(re.sub("\x1b\\[[0-9;]*m", "", line)) for line in lines}) == 1
    assert shown["uri"].startswith("nostr+walletconnect://")


SOME_METHODS = ", ".join(METHODS)
# A row for each message. The unit tests have more values (tests/unit/commands, test_names.py).
WRONG: list[tuple[Json, str]] = [
    ({"name": ""}, "name: must be 1 to 64 printable characters"),
    (
        {"budget": "a lot"},
        "budget: must be an amount like 50000sat, 1000000msat or 0.001btc; got 'a lot'",
    ),
    ({"budget": "1e999999999msat"}, "budget: must be an amount like"),
    ({"budget": "21000001btc"}, "budget: must be at most 2100000000000000000 msat"),
    ({"renewal": "weekly"}, "renewal: only a budget that is an amount can renew"),
    (
        {"renewal": "hourly", "budget": "1sat"},
        "renewal: must be one of never, daily, weekly, monthly, yearly",
    ),
    ({"methods": "get_info,pay_invoice"}, "methods: pay_invoice needs a budget"),
    ({"max_payment": "5sat"}, "max_payment: needs a budget"),
    ({"max_payment": "a lot", "budget": "1sat"}, "max_payment: must be an amount like"),
    ({"max_payment": 0, "budget": "1sat"}, "max_payment: must be more than 0; write none for no cap"),
    ({"max_payment": "", "budget": "1sat"}, "max_payment: is empty; write an amount like 10000sat"),
    ({"view": "all"}, "view: must be own or node"),
    ({"notifications": "maybe"}, "notifications: must be true or false"),
    ({"methods": "pays"}, f"methods: must be all, or some of {SOME_METHODS}"),
    ({"methods": ["get_info", 7]}, "methods: must be words"),
    ({"expires": "soon"}, "expires: must be never, a time from now like 30m"),
    ({"expires": "2001-01-01"}, "expires: must be in the future"),
    ({"expires": 2**70}, "expires: must be in the future, at most 100 years"),
    ({"relays": "relay.example.com"}, "relays: a relay URL is wss://host"),
    ({"relays": [f"wss://r{i}" for i in range(21)]}, "relays: must be 1 to 20 relay URLs; got 21"),
    ({"relays": [7]}, "relays: must be words"),
    (
        {"relays": "ws://" + "a" * 56 + ".onion"},
        "relays: a .onion relay needs lightningd's option proxy",
    ),
    ({"pubkey": "00"}, "pubkey: a public key is 64 hex digits or npub1"),
    ({"pubkey": "ff" * 32}, "pubkey: not a public key"),
    ({"pubkey": Keys.generate().secret_key().to_bech32()}, "pubkey: this is a secret key"),
    ({"pubkey": 7}, "pubkey: must be 64 hex digits or npub1"),
    ({"lud16": "alice"}, "lud16: must be a lightning address"),
    ({"qr": "maybe"}, "qr: must be true or false"),
    ({"nmae": "x"}, "got an unexpected keyword argument 'nmae'"),
]


@pytest.mark.parametrize(("params", "message"), WRONG, ids=lambda x: str(x)[:40])
def test_connect_refuses_wrong_values(node: NodeUnderTest, params: Json, message: str) -> None:
    before = names(node)
    assert error_of(node, "nwc-connect", {"name": "never made", **params}).startswith(message)
    assert names(node) == before


@pytest.mark.parametrize("params", [[], {}])
def test_connect_needs_a_name(node: NodeUnderTest, params: Any) -> None:
    assert error_of(node, "nwc-connect", params).startswith("name: is missing; give a name")


def test_names_and_keys_are_unique(node: NodeUnderTest, connect: Connect) -> None:
    keys = Keys.generate()
    app = connect(keys=keys)
    assert (
        error_of(node, "nwc-connect", [app.name]) == f"name: there is a connection {app.name!r} already"
    )
    error = error_of(node, "nwc-connect", {"name": "x", "pubkey": keys.public_key().to_hex()})
    assert error == "pubkey: this key has a connection already"


def test_empty_parameters_take_the_defaults(node: NodeUnderTest, name: str) -> None:
    """null takes any default. "" takes it only where the default gives the app no right."""
    given = [name, "", "", "", None, None, None, None, "", None, None, ""]
    shown = node.rpc.call("nwc-connect", given)
    assert shown["budget"] == {"kind": "nothing"}
    assert shown["view"] == "own"
    assert shown["expires_at"] is None
    assert "lud16" not in shown


NAMES_OF_PEOPLE = [
    "família 👨\u200d👩\u200d👧",
    "می\u200cخواهم",
    "क्\u200dष",
    "🏳\ufe0f\u200d🌈",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "🇩🇪",
    "1\ufe0f\u20e3",
    'it\'s "mine" \\u0041',
]


@pytest.mark.parametrize("called", NAMES_OF_PEOPLE, ids=ascii)
def test_names_in_all_scripts_are_kept(node: NodeUnderTest, called: str) -> None:
    since = node.mark()
    assert node.rpc.call("nwc-connect", [called])["name"] == called
    assert listed(node, called)["name"] == called
    node.rpc.call("nwc-update", {"name": called, "expires": "1d"})
    assert node.rpc.call("nwc-revoke", [called])["name"] == called
    assert called not in names(node)
    node.wait_for_log(r"connection ['\"][^\n]+['\"] revoked", since=since)


def test_names_in_all_scripts_survive_a_restart(node: NodeUnderTest) -> None:
    for called in NAMES_OF_PEOPLE:
        node.rpc.call("nwc-connect", [called])
    before = set(names(node))
    node.stop_plugin()
    node.start_plugin()
    assert set(names(node)) == before >= set(NAMES_OF_PEOPLE)
    for called in NAMES_OF_PEOPLE:
        assert node.rpc.call("nwc-revoke", [called])["name"] == called


def test_a_name_is_the_same_in_another_normal_form(node: NodeUnderTest) -> None:
    """Some keyboards write é as one character, others as two."""
    composed, decomposed = "Café", "Cafe\u0301"
    assert node.rpc.call("nwc-connect", [decomposed])["name"] == composed
    error = error_of(node, "nwc-connect", [composed])
    assert error == f"name: there is a connection {composed!r} already"
    assert listed(node, decomposed)["name"] == composed
    assert node.rpc.call("nwc-update", {"name": decomposed, "expires": "1d"})["name"] == composed
    assert node.rpc.call("nwc-revoke", [decomposed])["name"] == composed
    assert composed not in names(node)


# nwc-list


def test_list_shows_when_a_connection_was_used_and_no_secret(
    node: NodeUnderTest, connect: Connect
) -> None:
    first, second = connect(), connect(methods="get_info")
    assert names(node)[-2:] == [first.name, second.name]
    shown = listed(node, second.name)
    assert shown["methods"] == ["get_info"]
    assert shown["client_pubkey"] == second.pubkey
    assert "uri" not in shown
    assert second.secret not in json.dumps(shown)
    assert "last_used_at" not in shown
    before = int(time.time())
    second.ask("get_info")
    assert before <= listed(node, second.name)["last_used_at"] <= int(time.time())


@pytest.mark.parametrize(
    ("command", "params"),
    [
        ("nwc-list", ["nobody"]),
        ("nwc-revoke", ["nobody"]),
        ("nwc-update", {"name": "nobody", "expires": "1d"}),
    ],
)
def test_an_unknown_name_is_refused(node: NodeUnderTest, command: str, params: Any) -> None:
    assert error_of(node, command, params) == "name: there is no connection 'nobody'; see nwc-list"


# nwc-update


def test_a_connection_can_be_renamed(node: NodeUnderTest, connect: Connect) -> None:
    app, other = connect(), connect()
    new = fresh_name()
    assert node.rpc.call("nwc-update", {"name": app.name, "new_name": new})["name"] == new
    assert app.name not in names(node)
    assert listed(node, new)["client_pubkey"] == app.pubkey
    assert app.ask("get_info").result["pubkey"]
    error = error_of(node, "nwc-update", {"name": new, "new_name": other.name})
    assert error == f"name: there is a connection {other.name!r} already"
    # The old name is free again.
    node.rpc.call("nwc-update", [new, app.name])
    assert listed(node, app.name)["client_pubkey"] == app.pubkey


def test_update_changes_the_methods(
    node: NodeUnderTest, relay: RestartableRelay, connect: Connect
) -> None:
    app = connect()

    def content() -> str:
        [info] = info_events(relay.url, app.wallet_pubkey)
        return str(info["content"])

    assert content() == f"{RECEIVING} notifications"
    assert node.rpc.call("nwc-update", {"name": app.name, "methods": "get_info"})["methods"] == [
        "get_info"
    ]
    wait_until(lambda: content() == "get_info notifications", "the new info event")
    assert app.ask("make_invoice", COFFEE).code == "RESTRICTED"
    node.rpc.call("nwc-update", {"name": app.name, "methods": "all"})
    wait_until(lambda: content() == f"{RECEIVING} notifications", "the newest info event")
    assert app.ask("make_invoice", COFFEE).result["invoice"]


def test_update_changes_the_relays(
    node: NodeUnderTest, relay: RestartableRelay, second_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect()
    node.rpc.call("nwc-update", {"name": app.name, "relays": [relay.url, second_relay.url]})
    wait_until_announced(node, app.name)
    assert info_events(second_relay.url, app.wallet_pubkey)
    assert app.ask("get_info").result["pubkey"]


def test_update_changes_view_and_notifications(
    node: NodeUnderTest, relay: RestartableRelay, connect: Connect
) -> None:
    app = connect()
    shown = node.rpc.call("nwc-update", {"name": app.name, "view": "node", "notifications": False})
    assert (shown["view"], shown["notifications"]) == ("node", [])
    assert app.ask("get_info").result["notifications"] == []

    def announced_notifications() -> str | None:
        [info] = info_events(relay.url, app.wallet_pubkey)
        return tag(info, "notifications")

    wait_until(lambda: not announced_notifications(), "the new info event")
    shown = node.rpc.call("nwc-update", {"name": app.name, "view": "own", "notifications": True})
    assert (shown["view"], shown["notifications"]) == ("own", ["payment_received"])
    assert app.ask("get_info").result["notifications"] == ["payment_received"]
    wait_until(lambda: announced_notifications() == "payment_received", "the newest info event")


def test_update_changes_the_budget(
    node: NodeUnderTest, relay: RestartableRelay, connect: Connect
) -> None:
    app = connect()

    def announced_words() -> str:
        [info] = info_events(relay.url, app.wallet_pubkey)
        return f"{info['content']}; {tag(info, 'notifications')}; {tag(info, 'extensions')}"

    def update(**params: Any) -> Json:
        shown: Json = node.rpc.call("nwc-update", {"name": app.name, **params})
        return shown

    receiving = f"{RECEIVING} notifications; payment_received; 02 05 06 321"
    paying = f"{RECEIVING} {PAYING} notifications; payment_received payment_sent; 02 04 05 06 321"
    assert announced_words() == receiving
    assert app.ask("pay_invoice", {"invoice": "lnbc1"}).code == "RESTRICTED"
    assert app.ask("get_budget").result["total_budget"] == 0
    shown = update(budget="50000sat", renewal="weekly", max_payment="1000sat")
    assert shown["budget"]["left_msat"] == 50_000_000
    assert shown["methods"] == f"{RECEIVING} {PAYING}".split()
    wait_until(lambda: announced_words() == paying, "the info event of a connection that can pay")
    info = app.ask("get_info").result
    assert info["methods"] == f"{RECEIVING} {PAYING}".split()
    assert info["notifications"] == ["payment_received", "payment_sent"]
    assert info["extensions"] == ["02", "04", "05", "06", "321"]
    assert app.ask("pay_invoice", {"invoice": "lnbc1"}).code == "OTHER"
    budget = app.ask("get_budget").result
    assert (budget["used_budget"], budget["total_budget"]) == (0, 50_000_000)
    assert (budget["renewal_period"], budget["renews_at"]) == ("weekly", shown["budget"]["renews_at"])

    # A parameter that is not given keeps its value.
    smaller = update(budget="20000sat")["budget"]
    assert smaller == {**shown["budget"], "granted_msat": 20_000_000, "left_msat": 20_000_000}
    assert update(max_payment="none")["budget"] == {
        name: value for name, value in smaller.items() if name != "max_payment_msat"
    }
    assert update(new_name=app.name + "x", methods="all")["budget"]["renewal"] == "weekly"
    node.rpc.call("nwc-update", [app.name + "x", app.name])
    assert update(budget="unlimited")["budget"]["renewal"] == "never"
    assert app.ask("get_budget").result == {}
    assert update(budget="nothing")["budget"] == {"kind": "nothing"}
    wait_until(
        lambda: announced_words() == receiving, "the info event of a connection that only receives"
    )
    assert app.ask("pay_keysend", {"pubkey": "02" * 33, "amount": 1}).code == "RESTRICTED"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {},
            "nothing to change: give new_name, methods, expires, relays, view, notifications, budget, "
            "renewal, max_payment or resume",
        ),
        ({"relays": "x"}, "relays: a relay URL is"),
        ({"budget": "x"}, "budget: must be"),
        ({"renewal": "daily"}, "renewal: only a budget that is an amount can renew"),
        ({"max_payment": "1sat"}, "max_payment: needs a budget"),
        ({"new_name": "a\u202e"}, "new_name: must be"),
    ],
    ids=str,
)
def test_update_refuses_wrong_values_and_changes_nothing(
    node: NodeUnderTest, connect: Connect, params: Json, message: str
) -> None:
    app = connect()
    before = listed(node, app.name)
    assert message in error_of(node, "nwc-update", {"name": app.name, **params})
    assert listed(node, app.name) == before


LIMITS: Json = {
    "methods": "pay_invoice",
    "expires": "1d",
    "budget": "50000sat",
    "renewal": "weekly",
    "max_payment": "1sat",
}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_payment": 0}, "max_payment: must be more than 0; write none for no cap"),
        ({"max_payment": "0sat"}, "max_payment: must be more than 0; write none for no cap"),
        (
            {"max_payment": ""},
            "max_payment: is empty; write an amount like 10000sat, or none for no cap",
        ),
        ({"budget": ""}, "budget: is empty; write nothing, an amount like 50000sat"),
        ({"renewal": ""}, "renewal: is empty; write one of never, daily"),
        ({"methods": ""}, "methods: is empty; write all, or methods"),
        ({"methods": []}, "methods: is empty; write all, or methods"),
        ({"expires": ""}, "expires: is empty; write never, or a time like 30d"),
        ({"view": ""}, "view: is empty; write own or node"),
        ({"relays": ""}, "relays: is empty; write relay URLs"),
        ({"notifications": ""}, "notifications: is empty; write true or false"),
    ],
    ids=str,
)
def test_an_empty_value_removes_no_limit(
    node: NodeUnderTest, connect: Connect, params: Json, message: str
) -> None:
    app = connect(**LIMITS)
    before = listed(node, app.name)
    assert error_of(node, "nwc-update", {"name": app.name, **params}).startswith(message)
    assert listed(node, app.name) == before


def test_a_removed_budget_stays_removed(node: NodeUnderTest, connect: Connect) -> None:
    """Another change at the same time does not bring it back."""
    app = connect(budget="50000sat")
    rpcs = (node.rpc, node.rpc)

    def update(rpc: Any, params: Json) -> Json:
        shown: Json = rpc.call("nwc-update", {"name": app.name, **params})
        return shown

    with ThreadPoolExecutor(len(rpcs)) as pool:
        for _ in range(30):
            node.rpc.call("nwc-update", {"name": app.name, "budget": "50000sat"})
            changes = ({"budget": "nothing"}, {"max_payment": "none"})
            list(pool.map(update, rpcs, changes))
            assert listed(node, app.name)["budget"] == {"kind": "nothing"}


# nwc-revoke


def test_a_revoked_connection_is_not_served(
    node: NodeUnderTest, relay: RestartableRelay, connect: Connect
) -> None:
    app, witness = connect(), connect()
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    assert info_events(relay.url, app.wallet_pubkey)
    revoked = node.rpc.call("nwc-revoke", [app.name])
    assert (revoked["name"], revoked["revoked"]) == (app.name, True)
    assert app.name not in names(node)
    request = app.request("make_invoice", COFFEE)
    app.send(request)
    wait_until(
        lambda: all(not event["content"] for event in info_events(relay.url, app.wallet_pubkey)),
        "the info event to be withdrawn",
    )
    witness.ask("make_invoice", COFFEE)
    assert app.answers_to(request["id"]) == []
    label = f"nwc:{app.pubkey[:16]}:{request['id']}"
    assert node.rpc.listinvoices(label=label)["invoices"] == []
    keys = [e["key"] for e in node.rpc.call("listdatastore", [["nwc", "connections"]])["datastore"]]
    assert app.pubkey not in [key[-1] for key in keys]


def test_a_revoked_connection_is_not_served_if_a_relay_still_delivers(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """A hostile relay delivers a request after the subscription has ended."""
    witness = connect(relays=scripted_relay.url, channels=[scripted_relay])
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    assert app.ask("get_info").result["pubkey"]
    node.rpc.call("nwc-revoke", [app.name])
    request = app.request("make_invoice", COFFEE)
    scripted_relay.send(request)
    witness.ask("make_invoice", COFFEE)
    assert app.answers_to(request["id"]) == []


def test_a_revoked_connection_stays_revoked_after_a_restart(
    node: NodeUnderTest, connect: Connect
) -> None:
    app = connect()
    node.rpc.call("nwc-revoke", [app.name])
    node.stop_plugin()
    node.start_plugin()
    assert app.name not in names(node)


def test_a_revoked_name_and_key_can_be_used_again(node: NodeUnderTest, connect: Connect) -> None:
    keys = Keys.generate()
    first = connect(keys=keys, name="again")
    node.rpc.call("nwc-revoke", ["again"])
    second = connect(keys=keys, name="again")
    assert second.wallet_pubkey == first.wallet_pubkey
    wait_until(lambda: announced(node, "again"), "the new info event")


# nwc-status


def test_status_shows_the_plugin_its_connections_and_relays(
    node: NodeUnderTest, relay: RestartableRelay, connect: Connect, how_it_runs: Json
) -> None:
    app = connect()
    app.ask("get_info")
    status = node.rpc.call("nwc-status")
    assert status["version"] == nwc.__version__
    assert how_it_runs.items() <= status.items()
    assert status["lightningd_version"] == node.rpc.call("getinfo")["version"]
    assert 0 < status["started_at"] <= int(time.time())
    assert [entry["name"] for entry in status["connections"]] == names(node)
    [used] = [entry for entry in status["connections"] if entry["name"] == app.name]
    assert used == {
        "name": app.name,
        "last_used_at": used["last_used_at"],
        "requests_answered": {"get_info": {"ok": 1}},
        "rate_limited": 0,
    }
    assert status["started_at"] <= used["last_used_at"] <= int(time.time())
    [shown] = [entry for entry in status["relays"] if entry["url"] == relay.url]
    assert shown["state"] == "connected"
    assert shown["since"] <= int(time.time())
    assert shown["reconnects"] == 0
    assert shown["events_received"] >= 1
    assert shown["events_ignored"].keys() <= status["events_ignored"].keys()
    assert isinstance(shown["latency_ms"], int)
    assert {"invalid_frames", "last_error"} <= shown.keys()
    assert status["requests_answered"]["get_info"]["ok"] >= 1
    assert isinstance(status["events_ignored"], dict)


@pytest.mark.parametrize(("command", "most"), [("nwc-status", 0), ("nwc-list", 1), ("nwc-connect", 14)])
def test_too_many_arguments_are_refused(node: NodeUnderTest, command: str, most: int) -> None:
    assert "too many" in error_of(node, command, [str(i) for i in range(most + 1)])


# Restarts


@pytest.mark.parametrize("end", ["stop", "kill", "node"])
def test_connections_survive_a_restart(node: NodeUnderTest, connect: Connect, end: str) -> None:
    fields: Json = {
        "expires": "1y",
        "lud16": "a@b.c",
        "view": "node",
        "budget": "5sat",
        "renewal": "daily",
    }
    app = connect(methods="make_invoice", **fields)
    before = listed(node, app.name)
    if end == "node":
        node.restart_node()
    else:
        node.stop_plugin() if end == "stop" else node.kill_plugin()
        node.start_plugin()
    wait_until_announced(node, app.name)
    after = listed(node, app.name)
    for field in (
        "client_pubkey",
        "wallet_pubkey",
        "methods",
        "created_at",
        "expires_at",
        "lud16",
        "view",
        "budget",
    ):
        assert after[field] == before[field]
    assert app.ask("make_invoice", COFFEE).result["invoice"]
