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
from tests.unit.wallet.paying_node import encoded_bolt12, tlv

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
    return {"payment_hash": HASH, "state": "complete", "created_at": CREATED, **fields}


@pytest.mark.parametrize(
    ("status", "now", "state"),
    [
        ("unpaid", EXPIRES - 0.5, "pending"),
        ("unpaid", EXPIRES, "expired"),  # lightningd has not marked it yet
        ("unpaid", EXPIRES + 9, "expired"),
        ("expired", EXPIRES - 5, "expired"),
        ("paid", EXPIRES - 5, "settled"),
        ("paid", EXPIRES + 5, "settled"),
    ],
)
def test_only_a_settled_invoice_shows_a_preimage(status: str, now: float, state: str) -> None:
    fields = PAID | {"status": status} if status == "paid" else {"status": status}
    made = incoming_transaction(invoice(**fields), InvoiceRecord(), now)
    assert made["state"] == state
    assert made.keys() >= ALWAYS
    # A preimage means "paid" to some apps.
    assert ("preimage" in made) == ("settled_at" in made) == (state == "settled")


def test_the_amount_of_a_paid_invoice_is_the_received_amount() -> None:
    assert incoming_transaction(invoice(), InvoiceRecord(), CREATED)["amount"] == 5000
    assert incoming_transaction(invoice(**PAID), InvoiceRecord(), CREATED)["amount"] == 5001
    any_amount = invoice()
    del any_amount["amount_msat"]
    assert incoming_transaction(any_amount, InvoiceRecord(), CREATED)["amount"] == 0


def test_a_description_comes_from_the_record_or_the_invoice() -> None:
    def shown(record: InvoiceRecord, **fields: Any) -> tuple[Any, Any]:
        made = incoming_transaction(invoice(**fields), record, CREATED)
        return made.get("description"), made.get("description_hash")

    assert shown(InvoiceRecord()) == ("tea", None)
    assert shown(InvoiceRecord(description="more")) == ("more", None)
    assert shown(InvoiceRecord(), description="") == ("", None)
    hashed = encoded(description=None, description_hash=b"\xcc" * 32)
    assert shown(InvoiceRecord(), bolt11=hashed) == ("tea", "cc" * 32)
    # The text is unknown: no description is better than an empty one.
    assert shown(InvoiceRecord(), bolt11=hashed, description="") == (None, "cc" * 32)


def test_metadata_is_always_an_object() -> None:
    assert incoming_transaction(invoice(), InvoiceRecord(), CREATED)["metadata"] == {}
    record = InvoiceRecord({"a": 1})
    assert incoming_transaction(invoice(), record, CREATED)["metadata"] == {"a": 1}


def test_the_creation_time_is_the_invoices() -> None:
    assert invoice_created_at(invoice()) == CREATED
    assert invoice_created_at(invoice(**PAID)) == CREATED


def test_the_creation_time_of_bolt12_is_the_invoices() -> None:
    """Invoices of `sendinvoice` last 90 seconds, others two hours; the invoice says it."""
    created_at_7 = "lni1pgzx66tvdwjqzpc"
    assert invoice_created_at({"label": "l", "bolt12": created_at_7, "expires_at": 97}) == 7


def test_the_creation_time_of_an_unreadable_invoice_is_estimated() -> None:
    bolt12 = {"label": "l", "bolt12": "lni1qqg", "expires_at": CREATED + 7200}
    assert invoice_created_at(bolt12) == CREATED
    assert invoice_created_at(bolt12 | {"paid_at": CREATED + 60}) == CREATED
    # An invoice that lasts longer was at least made before it was paid.
    assert invoice_created_at(bolt12 | {"expires_at": CREATED + 10**6, "paid_at": CREATED}) == CREATED
    assert invoice_created_at(bolt12 | {"expires_at": 5}) == 0


def test_an_invoice_without_description_or_string_has_empty_ones() -> None:
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
    sent = outgoing_transaction(payment(description=long, state="pending"))["description"]
    assert sent == shown


def test_the_longest_description_fits() -> None:
    import json

    for text in ("\x01" * 200_000, '"' * 200_000, "€" * 200_000, "x" * 32_768):
        made = incoming_transaction(invoice(description=text, **PAID), InvoiceRecord(), CREATED)
        assert len(json.dumps(made, ensure_ascii=False).encode()) < MAX_PLAINTEXT_BYTES - 5000
    assert made["description"] == "x" * 32_768


