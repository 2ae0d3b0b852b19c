"""Relays that require AUTH (NIP-42): from the start, later, or for each of several keys on one socket.

`auth_relay` is rust-nostr's relay. It sends a challenge with each refusal, accepts one AUTH for each
challenge, and requires one key only. `scripted_relay` is as strict as NIP-42 allows, or stricter.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from nostr_sdk import Event

from tests.support.channel import Json, RelaySocket
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, announced, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.test_relays import (
    info_events,
    is_listening,
    wait_until_back,
    wait_until_lost,
)

COFFEE = {"amount": 1000, "description": "coffee"}


@pytest.fixture(params=["read", "write", "both"])
def auth_relay(request: pytest.FixtureRequest) -> Iterator[RestartableRelay]:
    """A real relay that requires AUTH for reading, writing or both."""
    with RestartableRelay(auth=request.param) as relay:
        yield relay


def check_answered_once(node: NodeUnderTest, app: ConnectedApp) -> None:
    """Wait until the plugin reads an app's requests, then check that a request gets one answer."""
    wait_until(lambda: is_listening(node, app), "the relay to confirm the subscription")
    for channel in app.channels:
        if isinstance(channel, ScriptedRelay):  # it may end a subscription that it has confirmed
            channel.wait_for_subscription(app.wallet_pubkey)
    request = app.request("make_invoice", COFFEE)
    assert app.ask_with(request).result["invoice"]
    app.ask("get_info")  # its answer would come after a second answer to the first request
    assert len(app.answers_to(request["id"])) == 1


# rust-nostr's relay


