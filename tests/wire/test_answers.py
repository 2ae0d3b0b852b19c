"""Every authentic request gets exactly one answer, whatever is wrong with it."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from nostr_sdk import Keys

from tests.support.app import NIP04, NIP44, Answer
from tests.support.channel import Json
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.node import MakeNode, NodeUnderTest

COFFEE = {"amount": 1000, "description": "coffee"}
METHODS = [
    "get_info",
    "get_balance",
    "get_budget",
    "make_invoice",
    "receive",
    "lookup_invoice",
    "list_transactions",
]
PAYING = ["pay", "pay_invoice", "pay_keysend"]
BY_NAME = ["sign_message"]


def answers_by_method(node: NodeUnderTest) -> Json:
    """Return nwc-status's counts of answers, by method and outcome."""
    counted: Json = node.rpc.call("nwc-status")["requests_answered"]
    return counted


# Methods


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("multi_pay_invoice", {"invoices": []}),
        ("brew_coffee", {"sugar": True}),
        ("__class__", {}),
    ],
)
def test_an_unknown_method_is_not_implemented(app: ConnectedApp, method: str, params: Json) -> None:
    answer = app.ask(method, params)
    assert answer.code == "NOT_IMPLEMENTED"
    assert answer.message == f"method: must be one of {', '.join(METHODS + PAYING + BY_NAME)}"
    assert answer.body["result_type"] == method


def test_without_hold_there_are_no_hold_invoices(node: NodeUnderTest, app: ConnectedApp) -> None:
    answer = app.ask("make_hold_invoice", {"amount": 1000, "payment_hash": "5a" * 32})
    assert answer.code == "NOT_IMPLEMENTED"
    assert answer.message == "this node does not serve hold invoices"
    shown = node.rpc.call("nwc-status")["hold_invoices"]
    assert shown == "not served: the plugin hold is missing"


# More of them are in tests/unit/nip47/test_request.py.
BAD_BODIES = {
    "not JSON": "hello",
    "array": '["get_info"]',
    "deep": "[" * 20_000 + "]" * 20_000,
    "no method": '{"params":{}}',
    "method is a number": '{"method":7,"params":{}}',
    "method is long": json.dumps({"method": "x" * 65}),
    "params is an array": '{"method":"get_info","params":[1]}',
}


@pytest.mark.parametrize("encryption", [NIP44, NIP04])
@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_refused(app: ConnectedApp, name: str, encryption: str) -> None:
    answer = app.ask("", body=BAD_BODIES[name], encryption=encryption)
    assert answer.code == "OTHER"
    assert answer.message.startswith(("request: must be", "method: must be", "params: must be"))
    assert answer.encryption == encryption


@pytest.mark.parametrize(
    "body",
    [
        '{"method":"get_info"}',
        '{"method":"get_info","params":null}',
        ' {"id": 7, "params": {"unknown": [1]}, "method": "get_info", "version": "9"} ',
    ],
)
def test_optional_and_unknown_fields_of_the_body_are_accepted(app: ConnectedApp, body: str) -> None:
    assert app.ask("", body=body).result["pubkey"]


@pytest.mark.parametrize("expiration", ["soon", "-1", "1e10", "٣", ""])
def test_an_unreadable_expiration_is_refused(app: ConnectedApp, expiration: str) -> None:
    answer = app.ask("get_info", tags=[["expiration", expiration]])
    assert answer.code == "OTHER"
    assert answer.message.startswith("tag expiration: must be")


def test_a_request_that_expires_later_is_answered(app: ConnectedApp) -> None:
    assert app.ask("get_info", tags=[["expiration", str(int(time.time()) + 60)]]).result


def test_get_info_describes_the_node_and_the_connection(node: NodeUnderTest, connect: Connect) -> None:
    app = connect(lud16="alice@example.com")
    answer = app.ask("get_info")
    about = node.rpc.getinfo()
    info = answer.result
    info.pop("block_hash", None)  # known after the first new block
    assert answer.body["result_type"] == "get_info"
    assert info == {
        "alias": about["alias"],
        "color": about["color"],
        "pubkey": about["id"],
        "network": "regtest",
        "block_height": about["blockheight"],
        "methods": METHODS,
        "notifications": ["payment_received"],
        "extensions": ["02", "05", "06", "321"],
        "lud16": "alice@example.com",
        "metadata": {"id": app.shown["client_pubkey"][:16], "name": app.name},
    }


