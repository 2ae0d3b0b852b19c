import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.nostr import bech32
from nwc.nostr.keys import KeyPair
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.record import (
    Connection,
    ConnectionStore,
    Pairing,
    View,
    parse_connection,
    wallet_keys,
)
from nwc.wallet.records import RecordError
from tests.unit.helpers import CLIENT, JSON_VALUES, NOW, STRANGER
from tests.unit.wallet.fake_node import FakeNode

KEY = CLIENT.public_key
NPUB = bech32.encode("npub", bech32.words_from_bytes(bytes.fromhex(KEY)))
FULL = Connection(
    name="My phone é",
    client_pubkey=KEY,
    relays=("wss://a.example", "ws://127.0.0.1:7777/x"),
    created_at=NOW,
    methods=("get_info",),
    expires_at=NOW + 5,
    lud16="me@a.example",
    view=View.NODE,
    notifications=False,
    budget=Budget(BudgetKind.AMOUNT, 50_000_000, Renewal.WEEKLY, NOW, 1_000_000),
)
SMALL = Connection("x", KEY, ("wss://a.example",), NOW)


def damaged(**changes: Any) -> str:
    fields = {**json.loads(FULL.to_json()), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...})


def damaged_budget(**changes: Any) -> str:
    fields = {**json.loads(FULL.to_json())["budget"], **changes}
    return damaged(budget={name: value for name, value in fields.items() if value is not ...})


@pytest.mark.parametrize("connection", [FULL, SMALL, Connection("x", KEY, ("ws://b",), 0, methods=())])
def test_a_record_is_read_as_it_was_stored(connection: Connection) -> None:
    assert parse_connection(KEY, connection.to_json()) == connection


@given(
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=64),
    relays=st.lists(st.sampled_from(["wss://a.example", "ws://[::1]:1/x?y=z"]), min_size=1),
    created_at=st.integers(0, 2**40),
    methods=st.none() | st.lists(st.sampled_from(["get_info", "make_invoice"])).map(tuple),
    expires_at=st.none() | st.integers(0, 2**40),
    lud16=st.none() | st.just("me@a.example"),
    view=st.sampled_from(View),
    notifications=st.booleans(),
    budget=st.builds(
        Budget,
        kind=st.sampled_from(BudgetKind),
        amount_msat=st.integers(0, 2**62),
        renewal=st.sampled_from(Renewal),
        since=st.integers(0, 2**37),
        max_payment_msat=st.none() | st.integers(0, 2**62),
    ),
    pairing=st.sampled_from(Pairing),
    state=st.none() | st.just("9f2c4a"),
    notification_types=st.none() | st.just(("payment_sent",)),
)
def test_any_record_is_read_as_it_was_stored(relays: list[str], **fields: Any) -> None:
    connection = Connection(client_pubkey=KEY, relays=tuple(relays), **fields)
    assert parse_connection(KEY, connection.to_json()) == connection


def test_the_record_holds_nothing_secret() -> None:
    assert set(json.loads(FULL.to_json())) == {
        "version",
        "name",
        "client_pubkey",
        "relays",
        "created_at",
        "methods",
        "expires_at",
        "lud16",
        "view",
        "notifications",
        "budget",
        "pairing",
        "state",
        "notification_types",
    }


def test_a_record_from_before_budgets_existed_spends_nothing() -> None:
    """Its connection could only receive."""
    connection = parse_connection(KEY, damaged(budget=...))
    assert connection == replace(FULL, budget=Budget())
    assert not connection.budget.can_spend


def test_the_stored_form_of_a_budget() -> None:
    assert json.loads(FULL.to_json())["budget"] == {
        "kind": "amount",
        "amount_msat": 50_000_000,
        "renewal": "weekly",
        "since": NOW,
        "max_payment_msat": 1_000_000,
    }
    assert json.loads(SMALL.to_json())["budget"]["kind"] == "nothing"