def test_a_connection_works_on_a_relay_that_requires_auth(
    node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect(relays=auth_relay.url)
    check_answered_once(node, app)
    [info] = info_events(auth_relay.url, app.wallet_pubkey)
    assert "make_invoice" in info["content"]


def test_notifications_arrive_over_a_relay_that_requires_auth(
    node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect(relays=auth_relay.url)
    made = app.ask("make_invoice", COFFEE).result
    node.pay(made["invoice"])
    received = app.wait_for_notifications(made["payment_hash"])
    assert {notification.type for notification in received} == {"payment_received"}


def test_connections_made_after_auth_are_served(
    node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect
) -> None:
    """The first exists when the relay sends its challenge; the others are made after its AUTH."""
    apps = [connect(relays=auth_relay.url)]
    check_answered_once(node, apps[0])
    apps += [connect(relays=auth_relay.url, wait=False) for _ in range(3)]
    for app in apps:
        wait_until_announced(node, app.name)
        check_answered_once(node, app)


def test_all_connections_are_served_after_the_relay_restarts(
    node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect
) -> None:
    """The relay refuses many info events at once, each with a challenge of its own."""
    apps = [connect(relays=auth_relay.url) for _ in range(6)]
    auth_relay.kill()
    wait_until_lost(node, auth_relay)
    auth_relay.start()
    wait_until_back(node, auth_relay)
    with ExitStack() as sockets:
        for app in apps:
            wait_until(
                lambda app=app: info_events(auth_relay.url, app.wallet_pubkey),  # type: ignore[misc]
                "the info event to be there again",
            )
            socket = RelaySocket(auth_relay.url, app.answer_filter)
            app.channels = (sockets.enter_context(socket),)
            check_answered_once(node, app)


def test_all_connections_are_served_after_the_plugin_restarts(
    node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect
) -> None:
    apps = [connect(relays=auth_relay.url) for _ in range(3)]
    node.stop_plugin()
    node.start_plugin()
    for app in apps:
        wait_until_announced(node, app.name)
        check_answered_once(node, app)


def test_the_info_event_of_a_revoked_connection_is_withdrawn(
    node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect
) -> None:
    app = connect(relays=auth_relay.url)
    node.rpc.call("nwc-revoke", [app.name])
    wait_until(
        lambda: all(not e["content"] for e in info_events(auth_relay.url, app.wallet_pubkey)),
        "the info event to be withdrawn",
    )


# A strict relay


def only_authors(event: Json, known: set[str]) -> str:
    """Refuse an event whose author is not authenticated."""
    return "" if event["pubkey"] in known else "auth-required: who are you?"


def only_recipients(filter_: Json, known: set[str]) -> str:
    """Refuse a subscription unless all its recipients are authenticated."""
    return "" if set(filter_["#p"]) <= known else "auth-required: who are you?"


@pytest.fixture
def strict_relay(scripted_relay: ScriptedRelay) -> ScriptedRelay:
    """A relay that requires AUTH for every key. Each refusal voids all earlier challenges."""
    scripted_relay.on_event, scripted_relay.on_filter = only_authors, only_recipients
    scripted_relay.challenges = True
    return scripted_relay


def test_every_key_is_authenticated(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    apps = [connect(relays=strict_relay.url, channels=[strict_relay])]
    check_answered_once(node, apps[0])
    apps += [connect(relays=strict_relay.url, channels=[strict_relay], wait=False) for _ in range(2)]
    for app in apps:
        wait_until_announced(node, app.name)
        check_answered_once(node, app)
    assert strict_relay.connections_so_far == 1
    for event in strict_relay.auths.all():
        assert Event.from_json(json.dumps(event)).verify()
        assert event["kind"] == 22242
        assert ["relay", strict_relay.url] in event["tags"]


def test_many_refusals_at_once_are_all_resolved(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    strict_relay.on_event = strict_relay.on_filter = lambda _what, _known: ""
    apps = [connect(relays=strict_relay.url, channels=[strict_relay]) for _ in range(8)]
    node.stop_plugin()
    strict_relay.on_event, strict_relay.on_filter = only_authors, only_recipients
    node.start_plugin()
    for app in apps:
        wait_until_announced(node, app.name)
        check_answered_once(node, app)


def test_a_revoked_connection_is_withdrawn_from_a_strict_relay(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    """The info event is withdrawn although nobody subscribes for this key any more.

    Each refusal brings a new challenge, and the plugin answers many challenges with pauses.
    """
    app = connect(relays=strict_relay.url, channels=[strict_relay])
    connect(relays=strict_relay.url, channels=[strict_relay])  # keeps the plugin connected to the relay
    strict_relay.forget_keys()
    node.rpc.call("nwc-revoke", [app.name])
    strict_relay.received.wait_for(
        lambda e: e["pubkey"] == app.wallet_pubkey and e["kind"] == 13194 and not e["content"],
        "the withdrawal",
        timeout_s=60,
    )


@pytest.mark.parametrize("is_challenged_before", [True, False])
def test_auth_can_become_required_for_reading_in_mid_session(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect, is_challenged_before: bool
) -> None:
    """The relay ends the subscription; its challenge comes before or after that."""
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    check_answered_once(node, app)
    scripted_relay.on_filter = only_recipients
    if is_challenged_before:
        scripted_relay.challenge()
    scripted_relay.end_subscriptions("auth-required: from now on")
    if not is_challenged_before:
        scripted_relay.challenge()
    check_answered_once(node, app)


def test_a_relay_that_forgets_the_keys_gets_auth_again(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    """The relay requires AUTH again, and its first challenge is still valid."""
    app = connect(relays=strict_relay.url, channels=[strict_relay])
    strict_relay.challenges = False
    strict_relay.forget_keys()
    strict_relay.end_subscriptions("auth-required: who are you?")
    check_answered_once(node, app)


def test_auth_can_become_required_for_writing_in_mid_session(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    check_answered_once(node, app)
    scripted_relay.on_event, scripted_relay.challenges = only_authors, True
    check_answered_once(node, app)
    assert scripted_relay.auths.all()


def test_a_new_challenge_in_mid_session_is_answered(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    app = connect(relays=strict_relay.url, channels=[strict_relay])
    strict_relay.forget_keys()
    before = len(strict_relay.auths.all())
    strict_relay.challenge()
    strict_relay.auths.wait_for(lambda _: True, "AUTH for the new challenge", before + 1)
    check_answered_once(node, app)


def test_a_refused_key_does_not_affect_the_others(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    """Keys before and after it share a subscription with it and are served.

    strfry, nostr-rs-relay and khatru read for all keys on a connection if one is authenticated.
    """
    strict_relay.on_filter = lambda _filter, known: "" if known else "auth-required: who are you?"
    first = connect(relays=strict_relay.url, channels=[strict_relay])
    strict_relay.on_auth = lambda event, _known: "" if event["pubkey"] == first.wallet_pubkey else "no"
    refused = connect(relays=strict_relay.url, channels=[strict_relay], wait=False)
    check_answered_once(node, first)
    strict_relay.on_auth = lambda event, _known: "no" if event["pubkey"] == refused.wallet_pubkey else ""
    last = connect(relays=strict_relay.url, channels=[strict_relay])
    for app in (first, last):
        check_answered_once(node, app)
    assert not announced(node, refused.name)


def test_a_refused_info_event_is_shown(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    """It is not retried, and nwc-list shows the refusal."""
    strict_relay.on_event = lambda _event, _known: "restricted: members only"
    app = connect(relays=strict_relay.url, channels=[strict_relay], wait=False)
    shown = wait_until(
        lambda: [
            relay["info_event"]
            for relay in node.rpc.call("nwc-list", [app.name])["connections"][0]["relays"]
            if relay["info_event"].startswith("not")
        ],
        "the refusal to be shown",
    )
    assert shown == ["not published: restricted: members only"]


@pytest.mark.parametrize("is_required", [True, False])
def test_auth_without_an_ok_does_not_stop_the_service(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect, is_required: bool
) -> None:
    """The relay accepts AUTH without an OK. A relay that requires AUTH then accepts the next REQ."""

    def accept_silently(event: Json, known: set[str]) -> None:
        known.add(event["pubkey"])

    scripted_relay.challenges, scripted_relay.on_auth = True, accept_silently
    if is_required:
        scripted_relay.on_filter = only_recipients
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    check_answered_once(node, app)


@pytest.mark.parametrize("slash", ["", "/"])
def test_auth_has_the_url_that_the_owner_wrote(
    scripted_relay: ScriptedRelay, connect: Connect, slash: str
) -> None:
    """Some relays compare the URL letter by letter, final slash included."""
    url = scripted_relay.url + slash
    connect(relays=url, channels=[scripted_relay])
    scripted_relay.challenge()
    [auth, *_] = scripted_relay.auths.wait_for(lambda _event: True, "AUTH")
    assert ["relay", url] in auth["tags"]


def test_a_subscription_lost_at_auth_is_made_again(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """It has sent EOSE, so only its challenge shows that the subscription is lost."""
    scripted_relay.forgets_strangers = True
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    check_answered_once(node, app)