def test_get_info_shows_the_new_name_after_a_change(node: NodeUnderTest, app: ConnectedApp) -> None:
    node.rpc.call("nwc-update", {"name": app.name, "new_name": f"{app.name} ☕"})
    assert app.ask("get_info").result["metadata"]["name"] == f"{app.name} ☕"
    node.rpc.call("nwc-update", {"name": f"{app.name} ☕", "new_name": app.name})


# Encryption and envelope


@pytest.mark.parametrize("encryption", [NIP44, NIP04])
@pytest.mark.parametrize(
    ("method", "params"), [("make_invoice", COFFEE), ("make_invoice", {}), ("x", {})]
)
def test_the_answer_has_the_encryption_of_the_request(
    app: ConnectedApp, encryption: str, method: str, params: Json
) -> None:
    assert app.ask(method, params, encryption=encryption).encryption == encryption


def test_the_encryption_tag_may_name_nip04(app: ConnectedApp) -> None:
    request = app.request("get_info", encryption=None, tags=[["encryption", "nip04"]])
    answer = app.ask_with(request)
    assert answer.result["pubkey"]
    assert answer.encryption == NIP04


@pytest.mark.parametrize("scheme", ["nip44_v3", "", "NIP44_V2", "nip44_v2 nip04", "rot13"])
@pytest.mark.parametrize("content", [None, "gibberish"])
def test_an_unknown_encryption_is_refused_in_nip44(
    app: ConnectedApp, scheme: str, content: str | None
) -> None:
    answer = app.ask("get_info", encryption=scheme, content=content)
    assert answer.code == "UNSUPPORTED_ENCRYPTION"
    assert answer.encryption == NIP44
    assert "nip44_v2, nip04" in answer.message


@pytest.mark.parametrize("offset", [-100, 0, 100], ids=["slow clock", "same", "fast clock"])
def test_an_answer_is_not_dated_before_its_request(app: ConnectedApp, offset: int) -> None:
    at = int(time.time()) + offset
    answer = app.ask("get_info", created_at=at)
    assert answer.event["created_at"] >= max(at, int(time.time()) - 20)


def test_each_of_many_requests_at_once_gets_one_answer(app: ConnectedApp) -> None:
    """Good and bad requests are mixed."""
    requests = [
        app.request("make_invoice", params) for params in (COFFEE, {"amount": -1}, COFFEE, {})
    ] + [app.request(method) for method in ("get_info", "x", "pay_invoice", "get_info")]
    requests.append(app.request(body="hello"))
    requests.append(app.request(encryption="rot13"))
    for request in requests:
        app.send(request)
    for request in requests:
        app.answer_to(request)
    last = app.request("get_info")
    app.ask_with(last)
    assert sorted(app.answered_ids()) == sorted(request["id"] for request in [*requests, last])


# Permission


def test_a_method_that_is_not_allowed_is_restricted(node: NodeUnderTest, connect: Connect) -> None:
    app = connect(methods="get_info")
    answer = app.ask("make_invoice", COFFEE)
    assert answer.code == "RESTRICTED"
    assert answer.message == "make_invoice is not allowed for this connection"
    assert answer.body["result_type"] == "make_invoice"
    assert app.ask("get_info").result["methods"] == ["get_info"]
    assert app.ask("pay_invoice").code == "RESTRICTED"
    assert app.ask("multi_pay_invoice").code == "NOT_IMPLEMENTED"


@pytest.mark.parametrize("method", PAYING)
@pytest.mark.parametrize("methods", ["all", "get_info pay pay_invoice pay_keysend"])
def test_a_connection_that_only_receives_cannot_pay(
    node: NodeUnderTest, connect: Connect, method: str, methods: str
) -> None:
    """It is RESTRICTED whatever the parameters are, and get_info does not offer paying."""
    app = connect(methods=methods, budget="unlimited")
    node.rpc.call("nwc-update", {"name": app.name, "budget": "nothing"})
    for params in ({}, {"invoice": "lnbc1", "payment": "lno1", "pubkey": "02" * 33, "amount": 1000}):
        answer = app.ask(method, params)
        assert answer.code == "RESTRICTED"
        assert answer.message == f"{method} is not allowed for this connection: it can only receive"
        assert answer.body["result_type"] == method
    info = app.ask("get_info").result
    assert not {*PAYING, "payment_sent"} & {*info["methods"], *info["notifications"]}