@pytest.mark.parametrize(
    ("state", "name"), [("complete", "settled"), ("pending", "pending"), ("failed", "failed")]
)
def test_only_a_settled_payment_shows_a_preimage(state: str, name: str) -> None:
    row = payment(state=state, failed_msat=7, bolt12="lni1qqg")
    if state == "complete":
        row |= {"payment_preimage": PREIMAGE, "complete_msat": 7, "completed_at": CREATED + 9}
    made = outgoing_transaction(row)
    assert made.keys() >= ALWAYS
    assert (made["type"], made["state"], made["amount"]) == ("outgoing", name, 7)
    assert made["invoice"] == "lni1qqg"
    assert ("preimage" in made) == ("settled_at" in made) == (state == "complete")


@pytest.mark.parametrize(
    ("fields", "amount", "fees"),
    [
        ({"complete_msat": 5000, "complete_sent_msat": 5010}, 5000, 10),
        ({"complete_msat": 5000, "complete_sent_msat": 5000}, 5000, 0),
        ({"complete_sent_msat": 5010}, 5010, 0),
        ({"complete_msat": 5000}, 5000, 0),
        # A recipient may get more than planned.
        ({"complete_msat": 5000, "complete_sent_msat": 4999}, 5000, 0),
        ({"complete_msat": 4000, "complete_sent_msat": 4001, "failed_msat": 9000}, 4000, 1),
    ],
)
def test_fees_are_what_was_sent_above_the_amount(fields: dict[str, Any], amount: int, fees: int) -> None:
    made = outgoing_transaction(payment(payment_preimage=PREIMAGE, **fields))
    assert (made["amount"], made["fees_paid"]) == (amount, fees)


def test_the_amount_of_an_unsettled_payment_is_the_invoices() -> None:
    """Parts and attempts may add up to more, or be incomplete."""
    row = payment(state="pending", pending_msat=3000, failed_msat=5000)
    assert outgoing_transaction(row | {"bolt11": encoded()})["amount"] == 5000
    assert outgoing_transaction(row | {"bolt11": encoded(amount_msat=None)})["amount"] == 3000
    assert outgoing_transaction(row)["amount"] == 3000
    assert outgoing_transaction(payment(state="failed", failed_msat=900))["amount"] == 900
    assert outgoing_transaction(payment(state="failed"))["amount"] == 0


def test_a_payment_shows_the_description_of_its_invoice() -> None:
    row = payment(payment_preimage=PREIMAGE, complete_msat=5000)
    made = outgoing_transaction(row | {"bolt11": encoded()})
    assert (made["description"], made["expires_at"]) == ("tea", EXPIRES)
    assert "description_hash" not in made
    hashed = encoded(description=None, description_hash=b"\xcc" * 32)
    made = outgoing_transaction(row | {"bolt11": hashed, "description": "given to pay"})
    assert (made["description"], made["description_hash"]) == ("given to pay", "cc" * 32)
    assert outgoing_transaction(row | {"bolt11": hashed})["description"] == ""
    assert outgoing_transaction(row)["description"] == ""


def test_a_settled_payment_without_a_time_settled_when_it_was_made() -> None:
    """lightningd before v23.11 stored no `completed_at`."""
    made = outgoing_transaction(payment(payment_preimage=PREIMAGE, complete_msat=1))
    assert made["settled_at"] == CREATED


BLINDED = encoded_bolt12("lni", tlv(164, b"\x07") + tlv(168, bytes(32)) + tlv(170, b"\x64"))


@pytest.mark.parametrize(
    ("invoice", "amount_msat", "fee_msat"), [(BLINDED, 100, 9), ("lni1qqg", 107, 2), (None, 107, 2)]
)
def test_the_fee_of_a_blinded_path_is_a_fee(
    invoice: str | None, amount_msat: int, fee_msat: int
) -> None:
    """lightningd counts it as a part of the amount."""
    paid = {"payment_preimage": PREIMAGE, "complete_msat": 107, "complete_sent_msat": 109}
    row = payment(state="complete", completed_at=CREATED, **paid)
    row |= {} if invoice is None else {"bolt12": invoice}
    made = outgoing_transaction(row)
    assert (made["amount"], made["fees_paid"]) == (amount_msat, fee_msat)
