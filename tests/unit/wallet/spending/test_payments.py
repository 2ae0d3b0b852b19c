"""Each way a payment can go, and what is answered, booked and sent."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nwc.cln.errors import NodeUnavailableError
from nwc.cln.payer import Parts
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.record import View
from nwc.wallet.spending.ledger import Ledger
from nwc.wallet.spending.payment import CommandParams, Payment, PaymentRecord
from nwc.wallet.spending.payments import MAX_FAILED_PER_HASH
from nwc.wallet.spending.pending_payments import MAX_PER_CONNECTION
from nwc.wallet.spending.sender import RETRY_FOR_S, UNSENT_GRACE_S
from tests.unit.wallet.spending.bench import AWAY, Bench, Outcome, invoice, keysend
from tests.unit.wallet.spending.simulation import Command, Trouble, preimage_of
from tests.unit.wallet.spending.values import DAY, KEY, OTHER_KEY, START, amount, record

HOUR = 3600
PATIENCE_S = RETRY_FOR_S + UNSENT_GRACE_S
LEDGER_NAME = ("nwc", "ledgers", KEY)

BOTH = pytest.mark.parametrize("wanted", [invoice(), keysend()], ids=["invoice", "keysend"])


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def settled(task: "asyncio.Task[Outcome]") -> PaymentRecord:
    outcome = task.result()
    assert isinstance(outcome, PaymentRecord), outcome
    assert outcome.is_settled
    return outcome


def failed(task: "asyncio.Task[Outcome]") -> tuple[str, str]:
    outcome = task.result()
    assert isinstance(outcome, PaymentRecord), outcome
    assert not outcome.is_settled
    assert outcome.error_code is not None
    assert outcome.error_message is not None
    return outcome.error_code, outcome.error_message


def refused(task: "asyncio.Task[Outcome]") -> tuple[str, str]:
    """Return code and message of a refusal: nothing was reserved or sent."""
    outcome = task.result()
    assert isinstance(outcome, Nip47Error), outcome
    return outcome.code, outcome.message


def paid_outside(bench: Bench, status: str = "complete", name: str = "x") -> None:
    """Let somebody else pay the invoice at this node."""
    part = {"created_index": 1, "payment_hash": invoice(name=name).payment_hash, "status": status}
    complete = {"payment_preimage": preimage_of(name), "amount_sent_msat": 104}
    bench.lightningd.parts.append({**part, **complete} if status == "complete" else part)


def calls_before_reserving(wanted: Payment) -> int:
    """Count the calls: what was paid with this hash, and what the node can send."""
    return (wanted.payment_hash is not None) + 1


# Payments that succeed


@BOTH
def test_a_payment_is_reserved_sent_and_booked(bench: Bench, wanted: Payment) -> None:
    asked = bench.pay(wanted)
    [reserved] = bench.ledger().reservations.values()
    assert reserved == replace(wanted, reserved_at_us=START * 1_000_000)
    assert not asked.done()
    command = bench.command()
    assert (command.amount_msat, command.max_fee_msat) == (100, 10)
    bench.finish(command)
    kept = settled(asked)
    assert (kept.sent_msat, kept.fee_msat, kept.preimage) == (110, 10, command.preimage)
    assert kept.payment.payment_hash == command.payment_hash
    ledger = bench.ledger()
    assert (ledger.reservations, ledger.spent_msat, ledger.unannounced) == ({}, 110, ())
    assert bench.notified == [wanted.request_id]
    assert bench.answered == []


@BOTH
def test_a_repeated_request_gets_the_same_answer_after_its_payment_ended(
    bench: Bench, wanted: Payment
) -> None:
    first = bench.pay(wanted)
    bench.finish(bench.command())
    again = bench.pay(replace(wanted, created_at=START + 60))
    assert settled(again) == settled(first)
    bench.crash()
    assert settled(bench.pay(wanted)) == settled(first)
    assert (bench.sends(), bench.ledger().spent_msat) == (1, 110)


@BOTH
def test_a_repeated_request_waits_for_the_payment_in_flight(bench: Bench, wanted: Payment) -> None:
    first, again = bench.pay(wanted), bench.pay(wanted)
    bench.finish(bench.command())
    assert settled(first) is settled(again)
    assert bench.sends() == 1


@BOTH
def test_a_payment_goes_on_when_its_request_is_cancelled(bench: Bench, wanted: Payment) -> None:
    asked = bench.pay(wanted)
    asked.cancel()
    bench.wait()
    bench.finish(bench.command())
    assert bench.ledger().spent_msat == 110
    assert settled(bench.pay(wanted)).sent_msat == 110


def test_requests_for_the_same_invoice_share_one_payment(bench: Bench) -> None:
    first, second = bench.pay(invoice(1)), bench.pay(invoice(2))
    bench.finish(bench.command())
    third = bench.pay(invoice(3))
    assert settled(first) == settled(second) == settled(third)
    assert (bench.sends(), bench.ledger().spent_msat) == (1, 110)


def test_an_invoice_whose_payment_failed_can_be_paid_again(bench: Bench) -> None:
    first = bench.pay(invoice(1))
    bench.fail(bench.command())
    assert failed(first)[0] == ErrorCode.PAYMENT_FAILED
    second = bench.pay(invoice(2))
    bench.finish(bench.command(2))
    assert settled(second).sent_msat == 110
    assert failed(bench.pay(invoice(1))) == failed(first)


def test_two_keysends_are_two_payments(bench: Bench) -> None:
    tasks = [bench.pay(keysend(number)) for number in (1, 2)]
    for number in (1, 2):
        bench.finish(bench.command(number))
    assert len({settled(task).preimage for task in tasks}) == 2
    assert bench.ledger().spent_msat == 220


# Invoices that others pay


def test_an_invoice_that_another_connection_is_paying_is_refused(bench: Bench) -> None:
    bench.grant(amount(1000), OTHER_KEY, view=View.NODE)
    bench.pay(invoice(1))
    code, message = refused(bench.pay(invoice(2), OTHER_KEY))
    assert (code, message) == ("PAYMENT_FAILED", "this invoice is paid already, or is being paid")
    assert (bench.sends(), bench.ledger(OTHER_KEY)) == (1, Ledger())


@pytest.mark.parametrize("view", View)
def test_an_invoice_paid_outside_is_settled_only_for_who_sees_the_node(bench: Bench, view: View) -> None:
    paid_outside(bench)
    bench.grant(amount(0), view=view)
    asked = bench.pay(invoice())
    if view is View.NODE:
        assert (settled(asked).preimage, settled(asked).sent_msat) == (preimage_of("x"), 104)
    else:
        assert refused(asked)[0] == ErrorCode.PAYMENT_FAILED
    assert (bench.sends(), bench.ledger()) == (0, Ledger())


@pytest.mark.parametrize("view", View)
def test_an_invoice_that_is_being_paid_outside_is_refused(bench: Bench, view: View) -> None:
    paid_outside(bench, "pending")
    bench.grant(amount(1000), view=view)
    assert refused(bench.pay(invoice()))[0] == ErrorCode.PAYMENT_FAILED
    assert bench.sends() == 0


def test_a_payment_by_somebody_else_meanwhile_is_booked(bench: Bench) -> None:
    """It is unknown whose payment it was, so it counts, up to what was reserved."""
    asked = bench.pay(invoice())
    paid_outside(bench)
    bench.fail(bench.command(), 219)
    assert settled(asked).sent_msat == 104
    assert bench.ledger().spent_msat == 104


def test_a_success_with_the_preimage_of_another_hash_is_ignored(bench: Bench) -> None:
    """`pay` (v26.06.6) answers so if one part of the hash has failed and another is complete."""
    asked = bench.pay(invoice())
    command = bench.command()
    command.answer.set_result({"payment_preimage": "00" * 32, "amount_sent_msat": 110})
    bench.wait(60)
    assert not asked.done()
    bench.lightningd.finish(command)
    bench.wait(60)
    assert settled(asked).preimage == command.preimage


# Errors


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (203, "PAYMENT_FAILED", "the payee refused the payment"),
        (205, "PAYMENT_FAILED", "no route to the payee was found"),
        (206, "PAYMENT_FAILED", "no route to the payee worked for a fee of at most 10 msat"),
        (207, "PAYMENT_FAILED", "the invoice has expired"),
        (210, "PAYMENT_FAILED", "no route to the payee worked for a fee of at most 10 msat"),
        (-32602, "PAYMENT_FAILED", "the payment did not succeed in time"),
        (99_999, "PAYMENT_FAILED", "the payment did not succeed in time"),
        (-32601, "INTERNAL", "the node has no command to pay with now"),
    ],
)
def test_an_error_of_lightningd_fails_the_payment(
    bench: Bench, code: int, error: str, words: str
) -> None:
    asked = bench.pay(invoice())
    bench.fail(bench.command(), code)
    assert failed(asked) == (error, words)
    assert bench.ledger() == replace(Ledger(), period_started_at=START)
    assert failed(bench.pay(invoice())) == (error, words)
    assert (bench.sends(), bench.notified) == (1, [])


COSTLY = "Fee exceeds our fee budget: 11msat > 10msat, discarding route"
LIMITED = CommandParams(has_fee_limit=True)
TOO_COSTLY = ("FEE_LIMIT_EXCEEDED", "no route to the payee was found for a fee of at most 10 msat")


@pytest.mark.parametrize(("code", "reason"), [(206, None), (210, COSTLY)])
def test_a_client_that_limits_the_fee_learns_that_no_route_fits_it(
    bench: Bench, code: int, reason: str | None
) -> None:
    asked = bench.pay(invoice(), params=LIMITED)
    bench.fail(bench.command(), code, reason=reason)
    assert failed(asked) == TOO_COSTLY
    assert bench.ledger().reservations == {}
    bench.crash()
    assert failed(bench.pay(invoice(), params=LIMITED)) == TOO_COSTLY
    assert bench.sends() == 1


def test_a_client_that_limits_no_fee_does_not_get_the_code(bench: Bench) -> None:
    asked = bench.pay(invoice())
    bench.fail(bench.command(), 210, reason=COSTLY)
    assert failed(asked)[0] == "PAYMENT_FAILED"


@pytest.mark.parametrize("reason", [None, "failed: WIRE_TEMPORARY_CHANNEL_FAILURE (reply from remote)"])
def test_a_payment_that_fails_for_another_reason_does_not_get_the_code(
    bench: Bench, reason: str | None
) -> None:
    asked = bench.pay(invoice(), params=LIMITED)
    bench.fail(bench.command(), 210, reason=reason)
    assert failed(asked)[0] == "PAYMENT_FAILED"


def test_a_payment_of_which_a_part_was_sent_has_failed(bench: Bench) -> None:
    """Whatever lightningd says of the other routes that it tried."""
    asked = bench.pay(invoice(), params=LIMITED)
    bench.begin(bench.command())
    bench.lightningd.end_part(bench.command(), 0, complete=False)
    bench.fail(bench.command(), 210, reason=COSTLY)
    bench.wait(120)
    assert failed(asked)[0] == "PAYMENT_FAILED"


def test_a_payment_that_may_still_begin_has_not_exceeded_the_limit(bench: Bench) -> None:
    asked = bench.pay(invoice(), params=LIMITED)
    bench.fail(bench.command(), 210, is_over=False, reason=COSTLY)
    bench.wait(300)
    assert failed(asked)[0] == "PAYMENT_FAILED"


def test_a_payment_counts_as_begun_if_its_parts_cannot_be_listed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def has_begun(*_: object, **__: object) -> bool:
        raise NodeUnavailableError("listsendpays")

    monkeypatch.setattr(bench.payments.payer, "has_begun", has_begun)
    asked = bench.pay(invoice(), params=LIMITED)
    bench.fail(bench.command(), 210, reason=COSTLY)
    assert failed(asked)[0] == "PAYMENT_FAILED"


@pytest.mark.parametrize("code", [205, 206])
@pytest.mark.parametrize(
    ("spendable_msat", "error"), [(99, "INSUFFICIENT_BALANCE"), (100, "PAYMENT_FAILED")]
)
def test_a_lack_of_funds_is_insufficient_balance(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int, spendable_msat: int, error: str
) -> None:
    asked = bench.pay(invoice())
    channels = {"channels": [{"state": "CHANNELD_NORMAL", "spendable_msat": spendable_msat}]}
    monkeypatch.setattr(bench.lightningd, "_listpeerchannels", lambda: channels)
    bench.fail(bench.command(), code)
    assert failed(asked)[0] == error


@pytest.mark.parametrize("channels", [{}, {"channels": [{}]}, None])
def test_a_malformed_channel_list_does_not_change_the_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, channels: Any
) -> None:
    asked = bench.pay(invoice())
    monkeypatch.setattr(bench.lightningd, "_listpeerchannels", lambda: channels)
    bench.fail(bench.command(), 205)
    assert failed(asked) == ("PAYMENT_FAILED", "no route to the payee was found")


def test_without_a_paying_command_the_payment_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.payments.payer, "_offered", _no_command)
    asked = bench.pay(invoice())
    assert failed(asked)[0] == ErrorCode.INTERNAL
    assert bench.ledger().reservations == {}


async def _no_command(_: object) -> list[str]:
    return []


@BOTH
@pytest.mark.parametrize("complete", [True, False])
def test_a_pending_part_decides_after_an_error(bench: Bench, wanted: Payment, complete: bool) -> None:
    asked = bench.pay(wanted)
    command = bench.command()
    bench.begin(command)
    bench.fail(command)
    bench.wait(HOUR)
    assert not asked.done()
    assert bench.ledger().reserved_msat == 110
    bench.lightningd.end_part(command, 0, complete)
    bench.wait(60)
    if complete:
        assert settled(asked).sent_msat == 110
    else:
        assert failed(asked) == (
            "PAYMENT_FAILED",
            "no route to the payee worked for a fee of at most 10 msat",
        )
    assert bench.ledger().spent_msat == (110 if complete else 0)


@BOTH
@pytest.mark.parametrize("after_s", [1, 6, RETRY_FOR_S])
def test_a_part_that_begins_after_the_error_is_followed(
    bench: Bench, wanted: Payment, after_s: int
) -> None:
    """The error may not be the end: `xpay` can still send a part whose route took long to find."""
    asked = bench.pay(wanted)
    command = bench.command()
    bench.begin(command)
    bench.lightningd.end_part(command, 0, complete=False)
    bench.fail(command, is_over=False)
    bench.wait(after_s)
    assert not asked.done()
    assert bench.ledger().reserved_msat == 110
    bench.begin(command)
    bench.wait(HOUR)
    assert not asked.done()
    bench.lightningd.end_part(command, 0, complete=True)
    bench.wait(60)
    assert settled(asked).sent_msat == 110


def test_an_error_that_may_not_be_the_end_fails_the_payment_later(bench: Bench) -> None:
    asked = bench.pay(invoice())
    bench.fail(bench.command(), 203, is_over=False)
    bench.wait(PATIENCE_S - 1)
    assert not asked.done()
    bench.wait(15)
    assert failed(asked) == ("PAYMENT_FAILED", "the payee refused the payment")
    assert bench.ledger().reservations == {}


def test_a_list_of_parts_that_is_old_when_it_arrives_ends_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = bench.pay(invoice())
    command, ask = bench.command(), bench.payments.payer.parts

    async def ask_slowly(*given: Any, **named: Any) -> Parts:
        parts = await ask(*given, **named)
        await asyncio.sleep(PATIENCE_S + 1)
        return parts

    monkeypatch.setattr(bench.payments.payer, "parts", ask_slowly)
    bench.fail(command, is_over=False)
    bench.begin(command)
    bench.wait(HOUR)
    assert not asked.done()


# Success while parts are pending


def split_payment(bench: Bench, wanted: Payment) -> Command:
    """Complete half of the payment, and leave half of it pending."""
    command = bench.command()
    bench.lightningd.begin_part(command, 5)
    bench.begin(command)
    bench.lightningd.end_part(command, 0, complete=True)
    return command


@BOTH
@pytest.mark.parametrize("complete", [True, False])
def test_a_success_is_booked_when_nothing_is_pending(
    bench: Bench, wanted: Payment, complete: bool
) -> None:
    asked = bench.pay(wanted)
    command = split_payment(bench, wanted)
    answer = {"payment_preimage": command.preimage, "amount_sent_msat": 110}
    command.answer.set_result(answer)
    bench.wait(60)
    assert settled(asked).preimage == command.preimage, "the client is answered at once"
    assert (bench.ledger().reserved_msat, bench.ledger().spent_msat) == (110, 0)
    assert bench.notified == []
    bench.lightningd.end_part(command, 0, complete=complete)
    bench.wait(60)
    sent_msat = 110 if complete else 55
    assert (bench.ledger().reserved_msat, bench.ledger().spent_msat) == (0, sent_msat)
    assert bench.notified == [wanted.request_id]
    assert settled(bench.pay(wanted)).sent_msat == sent_msat


@BOTH
def test_a_complete_part_answers_the_client_even_if_lightningd_does_not_answer(
    bench: Bench, wanted: Payment
) -> None:
    asked = bench.pay(wanted)
    command = split_payment(bench, wanted)
    bench.hang_up(command)
    bench.wait(60)
    assert settled(asked).preimage == command.preimage
    assert bench.ledger().reserved_msat == 110


# No answer


@BOTH
def test_without_an_answer_and_a_part_the_payment_fails_after_a_while(
    bench: Bench, wanted: Payment
) -> None:
    asked = bench.pay(wanted)
    bench.hang_up(bench.command())
    bench.wait(PATIENCE_S - 1)
    assert not asked.done()
    assert bench.ledger().reserved_msat == 110
    bench.wait(15)
    assert failed(asked) == ("PAYMENT_FAILED", "the payment was interrupted; nothing was paid")
    assert bench.ledger().reserved_msat == 0


@BOTH
def test_a_late_part_is_followed_without_an_answer(bench: Bench, wanted: Payment) -> None:
    asked = bench.pay(wanted)
    command = bench.command()
    bench.hang_up(command)
    bench.wait(RETRY_FOR_S - 1)
    bench.begin(command)
    bench.wait(HOUR)
    assert not asked.done()
    bench.lightningd.end_part(command, 0, complete=True)
    bench.wait(60)
    assert settled(asked).sent_msat == 110


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "ok",
        {},
        {"payment_preimage": 5, "amount_sent_msat": 110},
        {"payment_preimage": "xx", "amount_sent_msat": 110},
        {"payment_preimage": "11" * 32, "amount_sent_msat": None},
    ],
)
def test_a_malformed_answer_counts_as_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    async def send(*_: Any, **__: Any) -> Any:
        return answer

    monkeypatch.setattr(bench.payments.payer, "keysend", send)
    asked = bench.pay(keysend())
    bench.wait(PATIENCE_S + 15)
    assert failed(asked)[0] == ErrorCode.PAYMENT_FAILED
    assert bench.ledger().reservations == {}


@pytest.mark.parametrize(
    "error", [IndexError(), AttributeError(), AssertionError(), StopAsyncIteration()]
)
def test_a_payment_is_followed_after_an_unexpected_exception(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    sent = bench.payments.payer.pay_invoice

    async def send(*args: Any, **limits: Any) -> Any:
        asyncio.ensure_future(sent(*args, **limits)).add_done_callback(lambda done: done.exception())
        await asyncio.sleep(0.001)
        raise error

    monkeypatch.setattr(bench.payments.payer, "pay_invoice", send)
    asked = bench.pay(invoice())
    bench.finish(bench.command())
    bench.wait(10)
    assert settled(asked).sent_msat == 110
    assert bench.ledger().spent_msat == 110


@pytest.mark.parametrize(
    "listed",
    [None, {}, {"payments": None}, {"payments": [{}]}, {"payments": [{"status": "complete"}]}],
)
def test_a_malformed_list_of_parts_ends_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, listed: Any
) -> None:
    asked = bench.pay(invoice())
    with monkeypatch.context() as patched:
        patched.setattr(bench.lightningd, "_listsendpays", lambda **_: listed)
        bench.fail(bench.command())
        bench.wait(HOUR)
        assert not asked.done()
        assert bench.ledger().reserved_msat == 110
    bench.wait(60)
    assert failed(asked)[0] == ErrorCode.PAYMENT_FAILED


def test_a_payment_is_booked_when_lightningd_is_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = bench.pay(invoice())
    with monkeypatch.context() as patched:
        patched.setattr(bench.lightningd, "_call", _away)
        bench.lightningd.finish(bench.command())
        bench.wait(HOUR)
        assert not asked.done()
    bench.wait(60)
    assert settled(asked).sent_msat == 110
    assert (bench.ledger().spent_msat, bench.notified) == (110, [invoice().request_id])


async def _away(*_: object, **__: object) -> None:
    raise AWAY


# What may be spent


@pytest.mark.parametrize(
    ("cap", "wanted_msat", "limit_msat"),
    [(None, 9000, 9000), (1000, 9000, 5000), (1000, 5000, 5000), (1000, 4000, 4000), (1000, 0, 0)],
)
def test_with_a_cap_an_app_cannot_raise_the_limit_on_the_fee(
    bench: Bench, cap: int | None, wanted_msat: int, limit_msat: int
) -> None:
    """A route hint of the payee can ask for any fee."""
    bench.grant(Budget(BudgetKind.UNLIMITED, since=START, max_payment_msat=cap))
    bench.pay(invoice(max_fee_msat=wanted_msat))
    assert bench.command().max_fee_msat == limit_msat
    assert bench.ledger().reserved_msat == 100 + limit_msat


def test_an_invoice_that_failed_too_often_is_refused(bench: Bench) -> None:
    """With each attempt, lightningd lists all earlier attempts at the same hash."""
    for number in range(1, MAX_FAILED_PER_HASH + 1):
        bench.pay(invoice(number))
        bench.fail(bench.command(number))
    calls = len(bench.lightningd.calls)
    code, message = refused(bench.pay(invoice(99)))
    assert code == "RATE_LIMITED"
    assert message == "10 attempts to pay this invoice have failed; ask for a new invoice"
    assert len(bench.lightningd.calls) == calls, "lightningd is not asked"
    bench.grant(amount(1000), OTHER_KEY)
    assert not bench.pay(invoice(1), OTHER_KEY).done()


def test_the_fee_is_limited_to_what_is_left(bench: Bench) -> None:
    bench.grant(amount(104))
    bench.pay(invoice())
    assert bench.command().max_fee_msat == 4
    assert bench.ledger().reserved_msat == 104


@pytest.mark.parametrize(
    ("budget", "code", "words"),
    [
        (Budget(), "RESTRICTED", "this connection can only receive"),
        (
            amount(99),
            "QUOTA_EXCEEDED",
            "amount: exceeds the remaining budget of 99 msat",
        ),
        (
            amount(99, Renewal.DAILY),
            "QUOTA_EXCEEDED",
            "amount: exceeds the remaining budget of 99 msat; it renews in 86400 seconds",
        ),
        (
            Budget(BudgetKind.RECEIVED),
            "INSUFFICIENT_BALANCE",
            "amount: must be at most the 0 msat that this connection has received and not spent",
        ),
        (
            amount(1000, max_payment_msat=99),
            "QUOTA_EXCEEDED",
            "amount: must be at most 99 msat for this connection; got 100",
        ),
        (
            Budget(BudgetKind.UNLIMITED, max_payment_msat=99),
            "QUOTA_EXCEEDED",
            "amount: must be at most 99 msat for this connection; got 100",
        ),
    ],
)
def test_a_payment_that_exceeds_the_budget_is_refused(
    bench: Bench, budget: Budget, code: str, words: str
) -> None:
    bench.grant(budget)
    assert refused(bench.pay(invoice())) == (code, words)
    assert (bench.sends(), bench.ledger()) == (0, Ledger())


@pytest.mark.parametrize("budget", [amount(100), amount(1000, max_payment_msat=100)])
def test_a_payment_of_the_whole_budget_is_made(bench: Bench, budget: Budget) -> None:
    bench.grant(budget)
    asked = bench.pay(invoice())
    bench.finish(bench.command())
    settled(asked)


def test_what_was_received_can_be_spent_once(bench: Bench) -> None:
    bench.grant(Budget(BudgetKind.RECEIVED, since=START))
    bench.run(bench.payments.receive(KEY, 105, 1))
    bench.run(bench.payments.receive(KEY, 105, 1))
    bench.pay(invoice())
    assert bench.command().max_fee_msat == 5
    bench.finish(bench.command())
    assert refused(bench.pay(keysend(2)))[0] == ErrorCode.INSUFFICIENT_BALANCE


def test_the_current_budget_counts(bench: Bench) -> None:
    asking = bench.connections[KEY]
    bench.grant(amount(50))
    outcome = bench.loop.create_task(bench._request(invoice(), asking))
    bench.wait()
    assert refused(outcome)[0] == ErrorCode.QUOTA_EXCEEDED


@pytest.mark.parametrize("revoked", [True, False])
def test_a_revoked_or_expired_connection_cannot_pay(bench: Bench, revoked: bool) -> None:
    asking = bench.connections[KEY]
    bench.grant(amount(1000), expires_at=START)
    if revoked:
        del bench.connections[KEY]
    outcome = bench.loop.create_task(bench._request(invoice(), asking))
    bench.wait()
    assert refused(outcome) == ("UNAUTHORIZED", "this connection is revoked or has expired")


def test_a_payment_of_a_connection_revoked_meanwhile_is_booked(bench: Bench) -> None:
    asked = bench.pay(invoice())
    del bench.connections[KEY]
    bench.run(bench.payments.forget_if_done(KEY))
    assert bench.ledger().reserved_msat == 110
    bench.finish(bench.command())
    settled(asked)
    assert LEDGER_NAME not in bench.lightningd.datastore
    assert bench.notified == [invoice().request_id]


# Limits


def test_one_connection_has_a_limit_of_payments_in_flight(bench: Bench) -> None:
    bench.grant(amount(10**6))
    bench.grant(amount(10**6), OTHER_KEY)
    for number in range(MAX_PER_CONNECTION):
        bench.pay(keysend(number))
    code, message = refused(bench.pay(keysend(100)))
    assert (code, "of this connection" in message) == ("RATE_LIMITED", True)
    assert not bench.pay(keysend(100), OTHER_KEY).done()
    bench.finish(bench.command(0))
    assert not bench.pay(keysend(101)).done()
    assert bench.sends() == MAX_PER_CONNECTION + 2


def test_a_connection_with_too_many_failed_payments_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure leaves a record, so their number is limited."""
    monkeypatch.setattr("nwc.wallet.spending.payments.MAX_FAILED_KEPT", 1)
    bench.grant(amount(10**6), OTHER_KEY)
    bench.run(bench.payments.records.keep(KEY[:16], record(settled=False)))
    code, message = refused(bench.pay(keysend(100)))
    assert (code, "have failed" in message) == ("RATE_LIMITED", True)
    assert not bench.pay(keysend(100), OTHER_KEY).done()


