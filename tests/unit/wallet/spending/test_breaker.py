"""If the node stops twice within an hour while a connection pays, its payments are suspended."""

import asyncio
from collections.abc import Iterator

import pytest

from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.spending.breaker import WINDOW_S
from nwc.wallet.spending.payment import CommandParams, Payment
from tests.unit.wallet.spending.bench import Bench, invoice, keysend
from tests.unit.wallet.spending.simulation import Trouble
from tests.unit.wallet.spending.values import KEY, OTHER_KEY, START, amount

HOUR = 3600
RECORD = ("nwc", "stops", KEY)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def stop_the_node(bench: Bench, wanted: Payment, key: str = KEY) -> None:
    """Stop lightningd while a payment is in flight, and start it and the plugin again."""
    bench.pay(wanted, key)
    bench.crash(with_node=True)


def is_suspended(bench: Bench, key: str = KEY) -> bool:
    return bench.payments.breaker.is_suspended(key)


def refusal(bench: Bench, wanted: Payment, key: str = KEY) -> Nip47Error | None:
    asked = bench.pay(wanted, key)
    outcome = asked.result() if asked.done() else None
    return outcome if isinstance(outcome, Nip47Error) else None


def test_two_stops_within_an_hour_suspend_payments(bench: Bench) -> None:
    stop_the_node(bench, invoice(1, "a"))
    assert not is_suspended(bench)
    stop_the_node(bench, keysend(2))
    assert bench.payments.breaker.suspended_at(KEY) == pytest.approx(START, abs=5)
    refused = refusal(bench, invoice(3, "c"))
    assert refused is not None
    assert refused.code == "RESTRICTED"
    assert "suspended" in refused.message
    assert bench.sends() == 2


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("v26.06.6", keysend(1), True),
        ("v26.06.6", invoice(1, "a"), False),
        ("v26.04.2", keysend(1), False),
    ],
    ids=str,
)
def test_one_stop_during_a_keysend_suspends_payments_since_v26_06(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, version: str, wanted: Payment, expected: bool
) -> None:
    monkeypatch.setenv("LIGHTNINGD_VERSION", version)
    stop_the_node(bench, wanted)
    assert is_suspended(bench) is expected


def test_a_suspension_lasts_over_restarts_until_it_is_resumed(bench: Bench) -> None:
    stop_the_node(bench, invoice(1, "a"))
    stop_the_node(bench, invoice(2, "b"))
    bench.wait(10 * HOUR)
    bench.crash()
    assert is_suspended(bench)
    bench.run(bench.payments.breaker.resume(KEY))
    assert not is_suspended(bench)
    bench.crash()
    assert not is_suspended(bench)
    assert refusal(bench, invoice(3, "c")) is None
    assert bench.sends() == 3


def test_resuming_deletes_earlier_stops(bench: Bench) -> None:
    stop_the_node(bench, invoice(1, "a"))
    bench.run(bench.payments.breaker.resume(KEY))
    stop_the_node(bench, invoice(2, "b"))
    assert not is_suspended(bench)


def test_other_connections_can_pay(bench: Bench) -> None:
    bench.grant(amount(1000), OTHER_KEY)
    stop_the_node(bench, invoice(1, "a"))
    stop_the_node(bench, invoice(2, "b"))
    assert not is_suspended(bench, OTHER_KEY)
    assert refusal(bench, invoice(3, "c"), OTHER_KEY) is None


@pytest.mark.parametrize(("apart_s", "suspended"), [(WINDOW_S - 60, True), (WINDOW_S + 60, False)])
def test_stops_count_together_within_an_hour_only(bench: Bench, apart_s: int, suspended: bool) -> None:
    stop_the_node(bench, invoice(1, "a"))
    bench.wait(apart_s)
    stop_the_node(bench, invoice(2, "b"))
    assert is_suspended(bench) == suspended


def test_of_three_stops_the_last_two_count(bench: Bench) -> None:
    for number, name in enumerate("abc", 1):
        stop_the_node(bench, invoice(number, name))
        bench.wait(WINDOW_S + 60 if number == 1 else 60)
    assert is_suspended(bench)


def test_a_held_payment_counts_once(bench: Bench) -> None:
    """The owner may restart the node as often as necessary."""
    bench.pay(invoice())
    bench.begin(bench.command())
    for _ in range(5):
        bench.crash(with_node=True)
    assert not is_suspended(bench)


def test_two_payments_at_one_stop_are_one_stop(bench: Bench) -> None:
    bench.pay(invoice(1, "a"))
    bench.pay(invoice(2, "b"))
    bench.crash(with_node=True)
    assert not is_suspended(bench)


def test_a_restart_of_the_plugin_alone_does_not_count(bench: Bench) -> None:
    for number, name in enumerate("abc", 1):
        bench.pay(invoice(number, name))
        bench.crash()
    assert not is_suspended(bench)


