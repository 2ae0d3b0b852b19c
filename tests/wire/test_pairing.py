"""Pairing with an app that makes its own key: from its URI to its first answers (NWC-08)."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from pyln.client import RpcError

from tests.support.channel import Json, tag
from tests.support.pairing_app import PairingApp
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import budget_of, fresh_name, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.test_relays import info_events

COFFEE = {"amount": 21_000, "description": "coffee"}
METHODS = ["get_info", "get_budget", "make_invoice", "pay_invoice"]


@pytest.fixture
def app(node: NodeUnderTest, relay: RestartableRelay) -> Iterator[PairingApp]:
    """An app that asks for a thousand sat a week; its connection is revoked after the test."""
    name = fresh_name()
    with PairingApp(
        relay.url,
        name=name,
        request_methods=" ".join(METHODS),
        optional_request_methods="get_balance multi_pay_invoice",
        notification_types="payment_received",
        max_amount=1_000_000,
        renewal_period="weekly",
    ) as app:
        yield app
    if name in names(node):
        node.rpc.call("nwc-revoke", [name])


def names(node: NodeUnderTest) -> list[str]:
    return [shown["name"] for shown in node.rpc.call("nwc-list")["connections"]]


def stored(node: NodeUnderTest) -> list[str]:
    """Return all that the plugin stores about connections, as text."""
    kept = (["nwc", kind] for kind in ("connections", "revoked", "ledgers"))
    return [json.dumps(node.rpc.call("listdatastore", {"key": key})) for key in kept]


def connect(node: NodeUnderTest, relay: RestartableRelay, app: PairingApp, **params: Any) -> Json:
    """Run nwc-connect; the relay has a local address, so the owner names it."""
    shown: Json = node.rpc.call("nwc-connect", {"uri": app.uri, "relays": relay.url, **params})
    return shown


def test_a_preview_changes_nothing_and_its_command_connects(
    node: NodeUnderTest, relay: RestartableRelay, app: PairingApp
) -> None:
    before = stored(node)
    shown = connect(node, relay, app)
    assert stored(node) == before
    assert shown["name"] not in names(node)
    assert [line.split(":")[0] for line in shown["methods"]] == [
        "get_info",
        "get_balance",
        "get_budget",
        "make_invoice",
        "pay_invoice",
    ]
    assert shown["budget"] == "1,000 sat a week, fees included"
    _, _, command, *words = shlex.split(shown["command"])
    node.rpc.call(command, dict(word.split("=", 1) for word in words))
    assert app.connected().ask("make_invoice", COFFEE).result["amount"] == 21_000


def test_the_app_finds_its_wallet_and_works(
    node: NodeUnderTest, relay: RestartableRelay, app: PairingApp
) -> None:
    made = connect(node, relay, app, confirm=True)
    assert "uri" not in made
    assert made["pairing"] == "walletauth"
    info = app.wait_for_info()
    assert info["pubkey"] == made["wallet_pubkey"]
    assert tag(info, "p") == app.pubkey
    assert tag(info, "notifications") == "payment_received"
    assert "08" in (tag(info, "extensions") or "").split()
    wallet = app.connected()
    shown = wallet.ask("get_info").result
    assert set(shown["methods"]) == {*METHODS, "get_balance"}
    assert "08" in shown["extensions"]
    budget = wallet.ask("get_budget").result
    assert (budget["total_budget"], budget["renewal_period"]) == (1_000_000, "weekly")
    assert wallet.ask("list_transactions").code == "RESTRICTED"
    invoice = wallet.ask("make_invoice", COFFEE).result
    node.pay(invoice["invoice"])
    paid = wallet.wait_for_notifications(invoice["payment_hash"])
    assert {notification.type for notification in paid} == {"payment_received"}


def test_the_state_is_announced_until_the_first_request(
    node: NodeUnderTest, relay: RestartableRelay, app: PairingApp
) -> None:
    name = connect(node, relay, app, confirm=True)["name"]
    wallet_pubkey = app.wait_for_info()["pubkey"]
    node.stop_plugin()
    node.start_plugin()
    wait_until_announced(node, name)
    [info] = info_events(relay.url, wallet_pubkey)
    assert tag(info, "state") == app.state
    app.connected().ask("get_info")

    def is_without_state() -> bool:
        [info] = info_events(relay.url, wallet_pubkey)
        return tag(info, "p") == app.pubkey and tag(info, "state") is None

    wait_until(is_without_state, "the info event without the state")
    node.stop_plugin()
    node.start_plugin()
    wait_until_announced(node, name)
    assert is_without_state()
    assert app.connected().ask("make_invoice", COFFEE).result["amount"] == 21_000
    assert budget_of(node, name)["granted_msat"] == 1_000_000
    [shown] = node.rpc.call("nwc-list", [name])["connections"]
    assert shown["pairing"] == "walletauth"


def test_an_app_of_the_older_form_finds_its_wallet(node: NodeUnderTest, relay: RestartableRelay) -> None:
    name = fresh_name()
    fields = {"state": None, "max_amount": 5000, "budget_renewal": "daily"}
    with PairingApp(relay.url, name=name, request_methods="pay_invoice get_info", **fields) as app:
        made = connect(node, relay, app, confirm=True)
        info = app.wait_for_any_info()
        assert info["pubkey"] == made["wallet_pubkey"]
        assert tag(info, "state") is None
        assert made["budget"]["renewal"] == "daily"
    node.rpc.call("nwc-revoke", [name])


def test_the_same_uri_again_doubles_nothing(
    node: NodeUnderTest, relay: RestartableRelay, app: PairingApp
) -> None:
    made = connect(node, relay, app, confirm=True)
    before = stored(node)
    for confirm in (False, True):
        again = connect(node, relay, app, confirm=confirm)
        assert again["wallet_pubkey"] == made["wallet_pubkey"]
        assert "nothing was changed" in again["note"]
    assert stored(node) == before


def test_a_revoked_key_stays_revoked(
    node: NodeUnderTest, relay: RestartableRelay, app: PairingApp
) -> None:
    name = connect(node, relay, app, confirm=True)["name"]
    node.rpc.call("nwc-revoke", [name])
    before = stored(node)
    for confirm in (False, True):
        with pytest.raises(RpcError, match="was revoked"):
            connect(node, relay, app, confirm=confirm)
    assert stored(node) == before


def test_a_bad_uri_is_refused_and_changes_nothing(
    node: NodeUnderTest, relay: RestartableRelay, app: PairingApp
) -> None:
    before = stored(node)
    bad = {
        app.uri.replace("walletauth", "walletconnect"): "must begin with nostr\\+walletauth",
        app.uri.split("?")[0]: "relay: must be given",
        app.uri + "&icon=%zz": "two hex digits",
        app.uri + "&metadata=" + "x" * 100_000: "at most 65536 characters",
        app.uri.replace("name=", "name=%E2%80%AE"): "printable characters",
        app.uri.replace("get_info", "sing"): "the app needs sing",
    }
    for uri, reason in bad.items():
        with pytest.raises(RpcError, match=reason):
            node.rpc.call("nwc-connect", {"uri": uri, "relays": relay.url, "confirm": True})
    with pytest.raises(RpcError, match="a local or private address"):
        node.rpc.call("nwc-connect", {"uri": app.uri, "confirm": True})
    with pytest.raises(RpcError, match="must be at most 1,000 sat"):
        connect(node, relay, app, confirm=True, budget="1001sat")
    assert stored(node) == before