def test_a_refused_request_takes_no_slot(bench: Bench) -> None:
    bench.grant(amount(10))
    for number in range(2 * MAX_PER_CONNECTION):
        assert refused(bench.pay(keysend(number)))[0] == ErrorCode.QUOTA_EXCEEDED


# Ledgers and records that cannot be read or written


def test_a_connection_whose_ledger_cannot_be_read_cannot_pay(bench: Bench) -> None:
    bench.lightningd.datastore[LEDGER_NAME] = ("{}", 0)
    bench.crash()
    assert refused(bench.pay(invoice())) == (
        "INTERNAL",
        "the ledger or the payments of this connection cannot be read",
    )
    assert bench.sends() == 0
    bench.run(bench.payments.receive(KEY, 10, 1))
    del bench.connections[KEY]
    bench.run(bench.payments.forget_if_done(KEY))
    assert bench.lightningd.datastore[LEDGER_NAME] == ("{}", 0)


def test_a_payment_is_answered_though_its_ledger_becomes_unreadable(bench: Bench) -> None:
    asked = bench.pay(invoice())
    bench.payments.ledgers._stored.clear()
    bench.lightningd.datastore[LEDGER_NAME] = ("{}", 1)
    bench.finish(bench.command())
    assert settled(asked).sent_msat == 110
    assert refused(bench.pay(keysend(2)))[0] == ErrorCode.INTERNAL


