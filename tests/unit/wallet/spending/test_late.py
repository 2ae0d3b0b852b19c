"""Late payments: complete in lightningd, but not booked."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nwc.wallet.spending.late import LatePayments
from nwc.wallet.spending.payment_records import REPLAY_S
from nwc.wallet.spending.sender import RETRY_FOR_S, UNSENT_GRACE_S
from tests.unit.wallet.spending.bench import Bench, invoice, keysend
from tests.unit.wallet.spending.simulation import Command
from tests.unit.wallet.spending.values import KEY, OTHER_KEY, amount

BOTH = pytest.mark.parametrize("wanted", [invoice(), keysend()], ids=["invoice", "keysend"])


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def sweep(bench: Bench) -> None:
    """Sweep, as at a start and every hour."""
    late = LatePayments(bench.lightningd, bench.payments.payer, bench.payments)
    bench.run(late.sweep(bench.time()))
    bench.wait(1)


def failed_payment(bench: Bench, wanted: Any) -> Command:
    """Make a payment that fails, and return its command."""
    bench.pay(wanted)
    bench.fail(bench.command())
    assert bench.ledger().reservations == {}
    return bench.command()


def pay_after_all(bench: Bench, command: Command, complete: bool = True) -> None:
    command.is_over = False
    bench.begin(command)
    if complete:
        bench.lightningd.end_part(command, 0, complete=True)


@BOTH
def test_a_failed_payment_that_is_complete_is_booked(
    bench: Bench, wanted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    command = failed_payment(bench, wanted)
    pay_after_all(bench, command)
    assert bench.ledger().spent_msat == 0
    with caplog.at_level(logging.WARNING):
        sweep(bench)
    assert (bench.ledger().spent_msat, bench.ledger().reservations) == (110, {})
    assert bench.notified == [wanted.request_id]
    assert "was not booked as paid, but lightningd has paid it" in caplog.text
    sweep(bench)
    bench.crash()
    sweep(bench)
    assert (bench.ledger().spent_msat, bench.notified) == (110, [wanted.request_id]), "once"


def test_a_late_payment_is_booked_although_the_budget_is_used_up(bench: Bench) -> None:
    bench.grant(amount(110))
    first = failed_payment(bench, invoice(1, "a"))
    bench.pay(invoice(2, "b"))
    bench.finish(bench.command(2))
    pay_after_all(bench, first)
    sweep(bench)
    assert bench.ledger().spent_msat == 220
    assert bench.ledger().left(amount(110), bench.time()) == 0


def test_a_pending_part_is_left_to_a_later_sweep(bench: Bench) -> None:
    command = failed_payment(bench, invoice())
    pay_after_all(bench, command, complete=False)
    bench.pay(invoice(2, "b"))
    bench.finish(bench.command(2))
    sweep(bench)
    assert bench.ledger().spent_msat == 110
    bench.lightningd.end_part(command, 0, complete=True)
    sweep(bench)
    assert bench.ledger().spent_msat == 220


def test_a_late_payment_is_booked_after_a_crash(bench: Bench) -> None:
    pay_after_all(bench, failed_payment(bench, invoice()))
    late = LatePayments(bench.lightningd, bench.payments.payer, bench.payments)
    bench.run(late.sweep(bench.time()))
    assert bench.ledger().reserved_msat == 110
    bench.crash()
    bench.wait(RETRY_FOR_S + UNSENT_GRACE_S)
    assert (bench.ledger().spent_msat, bench.ledger().reservations) == (110, {})


def test_parts_of_an_earlier_sweep_are_not_read_again(bench: Bench) -> None:
    for number, name in enumerate("abc", 1):
        bench.pay(invoice(number, name))
        bench.finish(bench.command(number))
    sweep(bench)
    bench.lightningd.calls.clear()
    sweep(bench)
    starts = {given["start"] for given in bench.lightningd.called("listsendpays") if given["start"]}
    assert starts == {4}


def test_the_sweep_does_not_touch_payments_in_flight(bench: Bench) -> None:
    bench.pay(invoice())
    bench.begin(bench.command())
    bench.lightningd.end_part(bench.command(), 0, complete=True)
    bench.run(LatePayments(bench.lightningd, bench.payments.payer, bench.payments).sweep(bench.time()))
    assert bench.ledger().reserved_msat == 110
    bench.hang_up(bench.command())
    bench.wait(60)
    assert (bench.ledger().spent_msat, bench.ledger().reservations) == (110, {})


def complete_part(bench: Bench, label: str | None, created_at: float, **fields: Any) -> None:
    bench.lightningd.parts.append(
        {
            "created_index": len(bench.lightningd.parts) + 1,
            "payment_hash": "ab" * 32,
            "payment_preimage": "cd" * 32,
            "label": label,
            "status": "complete",
            "amount_msat": 100,
            "amount_sent_msat": 103,
            "created_at": int(created_at),
            **fields,
        }
    )


def test_a_payment_without_a_record_is_booked(bench: Bench) -> None:
    bench.run(bench.payments.receive(KEY, 1, 1))
    complete_part(bench, f"nwc:{KEY[:16]}:{7:064x}", bench.time())
    sweep(bench)
    assert bench.ledger().spent_msat == 103


@pytest.mark.parametrize(("fields", "is_bolt12"), [({"bolt11": "x"}, False), ({"bolt12": "x"}, True)])
def test_a_payment_without_a_record_is_one_of_an_offer_if_its_invoice_is(
    bench: Bench, fields: dict[str, str], is_bolt12: bool
) -> None:
    bench.run(bench.payments.receive(KEY, 1, 1))
    complete_part(bench, f"nwc:{KEY[:16]}:{7:064x}", bench.time(), **fields)
    sweep(bench)
    record = bench.run(bench.payments.records.get(KEY[:16], f"{7:064x}"))
    assert record is not None
    assert record.payment.is_bolt12 is is_bolt12


@pytest.mark.parametrize(
    ("label", "age_s"),
    [
        (None, 0),
        ("", 0),
        ("tea", 0),
        (f"nwc:{KEY[:16]}:{7:064x} ", 0),
        (f"nwc:{OTHER_KEY[:16]}:{7:064x}", 0),
        (f"nwc:{KEY[:16]}:{7:064x}", REPLAY_S + 1),
    ],
    ids=["none", "empty", "another", "not ours", "no such connection", "too old"],
)
def test_foreign_and_old_payments_are_not_booked(bench: Bench, label: str | None, age_s: int) -> None:
    bench.run(bench.payments.receive(KEY, 1, 1))
    complete_part(bench, label, bench.time() - age_s)
    sweep(bench)
    assert bench.ledger().spent_msat == 0
    assert bench.notified == []


def test_the_sweep_starts_from_the_beginning_if_its_index_cannot_be_read(bench: Bench) -> None:
    pay_after_all(bench, failed_payment(bench, invoice()))
    for stored in ("", "[]", "{}", '{"first_index": "x"}'):
        bench.lightningd.datastore["nwc", "late_payments"] = (stored, 0)
        sweep(bench)
        assert bench.ledger().spent_msat == 110


def test_a_payment_whose_record_cannot_be_read_is_not_booked(bench: Bench) -> None:
    command = failed_payment(bench, invoice())
    pay_after_all(bench, command)
    bench.lightningd.datastore["nwc", "payments", KEY[:16], invoice().request_id] = ("{}", 0)
    bench.crash()
    sweep(bench)
    assert bench.ledger() == replace(bench.ledger(), spent_msat=0, reservations={})


def test_a_ledger_under_a_malformed_name_is_not_touched(bench: Bench) -> None:
    command = failed_payment(bench, invoice())
    pay_after_all(bench, command)
    stored = bench.lightningd.datastore.pop(("nwc", "ledgers", KEY))
    bench.lightningd.datastore["nwc", "ledgers", KEY + "9"] = stored
    bench.crash()
    sweep(bench)
    assert bench.lightningd.datastore["nwc", "ledgers", KEY + "9"] == stored


def test_a_malformed_part_does_not_stop_the_sweep(bench: Bench) -> None:
    bench.run(bench.payments.receive(KEY, 1, 1))
    complete_part(bench, f"nwc:{KEY[:16]}:{7:064x}", bench.time())
    bench.lightningd.parts[0]["created_at"] = None
    complete_part(bench, f"nwc:{KEY[:16]}:{8:064x}", bench.time())
    sweep(bench)
    assert bench.ledger().spent_msat == 103
