"""Payments that do not fit into one channel: refused if no split can work, and few at once."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.cln.node import Json
from nwc.nip47.errors import Nip47Error
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.spending.large import (
    EXHAUSTED_FOR_S,
    MANY_ATTEMPTS,
    MAX_LARGE_IN_ALL,
    MAX_LARGE_PER_CONNECTION,
    MOST_ATTEMPTS,
    SMALL_MSAT,
    LargePayments,
)
from nwc.wallet.spending.payment import CommandParams
from nwc.wallet.spending.pending_payments import MAX_PER_CONNECTION
from tests.unit.wallet.spending.bench import Bench, invoice, keysend
from tests.unit.wallet.spending.values import KEY, OTHER_KEY, START, amount

UNLIMITED = Budget(BudgetKind.UNLIMITED, since=START)


class ChannelBench(Bench):
    """A bench with two channels that can send 105 and 60 msat. Payments cost 100 to 110 msat."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = [105, 60]
        self.lightningd._listpeerchannels = self._channels  # type: ignore[method-assign]

    def _channels(self) -> Json:
        state = "CHANNELD_NORMAL"
        return {"channels": [{"state": state, "spendable_msat": msat} for msat in self.channels]}


@pytest.fixture
def bench() -> Iterator[ChannelBench]:
    bench = ChannelBench()
    yield bench
    bench.close()


def refusal(bench: Bench, number: int, key: str = KEY) -> str | None:
    """Return the error code of a refused payment, None if it was sent."""
    asked = bench.pay(invoice(number, f"{key[:2]}{number}"), key)
    outcome = asked.result() if asked.done() else None
    return outcome.code if isinstance(outcome, Nip47Error) else None


@pytest.mark.parametrize("wanted", [invoice(), keysend()], ids=["invoice", "keysend"])
@pytest.mark.parametrize(("channels", "is_sent"), [([], False), ([60, 39], False), ([60, 40], True)])
def test_more_than_the_node_can_send_is_refused(
    bench: ChannelBench, wanted: object, channels: list[int], is_sent: bool
) -> None:
    bench.channels = channels
    asked = bench.pay(wanted)  # type: ignore[arg-type]
    assert bench.sends() == is_sent
    assert asked.done() != is_sent
    if asked.done():
        outcome = asked.result()
        assert isinstance(outcome, Nip47Error)
        assert outcome.code == "INSUFFICIENT_BALANCE"
        assert bench.ledger().reservations == {}


def test_an_app_without_the_budget_learns_nothing_of_the_node(bench: ChannelBench) -> None:
    bench.grant(amount(99))
    for channels in ([], [105, 60]):
        bench.channels = channels
        assert refusal(bench, 1) == "QUOTA_EXCEEDED"


def test_a_connection_has_one_large_payment_at_once(bench: ChannelBench) -> None:
    bench.grant(UNLIMITED)
    codes = [refusal(bench, number) for number in range(1, 4)]
    assert codes == [None] * MAX_LARGE_PER_CONNECTION + ["RATE_LIMITED"] * (3 - MAX_LARGE_PER_CONNECTION)
    assert len(bench.ledger().reservations) == MAX_LARGE_PER_CONNECTION


def test_all_connections_together_have_few_large_payments(bench: ChannelBench) -> None:
    keys = [f"{number:02x}" * 32 for number in range(1, MAX_LARGE_IN_ALL + 3)]
    for key in keys:
        bench.grant(UNLIMITED, key)
    codes = [refusal(bench, 1, key) for key in keys]
    assert codes == [None] * MAX_LARGE_IN_ALL + ["RATE_LIMITED"] * 2


def test_the_slot_is_free_when_the_command_has_answered(bench: ChannelBench) -> None:
    bench.grant(UNLIMITED)
    bench.pay(invoice(1, "a"))
    bench.begin(bench.command(1))
    bench.fail(bench.command(1), is_over=False)
    assert refusal(bench, 2) is None, (
        "the first one is pending, but lightningd makes no more attempts for it"
    )


def test_payments_that_fit_into_one_channel_take_no_slot(bench: ChannelBench) -> None:
    bench.channels = [110]
    bench.grant(UNLIMITED)
    codes = [refusal(bench, number) for number in range(1, MAX_PER_CONNECTION + 1)]
    assert codes == [None] * MAX_PER_CONNECTION


