"""Ignored events: from strangers, forged, for others, too old, too new, or no Nostr message at all.

Each case sends junk over a hostile relay, then an honest request. The count in `nwc-status` shows that
the junk was received. Only honest requests are answered.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from nostr_sdk import Keys

from tests.support.channel import Json
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.node import NodeUnderTest

COFFEE = {"amount": 1000, "description": "coffee"}


@pytest.fixture
def app(scripted_relay: ScriptedRelay, connect: Connect) -> ConnectedApp:
    """An app on a hostile relay."""
    return connect(relays=[scripted_relay.url], channels=[scripted_relay])


def rejected(node: NodeUnderTest) -> dict[str, int]:
    """Return how many events were ignored, by reason."""
    counts: dict[str, int] = node.rpc.call("nwc-status")["events_ignored"]
    return counts


def answered(node: NodeUnderTest) -> int:
    """Return how many requests were answered."""
    methods = node.rpc.call("nwc-status")["requests_answered"].values()
    return sum(count for outcomes in methods for count in outcomes.values())


def now() -> int:
    return int(time.time())


def flipped(hexadecimal: str) -> str:
    """Return hex digits with another last digit."""
    return hexadecimal[:-1] + ("0" if hexadecimal[-1] != "0" else "1")


def stranger(app: ConnectedApp) -> Json:
    return app.request("make_invoice", COFFEE, keys=Keys.generate())


def wallet_itself_as_author(app: ConnectedApp) -> Json:
    return {**app.request("make_invoice", COFFEE), "pubkey": app.wallet_pubkey}


def forged_signature(app: ConnectedApp) -> Json:
    request = app.request("make_invoice", COFFEE)
    return {**request, "sig": flipped(request["sig"])}


def strangers_signature(app: ConnectedApp) -> Json:
    return {**stranger(app), "pubkey": app.pubkey}


def no_signature(app: ConnectedApp) -> Json:
    return {**app.request("make_invoice", COFFEE), "sig": "0" * 128}


def forged_id(app: ConnectedApp) -> Json:
    request = app.request("make_invoice", COFFEE)
    return {**request, "id": flipped(request["id"])}


def changed_content(app: ConnectedApp) -> Json:
    other = app.request("make_invoice", {"amount": 1})
    return {**app.request("make_invoice", COFFEE), "content": other["content"]}


def changed_tags(app: ConnectedApp) -> Json:
    request = app.request("make_invoice", COFFEE)
    return {**request, "tags": [*request["tags"], ["expiration", str(now() + 60)]]}


def wrong_kind(app: ConnectedApp) -> Json:
    return app.request("make_invoice", COFFEE, kind=23195)


def note(app: ConnectedApp) -> Json:
    return app.request("make_invoice", COFFEE, kind=1)


def foreign_recipient(app: ConnectedApp) -> Json:
    return app.request("make_invoice", COFFEE, wallet_pubkey=Keys.generate().public_key().to_hex())


def no_recipient(app: ConnectedApp) -> Json:
    return {**app.request("make_invoice", COFFEE), "tags": [["encryption", "nip44_v2"]]}


def stale(app: ConnectedApp) -> Json:
    return app.request("make_invoice", COFFEE, created_at=now() - 180)


def from_the_future(app: ConnectedApp) -> Json:
    return app.request("make_invoice", COFFEE, created_at=now() + 180)


def from_1970(app: ConnectedApp) -> Json:
    return app.request("make_invoice", COFFEE, created_at=0)


def expired(app: ConnectedApp) -> Json:
    return app.request("make_invoice", COFFEE, tags=[["expiration", str(now() - 5)]])


REASONS: dict[Callable[[ConnectedApp], Json], str] = {
    stranger: "unknown author",
    wallet_itself_as_author: "unknown author",
    forged_signature: "bad id or signature",
    strangers_signature: "bad id or signature",
    no_signature: "bad id or signature",
    forged_id: "bad id or signature",
    changed_content: "bad id or signature",
    changed_tags: "bad id or signature",
    wrong_kind: "wrong kind",
    note: "wrong kind",
    foreign_recipient: "not for us",
    no_recipient: "not for us",
    stale: "stale",
    from_the_future: "stale",
    from_1970: "stale",
    expired: "expired",
}


@pytest.mark.parametrize(
    ("make_junk", "reason"), REASONS.items(), ids=lambda x: getattr(x, "__name__", "")
)
def test_an_invalid_request_is_ignored_and_counted(
    node: NodeUnderTest,
    scripted_relay: ScriptedRelay,
    app: ConnectedApp,
    make_junk: Callable[[ConnectedApp], Json],
    reason: str,
) -> None:
    before, answered_before = rejected(node), answered(node)
    invoices_before = len(node.rpc.listinvoices()["invoices"])
    scripted_relay.send(make_junk(app))
    honest = app.request("make_invoice", COFFEE)
    assert app.ask_with(honest).result["invoice"]
    wait_until(lambda: rejected(node).get(reason, 0) > before.get(reason, 0), f"{reason} to be counted")
    assert rejected(node) == {**before, reason: before.get(reason, 0) + 1}
    last = app.request("get_info")
    app.ask_with(last)
    assert app.answered_ids() == [honest["id"], last["id"]]
    assert answered(node) == answered_before + 2
    assert len(node.rpc.listinvoices()["invoices"]) == invoices_before + 1


def test_forged_copies_do_not_block_the_real_request(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, app: ConnectedApp
) -> None:
    """A forged copy with the real id comes first."""
    request = app.request("make_invoice", COFFEE)
    for _ in range(3):
        scripted_relay.send({**request, "sig": flipped(request["sig"])})
    assert app.ask_with(request).result["invoice"]
    assert app.answered_ids() == [request["id"]]


def event_frame(name: str, **fields: Any) -> str:
    event = {"id": "0" * 64, "pubkey": "0" * 64, "created_at": now(), "kind": 23194}
    return json.dumps(["EVENT", name, {**event, "tags": [], "content": "", "sig": "0" * 128, **fields}])


GARBAGE: dict[str, str | bytes] = {
    "empty": "",
    "not JSON": "hello",
    "truncated": '["EVENT","nwc1",{"id":"00',
    "null": "null",
    "number": "7",
    "object": '{"EVENT":1}',
    "empty array": "[]",
    "unknown type": '["HELLO","nwc1"]',
    "array as type": '[["EVENT"],"nwc1"]',
    "no event": '["EVENT","nwc1"]',
    "event is null": '["EVENT","nwc1",null]',
    "event is a list": '["EVENT","nwc1",[]]',
    "event of another subscription": event_frame("nobody's"),
    "id is short": event_frame("nwc1", id="00"),
    "id is a number": event_frame("nwc1", id=0),
    "kind is huge": event_frame("nwc1", kind=2**70),
    "kind is a bool": event_frame("nwc1", kind=True),
    "created_at is negative": event_frame("nwc1", created_at=-1),
    "created_at is a fraction": event_frame("nwc1", created_at=1.5),
    "created_at is enormous": event_frame("nwc1").replace('"kind"', '"created_at":1e999,"kind"'),
    "tags are text": event_frame("nwc1", tags="p"),
    "tag is empty": event_frame("nwc1", tags=[[]]),
    "tag holds numbers": event_frame("nwc1", tags=[["p", 7]]),
    "lone surrogate": event_frame("nwc1", content="\ud800"),
    "deep": '["EVENT","nwc1",' + "[" * 50_000 + "]" * 50_000 + "]",
    "digits without end": '["EVENT","nwc1",' + "9" * 50_000 + "]",
    "oversize": event_frame("nwc1", content="x" * 500_000),
    "OK to nothing": '["OK","' + "0" * 64 + '",true,""]',
    "OK without words": '["OK"]',
    "CLOSED to nothing": '["CLOSED","nobody\'s","error: no"]',
    "NOTICE with control characters": '["NOTICE","\\u001b[31mred\\n\\u0000"]',
    "AUTH of another form": '["AUTH",{"challenge":1}]',
    "AUTH over and over": '["AUTH","' + "c" * 500 + '"]',
    "binary": b"\x00\xff\xfe",
    "binary JSON": b'["NOTICE","x"]',
    "NUL": "\0\0\0\0",
}


def test_garbage_frames_are_ignored(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, app: ConnectedApp
) -> None:
    reconnects = [relay["reconnects"] for relay in node.rpc.call("nwc-status")["relays"]]
    before = rejected(node)
    assert scripted_relay.subscription_names() == ["nwc1"]
    for frame in GARBAGE.values():
        scripted_relay.send_frame(frame)
    honest = app.request("make_invoice", COFFEE)
    assert app.ask_with(honest).result["invoice"]
    assert app.answered_ids() == [honest["id"]]
    assert rejected(node) == before
    assert [relay["reconnects"] for relay in node.rpc.call("nwc-status")["relays"]] == reconnects


@pytest.mark.parametrize("name", GARBAGE)
def test_each_garbage_frame_is_ignored(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, app: ConnectedApp, name: str
) -> None:
    scripted_relay.send_frame(GARBAGE[name])
    honest = app.request("get_info")
    assert app.ask_with(honest).result["pubkey"]
    assert app.answered_ids() == [honest["id"]]


def test_the_plugin_reconnects_after_an_oversize_frame(
    node: NodeUnderTest, scripted_relay: ScriptedRelay, app: ConnectedApp
) -> None:
    """The limit for a frame is a megabyte."""
    count = scripted_relay.connections_so_far
    scripted_relay.send_frame("x" * (2 << 20))
    wait_until(lambda: scripted_relay.connections_so_far > count, "the plugin to reconnect")
    scripted_relay.wait_for_subscription(app.wallet_pubkey)
    assert app.ask("make_invoice", COFFEE).result["invoice"]
