"""Relays that are down, fail, come back, or deliver stored requests."""

import json
import time

from tests.support.channel import KIND_INFO, Json, RelaySocket, stored_events, tag
from tests.support.ports import free_port
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, announced, wait_until_announced
from tests.wire.node import NodeUnderTest

COFFEE = {"amount": 1000, "description": "coffee"}


def relay_state(node: NodeUnderTest, url: str) -> Json:
    """Return the entry of nwc-status for a relay."""
    [shown] = [r for r in node.rpc.call("nwc-status")["relays"] if r["url"] == url]
    return dict(shown)


def info_events(url: str, wallet_pubkey: str) -> list[Json]:
    """Return the info events of a connection that a relay has stored."""
    return stored_events(url, {"kinds": [KIND_INFO], "authors": [wallet_pubkey]})


def is_listening(node: NodeUnderTest, app: ConnectedApp) -> bool:
    """Return True if all relays of a connection have confirmed the subscription for its requests."""
    [shown] = node.rpc.call("nwc-list", {"name": app.name})["connections"]
    return all(relay["listening"] for relay in shown["relays"])


def wait_until_lost(node: NodeUnderTest, relay: RestartableRelay) -> None:
    """Wait until the plugin has noticed that a relay is disconnected."""
    wait_until(lambda: relay_state(node, relay.url)["state"] == "disconnected", "the relay to be lost")


def wait_until_back(node: NodeUnderTest, relay: RestartableRelay) -> None:
    """Wait until the plugin is connected to a relay again."""
    wait_until(lambda: relay_state(node, relay.url)["state"] == "connected", "the relay to be back")


def test_a_connection_can_be_made_while_its_relay_is_down(
    node: NodeUnderTest, own_relay: RestartableRelay, connect: Connect
) -> None:
    own_relay.kill()
    shown = node.rpc.call("nwc-connect", {"name": "early bird", "relays": own_relay.url})
    [relay] = shown["relays"]
    assert (relay["url"], relay["state"]) == (own_relay.url, "disconnected")
    assert relay["info_event"] == "waiting for the relay"
    assert relay["last_error"]
    assert "no relay is connected yet" in shown["warning"]
    own_relay.start()
    wait_until_announced(node, "early bird")
    [listed] = node.rpc.call("nwc-list", {"name": "early bird"})["connections"]
    assert "warning" not in listed
    assert listed["relays"][0]["state"] == "connected"