def test_a_stop_without_a_payment_does_not_count(bench: Bench) -> None:
    bench.finish((bench.pay(invoice()), bench.command())[1])
    for _ in range(3):
        bench.crash(with_node=True)
    assert not is_suspended(bench)


# The invoice of an offer is fetched before there is a reservation


def fetch_for(bench: Bench, number: int) -> "asyncio.Future[None]":
    """Ask to pay an offer, and return what ends the fetch of its invoice."""
    answer = bench.loop.create_future()

    async def fetch(payment: Payment) -> tuple[Payment, CommandParams]:
        await answer
        raise Nip47Error(ErrorCode.NOT_FOUND, "no invoice")

    wanted = keysend(number, is_bolt12=True)
    paying = bench.payments.pay(bench.connections[KEY], wanted, CommandParams(), fetch)
    task = bench.loop.create_task(paying)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    bench.wait()
    return answer


def test_a_stop_during_a_fetch_counts(bench: Bench) -> None:
    fetch_for(bench, 1)
    bench.crash(with_node=True)
    assert not is_suspended(bench)
    fetch_for(bench, 2)
    bench.crash(with_node=True)
    assert is_suspended(bench)
    assert bench.sends() == 0


def test_a_fetch_and_a_payment_at_one_stop_are_one_stop(bench: Bench) -> None:
    bench.pay(invoice(1, "a"))
    fetch_for(bench, 2)
    bench.crash(with_node=True)
    assert not is_suspended(bench)


def test_a_fetch_that_has_ended_does_not_count(bench: Bench) -> None:
    for number in (1, 2, 3):
        fetch_for(bench, number).set_result(None)
        bench.wait()
        assert RECORD not in bench.lightningd.datastore
        bench.crash(with_node=True)
    assert not is_suspended(bench)


def test_of_two_fetches_the_one_that_goes_on_counts(bench: Bench) -> None:
    stop_the_node(bench, invoice(1, "a"))
    first, _ = fetch_for(bench, 2), fetch_for(bench, 3)
    first.set_result(None)
    bench.crash(with_node=True)
    assert is_suspended(bench)


def test_a_restart_of_the_plugin_alone_during_a_fetch_does_not_count(bench: Bench) -> None:
    for number in (1, 2, 3):
        fetch_for(bench, number)
        assert RECORD in bench.lightningd.datastore
        bench.crash()
        assert RECORD not in bench.lightningd.datastore
        bench.crash(with_node=True)
    assert not is_suspended(bench)


@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.REFUSED, Trouble.LOST])
def test_nothing_is_fetched_if_that_cannot_be_noted(bench: Bench, trouble: Trouble) -> None:
    bench.run(bench.payments.ledgers.of(KEY))
    bench.lightningd.troubles.append(trouble)
    answer = fetch_for(bench, 1)
    bench.wait(60)
    assert RECORD not in bench.lightningd.datastore
    assert bench.payments.count_in_flight() == 0
    assert not answer.done()


def test_a_connection_that_was_revoked_during_a_fetch_leaves_no_record(bench: Bench) -> None:
    fetch_for(bench, 1)
    bench.stop()
    del bench.connections[KEY]
    bench.start(is_node_start=True)
    bench.wait()
    assert RECORD not in bench.lightningd.datastore


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "{}",
        "[]",
        '{"version": 2, "stops": [], "suspended_at": null}',
        '{"version": 2, "stops": [], "suspended_at": null, "fetching": 5}',
        '{"version": 3, "stops": [], "suspended_at": null, "fetching": []}',
        '{"version": 1, "stops": [], "suspended_at": -1}',
        '{"version": 1, "stops": [{}], "suspended_at": null}',
        '{"version": 1, "stops": [{"at": 5, "request_ids": [5]}], "suspended_at": null}',
        '{"version": 1, "stops": 5, "suspended_at": null}',
    ],
)
def test_a_record_that_cannot_be_read_suspends_payments(bench: Bench, stored: str) -> None:
    bench.lightningd.datastore[RECORD] = (stored, 0)
    bench.crash()
    assert is_suspended(bench)
    assert bench.payments.breaker.is_unreadable(KEY)
    bench.run(bench.payments.breaker.resume(KEY))
    assert not bench.payments.breaker.is_unreadable(KEY)
    assert RECORD not in bench.lightningd.datastore
    assert not is_suspended(bench)


def test_a_revoked_connection_leaves_no_record(bench: Bench) -> None:
    stop_the_node(bench, invoice())
    bench.begin(bench.command())
    bench.lightningd.end_part(bench.command(), 0, complete=False)
    assert RECORD in bench.lightningd.datastore
    del bench.connections[KEY]
    bench.wait(HOUR)
    assert RECORD not in bench.lightningd.datastore
