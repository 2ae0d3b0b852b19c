# mypy: allow-untyped-calls
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyln.proto.invoice import Invoice

from nwc.cln import bolt11
from nwc.nostr import bech32
from tests.double import bolt11 as double
from tests.unit.cln.test_bolt11 import COFFEE, DONATION, HASHED


def with_amount(amount: str, currency: str = "bc") -> str:
    """Return a real invoice with another prefix."""
    return bech32.encode(f"ln{currency}{amount}", bech32.decode(COFFEE)[1])


@pytest.mark.parametrize(
    ("invoice", "msat"), [(DONATION, None), (COFFEE, 250_000_000), (HASHED, 2_000_000_000)]
)
def test_the_amounts_of_the_examples_of_bolt11_are_read(invoice: str, msat: int | None) -> None:
    assert bolt11.amount_msat(invoice) == msat
    assert bolt11.amount_msat(invoice.upper()) == msat


@pytest.mark.parametrize(
    ("amount", "msat"),
    [
        ("", None),
        ("1", 100_000_000_000),
        ("21000000", 2_100_000_000_000_000_000),
        ("20m", 2_000_000_000),
        ("2500u", 250_000_000),
        ("1n", 100),
        ("10p", 1),
        ("9678785340p", 967_878_534),
        ("2500000000p", 250_000_000),
        ("0", 0),
    ],
)
@pytest.mark.parametrize("currency", ["bc", "tb", "tbs", "bcrt"])
def test_valid_amounts_are_read(amount: str, msat: int | None, currency: str) -> None:
    assert bolt11.amount_msat(with_amount(amount, currency)) == msat


@pytest.mark.parametrize(
    "amount",
    [
        "2500000001p",  # BOLT11, "Examples of Invalid Invoices": a fraction of a msat
        "1p",
        "2500x",
        "m",
        "1mm",
        "1.5m",
        "-1m",
        "+1m",
        "1 m",
        "٣m",
        "9" * 21,
    ],
)
def test_invalid_amounts_are_refused(amount: str) -> None:
    try:
        invoice = with_amount(amount)
    except ValueError:
        invoice = f"lnbc{amount}1{COFFEE.rpartition('1')[2]}"
    with pytest.raises(ValueError):
        bolt11.amount_msat(invoice)


@pytest.mark.parametrize(
    "text",
    ["", "lnbc", "lnbc1", "lno1qgsq", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "x" * 20_000],
)
def test_a_text_that_is_not_an_invoice_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        bolt11.amount_msat(text)


@settings(max_examples=30)
@given(st.integers(1, 21_000_000 * 10**11))
def test_pyln_proto_reads_the_same_amount(msat: int) -> None:
    content = double.Bolt11("bcrt", 1, b"\1" * 32, b"\2" * 32, msat, "d")
    invoice = double.encode(content, b"\3" * 32)
    assert bolt11.amount_msat(invoice) == msat
    assert Decimal(Invoice.decode(invoice).amount) * 10**11 == msat


@given(st.integers(0, 10**12), st.sampled_from(["", "m", "u", "n", "p"]))
def test_every_multiplier_is_read_or_refused(number: int, multiplier: str) -> None:
    pico = number * {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}[multiplier]
    invoice = with_amount(f"{number}{multiplier}")
    if pico % 10:
        with pytest.raises(ValueError, match="amount"):
            bolt11.amount_msat(invoice)
    else:
        assert bolt11.amount_msat(invoice) == pico // 10