def test_a_connection_is_served_when_its_relay_is_up_after_a_start(
    node: NodeUnderTest, own_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect(relays=own_relay.url)
    own_relay.kill()
    wait_until_lost(node, own_relay)
    node.stop_plugin()
    node.start_plugin()
    own_relay.start()
    wait_until_announced(node, app.name)
    with RelaySocket(own_relay.url, app.answer_filter) as socket:
        app.channels = (socket,)
        assert app.ask("make_invoice", COFFEE).result["invoice"]


def test_a_connection_is_served_when_its_relay_is_back(
    node: NodeUnderTest, own_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect(relays=own_relay.url)
    [before] = info_events(own_relay.url, app.wallet_pubkey)
    own_relay.kill()
    wait_until_lost(node, own_relay)
    [listed] = node.rpc.call("nwc-list", {"name": app.name})["connections"]
    assert "no relay is connected" in listed["warning"]
    own_relay.start()  # with an empty memory
    wait_until_back(node, own_relay)
    wait_until(lambda: info_events(own_relay.url, app.wallet_pubkey), "the info event to be there again")
    [after] = info_events(own_relay.url, app.wallet_pubkey)
    assert after["content"] == before["content"]
    with RelaySocket(own_relay.url, app.answer_filter) as socket:
        app.channels = (socket,)
        assert app.ask("make_invoice", COFFEE).result["invoice"]
    assert relay_state(node, own_relay.url)["reconnects"] >= 1


def test_a_connection_is_served_while_one_of_its_relays_is_down(
    node: NodeUnderTest, relay: RestartableRelay, own_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect(relays=[own_relay.url, relay.url])
    own_relay.kill()
    wait_until_lost(node, own_relay)
    dead, alive = app.channels
    app.channels = (alive,)
    dead.close()
    assert app.ask("make_invoice", COFFEE).result["invoice"]


def test_a_connection_is_announced_on_the_relay_that_is_up(
    node: NodeUnderTest, relay: RestartableRelay, connect: Connect
) -> None:
    dead = f"ws://127.0.0.1:{free_port()}"
    shown = node.rpc.call("nwc-connect", {"name": "half", "relays": [dead, relay.url]})
    states = {entry["url"]: entry["state"] for entry in shown["relays"]}
    assert states == {dead: "disconnected", relay.url: "connected"}
    assert "warning" not in shown


def test_a_relay_that_never_answers_delays_no_other(
    node: NodeUnderTest, relay: RestartableRelay, connect: Connect, scripted_relay: ScriptedRelay
) -> None:
    scripted_relay.is_mute = True
    shown = node.rpc.call("nwc-connect", {"name": "mute", "relays": [scripted_relay.url, relay.url]})
    info = {entry["url"]: entry["info_event"] for entry in shown["relays"]}
    assert info == {scripted_relay.url: "waiting for the relay", relay.url: "published"}


def test_a_closed_subscription_is_made_again(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """A relay may end a subscription at any time. The plugin subscribes again."""
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    [name] = scripted_relay.subscription_names()
    scripted_relay.forget_subscriptions()
    scripted_relay.send_frame(json.dumps(["CLOSED", name, "error: shutting down"]))
    scripted_relay.wait_for_subscription(app.wallet_pubkey)
    assert app.ask("make_invoice", COFFEE).result["invoice"]


def test_an_eose_with_a_further_element_confirms_the_subscription(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """NIP-67 adds an element; the EOSE still confirms the subscription."""
    scripted_relay.after_eose = ["finish"]
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    wait_until(lambda: is_listening(node, app), "the subscription to be confirmed")


def test_a_stored_request_is_answered_unless_it_is_too_old(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    node.stop_plugin()
    request = app.request("make_invoice", COFFEE, created_at=int(time.time()) - 60)
    too_old = app.request("make_invoice", COFFEE, created_at=int(time.time()) - 180)
    scripted_relay.kept += [too_old, request]
    node.start_plugin()
    assert app.answer_to(request).result["invoice"]
    app.ask("get_info")
    assert app.answers_to(too_old["id"]) == []


def test_the_subscription_covers_only_recent_requests_of_the_app(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    [wanted] = scripted_relay.filters()
    assert wanted["kinds"] == [23194]
    assert wanted["#p"] == [app.wallet_pubkey]
    assert wanted["authors"] == [app.pubkey]
    assert 0 <= int(time.time()) - 120 - 600 - wanted["since"] <= 20


def test_the_info_event_lists_what_a_receiving_connection_can_do(
    node: NodeUnderTest, relay: RestartableRelay, connect: Connect
) -> None:
    app = connect()
    [info] = info_events(relay.url, app.wallet_pubkey)
    words = "get_info get_balance get_budget make_invoice receive lookup_invoice list_transactions"
    assert info["content"] == f"{words} notifications"
    assert tag(info, "encryption") == "nip44_v2 nip04"
    assert tag(info, "p") == app.pubkey
    assert tag(info, "extensions") == "02 05 06 321"
    assert tag(info, "notifications") == "payment_received"


def test_the_same_info_event_is_on_every_relay(
    node: NodeUnderTest, relay: RestartableRelay, own_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect(relays=[relay.url, own_relay.url])
    first, second = (info_events(url, app.wallet_pubkey) for url in (relay.url, own_relay.url))
    assert first == second
    assert len(first) == 1


def test_a_connection_can_move_to_another_relay(
    node: NodeUnderTest, relay: RestartableRelay, own_relay: RestartableRelay, connect: Connect
) -> None:
    """The info event is withdrawn from the old relay, and the plugin leaves it."""
    app = connect(relays=own_relay.url)
    node.rpc.call("nwc-update", {"name": app.name, "relays": relay.url})
    wait_until(lambda: announced(node, app.name), "the info event on the new relay")
    assert info_events(relay.url, app.wallet_pubkey)
    wait_until(
        lambda: all(not e["content"] for e in info_events(own_relay.url, app.wallet_pubkey)),
        "the info event to be withdrawn",
    )
    with RelaySocket(relay.url, app.answer_filter) as socket:
        old, app.channels = app.channels, (socket,)
        assert app.ask("make_invoice", COFFEE).result["invoice"]
        old[0].close()
    wait_until(
        lambda: own_relay.url not in [r["url"] for r in node.rpc.call("nwc-status")["relays"]],
        "the plugin to leave the unused relay",
    )