def test_one_of_the_paying_methods_can_be_left_out(connect: Connect) -> None:
    app = connect(budget="unlimited", methods="pay_keysend get_info")
    answer = app.ask("pay_invoice", {"invoice": "lnbc1"})
    assert answer.code == "RESTRICTED"
    assert answer.message == "pay_invoice is not allowed for this connection"
    info = app.ask("get_info").result
    assert info["methods"] == ["get_info", "pay_keysend"]
    assert info["extensions"] == ["02", "04", "05", "06"]


def test_an_expired_connection_is_unauthorized(node: NodeUnderTest, connect: Connect) -> None:
    app = connect()
    at = int(time.time()) + 2
    node.rpc.call("nwc-update", {"name": app.name, "expires": at})
    wait_until(lambda: time.time() > at, "the connection to expire")
    for method, params in (("get_info", {}), ("make_invoice", COFFEE), ("x", {})):
        answer = app.ask(method, params)
        assert answer.code == "UNAUTHORIZED"
        assert answer.message == "this connection has expired"
    node.rpc.call("nwc-update", {"name": app.name, "expires": "never"})
    assert app.ask("get_info").result["pubkey"]


# Unusual requests


def other_p_tag_first(app: ConnectedApp) -> Json:
    honest, other = app.request("make_invoice", COFFEE), Keys.generate().public_key().to_hex()
    return app.request(content=honest["content"], wallet_pubkey=other, tags=[["p", app.wallet_pubkey]])


def nip44_without_a_tag(app: ConnectedApp) -> Json:
    return app.request(content=app.request("make_invoice", COFFEE)["content"], encryption=None)


def nip04_under_nip44(app: ConnectedApp) -> Json:
    return app.request(content=app.request("make_invoice", COFFEE, encryption=None)["content"])


def nip04_unpadded(app: ConnectedApp) -> Json:
    ciphertext, iv = nip04_content(app)
    return app.request(content=f"{ciphertext.rstrip('=')}?iv={iv.rstrip('=')}", encryption=None)


def nip04_url_safe(app: ConnectedApp) -> Json:
    content = "?iv=".join(nip04_content(app))
    return app.request(content=content.replace("+", "-").replace("/", "_"), encryption=None)


def nip04_with_line_breaks(app: ConnectedApp) -> Json:
    content = "?iv=".join(nip04_content(app))
    return app.request(content=f"{content[:76]}\r\n{content[76:]}\n", encryption=None)


def nip04_content(app: ConnectedApp) -> tuple[str, str]:
    """Return the ciphertext and the iv of a request in NIP-04, both in Base64."""
    ciphertext, iv = app.request("make_invoice", COFFEE, encryption=None)["content"].split("?iv=")
    return ciphertext, iv


