"""nwc-export and nwc-import over the test double of lightningd, without relays."""

# ruff: noqa: F811 - the fixture `scene`
import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nwc import commands
from nwc.cln.errors import NodeError, NodeUnavailableError
from nwc.commands import ArgumentError, backup
from nwc.nip47.methods import METHODS
from nwc.nostr.keys import KeyPair
from nwc.options import MAX_RELAYS
from nwc.wallet.connections import manager
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.record import Connection, Pairing, View
from nwc.wallet.connections.registry import LiveConnection
from tests.double.node import Node as Double
from tests.unit.helpers import CLIENT, JSON_VALUES, STRANGER
from tests.unit.test_service import RELAY, Scene, scene  # noqa: F401

Json = dict[str, Any]
KEY, OTHER_KEY = "ab" * 32, STRANGER.public_key
NEW = {"name": "new", "pubkey": OTHER_KEY, "relays": RELAY}


async def import_entries(scene: Scene, *entries: object) -> list[Json]:
    """Import entries; return the outcome of each."""
    answer = await commands.import_(scene.app, list(entries))
    outcomes: list[Json] = answer["connections"]
    assert [outcome["number"] for outcome in outcomes] == list(range(1, len(entries) + 1))
    counted = {result: answer[result] for result in ("created", "unchanged", "refused")}
    assert sum(counted.values()) == len(entries)
    for result, count in counted.items():
        assert count == sum(outcome["result"] == result for outcome in outcomes)
    return outcomes


async def refusal(scene: Scene, entry: object) -> str:
    """Import an entry between two good ones; return why it is refused."""
    before, after = KeyPair.generate(), KeyPair.generate()
    outcomes = await import_entries(
        scene,
        {"name": f"before {before.public_key[:9]}", "pubkey": before.public_key},
        entry,
        {"name": f"after {after.public_key[:9]}", "pubkey": after.public_key},
    )
    assert [outcome["result"] for outcome in outcomes] == ["created", "refused", "created"]
    return str(outcomes[1]["reason"])


def live(scene: Scene, name: str) -> LiveConnection:
    found = scene.app.connections.named(name)
    assert found is not None
    return found


async def restore(scene: Scene, exported: object) -> Json:
    """Delete all data of the plugin, then import an export."""
    await commands.forget(scene.app, confirm=True)
    return await commands.import_(scene.app, exported)


async def test_a_connection_with_all_relays_that_the_option_allows_is_restored(scene: Scene) -> None:
    await scene.load()
    urls = tuple(f"wss://{number}.example" for number in range(MAX_RELAYS))
    scene.app.settings = replace(scene.app.settings, relays=urls)
    await commands.connect(scene.app, "many", pubkey=OTHER_KEY)
    await restore(scene, await commands.export(scene.app))
    assert live(scene, "many").record.relays == urls


async def test_an_export_has_all_settings(scene: Scene) -> None:
    await scene.app.manager.load()
    await commands.connect(
        scene.app,
        "Zaps é",
        pubkey=OTHER_KEY,
        budget="50000sat",
        renewal="weekly",
        max_payment="1000sat",
        view="node",
        methods="pay_invoice get_info",
        expires=2_000_000_000,
        relays="wss://a.example wss://b.example/x",
        lud16="me@a.example",
        notifications="false",
    )
    exported = await commands.export(scene.app)
    assert exported["version"] == 1
    by_name = {entry["name"]: entry for entry in exported["connections"]}
    assert by_name["Zaps é"] == {
        "name": "Zaps é",
        "pubkey": OTHER_KEY,
        "budget": "50000000msat",
        "renewal": "weekly",
        "max_payment": "1000000msat",
        "view": "node",
        "methods": ["get_info", "pay_invoice"],
        "expires": 2_000_000_000,
        "relays": ["wss://a.example", "wss://b.example/x"],
        "lud16": "me@a.example",
        "notifications": False,
    }
    assert by_name["app"] == {
        "name": "app",
        "pubkey": CLIENT.public_key,
        "budget": "received",
        "renewal": "never",
        "max_payment": "none",
        "view": "own",
        "methods": "all",
        "expires": "never",
        "relays": [RELAY],
        "notifications": True,
    }