@pytest.mark.parametrize("version", [0, 3, "1", None, 1.5])
def test_a_record_of_another_version_is_refused(version: object) -> None:
    with pytest.raises(RecordError, match="version"):
        parse_connection(KEY, damaged(version=version))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "[]",
        "5",
        '"x"',
        "{}",
        "[" * 100_000,
        damaged(version=...),
        damaged(name=...),
        damaged(name=5),
        damaged(name=None),
        damaged(name="\ud800"),
        damaged(lud16="\udfff@b.example"),
        damaged(created_at=float("inf")),
        damaged(relays=...),
        damaged(relays=None),
        damaged(relays=[]),
        damaged(relays="wss://a.example"),
        damaged(relays=["https://a.example"]),
        damaged(relays=[5]),
        damaged(client_pubkey=...),
        damaged(client_pubkey=None),
        damaged(client_pubkey="00" * 32),
        damaged(client_pubkey=STRANGER.public_key),
        damaged(client_pubkey=KEY.upper()),
        damaged(created_at=...),
        damaged(created_at="yesterday"),
        damaged(created_at=None),
        damaged(methods=5),
        damaged(methods="get_info"),
        damaged(methods=[5]),
        damaged(expires_at="tomorrow"),
        damaged(lud16=5),
        damaged(view="all"),
        damaged(notifications="yes"),
        damaged(more=1),
        damaged(budget=None),
        damaged(budget={}),
        damaged(budget=[]),
        damaged(budget="unlimited"),
        damaged(budget=50_000),
        damaged_budget(kind=...),
        damaged_budget(kind="everything"),
        damaged_budget(kind=None),
        damaged_budget(kind=["amount"]),
        damaged_budget(renewal=...),
        damaged_budget(renewal="hourly"),
        damaged_budget(renewal=None),
        damaged_budget(amount_msat=-1),
        damaged_budget(amount_msat="50000sat"),
        damaged_budget(amount_msat=1.5),
        damaged_budget(amount_msat=True),
        damaged_budget(amount_msat=None),
        damaged_budget(since=-1),
        damaged_budget(since="2025-01-01"),
        damaged_budget(since=2**60),
        damaged_budget(since=None),
        damaged_budget(max_payment_msat=-1),
        damaged_budget(max_payment_msat=""),
        damaged_budget(max_payment_msat=[]),
        damaged_budget(max_payment_msat=False),
        damaged_budget(max_payment_msat=0.0),
        damaged_budget(more=1),
    ],
)
def test_a_damaged_record_is_refused(text: str) -> None:
    with pytest.raises(RecordError) as caught:
        parse_connection(KEY, text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("key", [KEY.upper(), NPUB])
def test_a_key_in_another_spelling_is_refused(key: str) -> None:
    """A subscription with it would match no author, and a relay could refuse all of the subscription."""
    with pytest.raises(RecordError):
        parse_connection(key, damaged(client_pubkey=key))


@given(st.text() | JSON_VALUES.map(json.dumps))
def test_arbitrary_text_is_refused(text: str) -> None:
    with pytest.raises(RecordError):
        parse_connection(KEY, text)


@given(st.sampled_from(sorted(json.loads(FULL.to_json()))), JSON_VALUES)
def test_a_record_with_an_arbitrary_field_is_refused_or_usable(name: str, value: object) -> None:
    try:
        connection = parse_connection(KEY, damaged(**{name: value}))
    except RecordError:
        return
    connection.has_expired(NOW)
    assert connection.client_pubkey == KEY
    assert isinstance(connection.name, str)
    assert isinstance(connection.created_at, int)
    assert parse_connection(KEY, connection.to_json()) == connection


@given(st.sampled_from(sorted(json.loads(FULL.to_json())["budget"])), JSON_VALUES)
def test_a_budget_with_an_arbitrary_field_is_refused_or_usable(name: str, value: object) -> None:
    """Its periods can be computed at any time."""
    try:
        budget = parse_connection(KEY, damaged_budget(**{name: value})).budget
    except RecordError:
        return
    for renewal in Renewal:
        for now in (0, NOW, 2**40 / 8):
            started_at = replace(budget, renewal=renewal).period_started_at(now)
            assert started_at >= budget.since
            renews_at = replace(budget, renewal=renewal).renews_at(now)
            assert renews_at is None or renews_at > started_at


@pytest.mark.parametrize(
    ("expires_at", "now", "expired"),
    [(None, 10**12, False), (NOW, NOW - 1, False), (NOW, NOW, True), (NOW, NOW + 0.5, True)],
)
def test_a_connection_expires_at_its_time(expires_at: int | None, now: float, expired: bool) -> None:
    assert Connection("x", KEY, ("ws://a",), 0, expires_at=expires_at).has_expired(now) is expired


def test_the_id_is_the_start_of_the_client_key() -> None:
    assert FULL.id == KEY[:16]


async def test_the_store_creates_replaces_and_deletes() -> None:
    node = FakeNode()
    store = ConnectionStore(node)
    await store.create(SMALL)
    assert node.datastore == {("nwc", "connections", KEY): SMALL.to_json()}
    assert await store.load() == {KEY: SMALL.to_json()}
    await store.replace(FULL)
    assert await store.load() == {KEY: FULL.to_json()}
    await store.delete(FULL)
    assert await store.load() == {}


async def test_wallet_keys_come_from_the_nodes_seed() -> None:
    node = FakeNode()
    keys = await wallet_keys(node, KEY)
    assert keys == await wallet_keys(node, KEY)
    assert keys != await wallet_keys(node, STRANGER.public_key)
    assert node.calls[0] == ("make_secret", f"nwc wallet key {KEY}")
    assert keys == KeyPair.from_secret(bytes.fromhex(keys.secret_hex()))
    assert node.datastore == {}
