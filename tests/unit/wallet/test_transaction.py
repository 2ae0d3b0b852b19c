from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.cln.history import invoice_created_at
from nwc.nip47.response import MAX_PLAINTEXT_BYTES
from nwc.wallet.invoice_record import InvoiceRecord
from nwc.wallet.transaction import incoming_transaction, outgoing_transaction
from tests.double import bolt11
from tests.double.bolt11 import Bolt11

CREATED = 1_700_000_000
EXPIRES = CREATED + 600
HASH, PREIMAGE = "aa" * 32, "bb" * 32
ALWAYS = {"type", "state", "amount", "created_at", "fees_paid", "payment_hash", "invoice", "metadata"}


def encoded(**fields: Any) -> str:
    content: dict[str, Any] = {"amount_msat": 5000, "description": "tea", "expiry": 600, **fields}
    return bolt11.encode(Bolt11("bcrt", CREATED, b"\xaa" * 32, b"\1" * 32, **content), b"\2" * 32)


def invoice(**fields: Any) -> dict[str, Any]:
    return {
        "label": "l",
        "bolt11": encoded(),
        "payment_hash": HASH,
        "amount_msat": 5000,
        "status": "unpaid",
        "description": "tea",
        "expires_at": EXPIRES,
        "created_index": 1,
        **fields,
    }


PAID = {
    "status": "paid",
    "pay_index": 3,
    "amount_received_msat": 5001,
    "paid_at": CREATED + 5,
    "payment_preimage": PREIMAGE,
}


def payment(**fields: Any) -> dict[str, Any]:
    return {"payment_hash": HASH, "state": 2, "created_at": CREATED, **fields}


@pytest.mark.parametrize(
    ("status", "now", "state"),
    [
        ("unpaid", EXPIRES - 0.5, "pending"),
        ("unpaid", EXPIRES, "expired"),  # lightningd has not noticed yet
        ("unpaid", EXPIRES + 9, "expired"),
        ("expired", EXPIRES - 5, "expired"),
        ("paid", EXPIRES - 5, "settled"),
        ("paid", EXPIRES + 5, "settled"),
    ],
)
def test_state_of_an_invoice(status: str, now: float, state: str) -> None:
    fields = PAID | {"status": status} if status == "paid" else {"status": status}
    made = incoming_transaction(invoice(**fields), InvoiceRecord(), now)
    assert made["state"] == state
    assert made.keys() >= ALWAYS
    # A preimage means "paid" to some apps.
    assert ("preimage" in made) == ("settled_at" in made) == (state == "settled")


def test_amount_is_what_came() -> None:
    assert incoming_transaction(invoice(), InvoiceRecord(), CREATED)["amount"] == 5000
    assert incoming_transaction(invoice(**PAID), InvoiceRecord(), CREATED)["amount"] == 5001
    any_amount = invoice()
    del any_amount["amount_msat"]
    assert incoming_transaction(any_amount, InvoiceRecord(), CREATED)["amount"] == 0


def test_descriptions() -> None:
    def described(record: InvoiceRecord, **fields: Any) -> tuple[Any, Any]:
        made = incoming_transaction(invoice(**fields), record, CREATED)
        return made.get("description"), made.get("description_hash")

    assert described(InvoiceRecord()) == ("tea", None)
    assert described(InvoiceRecord(description="more")) == ("more", None)
    assert described(InvoiceRecord(), description="") == ("", None)
    hashed = encoded(description=None, description_hash=b"\xcc" * 32)
    assert described(InvoiceRecord(), bolt11=hashed) == ("tea", "cc" * 32)
    # Nothing is known of the text: better none than an empty one.
    assert described(InvoiceRecord(), bolt11=hashed, description="") == (None, "cc" * 32)


def test_metadata_is_an_object() -> None:
    assert incoming_transaction(invoice(), InvoiceRecord(), CREATED)["metadata"] == {}
    record = InvoiceRecord({"a": 1})
    assert incoming_transaction(invoice(), record, CREATED)["metadata"] == {"a": 1}


def test_creation_time() -> None:
    assert invoice_created_at(invoice()) == CREATED
    assert invoice_created_at(invoice(**PAID)) == CREATED


def test_creation_time_of_bolt12() -> None:
    """`sendinvoice` makes invoices for 90 seconds, others last two hours; all of them say so."""
    created_at_7 = "lni1pgzx66tvdwjqzpc"
    assert invoice_created_at({"label": "l", "bolt12": created_at_7, "expires_at": 97}) == 7