def test_a_request_whose_record_cannot_be_read_is_refused(bench: Bench) -> None:
    bench.lightningd.datastore["nwc", "payments", KEY[:16], invoice().request_id] = ("{}", 0)
    bench.crash()
    assert refused(bench.pay(invoice()))[0] == ErrorCode.INTERNAL
    with pytest.raises(Nip47Error):
        bench.run(bench.payments.previous_outcome(bench.connections[KEY], invoice().request_id, START))
    assert bench.sends() == 0


@BOTH
@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.REFUSED])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_request_is_refused_if_lightningd_is_away_before_the_reservation(
    bench: Bench, wanted: Payment, trouble: Trouble, calls_before: int
) -> None:
    """The first call asks what is paid already, the second what the node can send."""
    bench.run(bench.payments.ledgers.of(KEY))
    before = calls_before if wanted.payment_hash else 0
    bench.lightningd.troubles.extend([Trouble.NONE] * before + [trouble])
    code, message = refused(bench.pay(wanted))
    assert (code, message) == ("INTERNAL", "the node could not do this now; nothing was paid")
    assert (bench.sends(), bench.ledger()) == (0, Ledger())


@BOTH
def test_a_reservation_whose_answer_is_lost_is_released(bench: Bench, wanted: Payment) -> None:
    bench.run(bench.payments.ledgers.of(KEY))
    bench.lightningd.troubles.extend([Trouble.NONE] * calls_before_reserving(wanted) + [Trouble.LOST])
    assert refused(bench.pay(wanted))[0] == ErrorCode.INTERNAL
    assert (bench.sends(), bench.ledger().reservations) == (0, {})
    bench.pay(wanted)
    assert bench.sends() == 1


