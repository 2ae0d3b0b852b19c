"""lightningd sends malformed or unexpected answers: the request fails, and the next one works."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from nwc.nip47.methods import METHODS
from tests.support.channel import Json
from tests.support.waiting import wait_until
from tests.wire.double_node import DoubleNode
from tests.wire.double_payee import DoublePayee
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.test_exactly_once import invoices_of
from tests.wire.test_log_lines import lines
from tests.wire.test_spending import books

MILLION = "x" * 1_000_000


def reply(**member: Any) -> str:
    """Return a JSON-RPC answer with this member."""
    return json.dumps({"jsonrpc": "2.0", "id": "ID", **member}) + "\n\n"


# Malformed answers, and answers that are of no use to any call.
ANSWERS = {
    "hangs up": None,
    "nothing": "",
    "half": '{"jsonrpc":"2.0","id":"ID","resu',
    "not JSON": "lightningd is tired\n\n",
    "no object": "[]\n\n",
    "null": reply(result=None),
    "a text": reply(result="words"),
    "an array": reply(result=[]),
    "empty": reply(result={}),
    "deep": "[" * 100_000 + "\n\n",
    "another's": reply(result={}).replace("ID", "another"),
    "error null": reply(error=None),
    "error text": reply(error="words"),
    "error without code": reply(error={"message": "words"}),
    "error with a text for a code": reply(error={"code": "900", "message": "words"}),
    "error with a fraction": reply(error={"code": 1.5, "message": "words"}),
    "huge error": reply(error={"code": -1, "message": MILLION}),
}
each_answer = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
# One answer of each sort, for tests that take longer.
SOME = {name: ANSWERS[name] for name in ("hangs up", "half", "null", "empty", "error text")}
each_of_some = pytest.mark.parametrize("answer", SOME.values(), ids=SOME)

# Requests, and the RPC methods that each of them calls.
PLAIN = {"amount": 1000, "description": "coffee"}
BARE_HASH = {"amount": 1000, "description_hash": "5a" * 32}
REQUESTS: list[tuple[str, Json, tuple[str, ...]]] = [
    ("get_info", {}, ("getinfo",)),
    ("get_balance", {}, ("listpeerchannels",)),
    ("make_invoice", PLAIN, ("invoice",)),
    ("make_invoice", {**PLAIN, "metadata": {"order": 1}}, ("invoice",)),
    ("make_invoice", BARE_HASH, ("createinvoice",)),
    ("lookup_invoice", {"payment_hash": "00" * 32}, ("listinvoices", "listsendpays")),
    ("list_transactions", {}, ("sql",)),
    ("sign_message", {"message": "log in"}, ("signmessage",)),
]


@pytest.fixture(autouse=True)
def healthy(node: DoubleNode) -> Iterator[None]:
    """Remove all faults after a test."""
    yield
    for method in {method for _, _, methods in REQUESTS for method in methods}:
        node.answer(method, None, 0)


@pytest.fixture
def app(connect: Connect) -> ConnectedApp:
    return connect(budget="unlimited", view="node", methods=list(METHODS))


@pytest.fixture
def payee(node: DoubleNode) -> DoublePayee:
    return DoublePayee(node)


def check_log(node: DoubleNode, since: int) -> None:
    """Assert that the log does not quote lightningd's answers."""
    unusual = lines(node, "UNUSUAL", since)
    assert [line for line in unusual if not line.startswith("the payments of connection")] == []
    assert not [line for line in node.log_text().splitlines()[since:] if len(line) > 1000]


@each_answer
def test_an_odd_answer_fails_its_request_and_not_the_next_one(
    node: DoubleNode, app: ConnectedApp, answer: str | None
) -> None:
    since = node.mark()
    for method, params, rpc_methods in REQUESTS:
        usual = app.ask(method, params).body["error"]
        before = len(invoices_of(node, app))
        for rpc_method in rpc_methods:
            node.answer(rpc_method, answer, 9)
            odd = app.ask(method, params)
            assert odd.code == "INTERNAL", (method, rpc_method)
            assert "words" not in odd.message
            node.answer(rpc_method, answer, 0)
            again = app.ask(method, params).body["error"]
            assert again == usual, (method, rpc_method)
        assert len(invoices_of(node, app)) <= before + 2 * len(rpc_methods)
    check_log(node, since)


def is_paid(app: ConnectedApp, invoice: Json) -> bool:
    """Request the payment of an invoice. Return False if the answer is the error INTERNAL."""
    params = {"invoice": invoice["bolt11"]}
    error = app.ask("pay_invoice", params, tags=[["n", secrets.token_hex(4)]]).body["error"]
    assert error is None or error["code"] == "INTERNAL", error
    return error is None


@each_of_some
@pytest.mark.parametrize(
    "rpc_method", ["help", "decode", "getinfo", "listsendpays", "listdatastore", "datastore"]
)
def test_an_odd_answer_before_a_payment_leaves_nothing_reserved(
    node: DoubleNode, connect: Connect, payee: DoublePayee, rpc_method: str, answer: str | None
) -> None:
    """Nothing is paid, and the next payment succeeds."""
    node.kill_plugin()  # a new plugin has not called any of the RPC methods yet
    node.start_plugin()
    app = connect(budget="1000sat")
    since = node.mark()
    node.answer(rpc_method, answer)
    invoice = payee.invoice(1000)
    odd = app.ask("pay_invoice", {"invoice": invoice["bolt11"]})
    assert odd.body["result"] is not None or odd.code in ("INTERNAL", "OTHER", "PAYMENT_FAILED")
    node.answer(rpc_method, None, 0)
    if odd.body["error"] is not None:
        wait_until(lambda: books(node, app) == (0, 0), "nothing reserved")
        # After a failed listing, the plugin waits at least a second before it lists again.
        wait_until(lambda: is_paid(app, invoice), "the next payment to succeed")
    spent, reserved = books(node, app)
    assert (spent // 1000, reserved) == (1, 0)
    check_log(node, since)


@each_of_some
@pytest.mark.parametrize(
    "rpc_method", ["listconfigs", "listinvoices", "listdatastore", "makesecret", "waitanyinvoice"]
)
def test_an_odd_answer_at_the_start_is_retried(
    node: DoubleNode, app: ConnectedApp, rpc_method: str, answer: str | None
) -> None:
    """The plugin runs on meanwhile."""
    node.kill_plugin()
    node.answer(rpc_method, answer)
    since = node.mark()
    node.start_plugin()
    pid = node.plugin_pid
    wait_until_announced(node, app.name)
    made = app.ask("make_invoice", PLAIN).result
    node.pay(made["invoice"])
    app.wait_for_notifications(made["payment_hash"])
    assert node.plugin_pid == pid
    check_log(node, since)
