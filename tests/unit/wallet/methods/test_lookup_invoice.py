import hashlib
from dataclasses import replace
from typing import Any

import pytest

from nwc.cln.errors import NodeUnavailableError
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.connections.record import View
from nwc.wallet.invoice_record import InvoiceRecord
from nwc.wallet.spending.payment import PaymentRecord, PaymentState
from tests.unit.in_process import ALICE, BOB, START, World, connection
from tests.unit.wallet.scene import settled

OWN, OTHER, NODE = connection(ALICE), connection(BOB), connection("c2" * 8, View.NODE)
UNKNOWN = "ee" * 32


async def refused(world: World, **params: Any) -> Nip47Error:
    with pytest.raises(Nip47Error) as caught:
        await world.lookup(OWN, **params)
    return caught.value


async def test_an_invoice_is_found_by_hash_by_string_or_by_both(world: World) -> None:
    made = await world.invoice(OWN, 1, description="tea")
    found = await world.lookup(OWN, payment_hash=made["payment_hash"])
    assert found["invoice"] == made["bolt11"]
    assert found["payment_hash"] == made["payment_hash"]
    for params in (
        {"payment_hash": made["payment_hash"].upper()},
        {"invoice": made["bolt11"]},
        {"invoice": made["bolt11"].upper()},
        {"invoice": f"lightning:{made['bolt11']}"},
        {"invoice": f" LIGHTNING:{made['bolt11'].upper()}\n"},
        {"invoice": made["bolt11"], "payment_hash": made["payment_hash"]},
        {"invoice": made["bolt11"], "payment_hash": None},
        {"invoice": None, "payment_hash": made["payment_hash"]},
        {"invoice": made["bolt11"], "payment_hash": ""},
        {"invoice": "", "payment_hash": made["payment_hash"]},
    ):
        assert await world.lookup(OWN, **params) == found


async def test_hash_and_string_of_different_invoices_are_refused(world: World) -> None:
    made = [await world.invoice(OWN, n) for n in range(2)]
    both = {"invoice": made[0]["bolt11"], "payment_hash": made[1]["payment_hash"]}
    error = await refused(world, **both)
    assert error.code == ErrorCode.OTHER
    assert made[0]["payment_hash"] not in error.message


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"payment_hash": None, "invoice": None},
        {"payment_hash": ""},
        {"payment_hash": "", "invoice": ""},
        {"payment_hash": "", "invoice": None},
        {"payment_hash": "ee" * 31},
        {"payment_hash": "ee" * 33},
        {"payment_hash": "zz" * 32},
        {"payment_hash": 7},
        {"payment_hash": ["ee" * 32]},
        {"invoice": ""},
        {"invoice": "lnbc1"},
        {"invoice": "lnbc" + "q" * 20_000},
        {"invoice": 7},
        {"invoice": "lno1qgsq"},
        {"invoice": "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"},
    ],
)
async def test_malformed_params_are_refused_without_a_call(world: World, params: dict[str, Any]) -> None:
    error = await refused(world, **params)
    assert error.code == ErrorCode.OTHER
    assert error.message.split(":")[0] in ("payment_hash", "invoice")
    assert world.node.calls == []


async def test_a_paid_invoice_gets_preimage_and_time(world: World) -> None:
    made = await world.invoice(OWN, 1, amount_msat=5000, description="tea")
    pending = await world.lookup(OWN, payment_hash=made["payment_hash"])
    assert (pending["state"], pending["amount"]) == ("pending", 5000)
    assert not {"preimage", "settled_at"} & pending.keys()
    paid = await world.pay(made["label"], amount_msat=5100)
    settled = await world.lookup(OWN, payment_hash=made["payment_hash"])
    assert settled == pending | {
        "state": "settled",
        "amount": 5100,
        "preimage": paid["payment_preimage"],
        "settled_at": paid["paid_at"],
    }
    preimage = bytes.fromhex(settled["preimage"])
    assert hashlib.sha256(preimage).hexdigest() == made["payment_hash"]


async def test_an_expired_invoice_is_shown_as_expired(world: World) -> None:
    await world.invoices(OWN, 1, expiry=60)
    [row] = (await world.list(OWN, unpaid=True))["transactions"]
    expired = await world.lookup(OWN, payment_hash=row["payment_hash"])
    assert expired["state"] == "expired"
    assert not {"preimage", "settled_at"} & expired.keys()


async def test_an_invoice_of_any_amount_shows_the_received_amount(world: World) -> None:
    made = await world.invoice(OWN, 1, amount_msat=0)
    assert (await world.lookup(OWN, payment_hash=made["payment_hash"]))["amount"] == 0
    await world.pay(made["label"], amount_msat=77)
    assert (await world.lookup(OWN, payment_hash=made["payment_hash"]))["amount"] == 77