@BOTH
def test_a_request_is_refused_at_once_however_long_lightningd_is_away(
    bench: Bench, wanted: Payment
) -> None:
    """A reservation that may exist is released when lightningd is back; until then no retry begins."""
    bench.run(bench.payments.ledgers.of(KEY))
    bench.lightningd.troubles.extend([Trouble.NONE] * calls_before_reserving(wanted) + [Trouble.LOST])
    bench.lightningd.troubles.extend([Trouble.AWAY] * 100)
    first, again = bench.pay(wanted), bench.pay(wanted)
    assert refused(first) == refused(again)
    assert refused(first)[1] == "the node could not do this now; nothing was paid"
    bench.wait(60)
    assert bench.lightningd.troubles, "lightningd is still away"
    assert refused(bench.pay(wanted))[0] == ErrorCode.INTERNAL
    bench.wait(HOUR)
    assert (bench.sends(), bench.ledger().reservations) == (0, {})
    bench.pay(wanted)
    assert bench.sends() == 1


def test_the_record_is_written_before_the_ledger(bench: Bench) -> None:
    asked = bench.pay(invoice())
    bench.lightningd.calls.clear()
    bench.finish(bench.command())
    settled(asked)
    written = [given["key"][1] for given in bench.lightningd.called("datastore")]
    assert written == ["payments", "ledgers", "ledgers"]