@pytest.mark.parametrize(
    ("make_request", "encryption"),
    [
        (other_p_tag_first, NIP44),
        (nip44_without_a_tag, NIP44),
        (nip04_under_nip44, NIP04),
        (nip04_unpadded, NIP04),
        (nip04_url_safe, NIP04),
        (nip04_with_line_breaks, NIP04),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_an_unusual_but_readable_request_is_answered(
    scripted_relay: ScriptedRelay,
    connect: Connect,
    make_request: Callable[[ConnectedApp], Json],
    encryption: str,
) -> None:
    app = connect(relays=[scripted_relay.url], channels=[scripted_relay])
    answer = app.ask_with(make_request(app))
    assert answer.result["invoice"]
    assert answer.encryption == encryption


def encrypted_for_another(app: ConnectedApp) -> Json:
    other = app.request("make_invoice", COFFEE, wallet_pubkey=Keys.generate().public_key().to_hex())
    return app.request(content=other["content"])


def plaintext(app: ConnectedApp) -> Json:
    return app.request(content=json.dumps({"method": "make_invoice", "params": COFFEE}))


def no_content(app: ConnectedApp) -> Json:
    return app.request(content="")


@pytest.mark.parametrize("make_request", [encrypted_for_another, plaintext, no_content])
def test_an_unreadable_request_is_answered_with_an_error(
    app: ConnectedApp, make_request: Callable[[ConnectedApp], Json]
) -> None:
    """The app has signed it. Without an answer the app would wait for its timeout of a minute."""
    answer = app.ask_with(make_request(app))
    assert (answer.code, answer.encryption) == ("OTHER", NIP44)
    assert answer.message.startswith("content: must be encrypted with nip44_v2 or nip04")


# Rate


def test_a_flood_is_rate_limited(
    make_node: MakeNode, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """The limit allows a burst of five seconds. Ten times the limit is refused, the rest is ignored."""
    node = make_node({"nwc-rate-limit": 2})
    app = connect(node=node, relays=scripted_relay.url, channels=[scripted_relay])
    calm = connect(node=node, relays=scripted_relay.url, channels=[scripted_relay])
    requests = [app.request("get_info", tags=[["n", str(i)]]) for i in range(200)]
    started = time.monotonic()
    for request in requests:
        scripted_relay.send(request)
    assert calm.ask("get_info").result["pubkey"]  # others are not limited
    wait_until(lambda: handled(node) >= 201, "all requests to be handled")
    took = time.monotonic() - started
    outcomes = answers_by_method(node)["get_info"]
    assert 11 <= outcomes["ok"] <= 11 + 2 * took + 1
    assert 20 <= outcomes["RATE_LIMITED"] <= 20 + 20 * took + 1
    answers = [first_answer(app, request) for request in requests if app.answers_to(request["id"])]
    refusals = [answer for answer in answers if answer.body["error"]]
    assert {answer.code for answer in refusals} == {"RATE_LIMITED"}
    assert len(refusals) == outcomes["RATE_LIMITED"]
    # Later the app is served again.
    wait_until(lambda: ask_once(app), "the app to be served again")


def test_a_burst_within_the_limit_is_served(
    make_node: MakeNode, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """Each of 100 requests at once gets an invoice: five seconds' worth at 20 a second."""
    node = make_node({"nwc-rate-limit": 20})  # the default
    app = connect(node=node, relays=scripted_relay.url, channels=[scripted_relay])
    node.stop_plugin()
    requests = [app.request("make_invoice", {"amount": amount}) for amount in range(1, 101)]
    scripted_relay.kept += requests  # delivered all at once
    node.start_plugin()
    assert all(app.answer_to(request).result["invoice"] for request in requests)
    [use] = node.rpc.call("nwc-status")["connections"]
    assert use["requests_answered"] == {"make_invoice": {"ok": 100}}
    assert use["rate_limited"] == 0


def handled(node: NodeUnderTest) -> int:
    """Return how many events were answered or ignored for the rate limit."""
    status = node.rpc.call("nwc-status")
    counts = [n for outcomes in status["requests_answered"].values() for n in outcomes.values()]
    return int(sum(counts)) + int(status["events_ignored"].get("rate limited", 0))


def first_answer(app: ConnectedApp, request: Json) -> Answer:
    return app.open(app.answers_to(request["id"])[0], request)


_numbers = iter(range(1_000_000, 2_000_000))


def ask_once(app: ConnectedApp) -> Any:
    """Send a new request; return its result, None if it is refused or not answered in a second."""
    request = app.request("get_info", tags=[["n", str(next(_numbers))]])
    app.send(request)
    try:
        return (
            wait_until(lambda: app.answers_to(request["id"]), "an answer", 1)
            and (first_answer(app, request).body["result"])
        )
    except TimeoutError:
        return None


def test_answers_are_counted_by_method_and_outcome(node: NodeUnderTest, connect: Connect) -> None:
    app = connect()
    node.stop_plugin()
    node.start_plugin()
    wait_until_announced(node, app.name)
    app.ask("get_info")
    app.ask("make_invoice", COFFEE)
    app.ask("make_invoice", {})
    app.ask("pay_invoice")
    app.ask("multi_pay_invoice")
    app.ask("x" * 64)
    app.ask("", body="hello")
    assert answers_by_method(node) == {
        "get_info": {"ok": 1},
        "make_invoice": {"OTHER": 1, "ok": 1},
        "pay_invoice": {"RESTRICTED": 1},
        "unknown": {"NOT_IMPLEMENTED": 2, "OTHER": 1},
    }
