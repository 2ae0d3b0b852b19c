"""Relays that want AUTH (NIP-42): from the start, later, for each of several keys on one socket.

`auth_relay` is rust-nostr's: it sends a challenge with each refusal, takes one AUTH for each, and is
content with one key. `scripted_relay` is as strict as NIP-42 allows, or stranger.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from nostr_sdk import Event

from tests.cases.fixtures import Connect, ConnectedApp, announced, wait_until_announced
from tests.cases.node import NodeUnderTest
from tests.cases.relays import (
    info_events,
    is_listening,
    relay_state,
    wait_until_back,
    wait_until_lost,
)
from tests.support.channel import Json, RelaySocket
from tests.support.restartable_relay import RestartableRelay
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until

COFFEE = {"amount": 1000, "description": "coffee"}


@pytest.fixture(params=["read", "write", "both"])
def auth_relay(request: pytest.FixtureRequest) -> Iterator[RestartableRelay]:
    """A real relay that wants AUTH for this."""
    with RestartableRelay(auth=request.param) as relay:
        yield relay


def is_answered_once(node: NodeUnderTest, app: ConnectedApp) -> None:
    """Have an app ask for an invoice when it can, and see that it gets one answer."""
    wait_until(lambda: is_listening(node, app), "the inbox is read")
    for channel in app.channels:
        if isinstance(channel, ScriptedRelay):  # may have more to say about it
            channel.wait_for_subscription(app.wallet_pubkey)
    request = app.request("make_invoice", COFFEE)
    assert app.ask_with(request).result["invoice"]
    app.ask("get_info")  # a second answer to the first request would be before that to this
    assert len(app.answers_to(request["id"])) == 1


# rust-nostr's relay


def test_one_connection(node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect) -> None:
    app = connect(relays=auth_relay.url)
    is_answered_once(node, app)
    [info] = info_events(auth_relay.url, app.wallet_pubkey)
    assert "make_invoice" in info["content"]


def test_notifications(node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect) -> None:
    app = connect(relays=auth_relay.url)
    made = app.ask("make_invoice", COFFEE).result
    node.pay(made["invoice"])
    told = app.wait_for_notifications(made["payment_hash"])
    assert {notification.type for notification in told} == {"payment_received"}


def test_several_connections(
    node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect
) -> None:
    """One is there when the relay asks; the others come when it has been answered."""
    apps = [connect(relays=auth_relay.url)]
    is_answered_once(node, apps[0])
    apps += [connect(relays=auth_relay.url, wait=False) for _ in range(3)]
    for app in apps:
        wait_until_announced(node, app.name)
        is_answered_once(node, app)


def test_relay_restarted(node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect) -> None:
    """Many info events are refused at once here, each with a challenge of its own."""
    apps = [connect(relays=auth_relay.url) for _ in range(6)]
    auth_relay.kill()
    wait_until_lost(node, auth_relay)
    auth_relay.start()
    wait_until_back(node, auth_relay)
    with ExitStack() as sockets:
        for app in apps:
            wait_until(
                lambda app=app: info_events(auth_relay.url, app.wallet_pubkey),  # type: ignore[misc]
                "the info event is there again",
            )
            socket = RelaySocket(auth_relay.url, app.answer_filter)
            app.channels = (sockets.enter_context(socket),)
            is_answered_once(node, app)


def test_plugin_restarted(node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect) -> None:
    apps = [connect(relays=auth_relay.url) for _ in range(3)]
    node.stop_plugin()
    node.start_plugin()
    for app in apps:
        wait_until_announced(node, app.name)
        is_answered_once(node, app)


def test_withdrawn(node: NodeUnderTest, auth_relay: RestartableRelay, connect: Connect) -> None:
    app = connect(relays=auth_relay.url)
    node.rpc.call("nwc-revoke", [app.name])
    wait_until(
        lambda: all(not e["content"] for e in info_events(auth_relay.url, app.wallet_pubkey)),
        "withdrawn",
    )


# A strict relay


def only_authors(event: Json, known: set[str]) -> str:
    """Take events from keys that are known."""
    return "" if event["pubkey"] in known else "auth-required: who are you?"


def only_recipients(filter_: Json, known: set[str]) -> str:
    """Deliver to keys that are known, every one of them."""
    return "" if set(filter_["#p"]) <= known else "auth-required: who are you?"


@pytest.fixture
def strict_relay(scripted_relay: ScriptedRelay) -> ScriptedRelay:
    """Wants AUTH for every key. Each refusal makes the challenges before it void."""
    scripted_relay.on_event, scripted_relay.on_filter = only_authors, only_recipients
    scripted_relay.challenges = True
    return scripted_relay


def test_every_key_is_authenticated(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    apps = [connect(relays=strict_relay.url, channels=[strict_relay])]
    is_answered_once(node, apps[0])
    apps += [connect(relays=strict_relay.url, channels=[strict_relay], wait=False) for _ in range(2)]
    for app in apps:
        wait_until_announced(node, app.name)
        is_answered_once(node, app)
    assert strict_relay.connections_so_far == 1
    for event in strict_relay.auths.all():
        assert Event.from_json(json.dumps(event)).verify()
        assert event["kind"] == 22242
        assert ["relay", strict_relay.url] in event["tags"]


def test_more_refusals_at_once_than_challenges_are_answered_at_once(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    strict_relay.on_event = strict_relay.on_filter = lambda _what, _known: ""
    apps = [connect(relays=strict_relay.url, channels=[strict_relay]) for _ in range(8)]
    node.stop_plugin()
    strict_relay.on_event, strict_relay.on_filter = only_authors, only_recipients
    node.start_plugin()
    for app in apps:
        wait_until_announced(node, app.name)
        is_answered_once(node, app)


def test_revoked_where_only_authors_write(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    """The last event of a key whose inbox nobody reads any more, and the first after a restart.

    Each refusal brings a challenge, and a relay that sends many is answered with pauses.
    """
    app = connect(relays=strict_relay.url, channels=[strict_relay])
    connect(relays=strict_relay.url, channels=[strict_relay])  # keeps the relay in use
    strict_relay.forget_keys()
    node.rpc.call("nwc-revoke", [app.name])
    strict_relay.received.wait_for(
        lambda e: e["pubkey"] == app.wallet_pubkey and e["kind"] == 13194 and not e["content"],
        "the withdrawal",
        timeout_s=60,
    )


@pytest.mark.parametrize("is_told_before", [True, False])
def test_wanted_for_reading_in_mid_session(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect, is_told_before: bool
) -> None:
    """The subscription ends, and the challenge comes before that or after it."""
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    is_answered_once(node, app)
    scripted_relay.on_filter = only_recipients
    if is_told_before:
        scripted_relay.challenge()
    scripted_relay.end_subscriptions("auth-required: from now on")
    if not is_told_before:
        scripted_relay.challenge()
    is_answered_once(node, app)


def test_forgotten_in_mid_session(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    """The relay wants AUTH once more, and the old challenge is still the one to answer."""
    app = connect(relays=strict_relay.url, channels=[strict_relay])
    strict_relay.challenges = False
    strict_relay.forget_keys()
    strict_relay.end_subscriptions("auth-required: who are you?")
    is_answered_once(node, app)


def test_wanted_for_writing_in_mid_session(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    is_answered_once(node, app)
    scripted_relay.on_event, scripted_relay.challenges = only_authors, True
    is_answered_once(node, app)
    assert scripted_relay.auths.all()


def test_a_new_challenge_in_mid_session(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    app = connect(relays=strict_relay.url, channels=[strict_relay])
    strict_relay.forget_keys()
    before = len(strict_relay.auths.all())
    strict_relay.challenge()
    strict_relay.auths.wait_for(lambda _: True, "AUTH for the new challenge", before + 1)
    is_answered_once(node, app)


def test_a_key_that_is_refused_does_not_spoil_the_others(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    """Neither those before it nor those after it, which it shares a subscription with."""
    first = connect(relays=strict_relay.url, channels=[strict_relay])
    strict_relay.on_auth = lambda event, _known: "" if event["pubkey"] == first.wallet_pubkey else "no"
    refused = connect(relays=strict_relay.url, channels=[strict_relay], wait=False)
    is_answered_once(node, first)
    strict_relay.on_auth = lambda event, _known: "no" if event["pubkey"] == refused.wallet_pubkey else ""
    last = connect(relays=strict_relay.url, channels=[strict_relay])
    for app in (first, last):
        is_answered_once(node, app)
    assert not announced(node, refused.name)
    assert not is_listening(node, refused)
    assert not any(refused.wallet_pubkey in wanted["#p"] for wanted in strict_relay.filters())


def test_restricted_for_one_key(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    """AUTH is accepted, but one of the keys is no member, and the relay does not say which."""
    apps = [connect(relays=strict_relay.url, channels=[strict_relay]) for _ in range(3)]
    stranger = apps[1].wallet_pubkey
    strict_relay.on_filter = lambda filter_, known: (
        "restricted: for members" if stranger in filter_["#p"] else only_recipients(filter_, known)
    )
    strict_relay.end_subscriptions("restricted: for members")
    for app in (apps[0], apps[2]):
        is_answered_once(node, app)
    shown = relay_state(node, strict_relay.url)["last_error"]
    assert shown == "subscription closed: restricted: for members"


def test_restricted_for_an_event(
    node: NodeUnderTest, strict_relay: ScriptedRelay, connect: Connect
) -> None:
    """What is not for us is not asked for in a loop, and is shown."""
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


@pytest.mark.parametrize("is_wanted", [True, False])
def test_auth_that_is_never_answered(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect, is_wanted: bool
) -> None:
    """The relay takes AUTH in silence; where it wants it, it has it when it is asked again."""

    def take_silently(event: Json, known: set[str]) -> None:
        known.add(event["pubkey"])

    scripted_relay.challenges, scripted_relay.on_auth = True, take_silently
    if is_wanted:
        scripted_relay.on_filter = only_recipients
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    is_answered_once(node, app)


@pytest.mark.parametrize("slash", ["", "/"])
def test_auth_names_the_relay_as_the_owner_did(
    scripted_relay: ScriptedRelay, connect: Connect, slash: str
) -> None:
    """Some relays compare the URL letter by letter, and with a slash they are known by one."""
    url = scripted_relay.url + slash
    connect(relays=url, channels=[scripted_relay])
    scripted_relay.challenge()
    [auth, *_] = scripted_relay.auths.wait_for(lambda _event: True, "AUTH")
    assert ["relay", url] in auth["tags"]


def test_a_relay_that_forgets_what_was_asked_for_before_auth(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """It has said EOSE, so nothing but the challenge tells that the subscription is not there."""
    scripted_relay.forgets_strangers = True
    app = connect(relays=scripted_relay.url, channels=[scripted_relay])
    is_answered_once(node, app)
