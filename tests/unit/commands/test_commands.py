"""The nwc-* commands over an App without node and relays."""

import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from unicodedata import normalize
from urllib.parse import parse_qs, urlsplit

import pytest

from nwc import commands
from nwc.commands import ArgumentError
from nwc.nip47.encryption import Cipher
from nwc.nip47.rate_limit import RateLimit
from nwc.nostr.keys import KeyPair
from nwc.nostr.relay_health import RelayInfo
from nwc.options import Settings
from nwc.service import App
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.manager import ManagementError
from nwc.wallet.connections.record import Connection
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection
from nwc.wallet.spending.breaker import CircuitBreaker
from nwc.wallet.spending.ledger import Ledger
from nwc.wallet.spending.ledgers import Ledgers
from nwc.wallet.spending.payment import Payment
from tests.unit.helpers import CLIENT, NOW, STRANGER
from tests.unit.nip47.test_methods import RECEIVING
from tests.unit.wallet.fake_node import FakeNode

DEFAULT_RELAYS = ("wss://default.example",)
DAY_S = 86_400
WEEK_S = 7 * DAY_S
PAYING = ["pay", "pay_invoice", "pay_keysend"]
Json = dict[str, Any]


class Manager:
    """A ConnectionManager that stores nothing, with relays that accept every event at once."""

    def __init__(self, connections: ConnectionRegistry) -> None:
        self.connections = connections

    def unserved_keys(self) -> list[str]:
        return []

    def serve(self, record: Connection) -> LiveConnection:
        keys = KeyPair.generate()
        cipher = Cipher(keys, record.client_pubkey)
        live = LiveConnection(record, keys, cipher, RateLimit(1, 1, 0))
        live.is_published.set()
        live.info_states = dict.fromkeys(record.relays, "published")
        self.connections.add(live)
        return live

    async def create(self, record: Connection) -> LiveConnection:
        return self.serve(record)

    async def change(self, name: str, change: Callable[[Connection], Connection]) -> LiveConnection:
        live = self.find(name)
        live.record = change(live.record)
        return live

    async def revoke(self, name: str) -> LiveConnection:
        live = self.find(name)
        self.connections.remove(live)
        return live

    def find(self, name: str) -> LiveConnection:
        live = self.connections.named(name)
        if live is None:
            raise ManagementError(name)
        return live


class Pool:
    """Relays that are all in the state `state`."""

    def __init__(self) -> None:
        self.state = "connected"

    def info(self, urls: tuple[str, ...] = DEFAULT_RELAYS) -> list[RelayInfo]:
        return [RelayInfo(url, self.state, 1, NOW, 5, 0, 7, {"seen before": 2}, 0, None) for url in urls]

    def is_listening(self, recipient: str, url: str) -> bool:
        return self.state == "connected"


class HoldInvoices:
    """No hold invoices: the plugin hold is missing."""

    plugin = SimpleNamespace(is_available=False)

    def summary(self) -> str:
        return "not served"

    async def cancel_open(self, _connection_id: str) -> tuple[int, int]:
        return 0, 0


def make_app(*, proxy: str | None = None, node: FakeNode | None = None) -> App:
    connections = ConnectionRegistry()
    settings = Settings(
        "rpc", DEFAULT_RELAYS, 3600, 120, 20, notifications=True, proxy=proxy, always_use_proxy=False
    )
    app = SimpleNamespace(
        settings=settings,
        started_at=NOW,
        connections=connections,
        manager=Manager(connections),
        connect=Manager(connections).create,
        pool=Pool(),
        server=SimpleNamespace(
            answered=Counter({("get_info", "ok"): 2, ("get_info", "INTERNAL"): 1}),
            ignored=Counter({"stale": 3}),
        ),
        payments=SimpleNamespace(
            ledgers=Ledgers(node or FakeNode()),
            breaker=CircuitBreaker(node or FakeNode()),
            is_started=True,
        ),
        hold_invoices=HoldInvoices(),
    )
    return cast(App, app)