async def test_metadata_and_description_come_from_the_record(world: World) -> None:
    record = InvoiceRecord({"order": {"id": 7}}, "the whole text")
    made = await world.invoice(OWN, 1, description='a "text"', deschashonly=True, record=record)
    found = await world.lookup(OWN, payment_hash=made["payment_hash"])
    assert found["metadata"] == {"order": {"id": 7}}
    assert found["description"] == "the whole text"
    assert found["description_hash"] == hashlib.sha256(b'a "text"').hexdigest()
    plain = await world.invoice(OWN, 2, description='a "text"', deschashonly=True)
    assert (await world.lookup(OWN, invoice=plain["bolt11"]))["description"] == 'a "text"'


async def test_a_hidden_invoice_looks_like_an_unknown_one(world: World) -> None:
    """The error and the calls of lightningd are the same for both."""
    foreign = await world.invoice(OTHER, 1, description="secret", record=InvoiceRecord({"a": 1}))
    await world.pay(foreign["label"])
    elsewhere = await world.node.invoice(amount_msat=1, label="shop", description="", expiry=60)
    sent = await world.payment({}, description="secret")

    async def unseen(payment_hash: str) -> tuple[Any, ...]:
        before = len(world.node.calls)
        error = await world.not_found(OWN, payment_hash=payment_hash)
        calls = [(name, sorted(given)) for name, given in world.node.calls[before:]]
        return *error, calls

    await unseen(UNKNOWN)  # the first look-up of a connection also loads its payments
    unknown = await unseen(UNKNOWN)
    assert unknown[0] == ErrorCode.NOT_FOUND
    assert UNKNOWN not in unknown[1]
    for hidden in (foreign, elsewhere, sent):
        assert await unseen(hidden["payment_hash"]) == unknown
        assert (await world.lookup(NODE, payment_hash=hidden["payment_hash"]))["payment_hash"]


async def test_neighbouring_labels_are_foreign(world: World) -> None:
    for label in (f"nwc:{ALICE}0:{1:064x}", f"nwc:{ALICE}", f"nwc:{ALICE[:-1]}0:{1:064x}", "nwc::"):
        made = await world.node.invoice(amount_msat=1, label=label, description="", expiry=60)
        code, _ = await world.not_found(OWN, payment_hash=made["payment_hash"])
        assert code == ErrorCode.NOT_FOUND


async def test_own_payment_of_an_own_invoice_shows_the_invoice(world: World) -> None:
    made = await world.invoice(OWN, 1)
    await world.payment({"status": "failed"}, bolt11=made["bolt11"])
    for asking in (OWN, NODE):
        found = await world.lookup(asking, payment_hash=made["payment_hash"])
        assert (found["type"], found["state"]) == ("incoming", "pending")


async def test_only_the_view_of_the_node_finds_bolt12_invoices(world: World) -> None:
    made = await world.dev("dev-bolt12", label="offer", amount_msat=4000, description="tea")
    found = await world.lookup(NODE, payment_hash=made["payment_hash"])
    assert (found["state"], found["amount"], found["description"]) == ("pending", 4000, "tea")
    assert found["invoice"].startswith("lni1")
    await world.pay("offer")
    found = await world.lookup(NODE, payment_hash=made["payment_hash"])
    assert (found["state"], found["amount"]) == ("settled", 4000)
    code, _ = await world.not_found(OWN, payment_hash=made["payment_hash"])
    assert code == ErrorCode.NOT_FOUND


async def test_a_payment_of_several_parts_is_one_transaction(world: World) -> None:
    bolt11 = (await world.node.invoice(amount_msat=9000, label="x", description="a book", expiry=600))[
        "bolt11"
    ]
    made = await world.payment(
        {"groupid": 1, "status": "failed", "amount_msat": 9000, "created_at": START},
        {"groupid": 2, "partid": 1, "amount_msat": 5000, "amount_sent_msat": 5003},
        {"groupid": 2, "partid": 2, "amount_msat": 4000, "amount_sent_msat": 4004},
        bolt11=bolt11,
        preimage="77" * 32,
    )
    await world.node.delete_invoice("x", "unpaid")
    found = await world.lookup(NODE, payment_hash=made["payment_hash"])
    assert (found["type"], found["state"]) == ("outgoing", "settled")
    assert (found["amount"], found["fees_paid"], found["preimage"]) == (9000, 7, "77" * 32)
    assert (found["created_at"], found["description"]) == (START, "a book")
    assert await world.lookup(NODE, invoice=bolt11) == found


