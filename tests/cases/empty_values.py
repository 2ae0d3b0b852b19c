"""What an empty value means: each cell of the table in nwc/nip47/params.py, and the inputs of clients.

Clients in Go write every key, with "" or 0 or null for none; PHP writes [] for an empty object.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.cases.fixtures import ConnectedApp
from tests.cases.node import NodeUnderTest
from tests.cases.payee import Payee
from tests.cases.receiving import listed, lookup, make
from tests.cases.spending import books, check_paid, pay
from tests.support.app import Answer
from tests.support.channel import Json

AMOUNT_MSAT = 1000
EMPTY: tuple[Any, ...] = (0, "", [], {})
OK = "OK"
REFUSED = ("OTHER",) * 4
NUMBER = (OK, "OTHER", "OTHER", "OTHER")
TEXT = ("OTHER", OK, "OTHER", "OTHER")
OBJECT = ("OTHER", "OTHER", OK, OK)
# Answered as a limit that no payment over two channels can keep.
FEE_LIMIT = ("PAYMENT_FAILED", "OTHER", "OTHER", "OTHER")


def outcome(answer: Answer) -> str:
    return OK if answer.body["error"] is None else answer.code


def check_cells(
    app: ConnectedApp, method: str, base: Json, table: Mapping[str, tuple[str, ...]]
) -> None:
    """Give each field of a method each empty value, one at a time."""
    outcomes = {
        field: tuple(outcome(app.ask(method, {**base, field: empty})) for empty in EMPTY)
        for field in table
    }
    assert outcomes == table


def test_empty_in_make_invoice(app: ConnectedApp) -> None:
    table = {
        "amount": NUMBER,
        "description": TEXT,
        "description_hash": TEXT,
        "expiry": NUMBER,
        "metadata": OBJECT,
    }
    check_cells(app, "make_invoice", {"amount": AMOUNT_MSAT}, table)


def test_empty_in_lookup_invoice(app: ConnectedApp) -> None:
    made = make(app)
    check_cells(app, "lookup_invoice", {"invoice": made["invoice"]}, {"payment_hash": TEXT})
    check_cells(app, "lookup_invoice", {"payment_hash": made["payment_hash"]}, {"invoice": TEXT})


def test_empty_in_list_transactions(app: ConnectedApp) -> None:
    table = {
        **dict.fromkeys(("from", "until", "limit", "offset"), NUMBER),
        "type": TEXT,
        **dict.fromkeys(("unpaid", "unpaid_incoming", "unpaid_outgoing"), REFUSED),
    }
    check_cells(app, "list_transactions", {}, table)


def test_empty_in_pay_invoice(node: NodeUnderTest, payee: Payee, spender: ConnectedApp) -> None:
    outcomes = {}
    for field in ("amount", "metadata", "max_fee"):
        invoices = [payee.invoice(AMOUNT_MSAT) for _ in EMPTY]
        answers = [pay(spender, one, **{field: e}) for one, e in zip(invoices, EMPTY, strict=True)]
        outcomes[field] = tuple(map(outcome, answers))
    assert outcomes == {"amount": NUMBER, "metadata": OBJECT, "max_fee": FEE_LIMIT}
    check_cells(spender, "pay_invoice", {}, {"invoice": REFUSED})
    assert books(node, spender) == (3 * (AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT)), 0)


def test_empty_in_pay_keysend(node: NodeUnderTest, payee: Payee, spender: ConnectedApp) -> None:
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


@pytest.mark.parametrize(
    ("params", "expected"), [("0", "OTHER"), ('""', "OTHER"), ("[]", OK), ("{}", OK), ("[{}]", "OTHER")]
)
def test_empty_params(app: ConnectedApp, params: str, expected: str) -> None:
    for method in ("get_info", "get_balance", "get_budget", "list_transactions"):
        answer = app.ask(method, body=f'{{"method":"{method}","params":{params}}}')
        assert outcome(answer) == expected


def test_empty_array_for_params_leaves_what_is_required_out(app: ConnectedApp) -> None:
    answer = app.ask("make_invoice", body='{"method":"make_invoice","params":[]}')
    assert (answer.code, answer.message[:7]) == ("OTHER", "amount:")


# Inputs of clients


def test_every_key_of_make_invoice(node: NodeUnderTest, app: ConnectedApp) -> None:
    """As go-nwc writes them."""
    nothing = {"expiry": None, "description_hash": "", "metadata": None}
    made = app.ask("make_invoice", {"amount": 21000, "description": "x", **nothing}).result
    decoded = node.rpc.call("decode", {"string": made["invoice"]})
    assert (decoded["description"], decoded["amount_msat"]) == ("x", 21000)
    assert "description_hash" not in decoded
    assert decoded["expiry"] == 86_400
    assert made["metadata"] == {}


def test_every_key_of_lookup_invoice(app: ConnectedApp) -> None:
    made = make(app)
    by_hash = {"payment_hash": made["payment_hash"], "invoice": ""}
    by_invoice = {"payment_hash": "", "invoice": made["invoice"]}
    for params in (by_hash, by_invoice):
        assert app.ask("lookup_invoice", params).result == lookup(app, made)
    answer = app.ask("lookup_invoice", {"payment_hash": "", "invoice": ""})
    assert (answer.code, answer.message) == ("OTHER", "payment_hash: this or invoice must be given")


@pytest.mark.parametrize("type_", ["", None])
def test_every_key_of_list_transactions(app: ConnectedApp, type_: str | None) -> None:
    for _ in range(3):
        make(app)
    zeros = {"from": 0, "until": 0, "limit": 0, "offset": 0, "type": type_}
    answer = listed(app, unpaid=True, unpaid_incoming=False, unpaid_outgoing=False, **zeros)
    assert answer == listed(app, unpaid=True)
    assert answer["total_count"] == len(answer["transactions"]) == 3


def test_every_key_of_pay_invoice(payee: Payee, spender: ConnectedApp) -> None:
    invoice = payee.invoice(AMOUNT_MSAT)
    answer = pay(spender, invoice, amount=0, max_fee=None, metadata=[])
    check_paid(answer, invoice, payee.fee_msat(AMOUNT_MSAT))
    assert lookup(spender, invoice)["metadata"] == {}


def test_zero_for_an_invoice_of_any_amount(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    refused = pay(spender, payee.invoice(0), amount=0)
    assert refused.code == "OTHER"
    assert refused.message == "amount: must be given in msat, since the invoice has none"
    assert books(node, spender) == (0, 0)


def test_every_key_of_pay_keysend(payee: Payee, spender: ConnectedApp) -> None:
    nothing: Json = {"preimage": "", "tlv_records": [], "max_fee": None, "metadata": None}
    params = {"amount": AMOUNT_MSAT, "pubkey": payee.id, **nothing}
    assert spender.ask("pay_keysend", params).result["fees_paid"] == payee.fee_msat(AMOUNT_MSAT)
    [row] = listed(spender)["transactions"]
    assert row["metadata"] == {}
