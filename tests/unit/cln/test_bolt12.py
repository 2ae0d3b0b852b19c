import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.cln import bolt12
from nwc.nostr import bech32

# Made by lightningd v26.06.6 for an offer, created at 1795489896.
REAL = (
    "lni1qqgxz6hjzty482w8uxjwyfxtzmsjqq3qqc3xu3s3rg94nj40zfsy866mhu5vxne6tcej5878k2mneuvgjy8ssq"
    "sn3q9qujmpvenx2efqu2vf2gpz0q3ppmsrsx2ttuetmu92txqjepkyaaad9u55zp86qf734n5mg6dmd7yv7das9q75"
    "wnelufmsrfyhrm9wuqetk9t6r93zqgchkvz33era6wte0t5jqgpws78qek9ed8jfy49wsm8zglwl3220tjhqpt9drc"
    "dzhy8kn0lxv6cqxdqtlej6uv3w0uuq3n4aqey9zgmzc27rtuzk3xvcpsc58qfx7taxc2ujsvg6t4s373ztzhjhtlj0"
    "tr9xc2usykf2gqxxser2dydyg9zeatd0wg2lcf5zlnygak3f98uhgh03n8y7qqe2cn0es65s0ex8cj0svky0p5lwts"
    "wrh9c45mxhayx0nfdr8zpa8kpjgqt2mjwtpag6j9tatd9efxcz3t2pvggr8pzcqtf9kns8fn8a0nvtxwdyrhr4h7vh"
    "3gp5sqzyfdgag2c80xd9qgqxyfhyvyg6pdvu4tcjvpp7kkal9rp57wj7xv4pl3ajku70rzy3pa2qqkppqvy7yz3nhj"
    "4m4fg5vljye82zzdn7y4ujq93ay6y2q25fxwja8l4vfgycqvuytqpdyk6wqaxvl47d3vee5swuwklej79qxjqqg394"
    "r4ptqaue5qc4tyhlsggdmapeskxyv76ntptxlwryv6h4yd7zuxtuxmh04ucnjcqsy7uwvne8g8al68spe2mg3rrckq"
    "dk73sn8yygcdm7mc2jdw55638eqqep7lhv95qj3qy0m0tcjfdyun9erxy3jtagj3k0yy9uz8ws4emxl62g9gx2hlq5"
    "73av8xq6frvpkxt2de36y8qqqqqqqqqqqqqqqpgqqqqqqqqqqqqp6f9jm7k9yqqqqqq2gprtq5qx32pqmrupztw3y4"
    "c0tfa6ed8c5eram0jp4grf4u9ha2w2h8l7vvz945j65qsn3zhqxqsqqzczzqecgkqz6fd5up6veltumzennfqacadl"
    "n9u2qdyqq3zt282zkpmentcypj79505jayvpkkgzneljqyrp2ll8mchqjph5ndwj4hufeqsdr4825h36hrqt8cptl0"
    "ntmj9ly4pt9xxuckg6ff9z022rlj2f5yzdmtlq"
)


def encoded(stream: bytes, prefix: str = "lni") -> str:
    """Return a stream in BOLT12's encoding: bech32 without a checksum."""
    return bech32.encode(prefix, bech32.words_from_bytes(stream))[: -bech32.CHECKSUM_LENGTH]


def field(type_: int, value: bytes) -> bytes:
    return bytes([type_, len(value)]) + value


FILLING = field(10, b"some coffee")


def test_the_creation_time_of_an_invoice_of_lightningd_is_read() -> None:
    assert bolt12.created_at(REAL) == 1_795_489_896
    assert bolt12.created_at(REAL.upper()) == 1_795_489_896


LENGTHS = {
    0: b"\x00",
    0xFC: b"\xfc",
    0xFD: b"\xfd\x00\xfd",
    0xFFFF: b"\xfd\xff\xff",
    0x10000: b"\xfe\x00\x01\x00\x00",
    7: b"\xff" + bytes(7) + b"\x07",
}


@given(st.integers(0, 2**64 - 1), st.sampled_from(list(LENGTHS)))
def test_the_creation_time_is_read(at: int, length: int) -> None:
    """It stands after fields of all lengths (BOLT1, "BigSize")."""
    truncated = at.to_bytes(8, "big").lstrip(b"\0")
    before = b"\x0a" + LENGTHS[length] + bytes(length)
    assert bolt12.created_at(encoded(before + field(164, truncated) + field(170, b"xyz"))) == at


def test_types_of_several_bytes_are_skipped() -> None:
    stream = FILLING + b"\xfd\x01\x00" + b"\x01x" + field(164, b"\x07")
    assert bolt12.created_at(encoded(stream)) == 7


@pytest.mark.parametrize(
    "invoice",
    [
        "",
        "lni1",
        "lni1qqg",
        encoded(FILLING),
        encoded(FILLING + field(164, b"123456789")),
        encoded(FILLING + field(164, b"1234")[:-1]),
        encoded(FILLING + b"\xa4"),
        encoded(FILLING + b"\xfd\x00"),
        encoded(FILLING + field(164, b"\x07"), "lnr"),
        REAL[:-300],
        REAL.replace("q", "b"),
    ],
    ids=lambda invoice: invoice[-12:],
)
def test_other_texts_are_refused(invoice: str) -> None:
    with pytest.raises(ValueError):
        bolt12.created_at(invoice)


@given(st.one_of(st.text(), st.binary().map(encoded)))
def test_junk_raises_only_value_error(invoice: str) -> None:
    with contextlib.suppress(ValueError):
        assert bolt12.created_at(invoice) >= 0


def test_an_invoice_of_lightningd_is_summarised() -> None:
    payment_hash = "d8f8112dd12570f5a7bacb4f8a647ddbe41aa069af0b7ea9cab9ffe63045ad25"
    assert bolt12.summary(REAL) == bolt12.Summary('Kaffee ☕ "x"', 5000, 1_795_497_096, payment_hash)


HASH = bytes(range(32))
NEEDED = field(164, b"\x07") + field(168, HASH)


def test_the_expiry_and_the_description_may_be_absent() -> None:
    assert bolt12.summary(encoded(NEEDED)) == bolt12.Summary(None, None, 7207, HASH.hex())
    some = FILLING + field(164, b"\x07") + field(166, b"\x02\x00") + field(168, HASH)
    given = some + field(170, b"\x03\xe8")
    assert bolt12.summary(encoded(given)) == bolt12.Summary("some coffee", 1000, 519, HASH.hex())


def test_a_description_that_is_not_text_is_left_out() -> None:
    assert bolt12.summary(encoded(field(10, b"\xff") + NEEDED)).description is None


@pytest.mark.parametrize(
    "stream", [FILLING, FILLING + field(164, b"\x07"), field(164, b"\x07") + field(168, b"x")]
)
def test_an_invoice_without_a_payment_hash_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError, match="not a BOLT12 invoice"):
        bolt12.summary(encoded(stream))
