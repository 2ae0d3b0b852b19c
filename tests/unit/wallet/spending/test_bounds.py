"""The limits on a connection's payments, and what is paid while the plugin starts."""

import asyncio
from collections.abc import Iterator

import pytest

from nwc.cln.errors import NodeError, NodeUnavailableError
from nwc.cln.node import Json
from nwc.cln.payer import PAYMENT_BOUNDS
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.spending.payments import START_PATIENCE_S
from nwc.wallet.spending.pending_payments import MAX_IN_ALL, MAX_PER_CONNECTION, MAX_SHARED
from tests.unit.wallet.spending.bench import Bench, Outcome, invoice, keysend
from tests.unit.wallet.spending.values import KEY, OTHER_KEY, START, amount, record


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def refused(task: "asyncio.Task[Outcome]") -> tuple[str, str]:
    """Return code and message of an error."""
    outcome = task.result()
    assert isinstance(outcome, Nip47Error), outcome
    return str(outcome.code), outcome.message


def test_a_few_connections_cannot_take_the_slots_of_the_others(bench: Bench) -> None:
    """Four connections hold all they can get. The next one has its own slot, and only that."""
    keys = [f"{number:064x}"[::-1] for number in range(4)]
    held = 0
    for key in keys:
        bench.grant(amount(10**6), key)
        for number in range(MAX_PER_CONNECTION):
            held += not bench.pay(keysend(number), key).done()
    assert held == MAX_SHARED + len(keys)
    assert not bench.pay(keysend(100)).done()
    code, message = refused(bench.pay(keysend(101)))
    assert (code, "of this connection" in message) == ("RATE_LIMITED", False)
    assert bench.sends() == held + 1
    bench.finish(bench.command(100))
    assert not bench.pay(keysend(101)).done()


def test_all_connections_together_have_a_limit_of_payments_in_flight(bench: Bench) -> None:
    """lightningd gets no more commands than there are slots for."""
    for number in range(MAX_IN_ALL):
        key = f"{number:064x}"[::-1]
        bench.grant(amount(10**6), key)
        assert not bench.pay(keysend(number), key).done()
    assert refused(bench.pay(keysend(1000)))[0] == "RATE_LIMITED"
    assert PAYMENT_BOUNDS.slots >= MAX_IN_ALL


def test_requests_that_are_being_checked_take_no_shared_slot(bench: Bench) -> None:
    """Another app can pay, however many requests of one app are being checked."""
    bench.grant(amount(10**6), OTHER_KEY)
    go_on = asyncio.Event()

    async def hold(method: str, _: Json) -> None:
        if method == "listsendpays":
            await go_on.wait()

    bench.lightningd.gate = hold
    asked = [bench.pay(invoice(number), OTHER_KEY) for number in range(2, MAX_IN_ALL + 2)]
    assert not any(task.done() for task in asked)
    assert not bench.pay(keysend(1)).done()
    assert bench.sends() == 1
    go_on.set()


def test_a_connection_with_too_many_settled_payments_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nwc.wallet.spending.payments.MAX_SETTLED_KEPT", 1)
    bench.grant(amount(10**6), OTHER_KEY)
    bench.run(bench.payments.records.keep(KEY[:16], record()))
    code, message = refused(bench.pay(keysend(100)))
    assert (code, "too many payments in two days" in message) == ("RATE_LIMITED", True)
    assert not bench.pay(keysend(100), OTHER_KEY).done()


def test_nothing_is_paid_before_the_ledgers_are_read(bench: Bench) -> None:
    """A request waits for them, and gets an error if they take too long."""
    bench.payments = bench.new_payments()
    asked = bench.loop.create_task(
        bench.payments.previous_outcome(bench.connections[KEY], "00" * 32, START)
    )
    bench.wait(START_PATIENCE_S - 1)
    assert not asked.done()
    bench.wait(1)
    with pytest.raises(Nip47Error, match="still starting") as caught:
        asked.result()
    assert caught.value.code == ErrorCode.INTERNAL
    waiting = bench.loop.create_task(
        bench.payments.previous_outcome(bench.connections[KEY], "00" * 32, START)
    )
    bench.wait()
    bench.run(bench.payments.load(is_node_start=False))
    bench.payments.start()
    bench.wait()
    assert waiting.result() is None


def test_others_can_pay_while_the_payments_of_one_cannot_be_listed(bench: Bench) -> None:
    bench.stop()
    bench.grant(amount(10**6), OTHER_KEY)

    async def fail(method: str, given: Json) -> None:
        if method == "listdatastore" and given["key"] == ["nwc", "payments", KEY[:16]]:
            raise NodeUnavailableError("listdatastore: OverflowError")

    bench.lightningd.gate = fail
    bench.lightningd.calls.clear()
    bench.start()
    with pytest.raises(NodeError):
        bench.run(bench.payments.previous_outcome(bench.connections[KEY], "00" * 32, START))
    assert refused(bench.pay(keysend(1)))[1] == "the node could not do this now; nothing was paid"
    assert bench.sends() == 0
    assert not bench.pay(keysend(1), OTHER_KEY).done()
    assert (
        len([given for given in bench.lightningd.called("listdatastore") if KEY[:16] in given["key"]])
        == 1
    )
    bench.lightningd.gate = None
    bench.wait(60)
    assert not bench.pay(keysend(2)).done()


def test_the_ledger_of_an_unreadable_connection_is_kept(bench: Bench) -> None:
    """The owner may have gone back to an earlier version of the plugin for a day."""
    bench.pay(invoice())
    bench.finish(bench.command())
    bench.stop()
    del bench.connections[KEY]
    bench.unserved.add(KEY)
    bench.start()
    bench.wait()
    bench.run(bench.payments.forget_if_done(KEY))
    bench.run(bench.payments.receive(KEY, 7, 1))
    assert (bench.ledger().spent_msat, bench.ledger().received_msat) == (110, 7)
