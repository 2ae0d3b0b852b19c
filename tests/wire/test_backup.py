"""Backup and removal: an owner exports connections, restores them, and deletes all that is stored."""

import json
import time
from typing import Any

from nostr_sdk import Keys

from tests.support.channel import Json
from tests.support.waiting import wait_until
from tests.wire.fixtures import (
    Connect,
    ConnectedApp,
    budget_of,
    fresh_name,
    wait_until_announced,
)
from tests.wire.node import NodeUnderTest


def stored(node: NodeUnderTest, *key: str) -> list[list[str]]:
    """Return the keys of all records at or below a key, by default of all records of the plugin."""
    key = key or ("nwc",)
    found: list[list[str]] = []
    for entry in node.rpc.call("listdatastore", {"key": list(key)})["datastore"]:
        found += [entry["key"]] if "hex" in entry else stored(node, *entry["key"])
    return found


def lose_the_datastore(node: NodeUnderTest) -> None:
    """Delete all records, as on a node that was restored from its seed alone."""
    node.stop_plugin()
    for key in stored(node):
        node.rpc.call("deldatastore", {"key": key})
    node.start_plugin()
    assert node.rpc.call("nwc-list")["connections"] == []


def results(answer: Json) -> list[tuple[str, str]]:
    """Return the name and the result of each entry of an import."""
    return [(entry["name"], entry["result"]) for entry in answer["connections"]]


def create_invoice(app: ConnectedApp, **params: Any) -> Json:
    made: Json = app.ask("make_invoice", {"amount": 1000, **params}).result
    return made


# Recovery


def test_the_seed_and_the_pubkey_restore_a_connection(node: NodeUnderTest, connect: Connect) -> None:
    """The wallet key is derived from the seed and the client's key, so the app works unchanged."""
    app = connect()
    create_invoice(app)
    lose_the_datastore(node)
    shown = node.rpc.call("nwc-connect", {"name": app.name, "pubkey": app.pubkey})
    assert shown["wallet_pubkey"] == app.wallet_pubkey
    wait_until_announced(node, app.name)
    assert app.ask("get_info").result["pubkey"] == node.rpc.getinfo()["id"]
    assert create_invoice(app)["invoice"]


def test_an_export_restores_all_connections(node: NodeUnderTest, connect: Connect) -> None:
    zaps = connect(budget="50000sat", renewal="weekly", max_payment="1000sat", view="node")
    phone = connect(methods="get_info,make_invoice", lud16="me@a.example", notifications=False)
    granted = budget_of(node, zaps.name)
    text = json.dumps(node.rpc.call("nwc-export"), indent=3)
    assert zaps.secret not in text
    lose_the_datastore(node)
    before = int(time.time())
    answer = node.rpc.call("nwc-import", [text])
    assert results(answer) == [(zaps.name, "created"), (phone.name, "created")]
    for app in (zaps, phone):
        wait_until_announced(node, app.name)
        assert create_invoice(app)["invoice"]
    assert json.dumps(node.rpc.call("nwc-export"), indent=3) == text
    restored = budget_of(node, zaps.name)
    assert restored["renews_at"] >= before + 7 * 86_400
    assert {**restored, "renews_at": 0} == {**granted, "renews_at": 0}
    again = node.rpc.call("nwc-import", [json.loads(text)])
    assert results(again) == [(zaps.name, "unchanged"), (phone.name, "unchanged")]


def test_an_import_refuses_bad_entries_with_a_reason_and_creates_the_rest(
    node: NodeUnderTest, connect: Connect
) -> None:
    app, taken = connect(), fresh_name()
    [entry] = [one for one in node.rpc.call("nwc-export")["connections"] if one["name"] == app.name]
    key, other_key = (Keys.generate().public_key().to_hex() for _ in range(2))
    good = {"name": taken, "pubkey": key}
    try:
        answer = node.rpc.call(
            "nwc-import",
            {
                "connections": [
                    {**entry, "budget": "unlimited"},
                    {"name": app.name, "pubkey": other_key},
                    {**good, "budget": "much"},
                    {**good, "daily_limit": "5sat"},
                    good,
                ]
            },
        )
        assert [one["result"] for one in answer["connections"]] == ["refused"] * 4 + ["created"]
        assert (answer["created"], answer["unchanged"], answer["refused"]) == (1, 0, 4)
        reasons = [one.get("reason", "") for one in answer["connections"]]
        for reason, words in zip(
            reasons,
            (
                "has other values of budget",
                f"name: there is a connection {app.name!r} already",
                "budget: ",
                "does not know: daily_limit",
                "",
            ),
            strict=True,
        ):
            assert words in reason
        assert budget_of(node, app.name) == {"kind": "nothing"}
        assert budget_of(node, taken) == {"kind": "nothing"}
    finally:
        node.rpc.call("nwc-revoke", {"name": taken})


