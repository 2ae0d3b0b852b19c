"""Payments in flight: which are shown, and when the payment hash of a keysend is known."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nwc.cln.errors import NodeError
from nwc.wallet.spending.in_flight import InFlight
from nwc.wallet.spending.payment import Payment
from tests.unit.wallet.spending.bench import Bench, invoice, keysend
from tests.unit.wallet.spending.simulation import Trouble
from tests.unit.wallet.spending.values import KEY, OTHER_KEY


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def in_flight(bench: Bench) -> InFlight:
    return InFlight(bench.payments.payer, bench.payments.ledgers)


def shown(bench: Bench, in_flight: InFlight, key: str = KEY) -> dict[int, str | None]:
    """Return the payment hashes of the payments in flight, by the number of the request."""
    payments = bench.run(in_flight.of(key))
    return {int(payment.request_id, 16): payment.payment_hash for payment in payments}


def test_a_payment_of_an_invoice_is_in_flight_until_it_ends(bench: Bench, in_flight: InFlight) -> None:
    wanted = invoice()
    assert shown(bench, in_flight) == {}
    bench.pay(wanted)
    bench.lightningd.calls.clear()
    assert shown(bench, in_flight) == {1: wanted.payment_hash}
    assert shown(bench, in_flight, OTHER_KEY) == {}
    assert bench.lightningd.calls == [], "the hash is known"
    bench.finish(bench.command())
    assert shown(bench, in_flight) == {}


def test_a_payment_in_flight_is_found_by_its_hash(bench: Bench, in_flight: InFlight) -> None:
    def found(key: str, payment_hash: str | None) -> Payment | None:
        return bench.run(in_flight.with_hash(key, str(payment_hash)))

    wanted = invoice()
    bench.pay(wanted)
    [reserved] = bench.ledger().reservations.values()
    assert found(KEY, wanted.payment_hash) == reserved
    assert found(OTHER_KEY, wanted.payment_hash) is None
    assert found(KEY, "00") is None
    bench.finish(bench.command())
    assert found(KEY, wanted.payment_hash) is None


def test_a_keysend_is_shown_once_it_has_a_part(bench: Bench, in_flight: InFlight) -> None:
    bench.pay(keysend(1))
    bench.pay(keysend(2))
    assert shown(bench, in_flight) == {}
    bench.begin(bench.command(2))
    assert shown(bench, in_flight) == {2: bench.command(2).payment_hash}
    bench.begin(bench.command(1))
    hashes = {number: bench.command(number).payment_hash for number in (1, 2)}
    assert shown(bench, in_flight) == hashes
    assert len(set(hashes.values())) == 2
    [reserved] = [p for p in bench.ledger().reservations.values() if p.request_id == f"{1:064x}"]
    found = bench.run(in_flight.with_hash(KEY, hashes[1]))
    assert found == replace(reserved, payment_hash=hashes[1])


def test_an_unknown_hash_is_asked_for_each_time(bench: Bench, in_flight: InFlight) -> None:
    def asked() -> int:
        before = len(bench.lightningd.called("listsendpays"))
        shown(bench, in_flight)
        return len(bench.lightningd.called("listsendpays")) - before

    bench.pay(keysend())
    # In the lists of pending, complete and failed parts.
    assert [asked(), asked()] == [3, 3]
    bench.begin(bench.command())
    assert [asked(), asked(), asked()] == [1, 0, 0]


def test_the_hash_of_a_keysend_is_found_again_after_a_restart(bench: Bench) -> None:
    bench.pay(keysend())
    bench.begin(bench.command())
    bench.crash()
    again = InFlight(bench.payments.payer, bench.payments.ledgers)
    assert shown(bench, again) == {1: bench.command().payment_hash}


def test_the_hash_of_an_ended_payment_is_dropped(bench: Bench, in_flight: InFlight) -> None:
    for number in (1, 2):
        bench.pay(keysend(number))
        bench.begin(bench.command(number))
        assert shown(bench, in_flight) == {number: bench.command(number).payment_hash}
        bench.finish(bench.command(number))
        assert shown(bench, in_flight) == {}
    assert len(in_flight._hashes) == 1


def test_a_payment_that_ends_while_lightningd_is_asked_is_not_in_flight(
    bench: Bench, in_flight: InFlight
) -> None:
    bench.pay(keysend())
    bench.begin(bench.command())

    async def end_first(method: str, _: object) -> None:
        if method == "listsendpays":
            await bench.payments.ledgers.change(KEY, lambda ledger: ledger.release(f"{1:064x}"))

    bench.lightningd.gate = end_first
    assert shown(bench, in_flight) == {}


def test_an_unknown_hash_raises_while_lightningd_is_away(bench: Bench, in_flight: InFlight) -> None:
    bench.pay(keysend())
    bench.lightningd.troubles.append(Trouble.AWAY)
    with pytest.raises(NodeError):
        bench.run(in_flight.of(KEY))
