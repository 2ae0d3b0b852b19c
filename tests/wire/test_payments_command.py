"""nwc-payments: what the owner sees of a connection's payments."""

import shlex

import pytest

from tests.support.channel import Json
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.node import NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.test_commands import error_of
from tests.wire.test_receiving import listed, make, make_paid
from tests.wire.test_spending import AMOUNT_MSAT, check_paid, pay
from tests.wire.three_nodes import *  # noqa: F403


def shown(node: NodeUnderTest, app: ConnectedApp, *numbers: object) -> Json:
    return dict(node.rpc.call("nwc-payments", [app.name, *numbers]))


def as_shown(transaction: Json) -> Json:
    """Return what nwc-payments must show of a transaction."""
    renamed = {"amount": "amount_msat", "fees_paid": "fee_msat"}
    kept = ("type", "state", "created_at", "settled_at", "payment_hash")
    row = {name: transaction[name] for name in kept if name in transaction}
    row |= {new: transaction[old] for old, new in renamed.items()}
    return row | ({"description": transaction["description"]} if transaction["description"] else {})


def test_the_owner_sees_what_an_app_has_paid_and_received(
    node: NodeUnderTest, payee: Payee, connect: Connect, spender: ConnectedApp
) -> None:
    other = connect(view="node")
    make_paid(node, other, description="of another app")
    make(spender, description="not paid")
    invoice = payee.invoice(AMOUNT_MSAT, "a book ☕")
    check_paid(pay(spender, invoice), invoice, payee.fee_msat(AMOUNT_MSAT))
    refused = payee.invoice(AMOUNT_MSAT, "too dear")
    assert pay(spender, refused, max_fee=0).code == "FEE_LIMIT_EXCEEDED"
    made = make_paid(node, spender, description="a cake")
    wait_until(lambda: shown(node, spender)["total"] == 3, "the payments to be shown")
    answer = shown(node, spender)
    states = {row["description"]: (row["type"], row["state"]) for row in answer["payments"]}
    assert states == {
        "a book ☕": ("outgoing", "settled"),
        "too dear": ("outgoing", "failed"),
        "a cake": ("incoming", "settled"),
    }
    transactions = listed(spender, unpaid_outgoing=True)["transactions"]
    assert answer == {
        "name": spender.name,
        "payments": [as_shown(transaction) for transaction in transactions],
        "total": 3,
    }
    fees = {row["description"]: row["fee_msat"] for row in answer["payments"]}
    assert fees == {"a book ☕": payee.fee_msat(AMOUNT_MSAT), "too dear": 0, "a cake": 0}
    assert [row["payment_hash"] for row in answer["payments"] if row["type"] == "incoming"] == [
        made["payment_hash"]
    ]
    assert [row["description"] for row in shown(node, other)["payments"]] == ["of another app"]


def test_the_answer_says_how_to_get_the_next_page(node: NodeUnderTest, app: ConnectedApp) -> None:
    for number in range(3):
        make_paid(node, app, description=str(number))
    wait_until(lambda: shown(node, app)["total"] == 3, "the payments to be shown")
    first = shown(node, app, 2)
    assert [row["description"] for row in first["payments"]] == ["2", "1"]
    text, _, command = first["next"].partition(": ")
    assert text == "1 more; for the next page"
    _, _, method, *arguments = shlex.split(command)
    last = node.rpc.call(method, dict(word.split("=", 1) for word in arguments))
    assert [row["description"] for row in last["payments"]] == ["0"]
    assert "next" not in last
    assert shown(node, app, 20, 3) == {"name": app.name, "payments": [], "total": 3}


def test_a_revoked_connection_has_no_payments_to_show(node: NodeUnderTest, connect: Connect) -> None:
    app = connect()
    node.rpc.call("nwc-revoke", [app.name])
    assert error_of(node, "nwc-payments", [app.name]).startswith("name: there is no connection")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit: must be a number from 1 to 100; got 0"),
        ({"limit": 101}, "limit: must be a number from 1 to 100; got 101"),
        ({"limit": "many"}, "limit: must be a number from 1 to 100; got 'many'"),
        ({"limit": True}, "limit: must be a number from 1 to 100; got True"),
        ({"offset": -1}, "offset: must be a number from 0 to 10000; got -1"),
        ({"offset": 10_001}, "offset: must be a number from 0 to 10000; got 10001"),
        ({"name": "no such app"}, "name: there is no connection"),
        ({"name": ""}, "name: must be"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(
    node: NodeUnderTest, app: ConnectedApp, arguments: Json, message: str
) -> None:
    assert error_of(node, "nwc-payments", {"name": app.name, **arguments}).startswith(message)
