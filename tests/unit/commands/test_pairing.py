"""nwc-connect with the URI of an app: what is shown, what is granted, and what changes nothing."""

import asyncio
import json
import shlex
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc import commands
from nwc.commands import ArgumentError
from nwc.commands.pairing import METHODS_IN_WORDS
from nwc.nip47.methods import METHODS
from nwc.nostr.keys import KeyPair
from nwc.service import App
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.permissions import allowed_methods, sent_notifications
from nwc.wallet.connections.record import Connection, Pairing, View
from tests.unit.commands.test_commands import make_app
from tests.unit.helpers import CLIENT

RELAY, OTHER_RELAY, LOCAL = "wss://relay.example/v1", "wss://other.example", "ws://192.168.1.2:7777"
STATE = "9f2c4a" * 6
DAY_S = 86_400
HOLD = ("make_hold_invoice", "settle_hold_invoice", "cancel_hold_invoice")
RECEIVING = tuple(m.name for m in METHODS.values() if not (m.spends or m.only_by_name or m.needs_hold))
Json = dict[str, Any]


def uri_of(*, relays: tuple[str, ...] = (RELAY,), key: str = CLIENT.public_key, **fields: object) -> str:
    named = {"name": "Zap App", "request_methods": "get_info make_invoice", **fields}
    pairs = [*(("relay", url) for url in relays), *named.items()]
    query = "&".join(
        f"{name}={quote(str(value), safe='')}" for name, value in pairs if value is not None
    )
    return f"nostr+walletauth://{key}?{query}"


def make_scene(
    *, revoked: tuple[str, ...] = (), proxy: str | None = None, has_hold: bool = False
) -> App:
    app = make_app(proxy=proxy)
    cast(Any, app).hold_invoices.plugin = SimpleNamespace(is_available=has_hold)

    async def revoked_ids() -> list[str]:
        return list(revoked)

    cast(SimpleNamespace, app.manager).revoked_ids = revoked_ids
    return app


async def preview(app: App, uri: str, **given: Any) -> Json:
    """Show what an app would get; check that this changes nothing."""
    before = [live.record for live in app.connections.all()]
    shown = await commands.connect(app, uri=uri, **given)
    assert [live.record for live in app.connections.all()] == before
    assert "nothing is changed yet" in shown["note"]
    json.dumps(shown)
    return shown


async def grant(uri: str, app: App | None = None, **given: Any) -> Connection:
    """Make the connection; return its record."""
    app = app or make_scene()
    shown = await commands.connect(app, uri=uri, confirm=True, **given)
    live = app.connections.named(shown["name"])
    assert live is not None
    return live.record


async def refusal(uri: str, app: App | None = None, **given: Any) -> str:
    """Return why a URI is refused; check that it is so with and without confirm, and changes nothing."""
    app = app or make_scene()
    before = [live.record for live in app.connections.all()]
    reasons = []
    for confirm in (None, True):
        with pytest.raises(ArgumentError) as raised:
            await commands.connect(app, uri=uri, confirm=confirm, **given)
        reasons.append(str(raised.value))
    assert [live.record for live in app.connections.all()] == before
    assert reasons[0] == reasons[1]
    assert len(reasons[0]) < 1000
    assert reasons[0].isprintable()
    return reasons[0]


def arguments_of(command: str) -> Json:
    """Return the parameters in a command that the owner is shown."""
    program, option, name, *words = shlex.split(command)
    assert (program, option, name) == ("lightning-cli", "-k", "nwc-connect")
    return dict(word.split("=", 1) for word in words)