def test_creation_time_of_an_unreadable_invoice() -> None:
    bolt12 = {"label": "l", "bolt12": "lni1qqg", "expires_at": CREATED + 7200}
    assert invoice_created_at(bolt12) == CREATED
    assert invoice_created_at(bolt12 | {"paid_at": CREATED + 60}) == CREATED
    # One with a longer life was made before it was paid, in any case.
    assert invoice_created_at(bolt12 | {"expires_at": CREATED + 10**6, "paid_at": CREATED}) == CREATED
    assert invoice_created_at(bolt12 | {"expires_at": 5}) == 0


def test_invoice_without_description_or_string() -> None:
    bare = {"label": "l", "payment_hash": HASH, "status": "unpaid", "expires_at": EXPIRES}
    made = incoming_transaction(bare, InvoiceRecord(), CREATED)
    assert (made["invoice"], made["description"], made["amount"]) == ("", "", 0)


@given(st.text(), st.integers(0, 3))
def test_no_description_outgrows_an_answer(text: str, power: int) -> None:
    long = text * 40**power
    made = incoming_transaction(invoice(description=long), InvoiceRecord(), CREATED)
    shown = made["description"]
    assert long.startswith(shown)
    assert shown == long or len(shown.encode()) > 4990
    sent = outgoing_transaction(payment(description=long, state=1))["description"]
    assert sent == shown


def test_longest_description_fits() -> None:
    import json

    for text in ("\x01" * 200_000, '"' * 200_000, "€" * 200_000, "x" * 32_768):
        made = incoming_transaction(invoice(description=text, **PAID), InvoiceRecord(), CREATED)
        assert len(json.dumps(made, ensure_ascii=False).encode()) < MAX_PLAINTEXT_BYTES - 5000
    assert made["description"] == "x" * 32_768


@pytest.mark.parametrize(("state", "name"), [(2, "settled"), (1, "pending"), (0, "failed")])
def test_state_of_a_payment(state: int, name: str) -> None:
    row = payment(state=state, failed_msat=7, bolt12="lni1qqg")
    if state == 2:
        row |= {"payment_preimage": PREIMAGE, "complete_msat": 7, "completed_at": CREATED + 9}
    made = outgoing_transaction(row)
    assert made.keys() >= ALWAYS
    assert (made["type"], made["state"], made["amount"]) == ("outgoing", name, 7)
    assert made["invoice"] == "lni1qqg"
    assert ("preimage" in made) == ("settled_at" in made) == (state == 2)


@pytest.mark.parametrize(
    ("fields", "amount", "fees"),
    [
        ({"complete_msat": 5000, "complete_sent_msat": 5010}, 5000, 10),
        ({"complete_msat": 5000, "complete_sent_msat": 5000}, 5000, 0),
        ({"complete_sent_msat": 5010}, 5010, 0),
        ({"complete_msat": 5000}, 5000, 0),
        # Recipients may be paid more than was reckoned with.
        ({"complete_msat": 5000, "complete_sent_msat": 4999}, 5000, 0),
        ({"complete_msat": 4000, "complete_sent_msat": 4001, "failed_msat": 9000}, 4000, 1),
    ],
)
def test_amount_and_fees_of_a_payment(fields: dict[str, Any], amount: int, fees: int) -> None:
    made = outgoing_transaction(payment(payment_preimage=PREIMAGE, **fields))
    assert (made["amount"], made["fees_paid"]) == (amount, fees)


def test_amount_that_was_to_be_sent() -> None:
    """The invoice says it best: parts and attempts may sum up to more, or not be there yet."""
    row = payment(state=1, pending_msat=3000, failed_msat=5000)
    assert outgoing_transaction(row | {"bolt11": encoded()})["amount"] == 5000
    assert outgoing_transaction(row | {"bolt11": encoded(amount_msat=None)})["amount"] == 3000
    assert outgoing_transaction(row)["amount"] == 3000
    assert outgoing_transaction(payment(state=0, failed_msat=900))["amount"] == 900
    assert outgoing_transaction(payment(state=0))["amount"] == 0


def test_what_a_paid_invoice_said() -> None:
    row = payment(payment_preimage=PREIMAGE, complete_msat=5000)
    made = outgoing_transaction(row | {"bolt11": encoded()})
    assert (made["description"], made["expires_at"]) == ("tea", EXPIRES)
    assert "description_hash" not in made
    hashed = encoded(description=None, description_hash=b"\xcc" * 32)
    made = outgoing_transaction(row | {"bolt11": hashed, "description": "given to pay"})
    assert (made["description"], made["description_hash"]) == ("given to pay", "cc" * 32)
    assert outgoing_transaction(row | {"bolt11": hashed})["description"] == ""
    assert outgoing_transaction(row)["description"] == ""


def test_settled_without_its_time() -> None:
    """lightningd before v23.11 kept none."""
    made = outgoing_transaction(payment(payment_preimage=PREIMAGE, complete_msat=1))
    assert made["settled_at"] == CREATED