async def test_a_connection_of_an_app_with_its_own_key_is_restored(scene: Scene) -> None:
    await scene.load()
    record = Connection(
        "paired",
        OTHER_KEY,
        ("wss://a.example",),
        5,
        ("get_info",),
        pairing=Pairing.WALLETAUTH,
        state="9f2c4a",
        notification_types=("payment_received",),
    )
    await scene.app.connect(record)
    exported = await commands.export(scene.app)
    await restore(scene, exported)
    restored = live(scene, "paired").record
    assert replace(restored, created_at=5) == record
    # The app has used it since: it is the same connection.
    await scene.app.manager.change("paired", lambda old: replace(old, state=None))
    again = await commands.import_(scene.app, exported)
    assert (again["unchanged"], again["refused"]) == (2, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("pairing", "qr"), ("state", "\u202e"), ("state", "a" * 257), ("notification_types", "rain")],
)
async def test_a_wrong_field_of_a_pairing_is_refused(scene: Scene, field: str, value: str) -> None:
    await scene.app.manager.load()
    assert (await refusal(scene, {**NEW, field: value})).startswith(f"{field}: must be ")


async def test_nothing_secret_is_exported(scene: Scene) -> None:
    await scene.app.manager.load()
    shown = await commands.connect(scene.app, "x")
    secret = parse_qs(urlsplit(shown["uri"]).query)["secret"][0]
    exported = json.dumps(await commands.export(scene.app))
    assert secret not in exported
    assert live(scene, "x").keys.secret_hex() not in exported


async def test_an_export_warns_of_unserved_connections(scene: Scene) -> None:
    await scene.node.datastore_put(("nwc", "connections", OTHER_KEY), '{"version":99}')
    await scene.app.manager.load()
    exported = await commands.export(scene.app)
    assert exported["warning"].startswith("1 connection is stored, but not served, and not shown here;")
    assert (await commands.list_(scene.app))["warning"] == exported["warning"]
    assert "warning" not in await commands.list_(scene.app, "app")
    assert "is stored, but not served" in await refusal(scene, NEW)
    stored = await scene.node.datastore_get(("nwc", "connections", OTHER_KEY))
    assert stored == '{"version":99}'
    # An export with a warning can be imported.
    assert (await commands.import_(scene.app, exported))["unchanged"] == 1


FORMS: dict[str, Callable[[Json], object]] = {
    "object": lambda exported: exported,
    "text": lambda exported: json.dumps(exported, indent=3),
    "array": lambda exported: exported["connections"],
    "text of the array": lambda exported: json.dumps(exported["connections"], ensure_ascii=False),
}


@pytest.mark.parametrize("form", FORMS)
async def test_an_export_can_be_imported_in_each_form(scene: Scene, form: str) -> None:
    await scene.load()
    await commands.connect(scene.app, "Zaps é", budget="5sat", renewal="daily", methods="pay_invoice")
    wallet_keys = {one.record.name: one.wallet_pubkey for one in scene.app.connections}
    exported = await commands.export(scene.app)
    before = time.time()
    answer = await restore(scene, FORMS[form](exported))
    assert (answer["created"], answer["unchanged"], answer["refused"]) == (2, 0, 0)
    assert {"name": "Zaps é", "result": "created"}.items() <= answer["connections"][1].items()
    assert await commands.export(scene.app) == exported
    # The same wallet key, so the URI that the app has works again.
    assert {one.record.name: one.wallet_pubkey for one in scene.app.connections} == wallet_keys
    # The connection and its budget begin now.
    record = live(scene, "Zaps é").record
    assert min(record.created_at, record.budget.since) >= int(before)


RECORDS = st.builds(
    Connection,
    name=st.sampled_from(["x", "My phone é", "👩\u200d💻"]),
    client_pubkey=st.just(KEY),
    relays=st.sampled_from([("wss://a.example",), ("ws://127.0.0.1:9/x?y=z", "wss://b.example:1")]),
    created_at=st.just(5),
    methods=st.none()
    | st.sets(st.sampled_from(list(METHODS)), min_size=1).map(
        lambda some: tuple(name for name in METHODS if name in some)
    ),
    expires_at=st.none() | st.integers(4_000_000_000, 4_100_000_000),
    lud16=st.none() | st.just("me@a.example"),
    view=st.sampled_from(View),
    notifications=st.booleans(),
    budget=st.just(Budget())
    | st.builds(
        Budget,
        kind=st.sampled_from([BudgetKind.RECEIVED, BudgetKind.UNLIMITED]),
        max_payment_msat=st.none() | st.integers(1, 10**12),
    )
    | st.builds(
        Budget,
        kind=st.just(BudgetKind.AMOUNT),
        amount_msat=st.integers(1, 10**15),
        renewal=st.sampled_from(Renewal),
        max_payment_msat=st.none() | st.integers(1, 10**12),
    ),
)


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(RECORDS)
def test_any_connection_is_imported_as_it_was(lightningd: Double, record: Connection) -> None:
    async def check() -> None:
        scene = Scene(lightningd)  # a new event loop for each example
        scene.service._loop.close()
        taken = await backup._import_one(scene.app, backup._entry(record), frozenset())
        assert taken.result == "created", taken
        stored = live(scene, record.name).record
        budget = replace(stored.budget, since=0)
        assert replace(stored, created_at=5, budget=budget) == record
        again = await backup._import_one(scene.app, backup._entry(record), frozenset())
        assert again.result == "unchanged", again
        await scene.app.manager.revoke(record.name)
        await scene.app.stop()

    asyncio.run(check())