def test_writing_the_record_is_retried(bench: Bench) -> None:
    asked = bench.pay(invoice())
    bench.lightningd.troubles.extend([Trouble.AWAY, Trouble.REFUSED, Trouble.LOST])
    bench.finish(bench.command())
    bench.wait(60)
    assert settled(asked).sent_msat == 110
    assert bench.ledger().spent_msat == 110


def test_notifying_is_retried(bench: Bench) -> None:
    bench.notify_error = AWAY
    bench.pay(invoice())
    bench.finish(bench.command())
    bench.wait(HOUR)
    assert (bench.notified, bench.ledger().unannounced) == ([], (invoice().request_id,))
    bench.notify_error = None
    bench.wait(15)
    assert (bench.notified, bench.ledger().unannounced) == ([invoice().request_id], ())


# After a start


@BOTH
@pytest.mark.parametrize("complete", [True, False])
def test_a_part_sent_before_the_crash_is_followed(bench: Bench, wanted: Payment, complete: bool) -> None:
    bench.pay(wanted)
    bench.begin(bench.command())
    bench.crash()
    bench.wait(HOUR)
    assert bench.ledger().reserved_msat == 110
    bench.lightningd.end_part(bench.command(), 0, complete)
    bench.wait(60)
    assert [late.is_settled for late in bench.answered] == [complete]
    assert bench.ledger().spent_msat == (110 if complete else 0)
    assert bench.ledger().reserved_msat == 0
    assert bench.notified == [wanted.request_id] * complete