async def make_connection(app: App, **arguments: Any) -> Connection:
    """Make a connection and return its record."""
    shown = await commands.connect(app, **{"name": "x", **arguments})
    live = app.connections.named(shown["name"])
    assert live is not None
    return live.record


# nwc-connect


async def test_connect_shows_the_new_connection() -> None:
    app = make_app()
    shown = await commands.connect(app, "My phone")
    [live] = app.connections.all()
    parts = urlsplit(shown["uri"])
    query = parse_qs(parts.query)
    client = KeyPair.from_secret(bytes.fromhex(query["secret"][0]))
    assert parts.hostname == live.wallet_pubkey == shown["wallet_pubkey"]
    assert client.public_key == live.record.client_pubkey == shown["client_pubkey"]
    assert query["relay"] == list(DEFAULT_RELAYS)
    assert shown["name"] == "My phone"
    assert shown["methods"] == list(RECEIVING)
    assert shown["budget"] == {"kind": "nothing"}
    assert shown["notifications"] == ["payment_received"]
    assert shown["relays"] == [
        {
            "url": DEFAULT_RELAYS[0],
            "state": "connected",
            "listening": True,
            "info_event": "published",
        }
    ]
    assert shown["expires_at"] is None
    assert "warning" not in shown
    assert "qr" not in shown


async def test_the_secret_is_shown_once() -> None:
    app = make_app()
    shown = await commands.connect(app, "x")
    secret = parse_qs(urlsplit(shown["uri"]).query)["secret"][0]
    assert secret not in str({**shown, "uri": ""})
    assert secret not in str(await commands.list_(app))
    assert secret not in repr(app.connections.all())
    assert secret not in app.connections.all()[0].record.to_json()


async def test_an_app_may_keep_its_own_key() -> None:
    app = make_app()
    shown = await commands.connect(app, "x", pubkey=CLIENT.public_key.upper())
    assert "secret" not in shown["uri"]
    assert shown["client_pubkey"] == CLIENT.public_key


async def test_disconnected_relays_get_a_warning() -> None:
    app = make_app()
    cast(Pool, app.pool).state = "disconnected"
    assert "no relay is connected" in (await commands.connect(app, "x"))["warning"]


async def test_a_uri_too_long_for_a_qr_code_is_shown_all_the_same() -> None:
    urls = [f"wss://{number}.example/{'x' * 150}" for number in range(20)]
    shown = await commands.connect(make_app(), "x", qr=True, relays=urls)
    assert "secret=" in shown["uri"]
    assert "qr" not in shown
    assert "qr: the URI is too long" in shown["warning"]


async def test_a_qr_code_is_shown_on_request() -> None:
    shown = await commands.connect(make_app(), "x", qr=True)
    assert shown["format-hint"] == "simple"
    assert shown["qr"].count("\n") > 10


async def test_no_complaint_of_a_relay_can_add_a_line_to_a_qr_code() -> None:
    """Before v26.06 lightning-cli prints a backslash and an n as a line break."""
    app = make_app()
    complaint = "closed\\nuri=nostr+walletconnect://other"
    info = RelayInfo("wss://a", "connected", 1, NOW, 5, 0, 7, {}, 0, complaint)
    cast(Any, app.pool).info = lambda _urls: [info]
    shown = await commands.connect(app, "x", qr=True)
    assert shown["relays"][0]["last_error"] == "closed?nuri=nostr+walletconnect://other"


