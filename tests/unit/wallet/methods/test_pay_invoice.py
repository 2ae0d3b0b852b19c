"""pay_invoice: what it accepts, what it refuses before anything is reserved, what it answers."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.cln.errors import NodeError, RpcCallError
from nwc.cln.node import Json
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.bolt11_payment import fee_limit_msat
from nwc.wallet.context import Call
from nwc.wallet.methods.pay_invoice import parse_params, pay_invoice
from nwc.wallet.spending.payment import MAX_PAYMENT_MSAT
from tests.support.forged import BOLT12_IN_DISGUISE
from tests.unit.helpers import JSON_VALUES
from tests.unit.wallet.paying_node import (
    OWN_SECRET,
    PREIMAGE,
    Asked,
    PayingBench,
    make_invoice,
    paying_bench,
    refusal_of,
    spent_nothing,
)
from tests.unit.wallet.spending.simulation import Trouble
from tests.unit.wallet.spending.values import START, amount

INVOICE = make_invoice()
ANY_AMOUNT = make_invoice(None)
FIELDS = ("invoice", "amount", "max_fee", "metadata")
bench = pytest.fixture(paying_bench)


def ask(bench: PayingBench, number: int = 1, **params: Any) -> Asked:
    return bench.ask(pay_invoice, {"invoice": INVOICE, **params}, number)


def refusal(bench: PayingBench, field: str, **params: Any) -> str:
    """Return the message of a refusal, which names the field, and check that nothing was stored."""
    code, message = ask(bench, **params).refusal
    assert code == ErrorCode.OTHER
    assert message.startswith((f"{field}: must be ", f"{field}: must not "))
    assert len(message) < 200
    assert spent_nothing(bench)
    return message


def test_an_invoice_is_paid(bench: PayingBench) -> None:
    asked = ask(bench)
    [given] = bench.lightningd.called("pay")
    label = f"nwc:{bench.connections[next(iter(bench.connections))].id}:{1:064x}"
    assert given == {"invstring": INVOICE, "maxfee": 900, "retry_for": 50, "label": label}
    bench.finish(bench.command())
    assert asked.result == {"preimage": PREIMAGE.hex(), "fees_paid": 900}


def test_a_failed_payment_is_an_error(bench: PayingBench) -> None:
    asked, again = ask(bench), ask(bench)
    bench.fail(bench.command(), 205)
    assert asked.refusal == again.refusal == ("PAYMENT_FAILED", "no route to the payee was found")
    assert ask(bench).refusal == asked.refusal


def test_the_payment_is_stored_with_its_parameters(bench: PayingBench) -> None:
    ask(bench, metadata={"comment": "☕"}, amount=100.0, max_fee=5)
    [reserved] = bench.ledger().reservations.values()
    assert reserved.metadata == {"comment": "☕"}
    assert (reserved.amount_msat, reserved.max_fee_msat) == (100, 5)
    assert (reserved.invoice, reserved.method) == (INVOICE, "pay_invoice")
    assert (reserved.request_created_at, reserved.created_at) == (START, START)
    assert reserved.encryption == "nip44_v2"


@pytest.mark.parametrize("again", [{}, {"amount": -5}, {"invoice": 3}])
def test_the_same_request_gets_the_same_answer(bench: PayingBench, again: dict[str, Any]) -> None:
    """Whatever has happened to the invoice, the node or the budget meanwhile."""
    asked = ask(bench)
    bench.finish(bench.command())
    bench.wait(7200)
    bench.grant(amount(0))
    bench.crash()
    assert ask(bench, **again).result == asked.result
    assert bench.sends() == 1
    assert ask(bench, 2).result == asked.result


# invoice


@pytest.mark.parametrize(
    "text",
    [
        INVOICE.upper(),
        f"lightning:{INVOICE}",
        f"LIGHTNING:{INVOICE.upper()}",
        f"  {INVOICE}\n",
    ],
)
def test_an_invoice_may_be_written_in_these_ways(bench: PayingBench, text: str) -> None:
    ask(bench, invoice=text)
    [given] = bench.lightningd.called("pay")
    assert given["invstring"] == INVOICE


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "x",
        "lightning:",
        5,
        True,
        [],
        {},
        [INVOICE],
        INVOICE[:-1],
        INVOICE + "q",
        INVOICE.replace("1", "2", 1),
        INVOICE[:60] + ("q" if INVOICE[60] != "q" else "p") + INVOICE[61:],
        f"{INVOICE} {INVOICE}",
        "lightning:lightning:" + INVOICE,
        "bitcoin:" + INVOICE,
        INVOICE + "\0",
        "l\u0130" + INVOICE[2:],
        "\ud800",
        "ln" + "q" * 20_000,
        "lno1pqpzwyq2qe3k7enxv4j3gjgqqqqqqqqqqqqq",
        "lni1qqg",
        BOLT12_IN_DISGUISE,
        "LNR1QQG",
        "user@example.com",
        "₿user@example.com",
        "lnurl1dp68gurn8ghj7",
        "npub1xyz",
        f'{{"invoice": "{INVOICE}"}}',
    ],
)
def test_text_that_is_not_an_invoice_is_refused(bench: PayingBench, value: object) -> None:
    refusal(bench, "invoice", invoice=value)
    assert not bench.lightningd.called("decode"), "lightningd does not see it"


def test_the_refusal_of_bolt12_names_the_method_for_it(bench: PayingBench) -> None:
    assert "the method pay takes BOLT12 offers" in refusal(bench, "invoice", invoice="lno1pqpzwyq2qe")


@pytest.mark.parametrize(
    ("invoice", "words"),
    [
        (make_invoice(currency="bc"), "network regtest; its prefix is lnbc"),
        (make_invoice(currency="tb"), "network regtest; its prefix is lntb"),
        (make_invoice(created_at=START - 3600), "must not have expired"),
        (make_invoice(created_at=0, expiry=1), "must not have expired"),
    ],
)
def test_an_invoice_that_cannot_be_paid_is_refused(bench: PayingBench, invoice: str, words: str) -> None:
    assert words in refusal(bench, "invoice", invoice=invoice)


def test_an_invoice_is_paid_in_its_last_second(bench: PayingBench) -> None:
    ask(bench, invoice=make_invoice(created_at=START - 3599))
    assert bench.sends() == 1


@pytest.mark.parametrize(
    "decoded",
    [
        {"valid": False},
        {"valid": None},
        {"type": "bolt12 offer"},
        {"type": None},
        {"currency": "bc"},
        {"amount_msat": 0},
        {"amount_msat": MAX_PAYMENT_MSAT + 1},
    ],
)
def test_the_answer_of_decode_counts(bench: PayingBench, decoded: dict[str, Any]) -> None:
    bench.decoded = decoded
    refusal(bench, "invoice")


@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.REFUSED])
def test_nothing_is_paid_when_decode_fails(bench: PayingBench, trouble: Trouble) -> None:
    bench.lightningd.troubles.append(trouble)
    with pytest.raises(NodeError):
        bench.run(_pay(bench))
    assert spent_nothing(bench)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (-32602, "OTHER", "invoice: must be a BOLT11 invoice that the node can read"),
        # lightningd with disable-plugin=offers
        (-32601, "INTERNAL", "the node has no command to read an invoice with; nothing was paid"),
    ],
)
def test_the_invoice_is_blamed_only_for_its_own_faults(
    bench: PayingBench, monkeypatch: pytest.MonkeyPatch, code: int, error: str, words: str
) -> None:
    def decode(string: str) -> Json:
        raise RpcCallError("decode", code, "no")

    monkeypatch.setattr(bench.lightningd, "_decode", decode)
    assert ask(bench).refusal == (error, words)
    assert spent_nothing(bench)


@pytest.mark.parametrize("before", [0, 1, 2], ids=["decode", "getinfo", "help"])
def test_nothing_is_reserved_when_lightningd_does_not_answer(bench: PayingBench, before: int) -> None:
    bench.lightningd.troubles.extend([Trouble.NONE] * before + [Trouble.AWAY])
    with pytest.raises(NodeError):
        bench.run(_pay(bench))
    assert spent_nothing(bench)


async def _pay(bench: PayingBench) -> None:
    [asking] = bench.connections.values()
    await pay_invoice(bench.wallet, Call("00" * 32, {"invoice": INVOICE}, asking))


# An invoice of the own node

OWN = make_invoice(secret=OWN_SECRET)


def test_an_own_invoice_is_paid_without_a_fee(bench: PayingBench) -> None:
    """It needs no channel. Its whole amount may be the rest of the budget."""
    bench.grant(amount(100))
    bench.lightningd.spendable_msat = 0
    bench.own_status = "unpaid"
    asked = ask(bench, invoice=OWN, max_fee=5000)
    assert bench.command().max_fee_msat == 0
    assert bench.ledger().reserved_msat == 100
    bench.finish(bench.command())
    assert asked.result == {"preimage": PREIMAGE.hex(), "fees_paid": 0}


def test_an_own_invoice_is_not_a_large_payment(bench: PayingBench) -> None:
    bench.grant(amount(MAX_PAYMENT_MSAT))
    bench.own_status = "unpaid"
    ask(bench, invoice=make_invoice(10**12, OWN_SECRET))
    assert bench.sends() == 1
    assert not bench.lightningd.called("listnodes"), "no route is looked for"


@pytest.mark.parametrize(
    ("status", "words"),
    [("paid", "paid already"), ("expired", "no longer takes"), (None, "no longer takes")],
)
def test_an_own_invoice_that_takes_no_payment_is_refused(
    bench: PayingBench, status: str | None, words: str
) -> None:
    bench.own_status = status
    code, message = ask(bench, invoice=OWN).refusal
    assert code == ErrorCode.PAYMENT_FAILED
    assert words in message
    assert spent_nothing(bench)


def test_an_own_invoice_that_this_connection_has_paid_gets_the_same_answer(bench: PayingBench) -> None:
    bench.own_status = "unpaid"
    asked = ask(bench, invoice=OWN)
    bench.finish(bench.command())
    bench.own_status = "paid"
    assert ask(bench, 2, invoice=OWN).result == asked.result
    assert bench.sends() == 1


# amount


@pytest.mark.parametrize("value", [1, 100, 100.0, MAX_PAYMENT_MSAT])
def test_an_invoice_without_an_amount_is_paid_with_the_given_one(
    bench: PayingBench, value: float
) -> None:
    bench.grant(amount(MAX_PAYMENT_MSAT))
    ask(bench, invoice=ANY_AMOUNT, amount=value, max_fee=0)
    [given] = bench.lightningd.called("pay")
    assert given["amount_msat"] == value
    assert type(given["amount_msat"]) is int
    assert bench.ledger().reserved_msat == value


def test_the_invoices_own_amount_is_not_sent_along(bench: PayingBench) -> None:
    ask(bench, amount=100)
    [given] = bench.lightningd.called("pay")
    assert "amount_msat" not in given


@pytest.mark.parametrize("value", [99, 101, 100_000])
def test_an_amount_other_than_the_invoices_is_refused(bench: PayingBench, value: int) -> None:
    assert refusal(bench, "amount", amount=value).endswith(f"100 msat, or absent; got {value}")


@pytest.mark.parametrize("params", [{}, {"amount": None}, {"amount": 0}, {"amount": -0.0}])
def test_an_invoice_without_an_amount_needs_one(bench: PayingBench, params: dict[str, Any]) -> None:
    message = refusal(bench, "amount", invoice=ANY_AMOUNT, **params)
    assert message == "amount: must be given in msat, since the invoice has none"


@pytest.mark.parametrize("value", [0, 0.0, None])
def test_zero_beside_the_invoices_amount_is_absent(bench: PayingBench, value: object) -> None:
    ask(bench, amount=value)
    [given] = bench.lightningd.called("pay")
    assert "amount_msat" not in given
    assert bench.command().amount_msat == 100


def test_a_fee_limit_of_zero_is_a_limit(bench: PayingBench) -> None:
    ask(bench, max_fee=0)
    assert bench.command().max_fee_msat == 0


BAD_NUMBERS: tuple[object, ...] = (
    -1,
    1.5,
    True,
    False,
    "100",
    "",
    [],
    [100],
    {},
    MAX_PAYMENT_MSAT + 1,
    2**63,
    2**64,
    10**40,
    1e300,
    -0.5,
    math.inf,
    -math.inf,
    math.nan,
)


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize("invoice", [INVOICE, ANY_AMOUNT])
def test_a_bad_amount_is_refused(bench: PayingBench, invoice: str, value: object) -> None:
    refusal(bench, "amount", invoice=invoice, amount=value)


# max_fee


@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_a_bad_max_fee_is_refused(bench: PayingBench, value: object) -> None:
    refusal(bench, "max_fee", max_fee=value)


@pytest.mark.parametrize(("value", "limit_msat"), [(None, 900), (0, 0), (3, 3), (5.0, 5), (10**9, 900)])
def test_the_fee_limit_is_the_clients_or_the_default(
    bench: PayingBench, value: object, limit_msat: int
) -> None:
    """It is never more than what is left of the budget after the amount."""
    ask(bench, max_fee=value)
    assert bench.command().max_fee_msat == limit_msat
    assert bench.ledger().reserved_msat == 100 + limit_msat


@pytest.mark.parametrize(
    ("amount_msat", "limit_msat"),
    [(1, 5000), (500_000, 5000), (500_100, 5001), (10**9, 10**7)],
)
def test_the_default_fee_limit_is_one_percent_or_5_sat(amount_msat: int, limit_msat: int) -> None:
    assert fee_limit_msat(amount_msat, None) == limit_msat
    assert fee_limit_msat(amount_msat, 7) == 7


# metadata


@pytest.mark.parametrize("value", ["", 1, True, [1], [{}]])
def test_bad_metadata_are_refused(bench: PayingBench, value: object) -> None:
    refusal(bench, "metadata", metadata=value)


@pytest.mark.parametrize("value", [[], {}])
def test_empty_metadata_are_stored(bench: PayingBench, value: object) -> None:
    ask(bench, metadata=value)
    [reserved] = bench.ledger().reservations.values()
    assert reserved.metadata == {}


@pytest.mark.parametrize("value", [{"x": "y" * 4096}, {"x": "\ud800"}, {"x": math.inf}, None])
def test_unusable_metadata_are_dropped(bench: PayingBench, value: object) -> None:
    ask(bench, metadata=value)
    [reserved] = bench.ledger().reservations.values()
    assert reserved.metadata is None


# Random parameters


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "preimage", "label"]),
        JSON_VALUES | st.sampled_from([INVOICE, ANY_AMOUNT, 100, 10**30]),
    )
)
def test_random_parameters_are_refused_or_in_range(params: dict[str, Any]) -> None:
    error = refusal_of(parse_params, params)
    if error is not None:
        assert error.code == ErrorCode.OTHER
        assert error.message.split(":")[0] in FIELDS
        assert error.message.isprintable()
        return
    wanted = parse_params(params)
    assert wanted.invoice in (INVOICE, ANY_AMOUNT)
    for number in (wanted.amount_msat, wanted.max_fee_msat):
        assert number is None or (type(number) is int and 0 <= number <= MAX_PAYMENT_MSAT)
    json.dumps(wanted.metadata, allow_nan=False).encode()


@settings(max_examples=200)
@given(st.integers(0, len(INVOICE) - 1), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l1b"))
def test_an_invoice_with_a_changed_letter_is_refused(position: int, letter: str) -> None:
    """The checksum is wrong, so lightningd is not asked."""
    changed = INVOICE[:position] + letter + INVOICE[position + 1 :]
    if changed != INVOICE:
        with pytest.raises(Nip47Error):
            parse_params({"invoice": changed})


@pytest.mark.parametrize(
    ("given", "code"), [({"max_fee": 5}, "FEE_LIMIT_EXCEEDED"), ({"max_fee": None}, "PAYMENT_FAILED")]
)
def test_only_a_client_that_gave_max_fee_learns_that_no_route_fits_it(
    bench: PayingBench, given: dict[str, Any], code: str
) -> None:
    """Older clients fail on unknown codes."""
    asked = ask(bench, **given)
    bench.fail(bench.command(), 206)
    assert asked.refusal[0] == code