@pytest.mark.parametrize("status", ["pending", "failed"])
async def test_an_unsettled_payment_shows_no_preimage(world: World, status: str) -> None:
    made = await world.payment({"status": status})
    found = await world.lookup(NODE, payment_hash=made["payment_hash"])
    assert (found["state"], found["fees_paid"]) == (status, 0)
    assert not {"preimage", "settled_at"} & found.keys()


async def test_a_failed_attempt_does_not_hide_a_pending_one(world: World) -> None:
    made = await world.payment(
        {"groupid": 1, "status": "pending"}, {"groupid": 2, "partid": 1, "status": "failed"}
    )
    assert (await world.lookup(NODE, payment_hash=made["payment_hash"]))["state"] == "pending"


async def test_an_unreachable_node_gives_an_error(world: World) -> None:
    world.node.away = True
    with pytest.raises(NodeUnavailableError):
        await world.lookup(OWN, payment_hash=UNKNOWN)


# Payments of connections


async def put_in_flight(world: World, number: int, **fields: Any) -> str:
    """Reserve a payment of OWN, and return its payment hash."""
    payment = settled(number, **fields).payment
    await world.wallet.payments.ledgers.change(
        OWN.client_pubkey,
        lambda ledger: replace(
            ledger, reservations={**ledger.reservations, payment.request_id: payment}
        ),
    )
    return str(payment.payment_hash)


async def put_ended(world: World, record: PaymentRecord) -> str:
    """Store a record of an put_ended payment of OWN, and return its payment hash."""
    await world.wallet.payments.records.keep(OWN.id, record)
    return str(record.payment.payment_hash)


async def test_an_own_payment_in_flight_is_pending(world: World) -> None:
    payment_hash = await put_in_flight(world, 1, metadata={"a": 1})
    assert await world.lookup(OWN, payment_hash=payment_hash) == {
        "type": "outgoing",
        "state": "pending",
        "invoice": "",
        "description": "",
        "payment_hash": payment_hash,
        "amount": 1000,
        "fees_paid": 0,
        "created_at": START + 1,
        "metadata": {"a": 1},
    }


async def test_an_own_settled_payment_is_found(world: World) -> None:
    payment_hash = await put_ended(world, settled(1, metadata={"a": 1}))
    found = await world.lookup(OWN, payment_hash=payment_hash)
    assert (found["type"], found["state"]) == ("outgoing", "settled")
    assert (found["amount"], found["fees_paid"]) == (1000, 7)
    assert (found["preimage"], found["settled_at"]) == ("aa" * 32, START + 9)
    assert found["metadata"] == {"a": 1}


def failed(number: int) -> PaymentRecord:
    payment = settled(number).payment
    return PaymentRecord(payment, PaymentState.FAILED, START, error_code="OTHER", error_message="no")


async def test_an_own_failed_payment_is_found(world: World) -> None:
    record = PaymentRecord(
        settled(1).payment, PaymentState.FAILED, START, error_code="OTHER", error_message=""
    )
    found = await world.lookup(OWN, payment_hash=await put_ended(world, record))
    assert (found["state"], found["fees_paid"]) == ("failed", 0)
    assert not {"preimage", "settled_at"} & found.keys()


async def test_a_settled_payment_comes_before_a_failed_one_and_a_pending_one_before_both(
    world: World,
) -> None:
    failed = PaymentRecord(
        settled(9).payment, PaymentState.FAILED, START, error_code="OTHER", error_message=""
    )
    payment_hash = await put_ended(world, failed)
    await put_ended(world, settled(1, payment_hash=payment_hash, created_at=START - 5))
    assert (await world.lookup(OWN, payment_hash=payment_hash))["state"] == "settled"
    await put_in_flight(world, 2, payment_hash=payment_hash)
    assert (await world.lookup(OWN, payment_hash=payment_hash))["state"] == "pending"


async def test_payments_of_other_connections_are_not_found(world: World) -> None:
    hashes = [await put_ended(world, settled(1)), await put_in_flight(world, 2)]
    for payment_hash in hashes:
        for asking in (OTHER, NODE):  # lightningd does not know of them (yet)
            code, _ = await world.not_found(asking, payment_hash=payment_hash)
            assert code == ErrorCode.NOT_FOUND


async def test_the_owner_sees_the_metadata_of_a_connections_payment(world: World) -> None:
    payment_hash = await put_ended(world, settled(1, metadata={"a": 1}))
    await world.payment(payment_hash=payment_hash, preimage="aa" * 32)
    assert (await world.lookup(NODE, payment_hash=payment_hash))["metadata"] == {"a": 1}
    elsewhere = await world.payment(payment_hash="5a" * 32, preimage="aa" * 32)
    found = await world.lookup(NODE, payment_hash=elsewhere["payment_hash"])
    assert found["metadata"] == {}