@BOTH
def test_a_payment_without_a_part_fails_after_the_crash(bench: Bench, wanted: Payment) -> None:
    bench.pay(wanted)
    bench.crash()
    bench.wait(PATIENCE_S - 1)
    assert bench.ledger().reserved_msat == 110
    bench.wait(15)
    assert [late.error_message for late in bench.answered] == [
        "the payment was interrupted; nothing was paid"
    ]
    assert bench.ledger().reserved_msat == 0


@BOTH
def test_a_command_given_before_the_crash_may_begin_late(bench: Bench, wanted: Payment) -> None:
    bench.pay(wanted)
    bench.crash()
    bench.wait(RETRY_FOR_S - 1)
    bench.begin(bench.command())
    bench.wait(HOUR)
    assert bench.ledger().reserved_msat == 110


@BOTH
def test_a_clock_that_jumps_does_not_shorten_the_wait(
    bench: Bench, wanted: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.pay(wanted)
    monkeypatch.setattr(bench, "time", lambda: START + 900 * DAY)
    bench.crash()
    bench.wait(PATIENCE_S - 1)
    assert bench.ledger().reserved_msat == 110


@BOTH
def test_a_request_repeated_after_the_crash_gets_the_answer(bench: Bench, wanted: Payment) -> None:
    bench.pay(wanted)
    bench.begin(bench.command())
    bench.crash()
    again = bench.pay(wanted)
    asking = bench.connections[KEY]
    third = bench.loop.create_task(bench.payments.previous_outcome(asking, wanted.request_id, START))
    bench.wait()
    bench.finish(bench.command())
    bench.wait(60)
    assert settled(again) == third.result()
    assert bench.answered == [], "the repeated request is answered instead"
    assert bench.sends() == 1


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_payment_is_booked_once_after_a_crash_between_record_and_ledger(
    bench: Bench, is_settled: bool
) -> None:
    """The record of a settled payment is trusted: lightningd may have deleted its parts."""
    kept = replace(record(settled=is_settled), payment=invoice())
    bench.pay(invoice())
    bench.run(bench.payments.records.keep(KEY[:16], kept))
    bench.crash()
    bench.wait(0.01 if is_settled else PATIENCE_S + 15)
    assert [late.state for late in bench.answered] == [kept.state]
    ledger = bench.ledger()
    assert (ledger.reservations, ledger.spent_msat) == ({}, 103 if is_settled else 0)


def test_a_record_that_cannot_be_read_is_replaced(bench: Bench) -> None:
    bench.pay(invoice())
    bench.stop()
    bench.lightningd.finish(bench.command())
    bench.lightningd.datastore["nwc", "payments", KEY[:16], invoice().request_id] = ("{}", 0)
    bench.start()
    bench.wait()
    assert settled(bench.pay(invoice())).sent_msat == 110


def test_apps_are_notified_after_a_crash_before_it(bench: Bench) -> None:
    bench.notify_error = AWAY
    bench.pay(invoice())
    bench.finish(bench.command())
    bench.notify_error = None
    bench.crash()
    bench.wait()
    assert (bench.notified, bench.ledger().unannounced) == ([invoice().request_id], ())


def test_an_unannounced_payment_without_a_readable_record_is_dropped(bench: Bench) -> None:
    bench.notify_error = AWAY
    bench.pay(invoice())
    bench.finish(bench.command())
    name = ("nwc", "payments", KEY[:16], invoice().request_id)
    bench.lightningd.datastore[name] = ("{}", 1)
    bench.notify_error = None
    bench.crash()
    bench.wait()
    assert (bench.notified, bench.ledger().unannounced) == ([], ())


def test_the_ledger_of_a_revoked_connection_is_deleted_at_the_next_start(bench: Bench) -> None:
    bench.pay(invoice())
    bench.finish(bench.command())
    del bench.connections[KEY]
    bench.crash()
    bench.wait()
    assert LEDGER_NAME not in bench.lightningd.datastore


def test_the_ledger_of_a_connection_is_kept(bench: Bench) -> None:
    bench.pay(invoice())
    bench.finish(bench.command())
    bench.crash()
    bench.wait()
    bench.run(bench.payments.forget_if_done(KEY))
    assert bench.ledger().spent_msat == 110


def test_payments_in_flight_take_slots_after_a_start(bench: Bench) -> None:
    bench.grant(amount(10**6))
    for number in range(MAX_PER_CONNECTION):
        bench.pay(keysend(number))
    bench.crash()
    assert refused(bench.pay(keysend(100)))[0] == ErrorCode.RATE_LIMITED


def test_the_order_of_payments_of_one_second_is_kept(bench: Bench) -> None:
    for number in (3, 1, 2):
        bench.pay(keysend(number))
    reserved = bench.ledger().reservations.values()
    assert {payment.created_at for payment in reserved} == {START}
    by_order = sorted(reserved, key=lambda payment: payment.order)
    assert [int(payment.request_id, 16) for payment in by_order] == [3, 1, 2]


def test_a_new_request_has_no_previous_outcome(bench: Bench) -> None:
    assert bench.run(bench.payments.previous_outcome(bench.connections[KEY], "00" * 32, START)) is None


def test_copies_of_a_request_share_its_refusal(bench: Bench) -> None:
    bench.grant(amount(10))
    tasks = [bench.loop.create_task(bench._request(invoice(), bench.connections[KEY])) for _ in range(2)]
    bench.wait()
    assert [refused(task)[0] for task in tasks] == [ErrorCode.QUOTA_EXCEEDED] * 2
