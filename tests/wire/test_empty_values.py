"""Empty values: each cell of the table in nwc/nip47/params.py, and requests of real clients.

Clients in Go write every key, with "", 0 or null for an absent value. PHP writes [] for an empty object.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.app import Answer
from tests.support.channel import Json
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.node import NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.test_receiving import listed, lookup, make
from tests.wire.test_spending import books, check_paid, pay
from tests.wire.three_nodes import *  # noqa: F403

AMOUNT_MSAT = 1000
EMPTY: tuple[Any, ...] = (0, "", [], {})
OK = "OK"
REFUSED = ("OTHER",) * 4
NUMBER = (OK, "OTHER", "OTHER", "OTHER")
TEXT = ("OTHER", OK, "OTHER", "OTHER")
OBJECT = ("OTHER", "OTHER", OK, OK)
# 0 is a real limit. No payment over two channels is free, so it fails.
FEE_LIMIT = ("FEE_LIMIT_EXCEEDED", "OTHER", "OTHER", "OTHER")


def outcome(answer: Answer) -> str:
    return OK if answer.body["error"] is None else answer.code


def check_cells(
    app: ConnectedApp, method: str, base: Json, table: Mapping[str, tuple[str, ...]]
) -> None:
    """Send each empty value in each field, one at a time, and compare the outcomes with the table."""
    outcomes = {
        field: tuple(outcome(app.ask(method, {**base, field: empty})) for empty in EMPTY)
        for field in table
    }
    assert outcomes == table


def test_make_invoice_treats_empty_values_as_the_table_says(app: ConnectedApp) -> None:
    table = {
        "amount": NUMBER,
        "description": TEXT,
        "description_hash": TEXT,
        "expiry": NUMBER,
        "metadata": OBJECT,
    }
    check_cells(app, "make_invoice", {"amount": AMOUNT_MSAT}, table)


def test_receive_treats_empty_values_as_the_table_says(app: ConnectedApp) -> None:
    refused = "BAD_REQUEST"
    table = {
        "amount": (OK, refused, refused, refused),
        "description": (refused, OK, refused, refused),
        "metadata": (refused, refused, OK, OK),
    }
    check_cells(app, "receive", {}, table)


def test_lookup_invoice_treats_empty_values_as_the_table_says(app: ConnectedApp) -> None:
    made = make(app)
    check_cells(app, "lookup_invoice", {"invoice": made["invoice"]}, {"payment_hash": TEXT})
    check_cells(app, "lookup_invoice", {"payment_hash": made["payment_hash"]}, {"invoice": TEXT})


def test_list_transactions_treats_empty_values_as_the_table_says(app: ConnectedApp) -> None:
    table = {
        **dict.fromkeys(("from", "until", "limit", "offset"), NUMBER),
        "type": TEXT,
        **dict.fromkeys(("unpaid", "unpaid_incoming", "unpaid_outgoing"), REFUSED),
    }
    check_cells(app, "list_transactions", {}, table)


def test_pay_invoice_treats_empty_values_as_the_table_says(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    outcomes = {}
    for field in ("amount", "metadata", "max_fee"):
        invoices = [payee.invoice(AMOUNT_MSAT) for _ in EMPTY]
        answers = [pay(spender, i, **{field: empty}) for i, empty in zip(invoices, EMPTY, strict=True)]
        outcomes[field] = tuple(map(outcome, answers))
    assert outcomes == {"amount": NUMBER, "metadata": OBJECT, "max_fee": FEE_LIMIT}
    check_cells(spender, "pay_invoice", {}, {"invoice": REFUSED})
    assert books(node, spender) == (3 * (AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT)), 0)


def test_pay_treats_empty_values_as_the_table_says(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    outcomes = {}
    for field in ("amount", "metadata", "max_fee", "payer_note"):
        given = [{"payment": payee.offer(AMOUNT_MSAT), field: empty} for empty in EMPTY]
        outcomes[field] = tuple(outcome(spender.ask("pay", params)) for params in given)
    bad = "BAD_REQUEST"
    assert outcomes == {
        "amount": (OK, bad, bad, bad),
        "metadata": (bad, bad, OK, OK),
        "max_fee": ("FEE_LIMIT_EXCEEDED", bad, bad, bad),
        "payer_note": (bad, OK, bad, bad),
    }
    check_cells(spender, "pay", {}, {"payment": (bad, bad, bad, bad)})
    assert books(node, spender) == (4 * (AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT)), 0)


def test_pay_keysend_treats_empty_values_as_the_table_says(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    table = {
        "amount": REFUSED,
        "pubkey": REFUSED,
        "preimage": ("NOT_IMPLEMENTED", OK, "NOT_IMPLEMENTED", "NOT_IMPLEMENTED"),
        "tlv_records": OBJECT,
        "max_fee": FEE_LIMIT,
        "metadata": OBJECT,
    }
    check_cells(spender, "pay_keysend", {"amount": AMOUNT_MSAT, "pubkey": payee.id}, table)
    assert books(node, spender) == (5 * (AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT)), 0)


def test_sign_message_treats_empty_values_as_the_table_says(connect: Connect) -> None:
    check_cells(connect(methods="sign_message"), "sign_message", {}, {"message": REFUSED})


@pytest.mark.parametrize(
    ("params", "expected"), [("0", "OTHER"), ('""', "OTHER"), ("[]", OK), ("{}", OK), ("[{}]", "OTHER")]
)
def test_params_may_be_an_empty_array_or_object_only(
    app: ConnectedApp, params: str, expected: str
) -> None:
    for method in ("get_info", "get_balance", "get_budget", "list_transactions"):
        answer = app.ask(method, body=f'{{"method":"{method}","params":{params}}}')
        assert outcome(answer) == expected


def test_an_empty_array_of_params_lacks_required_fields(app: ConnectedApp) -> None:
    answer = app.ask("make_invoice", body='{"method":"make_invoice","params":[]}')
    assert (answer.code, answer.message[:7]) == ("OTHER", "amount:")


# Requests of clients that write every key


def test_make_invoice_accepts_every_key_empty(node: NodeUnderTest, app: ConnectedApp) -> None:
    """As go-nwc writes it."""
    nothing = {"expiry": None, "description_hash": "", "metadata": None}
    made = app.ask("make_invoice", {"amount": 21000, "description": "x", **nothing}).result
    decoded = node.rpc.call("decode", {"string": made["invoice"]})
    assert (decoded["description"], decoded["amount_msat"]) == ("x", 21000)
    assert "description_hash" not in decoded
    assert decoded["expiry"] == 86_400
    assert made["metadata"] == {}


def test_lookup_invoice_accepts_every_key_empty(app: ConnectedApp) -> None:
    made = make(app)
    by_hash = {"payment_hash": made["payment_hash"], "invoice": ""}
    by_invoice = {"payment_hash": "", "invoice": made["invoice"]}
    for params in (by_hash, by_invoice):
        assert app.ask("lookup_invoice", params).result == lookup(app, made)
    answer = app.ask("lookup_invoice", {"payment_hash": "", "invoice": ""})
    assert (answer.code, answer.message) == ("OTHER", "payment_hash: this or invoice must be given")


@pytest.mark.parametrize("type_", ["", None])
def test_list_transactions_accepts_every_key_empty(app: ConnectedApp, type_: str | None) -> None:
    for _ in range(3):
        make(app)
    zeros = {"from": 0, "until": 0, "limit": 0, "offset": 0, "type": type_}
    answer = listed(app, unpaid=True, unpaid_incoming=False, unpaid_outgoing=False, **zeros)
    assert answer == listed(app, unpaid=True)
    assert answer["total_count"] == len(answer["transactions"]) == 3


def test_pay_invoice_accepts_every_key_empty(payee: Payee, spender: ConnectedApp) -> None:
    invoice = payee.invoice(AMOUNT_MSAT)
    answer = pay(spender, invoice, amount=0, max_fee=None, metadata=[])
    check_paid(answer, invoice, payee.fee_msat(AMOUNT_MSAT))
    assert lookup(spender, invoice)["metadata"] == {}


def test_zero_is_no_amount_for_an_invoice_without_one(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    refused = pay(spender, payee.invoice(0), amount=0)
    assert refused.code == "OTHER"
    assert refused.message == "amount: must be given in msat, since the invoice has none"
    assert books(node, spender) == (0, 0)


def test_pay_keysend_accepts_every_key_empty(payee: Payee, spender: ConnectedApp) -> None:
    nothing: Json = {"preimage": "", "tlv_records": [], "max_fee": None, "metadata": None}
    params = {"amount": AMOUNT_MSAT, "pubkey": payee.id, **nothing}
    assert spender.ask("pay_keysend", params).result["fees_paid"] == payee.fee_msat(AMOUNT_MSAT)
    [row] = listed(spender)["transactions"]
    assert row["metadata"] == {}