GOOD: list[tuple[Json, Json]] = [
    ({"name": "  My phone é "}, {"name": "My phone é"}),
    ({"name": 5}, {"name": "5"}),
    ({"name": "x" * 64}, {"name": "x" * 64}),
    ({"methods": "all"}, {"methods": None}),
    ({"methods": "make_invoice get_info"}, {"methods": ("get_info", "make_invoice")}),
    (
        {"methods": "sign_message make_invoice"},
        {"methods": ("make_invoice", "sign_message")},
    ),
    ({"methods": ["make_invoice", "make_invoice"]}, {"methods": ("make_invoice",)}),
    (
        {"relays": "wss://A.example/,wss://b.example"},
        {"relays": ("wss://a.example/", "wss://b.example")},
    ),
    ({"relays": ["wss://a.example", "wss://a.example/"]}, {"relays": ("wss://a.example",)}),
    ({"expires": "never"}, {"expires_at": None}),
    ({"expires": NOW + 3650 * DAY_S}, {"expires_at": NOW + 3650 * DAY_S}),
    ({"lud16": "me.x+1@sub-a.example:8080"}, {"lud16": "me.x+1@sub-a.example:8080"}),
    ({"lud16": ""}, {"lud16": None}),
    ({"methods": "pay_invoice", "budget": 1}, {"methods": ("pay_invoice",)}),
    ({"budget": 0, "renewal": "never", "view": "own"}, {"budget": Budget()}),
    ({"budget": "0sat", "qr": "false"}, {"budget": Budget()}),
]


@pytest.mark.parametrize(("arguments", "fields"), GOOD)
async def test_valid_arguments_are_stored(arguments: Json, fields: Json) -> None:
    record = await make_connection(make_app(), **arguments)
    assert {name: getattr(record, name) for name in fields} == fields


BAD: dict[str, list[Any]] = {
    "name": [
        "",
        "  ",
        "x" * 65,
        "a\nb",
        "\x1b[31m",
        "\ud800",
        "\u202ea",
        "\u3164",
        None,
        True,
        1.5,
        [],
        {},
    ],
    "methods": [
        "",
        " ",
        ",",
        "pay",
        "all,get_info",
        "all sign_message",
        [],
        [5],
        5,
        {},
        True,
        "get_info;make_invoice",
    ],
    "expires": ["", " ", 0, "0", "yesterday", "0d", "2020-01-01", 5, True, [], {}],
    "relays": [
        "",
        "x",
        "https://a.example",
        [],
        [5],
        5,
        {},
        "ws://abc.onion",
        "wss://wss://a.example",
        ["wss://a.example,wss://b.example"],
        ["wss://a.example,b.example"],
        "wss://a.example:",
    ],
    "pubkey": ["", "x", 5, [], True, "00" * 32, "nsec1" + "q" * 58, CLIENT.public_key[:-1]],
    "lud16": [
        "x",
        "@a",
        "a@",
        "a b@c",
        "a@b..c",
        "a@b:x",
        "é@b",
        "\u017f@b",
        "a@b:٣",
        "a" * 300 + "@b",
        5,
        [],
    ],
    "qr": ["yes", "", 2, [], {}, "True"],
    "budget": ["x", "weekly", "-1sat", -1, 1.5, True, False, [], {}, "1e5sat", "1 2sat", "21000001btc"],
    "renewal": ["daily", "hourly", 5, True, False, [], {}],
    "max_payment": [
        "5sat",
        1,
        0,
        "0sat",
        "x",
        "-1sat",
        -1,
        1.5,
        True,
        False,
        [],
        {},
        "unlimited",
        "21000001btc",
    ],
    "view": ["all", "Node", 5, True, [], {}],
    "notifications": ["yes", "", 2, [], {}, "True"],
}