def test_a_revoked_connection_is_not_imported(node: NodeUnderTest, connect: Connect) -> None:
    app = connect()
    exported = node.rpc.call("nwc-export")
    node.rpc.call("nwc-revoke", {"name": app.name})
    for _ in range(2):
        [entry] = node.rpc.call("nwc-import", [exported])["connections"]
        assert entry["result"] == "refused"
        assert "revoked" in entry["reason"]
        node.stop_plugin()
        node.start_plugin()
    node.rpc.call("nwc-connect", {"name": app.name, "pubkey": app.pubkey})
    wait_until_announced(node, app.name)
    assert app.ask("get_info").result["alias"]


# Removing the plugin


def test_forget_shows_what_it_would_delete_and_deletes_it_when_confirmed(
    node: NodeUnderTest, connect: Connect
) -> None:
    app, other = connect(budget="received"), connect()
    made = create_invoice(app, metadata={"order": 1})
    node.pay(made["invoice"])
    app.wait_for_notifications(made["payment_hash"])
    wait_until(
        lambda: budget_of(node, app.name)["granted_msat"] == 1000,
        "the payment to be added to the budget",
    )
    node.rpc.call("datastore", {"key": ["another plugin", "x"], "string": "stays"})
    before = stored(node)
    shown = node.rpc.call("nwc-forget")
    assert not shown["forgotten"]
    assert shown["connections"] == [app.name, other.name]
    counts = shown["records"]
    assert (counts["connections"], counts["ledgers"], counts["invoices"]) == (2, 1, 1)
    assert sum(counts.values()) == len(before)
    assert shown["bytes"] == node.rpc.call("datastoreusage", ["nwc"])["datastoreusage"]["total_bytes"]
    assert stored(node) == before

    done = node.rpc.call("nwc-forget", {"confirm": True})
    assert (done["forgotten"], done["connections_ended"]) == (True, 2)
    assert stored(node) == []
    assert node.rpc.call("nwc-list")["connections"] == []
    assert node.rpc.call("listdatastore", [["another plugin", "x"]])["datastore"]
    node.rpc.call("deldatastore", [["another plugin", "x"]])
    # The invoices belong to the node and stay.
    assert node.rpc.call("listinvoices", {"payment_hash": made["payment_hash"]})["invoices"]
    again = node.rpc.call("nwc-forget", {"confirm": "true"})
    assert (again["forgotten"], again["connections_ended"], again["records_deleted"]) == (True, 0, 0)
    # Without a restart new connections can be made.
    node.rpc.call("nwc-connect", {"name": app.name, "pubkey": app.pubkey, "budget": "received"})
    wait_until_announced(node, app.name)
    assert app.ask("list_transactions").result["transactions"][0]["metadata"] == {}
    node.pay(create_invoice(app)["invoice"])
    wait_until(
        lambda: budget_of(node, app.name)["granted_msat"] == 1000,
        "the payment to be added to the budget",
    )


def test_nothing_is_served_after_forget(node: NodeUnderTest, connect: Connect) -> None:
    app = connect()
    node.rpc.call("nwc-forget", {"confirm": True})
    unanswered = app.request("get_info")
    app.send(unanswered)
    other = connect()
    assert other.ask("get_info").result["alias"]
    assert unanswered["id"] not in app.answered_ids()
    node.stop_plugin()
    node.start_plugin()
    assert [one["name"] for one in node.rpc.call("nwc-list")["connections"]] == [other.name]
