"""Payment instructions: BIP-321 URIs, bare invoices and offers, and what is refused."""

import string
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nwc.nip47.bip321 import (
    MAX_PARAMETERS,
    MAX_PAYMENT_CHARACTERS,
    PaymentInstructions,
    parse_payment,
    payment_uri,
)
from nwc.nip47.errors import ErrorCode, Nip47Error

INVOICE = "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqf"
OFFER = "lno1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrc"
ADDRESS = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (INVOICE, (None, INVOICE, None)),
        (INVOICE.upper(), (None, INVOICE, None)),
        (f"lightning:{INVOICE}", (None, INVOICE, None)),
        (f"LIGHTNING:{INVOICE.upper()}", (None, INVOICE, None)),
        (f"  {OFFER}\n", (None, None, OFFER)),
        (OFFER.upper(), (None, None, OFFER)),
        (f"{OFFER[:20]}+\n  {OFFER[20:]}", (None, None, OFFER)),
        (f"bitcoin:?lightning={INVOICE}", (None, INVOICE, None)),
        (f"bitcoin:?lno={OFFER}", (None, None, OFFER)),
        (f"BITCOIN:?LNO={OFFER.upper()}", (None, None, OFFER)),
        (f"bitcoin:{ADDRESS}?lightning={INVOICE}&lno={OFFER}", (None, INVOICE, OFFER)),
        (f"BitCoin:{ADDRESS}?amount=0.5&LightNing={INVOICE}", (50_000_000_000, INVOICE, None)),
        (f"bitcoin:?amount=.00000000001&lno={OFFER}", (1, None, OFFER)),
        (f"bitcoin:?amount=20.&lno={OFFER}", (2_000_000_000_000, None, OFFER)),
        (f"bitcoin:?amount=21000000&lno={OFFER}", (2_100_000_000_000_000_000, None, OFFER)),
        (
            f"bitcoin:?label=caf%C3%A9&label=x&message=a%20b&pop=x&sp=sp1q&&lno={OFFER}",
            (None, None, OFFER),
        ),
        (f"bitcoin:?lno=%6C{OFFER[1:]}", (None, None, OFFER)),
        (f"bitcoin:?lightning=&lno={OFFER}", (None, None, OFFER)),
        (f"bitcoin:?lightning=LNURL1DP68GURN8GHJ7&lno={OFFER}", (None, None, OFFER)),
    ],
)
def test_what_can_be_paid_is_found(
    text: str, expected: tuple[int | None, str | None, str | None]
) -> None:
    assert parse_payment(text) == PaymentInstructions(*expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bitcoin",
        "coffee please",
        f"litecoin:?lightning={INVOICE}",
        f"https://example.com/?lightning={INVOICE}",
        INVOICE[:4] + INVOICE[4:].replace("q", "b"),
        INVOICE.capitalize(),
        "lno1",
        f"bitcoin:?lightning={OFFER}",
        f"bitcoin:?lno={INVOICE}",
        f"bitcoin:?lno={OFFER}&LNO={OFFER}",
        f"bitcoin:?lightning={INVOICE}&lightning={INVOICE}",
        f"bitcoin:?amount=1&lno={OFFER}&amount=1",
        f"bitcoin:?lno={OFFER}&lightning=lnbc1broken",
        f"bitcoin:?lno={OFFER}&req-future=1",
        f"bitcoin:?lno={OFFER}&REQ-Future=1",
        f"bitcoin:?lno={OFFER}&req-lno={OFFER}",
        f"bitcoin:?lno={OFFER}&req-pop=callback%3A",
        f"bitcoin:?lno={OFFER}&%72eq-future=1",
        f"bitcoin:?lno={OFFER}&l%6eo={OFFER}",
        f"bitcoin:?lno=%{OFFER}",
        f"bitcoin:?lno=%E2%82%BF{OFFER}",
        f"bitcoin:?lno=\u20bf{OFFER}",
        *(
            f"bitcoin:?lno={OFFER}&amount={amount}"
            for amount in (
                "",
                ".",
                "0",
                "-1",
                "+1",
                "1e3",
                "1,5",
                "0x10",
                "NaN",
                "1.2.3",
                "0.000000000001",
                "0.000000000019",
                "21000000.00000000001",
                "9" * 100,
                "\u0661",
            )
        ),
        "bitcoin:?" + "&".join(f"x{number}=1" for number in range(MAX_PARAMETERS + 1)) + f"&lno={OFFER}",
        f"bitcoin:?lno={OFFER}&label=" + "x" * MAX_PAYMENT_CHARACTERS,
    ],
)
def test_a_malformed_text_is_a_bad_request(text: str) -> None:
    assert _code(text) is ErrorCode.BAD_REQUEST


@pytest.mark.parametrize(
    "text",
    [
        f"bitcoin:{ADDRESS}",
        f"bitcoin:{ADDRESS}?amount=0.1&label=x",
        "bitcoin:",
        "bitcoin:?",
        "bitcoin:?sp=sp1qsilentpayment",
        "bitcoin:?lightning=LNURL1DP68GURN8GHJ7",
        "lightning:LNURL1DP68GURN8GHJ7",
        ADDRESS,
        ADDRESS.upper(),
        "user@example.com",
        "\u20bfuser@example.com",
        "lni1qqsqvgnwgcg35",
        "lnr1qqsqvgnwgcg35",
    ],
)
def test_nothing_to_pay_is_an_unsupported_instruction(text: str) -> None:
    assert _code(text) is ErrorCode.UNSUPPORTED_PAYMENT_INSTRUCTION


def test_a_uri_that_we_write_can_be_read() -> None:
    assert payment_uri(INVOICE) == f"bitcoin:?lightning={INVOICE}"
    assert parse_payment(payment_uri(INVOICE)) == PaymentInstructions(None, INVOICE, None)


@given(st.text(max_size=60) | st.text(string.printable, max_size=60))
@example("bitcoin:?amount=" + "1" * 12 + "." + "1" * 18 + f"&lno={OFFER}")
@example("bitcoin:?lno=\ud800")
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f"bitcoin:{text}", f"bitcoin:?lno={text}", f"bitcoin:?lno={OFFER}&{text}"):
        with suppress(Nip47Error):
            found = parse_payment(candidate)
            assert found.lightning or found.lno


def _code(text: str) -> ErrorCode:
    with pytest.raises(Nip47Error) as refusal:
        parse_payment(text)
    return refusal.value.code