@pytest.mark.parametrize(
    ("argument", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
async def test_invalid_arguments_are_refused(argument: str, value: object) -> None:
    app = make_app()
    with pytest.raises(ArgumentError, match=f"^{argument}: "):
        await commands.connect(app, **{"name": "x", argument: value})
    assert len(app.connections) == 0


# Budgets

NOTHING, UNLIMITED = Budget(), Budget(BudgetKind.UNLIMITED, since=NOW)
WEEKLY = Budget(BudgetKind.AMOUNT, 50_000_000, Renewal.WEEKLY, NOW)
BUDGETS: list[tuple[Json, Budget]] = [
    *(({"budget": value}, NOTHING) for value in (None, "", "nothing", " None ", 0, "0", "0btc")),
    ({"budget": "nothing", "renewal": "", "max_payment": ""}, NOTHING),
    ({"budget": "nothing", "renewal": "Never", "max_payment": " None "}, NOTHING),
    *(({"budget": value}, UNLIMITED) for value in ("unlimited", " UNLIMITED ")),
    ({"budget": "unlimited", "renewal": "never"}, UNLIMITED),
    ({"budget": "unlimited", "max_payment": "5sat"}, replace(UNLIMITED, max_payment_msat=5000)),
    ({"budget": "received"}, Budget(BudgetKind.RECEIVED, since=NOW)),
    ({"budget": "50000sat", "renewal": "weekly"}, WEEKLY),
    ({"budget": 50_000_000, "renewal": " Weekly "}, WEEKLY),
    ({"budget": "0.0005btc", "renewal": "weekly", "max_payment": "none"}, WEEKLY),
    ({"budget": "50000sat", "renewal": "weekly", "max_payment": None}, WEEKLY),
    ({"budget": "1sat"}, Budget(BudgetKind.AMOUNT, 1000, since=NOW)),
    ({"budget": "1sat", "renewal": ""}, Budget(BudgetKind.AMOUNT, 1000, since=NOW)),
    *(
        ({"budget": 1, "renewal": str(renewal)}, Budget(BudgetKind.AMOUNT, 1, renewal, NOW))
        for renewal in Renewal
    ),
    ({"budget": 7, "max_payment": 9}, Budget(BudgetKind.AMOUNT, 7, since=NOW, max_payment_msat=9)),
]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stop the clock at NOW; return a function that sets it."""

    def set_to(now: float) -> None:
        monkeypatch.setattr(time, "time", lambda: now)

    set_to(NOW + 0.9)
    return set_to


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("arguments", "budget"), BUDGETS, ids=str)
async def test_valid_budgets_are_stored(arguments: Json, budget: Budget) -> None:
    app = make_app()
    shown = await commands.connect(app, "x", **arguments)
    assert app.connections.all()[0].record.budget == budget
    assert shown["budget"]["kind"] == budget.kind
    assert (shown["methods"][-3:] == PAYING) is budget.can_spend
    assert ("payment_sent" in shown["notifications"]) is budget.can_spend


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"budget": "unlimited", "renewal": "daily"}, "renewal: only a budget that is an amount"),
        ({"budget": "received", "renewal": "daily"}, "renewal: only a budget that is an amount"),
        ({"budget": "0sat", "renewal": "daily"}, "renewal: only a budget that is an amount"),
        ({"budget": 1, "renewal": "hourly"}, "renewal: must be one of never, daily, weekly, monthly, y"),
        ({"budget": 1, "renewal": 7}, "renewal: must be one of"),
        ({"budget": "nothing", "max_payment": 1}, "max_payment: needs a budget"),
        ({"budget": 1, "max_payment": 0}, "max_payment: must be more than 0; write none for no cap"),
        ({"budget": 1, "max_payment": "0"}, "max_payment: must be more than 0"),
        ({"budget": "unlimited", "max_payment": "0.0sat"}, "max_payment: must be more than 0"),
        (
            {"budget": 1, "max_payment": ""},
            "max_payment: is empty; write an amount like 10000sat, or none",
        ),
        ({"budget": "unlimited", "max_payment": " "}, "max_payment: is empty; write"),
        ({"budget": 1, "max_payment": "x"}, "max_payment: must be an amount like 50000sat"),
        ({"budget": 1, "max_payment": "received"}, "max_payment: must be an amount like 50000sat"),
        ({"budget": "a lot"}, "budget: must be an amount like 50000sat"),
        ({"budget": 2**70}, "budget: must be at most 2100000000000000000 msat"),
    ],
    ids=str,
)
async def test_invalid_budgets_are_refused(arguments: Json, problem: str) -> None:
    app = make_app()
    with pytest.raises(ArgumentError, match=f"^{problem}"):
        await commands.connect(app, "x", **arguments)
    assert len(app.connections) == 0


LATER = NOW + 10 * DAY_S
UPDATES: list[tuple[Json, Budget]] = [
    ({"budget": "20000sat"}, replace(WEEKLY, amount_msat=20_000_000)),
    ({"budget": "20000sat", "renewal": "weekly"}, replace(WEEKLY, amount_msat=20_000_000)),
    ({"renewal": "daily"}, replace(WEEKLY, renewal=Renewal.DAILY, since=LATER)),
    ({"renewal": "never"}, replace(WEEKLY, renewal=Renewal.NEVER, since=LATER)),
    ({"max_payment": "5sat"}, replace(WEEKLY, max_payment_msat=5000)),
    ({"max_payment": "none"}, replace(WEEKLY, max_payment_msat=None)),
    ({"max_payment": " None "}, replace(WEEKLY, max_payment_msat=None)),
    ({"budget": "unlimited"}, replace(UNLIMITED, since=LATER)),
    ({"budget": "received"}, Budget(BudgetKind.RECEIVED, since=LATER)),
    ({"budget": "nothing"}, NOTHING),
    ({"budget": "0sat"}, NOTHING),
]


@pytest.mark.parametrize("cap", [None, 7])
@pytest.mark.parametrize(("arguments", "budget"), UPDATES, ids=str)
async def test_an_update_changes_only_the_given_parts_of_a_budget(
    clock: Callable[[float], None], arguments: Json, budget: Budget, cap: int | None
) -> None:
    """The rest stays, also the cap. The period stays too, so that spent amounts still count."""
    app = make_app()
    await make_connection(app, budget="50000sat", renewal="weekly", max_payment=cap)
    clock(LATER)
    shown = await commands.update(app, "x", **arguments)
    has_cap = budget.can_spend and "max_payment" not in arguments
    expected = replace(budget, max_payment_msat=cap) if has_cap else budget
    assert app.connections.all()[0].record.budget == expected
    assert shown["budget"]["kind"] == budget.kind


@pytest.mark.parametrize(
    "arguments", [{"renewal": "daily"}, {"max_payment": 1}, {"budget": "x"}, {"budget": True}], ids=str
)
async def test_a_connection_without_a_budget_refuses_these_updates(arguments: Json) -> None:
    app = make_app()
    before = await make_connection(app)
    [argument] = arguments
    with pytest.raises(ArgumentError, match=f"^{argument}: "):
        await commands.update(app, "x", **arguments)
    assert app.connections.all()[0].record == before


async def test_a_budget_adds_the_paying_methods() -> None:
    app = make_app()
    await make_connection(app)
    shown = await commands.update(app, "x", budget="5sat")
    assert shown["methods"] == [*RECEIVING, *PAYING]
    assert shown["notifications"] == ["payment_received", "payment_sent"]
    shown = await commands.update(app, "x", budget="nothing")
    assert not set(PAYING) & set(shown["methods"])
    assert shown["notifications"] == ["payment_received"]


PENDING = Payment("07" * 32, NOW, "pay_invoice", "nip04", NOW, 1000, 50, "5a" * 32, None, None)
USED = Ledger(
    period_started_at=NOW,
    spent_msat=3000,
    total_spent_msat=4000,
    received_msat=9000,
    reservations={PENDING.request_id: PENDING},
)
SHOWN: list[tuple[Json, Json]] = [
    (
        {"budget": "50000sat", "renewal": "weekly", "max_payment": "20sat"},
        {
            "kind": "amount",
            "granted_msat": 50_000_000,
            "spent_msat": 3000,
            "reserved_msat": 1050,
            "left_msat": 50_000_000 - 4050,
            "renewal": "weekly",
            "renews_at": NOW + WEEK_S,
            "max_payment_msat": 20_000,
            "pending_payments": 1,
        },
    ),
    (
        {"budget": "4sat"},
        {
            "kind": "amount",
            "granted_msat": 4000,
            "spent_msat": 3000,
            "reserved_msat": 1050,
            "left_msat": 0,
            "renewal": "never",
            "pending_payments": 1,
        },
    ),
    (
        {"budget": "received"},
        {
            "kind": "received",
            "granted_msat": 9000,
            "spent_msat": 4000,
            "reserved_msat": 1050,
            "left_msat": 3950,
            "renewal": "never",
            "pending_payments": 1,
        },
    ),
    (
        {"budget": "unlimited"},
        {
            "kind": "unlimited",
            "spent_msat": 3000,
            "reserved_msat": 1050,
            "renewal": "never",
            "pending_payments": 1,
        },
    ),
    ({"budget": "nothing"}, {"kind": "nothing"}),
]


def node_with(ledger: str) -> FakeNode:
    """Return a node that stores a ledger of CLIENT."""
    node = FakeNode()
    node.datastore["nwc", "ledgers", CLIENT.public_key] = ledger
    return node


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("arguments", "budget"), SHOWN, ids=lambda value: str(value)[:40])
async def test_each_kind_of_budget_is_shown_with_its_fields(arguments: Json, budget: Json) -> None:
    app = make_app(node=node_with(USED.to_json()))
    shown = await commands.connect(app, "x", pubkey=CLIENT.public_key, **arguments)
    assert shown["budget"] == budget
    [listed] = (await commands.list_(app))["connections"]
    assert listed["budget"] == budget
    assert (await commands.update(app, "x", notifications=True))["budget"] == budget


async def test_a_damaged_ledger_hides_nothing_else() -> None:
    app = make_app(node=node_with("{}"))
    await make_connection(app, name="a", pubkey=CLIENT.public_key, budget="5sat")
    await make_connection(app, name="b", budget="5sat")
    first, second = (await commands.list_(app))["connections"]
    assert first["budget"]["kind"] == "amount"
    assert first["budget"]["warning"].startswith("cannot spend: ")
    assert second["budget"]["left_msat"] == 5000


EMPTY_VALUES: tuple[object, ...] = ("", " ", "\t", [])
EMPTY = [
    (name, value)
    for name in (
        "methods",
        "expires",
        "relays",
        "view",
        "notifications",
        "budget",
        "renewal",
        "max_payment",
    )
    for value in EMPTY_VALUES
]


@pytest.mark.parametrize(("argument", "value"), EMPTY)
async def test_an_empty_argument_is_refused(argument: str, value: object) -> None:
    """A shell passes it for an unset variable."""
    app = make_app()
    before = await make_connection(
        app, budget="50000sat", renewal="weekly", max_payment="1sat", methods="get_info", expires="1d"
    )
    with pytest.raises(ArgumentError, match=f"^{argument}: is empty; write [a-z]"):
        await commands.update(app, "x", **{argument: value})
    assert app.connections.all()[0].record == before


async def test_methods_are_checked_against_the_new_budget() -> None:
    app = make_app()
    before = await make_connection(app, budget="50000sat")
    with pytest.raises(ArgumentError, match=r"^methods: pay_invoice needs a budget"):
        await commands.update(app, "x", methods="pay_invoice", budget="nothing")
    assert app.connections.all()[0].record == before


# Warnings


async def test_small_numbers_without_a_unit_get_a_warning() -> None:
    app = make_app()
    shown = await commands.connect(app, "x", budget=5, max_payment="3")
    assert shown["warning"] == (
        "budget: a number without a unit is msat, so this is 5 msat; write 5sat for satoshis. "
        "max_payment: a number without a unit is msat, so this is 3 msat; write 3sat for satoshis"
    )
    assert "warning" not in (await commands.list_(app))["connections"][0]
    assert "write 999sat for" in (await commands.update(app, "x", budget="999"))["warning"]
    assert "warning" not in await commands.update(app, "x", budget="5sat", max_payment="3000msat")


async def test_names_that_look_alike_get_a_warning() -> None:
    app = make_app()
    assert "warning" not in await commands.connect(app, "Bob")
    shown = await commands.connect(app, "B0b")
    assert shown["warning"] == (
        "name: looks like that of another connection: 'Bob'; new_name changes it"
    )
    assert "warning" not in await commands.update(app, "B0b", expires="1d")
    assert "'Bob'" in (await commands.update(app, "B0b", new_name="BOB"))["warning"]
    assert "warning" not in await commands.update(app, "BOB", new_name="Alice")
    # A name does not look like itself.
    assert "warning" not in await commands.update(app, "Alice", new_name="ALICE")


async def test_a_warning_is_bounded() -> None:
    app = make_app()
    for name in ("Bob", "B0b", "BOB", "bob"):
        await commands.connect(app, name)
    shown = await commands.connect(app, "bOb")
    assert "'Bob', 'B0b', 'BOB' and 1 more" in shown["warning"]


async def test_all_warnings_are_joined() -> None:
    app = make_app()
    await make_connection(app, name="Bob")
    cast(Pool, app.pool).state = "disconnected"
    await make_connection(app, name="app")
    live = app.connections.named("app")
    assert live is not None
    live.clock_ahead_s = 300
    shown = await commands.update(app, "app", new_name="bob", budget=7)
    texts = shown["warning"].split(". ")
    assert [text[:12] for text in texts] == [
        "budget: a nu",
        "name: looks ",
        "the app's la",
        "no relay is ",
    ]
    listed = (await commands.list_(app, "bob"))["connections"][0]
    assert listed["warning"].split(". ") == texts[2:]


# More of nwc-connect


async def test_more_than_twenty_relays_are_refused() -> None:
    urls = [f"wss://{number}.example" for number in range(21)]
    assert len((await make_connection(make_app(), relays=urls[1:])).relays) == 20
    with pytest.raises(ArgumentError, match=r"^relays: must be 1 to 20 relay URLs; got 21"):
        await make_connection(make_app(), relays=urls)


async def test_an_onion_relay_is_accepted_with_a_proxy() -> None:
    app = make_app(proxy="socks5h://127.0.0.1:9050")
    assert (await make_connection(app, relays="ws://abc.onion")).relays == ("ws://abc.onion",)


@pytest.mark.parametrize("pubkey", ["nsec1" + "q" * 58, CLIENT.secret_hex()[:-1] + "x"])
async def test_a_secret_key_given_as_pubkey_is_not_shown(pubkey: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        await commands.connect(make_app(), "x", pubkey=pubkey)
    assert pubkey[5:] not in str(caught.value)


# The other commands


async def test_list_shows_all_connections_or_one() -> None:
    app = make_app()
    await make_connection(app, name="a", lud16="me@a.example")
    await make_connection(app, name="b")
    assert [shown["name"] for shown in (await commands.list_(app))["connections"]] == ["a", "b"]
    [shown] = (await commands.list_(app, " a "))["connections"]
    assert (shown["name"], shown["lud16"]) == ("a", "me@a.example")
    assert "last_used_at" not in shown
    live = app.connections.named("a")
    assert live is not None
    live.last_used_at = NOW
    assert (await commands.list_(app, "a"))["connections"][0]["last_used_at"] == NOW


async def test_update_changes_the_given_settings() -> None:
    app = make_app()
    before = await make_connection(app, methods="get_info", expires="7d", lud16="me@a.example")
    shown = await commands.update(
        app, "x", new_name="y", methods="all", expires="never", relays="wss://b.example"
    )
    [live] = app.connections.all()
    assert live.record == replace(
        before, name="y", methods=None, expires_at=None, relays=("wss://b.example",)
    )
    assert shown["name"] == "y"


@pytest.mark.parametrize("argument", ["new_name", "methods", "expires", "relays", "budget"])
async def test_update_keeps_the_other_settings(argument: str) -> None:
    app = make_app()
    before = await make_connection(app, methods="get_info", expires="7d", relays="wss://a.example")
    value = {
        "new_name": "y",
        "methods": "all",
        "expires": "never",
        "relays": "wss://b.example",
        "budget": "unlimited",
    }[argument]
    await commands.update(app, "x", **{argument: value})
    [live] = app.connections.all()
    changed = {
        name
        for name in ("name", "methods", "expires_at", "relays", "lud16", "created_at", "budget")
        if getattr(live.record, name) != getattr(before, name)
    }
    assert changed == {{"new_name": "name", "expires": "expires_at"}.get(argument, argument)}


async def test_only_resume_ends_a_suspension_of_payments() -> None:
    app = make_app()
    record = await make_connection(app, name="app", budget=5)
    for number in (1, 2):
        stopped = app.payments.breaker.lightningd_stopped
        await stopped(record.client_pubkey, frozenset({f"{number:064x}"}), NOW)
    [shown] = (await commands.list_(app))["connections"]
    assert shown["payments_suspended_at"] == NOW
    assert "nwc-update with resume=true resumes them" in shown["warning"]
    for resume in (None, False, "false"):
        changed = await commands.update(app, "app", view="node", resume=resume)
        assert changed["payments_suspended_at"] == NOW
    changed = await commands.update(app, "app", resume="true")
    assert "payments_suspended_at" not in changed
    assert "warning" not in changed
    assert changed["budget"]["granted_msat"] == 5


async def test_revoke_ends_the_connection() -> None:
    app = make_app()
    record = await make_connection(app, pubkey=STRANGER.public_key)
    shown = await commands.revoke(app, "x")
    assert (shown["name"], shown["revoked"]) == ("x", True)
    assert shown["client_pubkey"] == record.client_pubkey
    assert app.connections.all() == []


@pytest.mark.parametrize("stored", ["cafe\u0301", "café", "\u3164", "a\u034fb", "\u2800"])
@pytest.mark.parametrize("command", [commands.list_, commands.revoke, commands.update])
async def test_names_of_earlier_versions_are_found(
    stored: str, command: Callable[..., Coroutine[Any, Any, Json]]
) -> None:
    """They were stored as typed, in any normal form. Some of them are refused today."""
    for form in ("NFC", "NFD"):
        app = make_app()
        record = replace(await make_connection(app), name=stored)
        app.connections.all()[0].record = record
        more = {"expires": "never"} if command is commands.update else {}
        shown = await command(app, normalize(form, stored), **more)
        assert stored in str(shown)


async def test_a_name_typed_in_another_form_is_found() -> None:
    app = make_app()
    assert (await commands.connect(app, "cafe\u0301"))["name"] == "café"
    [shown] = (await commands.list_(app, "cafe\u0301"))["connections"]
    assert shown["name"] == "café"
    assert (await commands.update(app, "cafe\u0301", new_name="the\u0301"))["name"] == "thé"
    assert (await commands.revoke(app, "the\u0301"))["revoked"]


@pytest.mark.parametrize("command", [commands.list_, commands.revoke, commands.update])
async def test_unknown_names_are_refused(command: Callable[..., Coroutine[Any, Any, Json]]) -> None:
    more = {"new_name": "y"} if command is commands.update else {}
    with pytest.raises(ManagementError):
        await command(make_app(), "nobody", **more)


@pytest.mark.parametrize(
    ("ahead_s", "warning"), [(300, "300 seconds ahead of this"), (-150, "150 seconds behind this")]
)
async def test_a_wrong_clock_gets_a_warning(ahead_s: int, warning: str) -> None:
    app = make_app()
    await make_connection(app)
    [live] = app.connections.all()
    live.clock_ahead_s = ahead_s
    [used] = (await commands.status(app))["connections"]
    [listed] = (await commands.list_(app))["connections"]
    assert used["warning"] == listed["warning"]
    assert warning in used["warning"]


async def test_status_shows_relays_and_counts() -> None:
    app = make_app()
    await make_connection(app)
    [live] = app.connections.all()
    live.answered["get_info", "ok"] = 2
    live.last_used_at, live.rate_limited = NOW, 4
    shown = await commands.status(app)
    assert shown["started_at"] == NOW
    assert shown["connections"] == [
        {
            "name": "x",
            "last_used_at": NOW,
            "requests_answered": {"get_info": {"ok": 2}},
            "rate_limited": 4,
        }
    ]
    assert shown["requests_answered"] == {"get_info": {"INTERNAL": 1, "ok": 2}}
    assert shown["events_ignored"] == {"stale": 3}
    [relay] = shown["relays"]
    assert (relay["url"], relay["state"], relay["connections"]) == (DEFAULT_RELAYS[0], "connected", 1)
    assert (relay["events_received"], relay["events_ignored"]) == (7, {"seen before": 2})
