"""pay: which instruction it chooses, what it refuses before anything is sent, and what it answers."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.cln import offers
from nwc.cln.errors import NodeError, RpcCallError
from nwc.cln.node import Json
from nwc.nip47.errors import ErrorCode
from nwc.nostr.encoding import to_json
from nwc.wallet.context import Call, Handler
from nwc.wallet.methods.pay import PENDING_AFTER_S, pay
from nwc.wallet.methods.pay_invoice import pay_invoice
from nwc.wallet.payment_answers import answer_of
from nwc.wallet.spending.failed_fetches import MAX_FAILED_FETCHES, WINDOW_S
from nwc.wallet.spending.payment import MAX_PAYMENT_MSAT
from nwc.wallet.spending.payments import MAX_FAILED_PER_HASH
from tests.unit.helpers import JSON_VALUES
from tests.unit.wallet.paying_node import (
    OFFER,
    OWN_ID,
    OWN_SECRET,
    PREIMAGE,
    Asked,
    PayingBench,
    make_invoice,
    paying_bench,
    spent_nothing,
)
from tests.unit.wallet.spending.simulation import Trouble, hash_of, preimage_of
from tests.unit.wallet.spending.values import KEY, START, amount

INVOICE = make_invoice()
ANY_AMOUNT = make_invoice(None)
bench = pytest.fixture(paying_bench)

# NWC-321: by these, a client knows that nothing was sent.
SAYS_NOTHING_WAS_SENT = {
    ErrorCode.BAD_REQUEST,
    ErrorCode.NOT_FOUND,
    ErrorCode.NOT_IMPLEMENTED,
    ErrorCode.UNSUPPORTED_PAYMENT_INSTRUCTION,
    ErrorCode.UNSUPPORTED_NETWORK,
    ErrorCode.FEE_LIMIT_EXCEEDED,
    ErrorCode.QUOTA_EXCEEDED,
}


def ask(bench: PayingBench, payment: Any = OFFER, number: int = 1, **params: Any) -> Asked:
    return bench.ask(pay, {"payment": payment, **params}, number)


def refusal(bench: PayingBench, payment: Any = OFFER, **params: Any) -> tuple[str, str]:
    """Return the code and message of a refusal, and check that nothing was stored or sent."""
    code, message = ask(bench, payment, **params).refusal
    assert code in SAYS_NOTHING_WAS_SENT
    assert len(message) < 250
    assert spent_nothing(bench)
    return code, message


def is_answered(asked: Asked) -> bool:
    return asked.result is not None or asked.error is not None


def finish(bench: PayingBench, number: int = 1) -> None:
    bench.finish(bench.command(number))


# The answer


def test_an_offer_is_paid(bench: PayingBench) -> None:
    asked = ask(bench, f"bitcoin:?lno={OFFER}", metadata={"a": 1})
    [fetch] = bench.lightningd.called("fetchinvoice")
    assert fetch == {"offer": OFFER, "timeout": 25}
    [given] = bench.lightningd.called("pay")
    [invoice] = bench.invoices
    assert (given["invstring"], given["maxfee"], "amount_msat" in given) == (invoice, 900, False)
    [reserved] = bench.ledger().reservations.values()
    assert (reserved.invoice, reserved.is_bolt12, reserved.metadata) == (invoice, True, {"a": 1})
    finish(bench)
    preimage = preimage_of("fetched 0")
    assert asked.result == {
        "transaction_id": hash_of(preimage),
        "state": "settled",
        "instruction_type": "bolt12",
        "amount": 100,
        "fees_paid": 900,
        "payment_hash": hash_of(preimage),
        "preimage": preimage,
        "payer_proof": "lnp1proof",
        "created_at": START,
        "settled_at": START,
    }


@pytest.mark.parametrize(
    "payment",
    [
        INVOICE,
        INVOICE.upper(),
        f"lightning:{INVOICE}",
        f"BITCOIN:?LIGHTNING={INVOICE.upper()}",
        f"bitcoin:?lightning={INVOICE}&lno={OFFER}",
        f"bitcoin:bcrt1qxyz?amount=0.000000001&lno={OFFER}&lightning={INVOICE}",
    ],
)
def test_an_invoice_is_paid_even_if_there_is_an_offer_too(bench: PayingBench, payment: str) -> None:
    asked = ask(bench, payment)
    finish(bench)
    assert asked.result is not None
    assert (asked.result["instruction_type"], asked.result["preimage"]) == ("bolt11", PREIMAGE.hex())
    assert "payer_proof" not in asked.result
    assert not bench.lightningd.called("fetchinvoice")


def test_with_a_note_the_offer_is_chosen(bench: PayingBench) -> None:
    ask(bench, f"bitcoin:?lightning={INVOICE}&lno={OFFER}", payer_note="thanks ☕")
    [fetch] = bench.lightningd.called("fetchinvoice")
    assert fetch["payer_note"] == "thanks ☕"
    assert bench.sends() == 1


def test_no_second_instruction_is_tried(bench: PayingBench) -> None:
    bench.issuer = RpcCallError("fetchinvoice", 1003, "no route")
    both = f"bitcoin:?lightning={INVOICE}&lno={OFFER}"
    assert refusal(bench, both, payer_note="x")[0] == "NOT_FOUND"
    asked = ask(bench, both, number=2)
    bench.fail(bench.command(2))
    assert asked.refusal[0] == "PAYMENT_FAILED"
    assert bench.sends() == 1


@pytest.mark.parametrize("payment", [OFFER, INVOICE])
def test_the_same_request_gets_the_same_answer(bench: PayingBench, payment: str) -> None:
    asked = ask(bench, payment)
    finish(bench)
    bench.proof = {"proofs": [{"bolt12": "lnp1another"}]}
    bench.wait(7200)
    bench.grant(amount(0))
    bench.crash()
    assert ask(bench, payment).result == ask(bench, "junk").result == asked.result
    assert bench.sends() == 1
    assert len(bench.lightningd.called("createproof")) == (payment == OFFER)


def test_a_request_of_an_earlier_run_is_answered_as_pay_answers(bench: PayingBench) -> None:
    ask(bench)
    bench.crash()
    finish(bench)
    bench.wait(60)
    [record] = bench.answered
    result = answer_of(record)
    assert (result["state"], result["payer_proof"]) == ("settled", "lnp1proof")
    assert answer_of(replace(record, payment=replace(record.payment, method="pay_invoice"))) == {
        "preimage": record.preimage,
        "fees_paid": 900,
    }


@pytest.mark.parametrize("payment", [OFFER, INVOICE])
def test_a_failed_payment_is_an_error(bench: PayingBench, payment: str) -> None:
    asked = ask(bench, payment)
    bench.fail(bench.command(), 203)
    assert (
        asked.refusal
        == ask(bench, payment).refusal
        == ("PAYMENT_FAILED", "the payee refused the payment")
    )


# A payment that stays pending


@pytest.mark.parametrize("payment", [OFFER, INVOICE])
def test_a_payment_in_flight_is_answered_as_pending_after_a_while(
    bench: PayingBench, payment: str
) -> None:
    asked = ask(bench, payment)
    bench.begin(bench.command())
    bench.wait(PENDING_AFTER_S - 1)
    assert not is_answered(asked)
    bench.wait(1)
    [reserved] = bench.ledger().reservations.values()
    assert asked.result == {
        "transaction_id": reserved.payment_hash,
        "payment_hash": reserved.payment_hash,
        "state": "pending",
        "instruction_type": "bolt12" if payment == OFFER else "bolt11",
        "amount": 100,
        "created_at": START,
    }
    again = ask(bench, payment)
    finish(bench)
    bench.wait(10)
    assert again.result is not None
    assert again.result["state"] == "settled"
    assert bench.notified == [f"{1:064x}"]
    assert bench.sends() == 1


def test_a_second_request_for_the_same_invoice_is_answered_as_pending_too(bench: PayingBench) -> None:
    bench.ask(pay_invoice, {"invoice": INVOICE})
    asked = ask(bench, INVOICE, number=2)
    bench.begin(bench.command())
    bench.wait(PENDING_AFTER_S + 1)
    assert asked.result is not None
    assert asked.result["state"] == "pending"


@pytest.mark.parametrize("handler", [pay, pay_invoice])
@pytest.mark.parametrize("is_settled", [True, False], ids=["paid", "being paid"])
def test_an_expired_invoice_that_the_app_is_paying_is_not_refused_as_expired(
    bench: PayingBench, handler: Handler, is_settled: bool
) -> None:
    """Otherwise the app would pay in another way, and so twice."""
    bench.ask(handler, {"invoice": INVOICE, "payment": INVOICE})
    bench.begin(bench.command())
    if is_settled:
        finish(bench)
    bench.wait(7200)
    asked = bench.ask(handler, {"invoice": INVOICE, "payment": INVOICE}, 2)
    bench.wait(PENDING_AFTER_S + 1)
    assert asked.error is None
    if handler is pay:
        assert asked.result is not None
        assert asked.result["state"] == ("settled" if is_settled else "pending")
    finish(bench)
    bench.wait(30)
    assert asked.result is not None
    assert bench.sends() == 1


def test_an_expired_invoice_whose_payment_has_failed_is_refused(bench: PayingBench) -> None:
    ask(bench, INVOICE)
    bench.fail(bench.command())
    bench.wait(7200)
    assert ask(bench, INVOICE, number=2).refusal[0] == "BAD_REQUEST"


def test_a_payment_that_is_not_reserved_yet_is_not_called_pending(bench: PayingBench) -> None:
    bench.issuer = bench.loop.create_future()
    asked = ask(bench)
    bench.wait(PENDING_AFTER_S + 30)
    assert not is_answered(asked)
    bench.issuer.set_result(bench.new_invoice())
    bench.wait(5)
    assert asked.result is not None
    assert asked.result["state"] == "pending"


# Proofs


@pytest.mark.parametrize(
    "proof",
    [RpcCallError("createproof", -32601, "Unknown command"), {"proofs": []}],
    ids=["unknown command", "no proof"],
)
def test_a_payment_without_a_proof_is_settled_all_the_same(
    bench: PayingBench, proof: Json | RpcCallError
) -> None:
    bench.proof = proof
    asked = ask(bench)
    finish(bench)
    assert asked.result is not None
    assert asked.result["state"] == "settled"
    assert "payer_proof" not in asked.result
    assert bench.ledger().spent_msat == 1000


def test_lightningd_that_may_have_stopped_over_a_proof_is_not_asked_again(bench: PayingBench) -> None:
    asked = ask(bench)
    command = bench.command()
    bench.stop()
    bench.lightningd.finish(command)
    bench.start(is_node_start=True)
    bench.wait(60)
    assert asked.result is None
    assert not bench.lightningd.called("createproof")
    assert bench.ledger().spent_msat == 1000


def test_a_payment_that_settles_after_a_start_of_lightningd_has_a_proof(bench: PayingBench) -> None:
    ask(bench)
    bench.begin(bench.command())
    bench.crash(with_node=True)
    bench.wait(5)
    finish(bench)
    bench.wait(60)
    assert [record.payer_proof for record in bench.answered] == ["lnp1proof"]


# The request


@pytest.mark.parametrize(
    ("payment", "params", "code", "field"),
    [
        (None, {}, "BAD_REQUEST", "payment"),
        ("", {}, "BAD_REQUEST", "payment"),
        (7, {}, "BAD_REQUEST", "payment"),
        ("hello", {}, "BAD_REQUEST", "payment"),
        ("bitcoin:" + "x" * 20_000, {}, "BAD_REQUEST", "payment"),
        ("bitcoin:?req-pop=x", {}, "BAD_REQUEST", "payment"),
        ("bitcoin:bc1qxyz", {}, "UNSUPPORTED_PAYMENT_INSTRUCTION", "payment"),
        ("alice@example.com", {}, "UNSUPPORTED_PAYMENT_INSTRUCTION", "payment"),
        (f"bitcoin:?amount=0.1&lightning={INVOICE}", {}, "BAD_REQUEST", "amount"),
        (f"bitcoin:?amount=0.1&lno={OFFER}", {}, "BAD_REQUEST", "amount"),
        (f"bitcoin:?amount=0.1&lno={OFFER}", {"amount": 100}, "BAD_REQUEST", "amount"),
        (OFFER, {"amount": 101}, "BAD_REQUEST", "amount"),
        (INVOICE, {"amount": 101}, "BAD_REQUEST", "amount"),
        (ANY_AMOUNT, {}, "BAD_REQUEST", "amount"),
        (OFFER, {"amount": -1}, "BAD_REQUEST", "amount"),
        (OFFER, {"amount": MAX_PAYMENT_MSAT + 1}, "BAD_REQUEST", "amount"),
        (OFFER, {"max_fee": "1"}, "BAD_REQUEST", "max_fee"),
        (OFFER, {"metadata": "x"}, "BAD_REQUEST", "metadata"),
        (OFFER, {"payer_note": "é" * 257}, "BAD_REQUEST", "payer_note"),
        (OFFER, {"payer_note": 'a "note"'}, "BAD_REQUEST", "payer_note"),
        (OFFER, {"payer_note": "two\nlines"}, "BAD_REQUEST", "payer_note"),
        (INVOICE, {"payer_note": "x"}, "BAD_REQUEST", "payer_note"),
        ("lno1" + "q" * 4093, {}, "BAD_REQUEST", "payment"),
        (make_invoice(currency="bc"), {}, "UNSUPPORTED_NETWORK", "invoice"),
        (make_invoice(created_at=START - 7200), {}, "BAD_REQUEST", "invoice"),
        (make_invoice(MAX_PAYMENT_MSAT + 1), {}, "BAD_REQUEST", "invoice"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_bad_request_is_refused(
    bench: PayingBench, payment: Any, params: Json, code: str, field: str
) -> None:
    refused = refusal(bench, payment, **params)
    assert (refused[0], refused[1].split(":")[0]) == (code, field)
    assert not bench.lightningd.called("fetchinvoice")


@pytest.mark.parametrize("payment", [f"bitcoin:?amount=0.000000001&lno={OFFER}", OFFER])
def test_amounts_that_agree_are_accepted(bench: PayingBench, payment: str) -> None:
    ask(bench, payment, amount=100, payer_note="", max_fee=None)
    assert bench.sends() == 1


def test_an_offer_without_amount_needs_one(bench: PayingBench) -> None:
    del bench.offer["offer_amount_msat"]
    assert refusal(bench)[0] == "BAD_REQUEST"
    ask(bench, f"bitcoin:?amount=0.0000000007&lno={OFFER}", number=2)
    [fetch] = bench.lightningd.called("fetchinvoice")
    assert fetch["amount_msat"] == 70
    assert bench.sends() == 1


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["payment", "amount", "max_fee", "payer_note"]), JSON_VALUES))
def test_any_parameters_get_an_answer(given: Json) -> None:
    bench = PayingBench()
    try:
        asked = bench.ask(pay, {"payment": OFFER, **given})
        assert bench.sends() == 1 or asked.refusal[0] in SAYS_NOTHING_WAS_SENT
    finally:
        bench.close()


# The offer and its invoice


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"offer_currency": "USD"}, "UNSUPPORTED_PAYMENT_INSTRUCTION"),
        ({"offer_recurrence": {}}, "UNSUPPORTED_PAYMENT_INSTRUCTION"),
        ({"offer_quantity_max": 2}, "UNSUPPORTED_PAYMENT_INSTRUCTION"),
        ({"offer_chains": None}, "UNSUPPORTED_NETWORK"),
        ({"offer_absolute_expiry": START}, "BAD_REQUEST"),
        ({"offer_amount_msat": 0}, "BAD_REQUEST"),
        ({"offer_amount_msat": MAX_PAYMENT_MSAT + 1}, "BAD_REQUEST"),
        ({"valid": False}, "BAD_REQUEST"),
    ],
    ids=str,
)
def test_an_offer_that_cannot_be_paid_is_refused(bench: PayingBench, changes: Json, code: str) -> None:
    bench.offer |= changes
    assert refusal(bench)[0] == code
    assert not bench.lightningd.called("fetchinvoice")


@pytest.mark.parametrize("code", [1002, 1003, 1004, 1005, -1, -32602])
def test_an_issuer_without_an_invoice_is_not_found(bench: PayingBench, code: int) -> None:
    bench.issuer = RpcCallError("fetchinvoice", code, "the issuer's own words")
    refused = refusal(bench)
    assert refused[0] == "NOT_FOUND"
    assert "own words" not in refused[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"invoice_amount_msat": 101},
        {"invoice_amount_msat": 99},
        {"invreq_chain": "00" * 32},
        {"offer_id": "00" * 32},
        {"invreq_payer_note": "another"},
        {"invoice_relative_expiry": 0},
        {"invoice_paths": []},
        {"valid": False},
        {"type": "bolt12 invoice_request"},
        {"invoice_payment_hash": None},
        {"invoice_paths": [{}]},
    ],
    ids=str,
)
def test_another_invoice_than_the_wanted_one_is_not_paid(bench: PayingBench, changes: Json) -> None:
    bench.fetched = changes
    assert refusal(bench)[0] == "NOT_FOUND"


def test_a_huge_invoice_is_not_paid(bench: PayingBench) -> None:
    bench.issuer = bench.loop.create_future()
    bench.issuer.set_result({"invoice": "lni1" + "q" * offers.MAX_INVOICE_LENGTH})
    assert refusal(bench)[0] == "NOT_FOUND"


@pytest.mark.parametrize(("fee_msat", "max_fee"), [(11, 10), (901, None)])
def test_a_payee_that_asks_for_more_than_the_fee_limit_is_refused(
    bench: PayingBench, fee_msat: int, max_fee: int | None
) -> None:
    """Without max_fee the limit is what is left of the budget."""
    payinfo = {"fee_base_msat": fee_msat, "fee_proportional_millionths": 0, "cltv_expiry_delta": 1}
    bench.fetched = {"invoice_paths": [{"payinfo": payinfo, "path": []}]}
    code, message = refusal(bench, max_fee=max_fee)
    assert code == "FEE_LIMIT_EXCEEDED"
    assert str(fee_msat) in message


def test_the_fee_of_the_payee_is_a_part_of_the_limit(bench: PayingBench) -> None:
    payinfo = {"fee_base_msat": 7, "fee_proportional_millionths": 10_000, "cltv_expiry_delta": 1}
    bench.fetched = {"invoice_paths": [{"payinfo": payinfo, "path": []}]}
    ask(bench, max_fee=10)
    [given] = bench.lightningd.called("pay")
    assert given["maxfee"] == 2
    assert bench.ledger().reserved_msat == 110


def test_an_offer_of_the_own_node_is_paid_without_a_fee(bench: PayingBench) -> None:
    bench.own_status = "unpaid"
    bench.fetched = {"invoice_node_id": OWN_ID}
    asked = ask(bench, max_fee=50)
    [given] = bench.lightningd.called("pay")
    assert (given["maxfee"], bench.ledger().reserved_msat) == (0, 100)
    finish(bench)
    assert asked.result is not None
    assert (asked.result["amount"], asked.result["fees_paid"]) == (100, 0)


def test_a_node_that_cannot_fetch_says_so(bench: PayingBench) -> None:
    bench.issuer = RpcCallError("fetchinvoice", -32601, "Unknown command")
    assert refusal(bench)[0] == "NOT_IMPLEMENTED"


# The budget, and one invoice for one request


@pytest.mark.parametrize("left_msat", [0, 99])
def test_nothing_is_fetched_beyond_the_budget(bench: PayingBench, left_msat: int) -> None:
    bench.grant(amount(left_msat))
    assert refusal(bench)[0] == "QUOTA_EXCEEDED"
    assert not bench.lightningd.called("fetchinvoice")


def test_the_budget_is_checked_again_after_the_fetch(bench: PayingBench) -> None:
    bench.issuer = bench.loop.create_future()
    asked = ask(bench)
    bench.grant(amount(99))
    bench.issuer.set_result(bench.new_invoice())
    bench.wait()
    assert asked.refusal[0] == "QUOTA_EXCEEDED"
    assert spent_nothing(bench)


def test_a_crash_during_the_fetch_leaves_nothing_behind(bench: PayingBench) -> None:
    bench.issuer = bench.loop.create_future()
    ask(bench)
    bench.crash()
    bench.issuer.cancel()
    bench.issuer = None
    assert spent_nothing(bench)
    asked = ask(bench)
    finish(bench)
    assert asked.result is not None
    assert bench.sends() == 1


def test_after_a_crash_a_reserved_invoice_is_followed_and_none_is_fetched(bench: PayingBench) -> None:
    ask(bench)
    command = bench.command()
    bench.crash()
    asked = ask(bench)
    bench.finish(command)
    bench.wait(30)
    assert asked.result is not None
    assert asked.result["payment_hash"] == hash_of(preimage_of("fetched 0"))
    assert len(bench.lightningd.called("fetchinvoice")) == bench.sends() == 1


def test_two_requests_for_an_offer_are_two_payments(bench: PayingBench) -> None:
    first, second = ask(bench, max_fee=10), ask(bench, number=2, max_fee=10)
    finish(bench)
    finish(bench, 2)
    assert first.result is not None
    assert second.result is not None
    assert first.result["payment_hash"] != second.result["payment_hash"]


@pytest.mark.parametrize("is_settled", [True, False], ids=["paid", "being paid"])
def test_an_issuer_that_repeats_a_payment_hash_is_not_paid_twice(
    bench: PayingBench, is_settled: bool
) -> None:
    ask(bench, max_fee=10)
    if is_settled:
        finish(bench)
        bench.wait(30)
    bench.fetched = {"invoice_payment_hash": hash_of(preimage_of("fetched 0"))}
    assert ask(bench, number=2, max_fee=10).refusal[0] == "PAYMENT_FAILED"
    assert bench.sends() == 1


def test_an_issuer_that_repeats_a_payment_hash_that_fails_is_not_tried_for_ever(
    bench: PayingBench,
) -> None:
    """lightningd lists all attempts at a hash with each new one."""
    bench.fetched = {"invoice_payment_hash": hash_of(preimage_of("fetched 0"))}
    for number in range(1, MAX_FAILED_PER_HASH + 1):
        ask(bench, number=number)
        bench.fail(bench.command(number))
    assert ask(bench, number=MAX_FAILED_PER_HASH + 1).refusal[0] == "RATE_LIMITED"
    assert bench.sends() == MAX_FAILED_PER_HASH


def test_offers_without_an_invoice_are_asked_for_only_so_often(bench: PayingBench) -> None:
    bench.issuer = RpcCallError("fetchinvoice", 1003, "no route")
    for number in range(1, MAX_FAILED_FETCHES + 1):
        assert ask(bench, number=number).refusal[0] == "NOT_FOUND"
    bench.issuer = None
    assert ask(bench, number=MAX_FAILED_FETCHES + 1).refusal[0] == "RATE_LIMITED"
    assert len(bench.lightningd.called("fetchinvoice")) == MAX_FAILED_FETCHES
    bench.wait(WINDOW_S)
    ask(bench, number=MAX_FAILED_FETCHES + 2)
    assert bench.sends() == 1


def test_fetching_takes_one_of_the_slots_of_payments(bench: PayingBench) -> None:
    bench.issuer = bench.loop.create_future()
    asked = [ask(bench, number=number, max_fee=0) for number in range(1, 22)]
    assert asked[20].refusal[0] == "RATE_LIMITED"
    assert len(bench.lightningd.called("fetchinvoice")) == 20


@pytest.mark.parametrize("payment", [OFFER, INVOICE])
def test_without_lightningd_there_is_no_payment(bench: PayingBench, payment: str) -> None:
    call = Call(f"{1:064x}", {"payment": payment}, bench.connections[KEY], START)
    bench.lightningd.troubles.extend([Trouble.AWAY])
    with pytest.raises(NodeError):
        bench.run(pay(bench.wallet, call))
    assert spent_nothing(bench)


def test_the_longest_answer_fits_into_an_event(bench: PayingBench) -> None:
    bench.proof = {"proofs": [{"bolt12": "lnp1" + "q" * (offers.MAX_PROOF_LENGTH - 4)}]}
    asked = ask(bench)
    finish(bench)
    assert asked.result is not None
    assert len(to_json(asked.result)) < 10_000


def test_an_own_invoice_that_the_node_no_longer_has_is_not_found(bench: PayingBench) -> None:
    """The client knows that nothing was sent. One that is paid already is not free to pay otherwise."""
    invoice = make_invoice(secret=OWN_SECRET)
    for status, code in ((None, "NOT_FOUND"), ("paid", "PAYMENT_FAILED")):
        bench.own_status = status
        assert bench.ask(pay, {"payment": invoice}).refusal[0] == code
    assert bench.sends() == 0


def test_only_who_can_pay_an_own_invoice_learns_its_state(bench: PayingBench) -> None:
    bench.grant(amount(99))
    for status in (None, "paid", "unpaid"):
        bench.own_status = status
        asked = ask(bench, make_invoice(secret=OWN_SECRET))
        assert asked.refusal[0] == "QUOTA_EXCEEDED"
    assert spent_nothing(bench)


def test_an_own_invoice_is_paid(bench: PayingBench) -> None:
    bench.own_status = "unpaid"
    asked = bench.ask(pay, {"payment": make_invoice(secret=OWN_SECRET), "max_fee": 0})
    bench.finish(bench.command())
    assert asked.result is not None
    assert (asked.result["state"], asked.result["fees_paid"]) == ("settled", 0)