def test_after_thousands_of_failed_attempts_large_payments_are_refused_for_a_day(
    bench: ChannelBench,
) -> None:
    """So the memory that lightningd needs for them is limited."""
    bench.grant(UNLIMITED)
    bench.channels = [2 * SMALL_MSAT]
    large = bench.payments._large
    for number, attempts in enumerate([MANY_ATTEMPTS, MANY_ATTEMPTS - 1, MANY_ATTEMPTS], 1):
        assert sent_of(bench, number, SMALL_MSAT), "so far"
        bench.run(noted(large, attempts))
    assert not sent_of(bench, 4, SMALL_MSAT)
    assert sent_of(bench, 5, SMALL_MSAT - 1), "small ones cannot be split so often"
    bench.grant(UNLIMITED, OTHER_KEY)
    assert sent_of(bench, 6, SMALL_MSAT, OTHER_KEY)
    bench.wait(EXHAUSTED_FOR_S)
    assert sent_of(bench, 7, SMALL_MSAT)


def test_the_failed_attempts_of_all_connections_are_limited(
    bench: ChannelBench, caplog: pytest.LogCaptureFixture
) -> None:
    """lightningd does not free their memory before it stops, however long that takes."""
    keys = [f"{number:02x}" * 32 for number in range(1, MAX_LARGE_IN_ALL + 2)]
    for key in keys:
        bench.grant(UNLIMITED, key)
    bench.channels = [2 * SMALL_MSAT]
    for number, key in enumerate(keys[:-1]):
        assert sent_of(bench, number, SMALL_MSAT, key), "so far"
        assert caplog.messages == []
        bench.run(noted(bench.payments._large, MOST_ATTEMPTS, key))
    assert "until lightningd is restarted" in caplog.text
    bench.wait(EXHAUSTED_FOR_S)
    assert not sent_of(bench, 7, SMALL_MSAT, keys[-1])
    assert sent_of(bench, 8, SMALL_MSAT - 1, keys[-1])


def test_failed_attempts_lower_the_number_of_large_payments_at_once(bench: ChannelBench) -> None:
    """Each large payment in flight can add as many attempts as one payment can make."""
    keys = [f"{number:02x}" * 32 for number in range(1, MAX_LARGE_IN_ALL + 1)]
    for key in keys:
        bench.grant(UNLIMITED, key)
    bench.run(noted(bench.payments._large, MOST_ATTEMPTS + 1, KEY))
    codes = [refusal(bench, 1, key) for key in keys]
    assert codes == [None] * (MAX_LARGE_IN_ALL - 1) + ["RATE_LIMITED"]


async def noted(large: LargePayments, attempts: int, key: str = KEY) -> None:
    large.note_failure(key, attempts)


def sent_of(bench: Bench, number: int, amount_msat: int, key: str = KEY) -> bool:
    """Return True if a payment of this amount is given to lightningd."""
    before = bench.sends()
    wanted = invoice(number, f"c{number}", amount_msat=amount_msat)
    bench.pay(replace(wanted, invoice=f"c{number}:{amount_msat}"), key)
    return bench.sends() == before + 1


@pytest.mark.parametrize("has_fee_limit", [False, True])
@pytest.mark.parametrize(("known", "code"), [(True, 205), (True, 206), (False, 205), (True, -32601)])
def test_a_large_payment_without_a_route_is_refused(
    bench: ChannelBench, monkeypatch: pytest.MonkeyPatch, known: bool, code: int, has_fee_limit: bool
) -> None:
    """`pay` would try thousands of routes. askrene does not know a payee behind a route hint."""

    def getroutes(**_: object) -> Json:
        raise RpcCallError("getroutes", code, "no")

    listed = {"nodes": [{"nodeid": "02"}] if known else []}
    monkeypatch.setattr(bench.lightningd, "_listnodes", lambda id: listed)
    monkeypatch.setattr(bench.lightningd, "_getinfo", lambda: {"id": "03"}, raising=False)
    monkeypatch.setattr(bench.lightningd, "_getroutes", getroutes, raising=False)
    asked = bench.pay(invoice(), params=CommandParams(has_fee_limit=has_fee_limit))
    is_refused = known and code in (205, 206)
    assert bench.sends() == (not is_refused)
    if is_refused:
        outcome = asked.result()
        assert isinstance(outcome, Nip47Error)
        answered = "FEE_LIMIT_EXCEEDED" if has_fee_limit and code == 206 else "PAYMENT_FAILED"
        assert (outcome.code, outcome.message[:22]) == (answered, "no route to the payee ")
        assert bench.ledger().reservations == {}


def test_a_large_payment_is_refused_while_lightningd_is_away(
    bench: ChannelBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listnodes(id: str) -> Json:
        raise NodeUnavailableError("listnodes")

    monkeypatch.setattr(bench.lightningd, "_listnodes", listnodes)
    outcome = bench.pay(invoice()).result()
    assert isinstance(outcome, Nip47Error)
    assert outcome.message == "the node could not do this now; nothing was paid"
    bench.wait()
    assert (bench.sends(), bench.ledger().reservations) == (0, {})


def test_no_route_is_looked_up_for_a_payment_that_is_not_large(bench: ChannelBench) -> None:
    bench.channels = [110]
    bench.pay(invoice())
    assert bench.lightningd.called("listnodes") == []