async def test_a_preview_shows_everything_in_words() -> None:
    expires = int(time.time()) + 30 * DAY_S
    uri = uri_of(
        state=STATE,
        request_methods="get_info pay_invoice",
        optional_request_methods="multi_pay_invoice",
        notification_types="payment_sent channel_opened",
        max_amount=50_000_000,
        renewal_period="weekly",
        expires_at=expires,
        return_to="zap://back",
        colour="red",
    )
    shown = await preview(make_scene(), uri)
    assert shown["name"] == "Zap App"
    assert shown["app"] == "nobody has checked who it is; it calls itself: Zap App"
    assert shown["methods"] == [
        "get_info: see the name, the key and the network of the node",
        "pay_invoice: PAY invoices",
    ]
    assert shown["budget"] == "50,000 sat a week, fees included"
    assert shown["notifications"] == ["payment_sent"]
    assert shown["expires"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
    assert shown["relays"] == [RELAY]
    assert shown["return_to"] == "zap://back"
    assert shown["not_granted"] == [
        "colour: unknown to this plugin",
        "multi_pay_invoice: this plugin does not have it",
        "notifications channel_opened: this plugin does not have them",
    ]
    assert "missing" not in shown


async def test_the_command_of_a_preview_grants_what_it_shows() -> None:
    app = make_scene()
    uri = uri_of(request_methods="pay_invoice", name="It's $(mine)")
    shown = await preview(app, uri, budget="10sat", renewal="daily", view="node", expires="30d")
    given = arguments_of(shown["command"])
    assert "$(" not in given["uri"]
    assert "'" not in given["uri"]
    made = await commands.connect(app, **given)
    [live] = app.connections.all()
    assert made["name"] == live.record.name == "It's $(mine)"
    assert live.record.budget.amount_msat == 10_000
    assert live.record.view is View.NODE
    assert live.record.expires_at is not None


async def test_no_text_of_an_app_can_add_a_line_to_a_preview() -> None:
    """Before v26.06 lightning-cli prints a backslash and an n as a line break."""
    uri = uri_of(name="Zaps\\nbudget=nothing: it cannot pay\x1b[2J") + "&not%5Cnasked=x"
    app = make_scene()
    await commands.connect(app, "My\\nname")
    shown = await preview(app, uri, name="my\\nname")
    assert "'My??nname'" in shown["warning"]
    assert "\\" not in json.dumps({**shown, "command": ""}, ensure_ascii=False)
    assert shown["app"].endswith("it calls itself: Zaps?nbudget=nothing: it cannot pay?[2J")
    assert shown["not_granted"] == ["one with an odd name: unknown to this plugin"]
    assert "\\" not in arguments_of(shown["command"])["uri"]


async def test_a_confirmed_connection_has_no_uri_and_no_secret() -> None:
    app = make_scene()
    uri = uri_of(state=STATE, return_to="zap://back", optional_request_methods="sing")
    shown = await commands.connect(app, uri=uri, confirm="true", lud16="me@a.example")
    assert not {"uri", "qr", "command"} & shown.keys()
    assert shown["pairing"] == "walletauth"
    assert shown["return_to"] == "zap://back"
    assert shown["not_granted"] == ["sing: this plugin does not have it"]
    [live] = app.connections.all()
    assert live.record == Connection(
        name="Zap App",
        client_pubkey=CLIENT.public_key,
        relays=(RELAY,),
        created_at=live.record.created_at,
        methods=("get_info", "make_invoice"),
        lud16="me@a.example",
        notifications=False,
        pairing=Pairing.WALLETAUTH,
        state=STATE,
    )


async def test_a_connection_by_our_uri_is_shown_as_such() -> None:
    assert (await commands.connect(make_scene(), "x"))["pairing"] == "uri"


PAYS: Json = {"request_methods": "pay_invoice get_info"}
LIMITED: Json = {**PAYS, "max_amount": 1_000_000, "renewal_period": "weekly"}
ISOLATED: Json = {**PAYS, "isolated": "true"}
OPTIONAL: Json = {"request_methods": "get_info", "optional_request_methods": "pay_invoice"}

DAILY = Budget(BudgetKind.AMOUNT, 1_000_000, Renewal.DAILY)
CAPPED = Budget(BudgetKind.RECEIVED, max_payment_msat=1000)
BUDGETS: list[tuple[Json, Json, Budget]] = [
    (LIMITED, {}, Budget(BudgetKind.AMOUNT, 1_000_000, Renewal.WEEKLY)),
    ({**PAYS, "max_amount": 5}, {}, Budget(BudgetKind.AMOUNT, 5)),
    (
        {**PAYS, "max_amount": 5, "budget_renewal": "daily"},
        {},
        Budget(BudgetKind.AMOUNT, 5, Renewal.DAILY),
    ),
    (LIMITED, {"budget": "10sat"}, Budget(BudgetKind.AMOUNT, 10_000, Renewal.WEEKLY)),
    (LIMITED, {"budget": "1000sat"}, Budget(BudgetKind.AMOUNT, 1_000_000, Renewal.WEEKLY)),
    (LIMITED, {"renewal": "never"}, Budget(BudgetKind.AMOUNT, 1_000_000)),
    (LIMITED, {"max_payment": "1sat"}, Budget(BudgetKind.AMOUNT, 1_000_000, Renewal.WEEKLY, 0, 1000)),
    (ISOLATED, {}, Budget(BudgetKind.RECEIVED)),
    (
        ISOLATED,
        {"budget": "received", "max_payment": "1sat"},
        CAPPED,
    ),
    (PAYS, {"budget": "unlimited"}, Budget(BudgetKind.UNLIMITED)),
    (PAYS, {"budget": "received"}, Budget(BudgetKind.RECEIVED)),
    (PAYS, {"budget": "5sat", "renewal": "daily"}, Budget(BudgetKind.AMOUNT, 5000, Renewal.DAILY)),
    (OPTIONAL, {"budget": "5sat"}, Budget(BudgetKind.AMOUNT, 5000)),
    (OPTIONAL, {}, Budget()),
    ({**OPTIONAL, "max_amount": 5}, {"budget": "nothing"}, Budget()),
    ({**OPTIONAL, "max_amount": 5, "isolated": "true"}, {"budget": "nothing"}, Budget()),
    ({"max_amount": 5}, {}, Budget()),
    ({"isolated": "true"}, {}, Budget()),
]


@pytest.mark.parametrize(("asked", "given", "budget"), BUDGETS)
async def test_the_budget_is_what_was_asked_or_less(asked: Json, given: Json, budget: Budget) -> None:
    record = await grant(uri_of(**asked), **given)
    stored = record.budget
    assert (stored.kind, stored.amount_msat, stored.renewal, stored.max_payment_msat) == (
        budget.kind,
        budget.amount_msat,
        budget.renewal,
        budget.max_payment_msat,
    )
    pays = "pay_invoice" in (record.methods or ())
    assert pays is budget.can_spend


TOO_MUCH: list[tuple[Json, Json, str]] = [
    (LIMITED, {"budget": "1001sat"}, "budget: must be at most 1,000 sat"),
    (LIMITED, {"budget": "unlimited"}, "budget: must be at most 1,000 sat"),
    (LIMITED, {"budget": "received"}, "budget: must be at most 1,000 sat"),
    (LIMITED, {"renewal": "daily"}, "renewal: the app asks for an amount a week"),
    (LIMITED, {"renewal": "monthly"}, "so it must be never, weekly"),
    ({**PAYS, "max_amount": 5}, {"renewal": "yearly"}, "so it must be never"),
    (ISOLATED, {"budget": "unlimited"}, "budget: the app asks for a balance of its own"),
    (ISOLATED, {"budget": "5sat"}, "budget: the app asks for a balance of its own"),
    (ISOLATED, {"view": "node"}, "view: the app asks for its own transactions"),
    ({**LIMITED, "isolated": "true"}, {}, "only one of these limits"),
    ({}, {"budget": "5sat"}, "budget: the app asks for no method that pays"),
    ({}, {"renewal": "daily"}, "renewal: only a budget that is an amount"),
    (
        {},
        {"methods": "get_info make_invoice get_balance"},
        "methods: the app does not ask for get_balance",
    ),
    ({}, {"methods": "get_info"}, "methods: the app needs make_invoice"),
    ({}, {"notifications": True}, "notifications: the app does not ask for them"),
    ({}, {"relays": "wss://mine.example"}, "relays: the app does not listen on wss://mine.example"),
    ({}, {"pubkey": CLIENT.public_key}, "pubkey: must not be given with uri"),
    ({}, {"qr": True}, "qr: must not be given with uri"),
    ({"expires_at": 2_000_000_000}, {"expires": "never"}, "expires: must be at most 2000000000"),
    ({"expires_at": 2_000_000_000}, {"expires": 2_000_000_001}, "expires: must be at most 2000000000"),
]


@pytest.mark.parametrize(("asked", "given", "reason"), TOO_MUCH)
async def test_the_owner_cannot_give_more_than_was_asked(asked: Json, given: Json, reason: str) -> None:
    assert reason in await refusal(uri_of(**asked), **given)


LESS: list[tuple[Json, Json, Json]] = [
    ({"request_methods": "get_info"}, {"methods": "all"}, {"methods": ("get_info",)}),
    (OPTIONAL, {"methods": "get_info"}, {"methods": ("get_info",)}),
    ({"expires_at": 2_000_000_000}, {}, {"expires_at": 2_000_000_000}),
    ({"expires_at": 2_000_000_000}, {"expires": 1_900_000_000}, {"expires_at": 1_900_000_000}),
    # As Alby's SDK documents it: in milliseconds.
    ({"expires_at": 1_900_000_000_000}, {"expires": 1_900_000_000}, {"expires_at": 1_900_000_000}),
    ({}, {"expires": 1_900_000_000}, {"expires_at": 1_900_000_000}),
    ({}, {"view": "node"}, {"view": View.NODE}),
    (
        {"notification_types": "payment_received payment_sent"},
        {},
        {"notifications": True, "notification_types": ("payment_received", "payment_sent")},
    ),
    (
        {"notification_types": "payment_sent"},
        {"notifications": False},
        {"notifications": False, "notification_types": None},
    ),
    ({}, {"name": "Mine"}, {"name": "Mine"}),
    # Nothing shows it.
    ({"name": "\u202eevil"}, {"name": "Mine"}, {"name": "Mine"}),
    ({"name": None}, {"name": "Mine"}, {"name": "Mine"}),
    ({"request_methods": None}, {"methods": "get_info"}, {"methods": ("get_info",)}),
    (
        {"request_methods": None},
        {"methods": "all"},
        {"methods": RECEIVING},
    ),
    (
        {"optional_request_methods": "sign_message"},
        {},
        {"methods": ("get_info", "make_invoice")},
    ),
    (
        {"request_methods": "sign_message"},
        {"methods": "sign_message"},
        {"methods": ("sign_message",)},
    ),
]


@pytest.mark.parametrize(("asked", "given", "fields"), LESS)
async def test_the_owner_makes_the_grant_smaller(asked: Json, given: Json, fields: Json) -> None:
    record = await grant(uri_of(**asked), **given)
    assert {name: getattr(record, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("asked", "missing", "word"),
    [
        (PAYS, "budget", "the app needs pay_invoice, which pays"),
        ({"request_methods": None}, "methods", "the app does not say which methods"),
        ({**LIMITED, "max_amount": None}, "budget", "which pays"),
        ({"request_methods": "get_info sign_message"}, "methods", "methods=get_info,sign_message"),
    ],
)
async def test_what_the_app_left_open_is_for_the_owner_to_choose(
    asked: Json, missing: str, word: str
) -> None:
    app = make_scene()
    shown = await preview(app, uri_of(**asked))
    [reason] = shown["missing"]
    assert reason.startswith(f"{missing}: ")
    assert word in reason
    given = arguments_of(shown["command"])
    assert given[missing] == "…"
    for arguments in (given, {"uri": uri_of(**asked), "confirm": True}):
        with pytest.raises(ArgumentError, match=f"^{missing}: "):
            await commands.connect(app, **arguments)
    assert len(app.connections) == 0


BAD: list[tuple[Json, str]] = [
    ({"request_methods": "get_info multi_pay_invoice"}, "uri: the app needs multi_pay_invoice"),
    (
        {"request_methods": None, "optional_request_methods": "sing"},
        "no method at all: sing: ",
    ),
    ({"name": "a\u202eb"}, "uri: name: must be 1 to 64 printable characters"),
    ({"name": "a\u2066b"}, "give a name of your own with name="),
    ({"name": "\x1b[2J"}, "uri: name: must be 1 to 64 printable"),
    ({"name": "x" * 65}, "uri: name: must be 1 to 64 printable"),
    ({"name": "Zaps=1"}, "uri: name: lightning-cli would misread 'Zaps=1'; give a name of your own"),
    ({"name": "Zaps\\nbudget"}, "uri: name: lightning-cli would misread"),
    ({"name": "null"}, "uri: name: lightning-cli would misread 'null'"),
    ({"name": "1.5"}, "uri: name: lightning-cli would misread '1.5'"),
    ({"name": "--help"}, "uri: name: lightning-cli would misread"),
    ({"name": '"Zaps"'}, "uri: name: lightning-cli would misread"),
    ({"name": None}, "name: the app gives no name"),
    ({"expires_at": 1_000_000_000}, "got 1000000000; let the app make a new URI"),
    ({"expires_at": 1_900_000_000_000}, "uri: expires_at: must be in the future, at most 100 years"),
    ({"expires_at": 1_900_000_000_000}, "give a time of your own with expires="),
    (
        {"request_methods": "make_hold_invoice"},
        "the app needs make_hold_invoice: it needs the plugin hold",
    ),
    ({"relays": ("ws://127.0.0.1:7777",)}, "a local or private address; name it with relays="),
    ({"relays": ("wss://x.onion",)}, "a .onion relay needs"),
    ({"relays": ()}, "uri: relay: must be given 1 to 10 times"),
    ({"metadata": "x" * 100_000}, "uri: must have at most 65536 characters"),
]


@pytest.mark.parametrize(("fields", "reason"), BAD)
async def test_a_bad_request_is_refused(fields: Json, reason: str) -> None:
    assert reason in await refusal(uri_of(**fields))


@pytest.mark.parametrize(
    "uri", ["", 5, ["x"], "nostr+walletconnect://x?secret=abc", "https://a.example"]
)
async def test_what_is_no_uri_of_an_app_is_refused(uri: Any) -> None:
    reason = await refusal(uri)
    assert reason.startswith("uri: must be")
    assert "abc" not in reason


async def test_methods_of_hold_invoices_are_granted_if_the_node_can_serve_them() -> None:
    uri = uri_of(
        request_methods="get_info",
        optional_request_methods=" ".join(HOLD),
        notification_types="hold_invoice_accepted",
    )
    shown = await preview(make_scene(), uri)
    assert shown["methods"] == ["get_info: see the name, the key and the network of the node"]
    assert shown["notifications"] == ["none"]
    assert shown["not_granted"] == [
        *(f"{name}: it needs the plugin hold, which the node does not run" for name in HOLD),
        "notifications hold_invoice_accepted: it cannot make hold invoices",
    ]
    assert (await grant(uri)).methods == ("get_info",)
    assert "methods: make_hold_invoice: it needs" in await refusal(uri, methods="make_hold_invoice")
    assert (await grant(uri, make_scene(has_hold=True))).methods == ("get_info", *HOLD)
    shown = await preview(make_scene(has_hold=True), uri)
    assert shown["notifications"] == ["hold_invoice_accepted"]
    assert "not_granted" not in shown


async def test_the_owner_sees_which_notifications_are_not_sent() -> None:
    shown = await preview(make_scene(), uri_of(notification_types="payment_received payment_sent"))
    assert shown["notifications"] == ["payment_received"]
    assert shown["not_granted"] == ["notifications payment_sent: it cannot pay"]


async def test_a_preview_says_what_the_view_of_the_node_shows() -> None:
    assert (await preview(make_scene(), uri_of()))["view"].startswith("own: ")
    assert "ALL" in (await preview(make_scene(), uri_of(), view="node"))["view"]


async def test_local_relays_are_left_out_unless_the_owner_names_them() -> None:
    uri = uri_of(relays=(LOCAL, RELAY))
    shown = await preview(make_scene(), uri)
    assert shown["relays"] == [RELAY]
    assert shown["not_granted"] == [
        f"relay {LOCAL}: a local or private address; name it with relays= if it is yours"
    ]
    assert (await grant(uri)).relays == (RELAY,)
    assert (await grant(uri, relays=LOCAL)).relays == (LOCAL,)
    assert (await grant(uri, relays=f"{RELAY},{LOCAL}/")).relays == (LOCAL, RELAY)


async def test_an_onion_relay_is_used_with_a_proxy() -> None:
    relays = ("ws://x.onion",)
    assert (await grant(uri_of(relays=relays), make_scene(proxy="127.0.0.1:9050"))).relays == relays


async def test_the_same_uri_again_shows_the_connection() -> None:
    app = make_scene()
    first = await grant(uri_of(), app)
    for confirm in (None, True):
        shown = await commands.connect(app, uri=uri_of(), confirm=confirm)
        assert "has this connection already; nothing was changed" in shown["note"]
        assert shown["client_pubkey"] == first.client_pubkey
    assert [live.record for live in app.connections.all()] == [first]


async def test_a_key_that_exists_under_another_name_is_refused() -> None:
    app = make_scene()
    await grant(uri_of(), app)
    assert "with the name 'Zap App'" in await refusal(uri_of(name="Other"), app)
    assert "with the name 'Zap App'" in await refusal(uri_of(), app, name="Other")
    assert "with the name 'Zap App'" in await refusal(uri_of(name="\u202eevil"), app)


async def test_a_name_that_exists_is_refused() -> None:
    app = make_scene()
    await commands.connect(app, "Zap App")
    assert "give another with name=" in await refusal(uri_of(), app)
    assert (await grant(uri_of(), app, name="Zap App 2")).name == "Zap App 2"


async def test_a_name_that_looks_like_another_gets_a_warning() -> None:
    app = make_scene()
    await commands.connect(app, "Zap App")
    shown = await preview(app, uri_of(name="Zap Αpp"))  # noqa: RUF001 - a Greek letter
    assert "looks like that of another connection: 'Zap App'; name= gives another" in shown["warning"]


async def test_a_revoked_key_is_not_given_its_access_back() -> None:
    app = make_scene(revoked=(CLIENT.public_key[:16],))
    assert "was revoked" in await refusal(uri_of(), app)
    assert (await grant(uri_of(key=KeyPair.generate().public_key), app)).name == "Zap App"


async def test_confirm_needs_a_uri() -> None:
    with pytest.raises(ArgumentError, match="confirm: is only for the URI of an app"):
        await commands.connect(make_scene(), "x", confirm=True)


async def test_a_uri_in_the_place_of_a_name_is_recognized() -> None:
    with pytest.raises(ArgumentError, match="name: this is the URI of an app; give it as uri="):
        await commands.connect(make_scene(), uri_of())


async def test_the_owner_may_send_other_notifications_later() -> None:
    app = make_scene()
    await grant(uri_of(notification_types="payment_sent"), app)
    await commands.update(app, "Zap App", notifications=True)
    [live] = app.connections.all()
    assert live.record.notification_types is None


def some(words: Sequence[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words), unique=True, max_size=4).map(" ".join)


WORDS = [*METHODS, "multi_pay_invoice"]
TYPES = ["payment_received", "payment_sent", "channel_opened"]
LATER = 2_000_000_000
ASKED = st.fixed_dictionaries(
    {},
    optional={
        "request_methods": some(list(METHODS)),
        "optional_request_methods": some(WORDS),
        "notification_types": some(TYPES),
        "max_amount": st.sampled_from([1, 50_000, 2_000_000]),
        "renewal_period": st.sampled_from(Renewal),
        "isolated": st.sampled_from(["true", "false"]),
        "expires_at": st.sampled_from([LATER, LATER + DAY_S]),
        "relays": st.sampled_from([(RELAY,), (RELAY, LOCAL), (LOCAL, OTHER_RELAY)]),
    },
)
CHOSEN = st.fixed_dictionaries(
    {},
    optional={
        "methods": some(list(METHODS)) | st.just("all"),
        "budget": st.sampled_from(["nothing", "1msat", "50sat", "1000sat", "received", "unlimited"]),
        "renewal": st.sampled_from(Renewal),
        "max_payment": st.just("1sat"),
        "view": st.sampled_from(View),
        "notifications": st.booleans(),
        "expires": st.sampled_from(["never", LATER - 1, LATER + 1]),
        "relays": st.sampled_from([RELAY, LOCAL, OTHER_RELAY]),
    },
)


@settings(max_examples=1000, deadline=None)
@given(ASKED, CHOSEN)
def test_nothing_exceeds_what_was_asked(fields: Json, chosen: Json) -> None:
    uri = uri_of(**{"request_methods": None, **fields})
    try:
        record = asyncio.run(grant(uri, make_scene(has_hold=True), **chosen))
    except ArgumentError:
        return
    required = set(fields.get("request_methods", "").split())
    wanted = required | set(fields.get("optional_request_methods", "").split())
    methods = set(record.methods or ())
    assert required <= methods == set(allowed_methods(record, has_hold=True))
    assert methods <= wanted or not wanted
    assert "sign_message" not in methods or "sign_message" in chosen["methods"]
    assert set(sent_notifications(record, True, has_hold=True)) <= set(
        fields.get("notification_types", "").split()
    )
    assert set(record.relays) <= set(fields.get("relays", (RELAY,)))
    assert LOCAL not in record.relays or chosen.get("relays") == LOCAL
    assert record.expires_at is not None or "expires_at" not in fields
    assert (record.expires_at or 0) <= fields.get("expires_at", LATER + 1)
    check_budget(record, fields, chosen)


def check_budget(record: Connection, fields: Json, chosen: Json) -> None:
    """Check that a connection spends no more than the app asked for, and never unasked."""
    budget = record.budget
    is_isolated = fields.get("isolated") == "true"
    assert record.view is View.OWN or not is_isolated
    if not budget.can_spend:
        return
    assert any(METHODS[name].spends for name in record.methods or ())
    assert budget.kind is BudgetKind.RECEIVED or not is_isolated
    if "max_amount" in fields:
        assert budget.kind is BudgetKind.AMOUNT
        assert 0 < budget.amount_msat <= fields["max_amount"]
        order = [Renewal.DAILY, Renewal.WEEKLY, Renewal.MONTHLY, Renewal.YEARLY, Renewal.NEVER]
        asked = Renewal(fields.get("renewal_period", "never"))
        assert order.index(budget.renewal) >= order.index(asked)
    else:
        assert is_isolated or "budget" in chosen


def test_each_method_has_words_for_the_owner() -> None:
    assert METHODS.keys() <= METHODS_IN_WORDS.keys()