async def test_importing_twice_changes_nothing(scene: Scene) -> None:
    await scene.app.manager.load()
    before = live(scene, "app").record
    exported = await commands.export(scene.app)
    for _ in range(2):
        answer = await commands.import_(scene.app, exported)
        assert (answer["created"], answer["unchanged"], answer["refused"]) == (0, 1, 0)
    assert live(scene, "app").record == before
    once, twice = await import_entries(scene, NEW, NEW)
    assert (once["result"], twice["result"]) == ("created", "unchanged")


async def test_an_expired_connection_is_unchanged_or_refused(scene: Scene) -> None:
    """It is unchanged where it still exists, and refused elsewhere."""
    await scene.app.manager.load()
    [entry] = (await commands.export(scene.app))["connections"]
    record = live(scene, "app").record
    live(scene, "app").record = replace(record, expires_at=5)
    assert [one["result"] for one in await import_entries(scene, {**entry, "expires": 5})] == [
        "unchanged"
    ]
    assert "expires: must be in the future" in await refusal(scene, {**entry, "expires": 6})
    assert "expires: must be in the future" in await refusal(scene, {**NEW, "expires": 5})


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"budget": "unlimited"}, "budget"),
        ({"budget": "5sat", "renewal": "daily"}, "budget, renewal"),
        ({"max_payment": "5sat"}, "max_payment"),
        ({"name": "other", "view": "node"}, "name, view"),
        ({"methods": ["get_info"], "expires": "1d"}, "methods, expires"),
        ({"relays": "wss://a.example", "lud16": "a@b.c"}, "relays, lud16"),
        ({"notifications": False}, "notifications"),
    ],
)
async def test_a_connection_with_other_settings_is_not_changed(
    scene: Scene,
    changed: Json,
    fields: str,
) -> None:
    await scene.app.manager.load()
    [entry] = (await commands.export(scene.app))["connections"]
    before = live(scene, "app").record
    reason = await refusal(scene, {**entry, **changed})
    assert f"the connection 'app' of this pubkey has other values of {fields};" in reason
    assert live(scene, "app").record == before


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (5, "must be an object with the fields name, pubkey, "),
        (None, "must be an object"),
        ([NEW], "must be an object"),
        ({"name": "new"}, "pubkey: must be 64 hex digits"),
        ({**NEW, "pubkey": None}, "pubkey: must be 64 hex digits"),
        ({**NEW, "pubkey": "00" * 32}, "pubkey: "),
        ({**NEW, "name": None}, "name: must be"),
        ({**NEW, "name": "a\nb"}, "name: must be"),
        ({**NEW, "name": "app"}, "name: there is a connection 'app' already"),
        ({**NEW, "budget": "much"}, "budget: "),
        ({**NEW, "budget": -1}, "budget: "),
        ({**NEW, "budget": "received", "renewal": "daily"}, "renewal: only a budget"),
        ({**NEW, "renewal": "hourly", "budget": 5}, "renewal: must be one of"),
        ({**NEW, "max_payment": "5sat"}, "max_payment: needs a budget"),
        ({**NEW, "budget": "5sat", "max_payment": 0}, "max_payment: must be more than 0"),
        ({**NEW, "budget": "5sat", "max_payment": ""}, "max_payment: is empty"),
        ({**NEW, "view": "all"}, "view: must be own or node"),
        ({**NEW, "methods": []}, "methods: must be all"),
        ({**NEW, "methods": ["steal"]}, "methods: must be all"),
        ({**NEW, "expires": ""}, "expires: must be"),
        ({**NEW, "relays": []}, "relays: must be 1 to 20"),
        ({**NEW, "relays": "ws://abc.onion"}, "relays: "),
        ({**NEW, "lud16": "x"}, "lud16: must be"),
        ({**NEW, "notifications": "maybe"}, "notifications: must be"),
        ({**NEW, "daily_limit": 5, "secret": "77" * 32}, "does not know: daily_limit, secret"),
        ({**NEW, "name": ["\ud800"] * 9, "x\ud800" * 500: 1}, "has fields that this plugin"),
    ],
)
async def test_an_entry_that_is_refused_says_why(scene: Scene, entry: object, reason: str) -> None:
    await scene.app.manager.load()
    shown_reason = await refusal(scene, entry)
    assert reason in shown_reason
    assert len(shown_reason) <= 300
    shown_reason.encode()
    assert "77" * 32 not in shown_reason
    assert live(scene, "app").record.client_pubkey == CLIENT.public_key


