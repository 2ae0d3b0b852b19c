"""A refused request stays refused, also after a restart."""

import asyncio
from collections.abc import Iterator

import pytest

from nwc.cln.errors import NodeUnavailableError
from nwc.nip47.errors import Nip47Error
from nwc.wallet.spending.payment import PaymentRecord
from nwc.wallet.spending.refusals import Refusals
from tests.unit.wallet.spending.bench import Bench, invoice
from tests.unit.wallet.spending.simulation import Trouble
from tests.unit.wallet.spending.values import KEY, OTHER_KEY, START

RECORD = ("nwc", "refused", KEY)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def note(bench: Bench, created_at: int = START) -> None:
    bench.run(bench.payments.refusals.note(KEY, created_at))


def previous_outcome(
    bench: Bench, created_at: int, key: str = KEY, number: int = 1
) -> PaymentRecord | Nip47Error | None:
    asking = bench.connections.get(key) or bench.connections[KEY]
    try:
        return bench.run(bench.payments.previous_outcome(asking, f"{number:064x}", created_at))
    except Nip47Error as error:
        return error


def test_a_refused_request_is_refused_after_a_restart(bench: Bench) -> None:
    note(bench)
    bench.crash()
    refused = previous_outcome(bench, START)
    assert isinstance(refused, Nip47Error)
    assert refused.code == "OTHER"
    assert "nothing was paid; send a new request" in refused.message
    assert previous_outcome(bench, START - 1) is not None
    assert previous_outcome(bench, START + 1) is None


def test_a_refusal_does_not_count_before_a_restart(bench: Bench) -> None:
    """Until then the seen-set ignores copies, and another request can have the same time."""
    note(bench)
    assert previous_outcome(bench, START) is None


def test_a_refusal_does_not_hide_a_payment(bench: Bench) -> None:
    bench.pay(invoice())
    bench.finish(bench.command())
    note(bench)
    bench.crash()
    paid = previous_outcome(bench, START)
    assert isinstance(paid, PaymentRecord)
    assert paid.is_settled


def test_refusals_take_one_record_and_few_writes(bench: Bench) -> None:
    for created_at in (START, START, START - 5, START + 1, START):
        note(bench, created_at)
    assert len(bench.lightningd.called("datastore")) == 2
    assert [key for key in bench.lightningd.datastore if key[1] == "refused"] == [RECORD]
    bench.crash()
    assert previous_outcome(bench, START + 1) is not None
    assert previous_outcome(bench, START + 2) is None


def test_writes_of_refusals_do_not_overtake_each_other(bench: Bench) -> None:
    async def both() -> None:
        first = asyncio.ensure_future(bench.payments.refusals.note(KEY, START))
        await asyncio.gather(first, bench.payments.refusals.note(KEY, START + 5))

    bench.lightningd.troubles.append(Trouble.SLOW)
    bench.run(both())
    bench.crash()
    assert previous_outcome(bench, START + 5) is not None


@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.REFUSED, Trouble.LOST])
def test_a_refusal_that_could_not_be_stored_is_stored_next_time(bench: Bench, trouble: Trouble) -> None:
    bench.lightningd.troubles.append(trouble)
    note(bench)
    note(bench)
    bench.crash()
    assert previous_outcome(bench, START) is not None, "the second attempt was stored"


@pytest.mark.parametrize("stored", ["", "{}", "[]", '{"until": -1}', '{"until": "x"}'])
def test_a_record_that_cannot_be_read_refuses_all_requests(bench: Bench, stored: str) -> None:
    bench.lightningd.datastore[RECORD] = (stored, 0)
    bench.crash()
    assert previous_outcome(bench, START + 10**6) is not None


def test_a_revoked_connection_leaves_no_record(bench: Bench) -> None:
    note(bench)
    del bench.connections[KEY]
    bench.run(bench.payments.forget_if_done(KEY))
    assert RECORD not in bench.lightningd.datastore


async def test_forgetting_an_unknown_connection_asks_nothing() -> None:
    class Away:
        async def datastore_delete(self, _: object) -> None:
            raise NodeUnavailableError("away")

    await Refusals(Away()).forget(OTHER_KEY)  # type: ignore[arg-type]