async def test_an_entry_that_is_nested_too_deep_is_refused(scene: Scene) -> None:
    await scene.app.manager.load()
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert "nested too deep" in await refusal(scene, {**NEW, "budget": deep})


@pytest.mark.parametrize(
    "given_",
    [
        None,
        5,
        "",
        "x",
        "5",
        '"x"',
        "[" * 100_000,
        "{}",
        {},
        {"connections": []},
        {"version": 2, "connections": [NEW]},
        {"version": "1", "connections": [NEW]},
        {"version": True, "connections": [NEW]},
        {"version": 1},
        {"version": 1, "connections": NEW},
        [NEW] * 10_001,
        " " * 16_000_001,
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_value_without_a_list_is_refused(scene: Scene, given_: object) -> None:
    await scene.app.manager.load()
    with pytest.raises(ArgumentError, match=r"^connections: must ") as raised:
        await commands.import_(scene.app, given_)
    assert len(str(raised.value)) < 200
    assert len(scene.app.connections) == 1


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {}, optional={name: JSON_VALUES | st.just(NEW.get(name)) for name in backup._FIELDS}
        )
        | JSON_VALUES,
        max_size=3,
    )
)
def test_any_entries_get_an_answer_that_is_json(lightningd: Double, entries: list[Any]) -> None:
    async def check() -> None:
        scene = Scene(lightningd)
        scene.service._loop.close()
        answer = await commands.import_(scene.app, entries)
        assert len(answer["connections"]) == len(entries)
        json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
        await commands.export(scene.app)
        for one in scene.app.connections.all():
            await scene.app.manager.revoke(one.record.name)
        await scene.app.stop()

    asyncio.run(check())


async def test_a_bare_number_gets_a_warning(scene: Scene) -> None:
    await scene.app.manager.load()
    [outcome] = await import_entries(scene, {**NEW, "budget": 5000})
    assert outcome["result"] == "created"
    assert "budget" in outcome["warning"]


async def test_a_revoked_connection_is_not_imported(scene: Scene) -> None:
    """An old export contains it, but only nwc-connect can make it again."""
    await scene.load()
    exported = await commands.export(scene.app)
    await commands.revoke(scene.app, "app")
    [outcome] = (await commands.import_(scene.app, exported))["connections"]
    assert outcome["result"] == "refused"
    assert "was revoked" in outcome["reason"]
    assert len(scene.app.connections) == 0
    await commands.connect(scene.app, "app", pubkey=CLIENT.public_key, budget="received", relays=RELAY)
    assert (await commands.import_(scene.app, exported))["unchanged"] == 1


async def test_an_import_keeps_the_limit_of_connections(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await scene.app.manager.load()
    monkeypatch.setattr(manager, "MAX_CONNECTIONS", 2)
    more = {"name": "more", "pubkey": KEY}
    outcomes = await import_entries(scene, NEW, more)
    assert [outcome["result"] for outcome in outcomes] == ["created", "refused"]
    assert "which is the limit" in outcomes[1]["reason"]


async def test_the_next_call_imports_the_rest_after_a_timeout(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await scene.app.manager.load()
    entries = [{"name": f"app {number}", "pubkey": KeyPair.generate().public_key} for number in range(5)]
    monkeypatch.setattr(backup, "IMPORT_PATIENCE_S", 0.0)
    first = await commands.import_(scene.app, entries)
    assert first["created"] + first["not_done"] == 5
    assert first["created"] >= 1
    assert "give the same command again" in first["next"]
    monkeypatch.undo()
    rest = await commands.import_(scene.app, entries)
    assert (rest["unchanged"], rest["created"]) == (first["created"], first["not_done"])
    assert "not_done" not in rest
    assert len(scene.app.connections) == 6


async def test_an_import_can_be_repeated_after_lightningd_failed(scene: Scene) -> None:
    await scene.app.manager.load()
    entries = [NEW, {"name": "second", "pubkey": KEY}]

    async def fail(method: str, params: Any) -> None:
        if method == "makesecret" and KEY in params["string"]:
            raise NodeUnavailableError("away")

    scene.node.before = fail
    with pytest.raises(NodeError):
        await commands.import_(scene.app, entries)
    scene.node.before = None
    outcomes = await import_entries(scene, *entries)
    assert [outcome["result"] for outcome in outcomes] == ["unchanged", "created"]


async def test_a_long_import_does_not_block_the_loop(scene: Scene) -> None:
    await scene.app.manager.load()
    entries: list[object] = [5] * 300
    importing = asyncio.create_task(commands.import_(scene.app, entries))
    turns = 0
    while not importing.done():
        await asyncio.sleep(0)
        turns += 1
    assert importing.result()["refused"] == len(entries)
    assert turns >= 3
