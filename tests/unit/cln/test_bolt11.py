# mypy: allow-untyped-calls
import hashlib
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from bitstring import BitArray
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pyln.proto.invoice import Invoice, RouteHint, RouteHintSet

from nwc.cln import bolt11
from nwc.nostr import bech32
from tests.double import bolt11 as double
from tests.support.forged import BOLT12_IN_DISGUISE

NODE_SECRET = "e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734"
NODE_ID = "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad"
PAYMENT_HASH = "0001020304050607080900010203040506070809000102030405060708090102"
HASH = hashlib.sha256(b"anything").digest()

# BOLT11, "Examples": made by other software, signed by NODE_SECRET, at 1496314658.
DONATION = (
    "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq"
    "5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9"
    "qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxdwk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcw"
    "spyetp5h2tztugp9lfyql"
)
COFFEE = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsy"
    "qcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdl"
    "a2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh"
)
HASHED = (
    "lnbc20m1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqc"
    "yq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqs9qrsgq7ea9"
    "76txfraylvgzuxs8kgcw23ezlrszfnh8r6qtfpr6cxga50aj6txm9rxrydzd06dfeawfk6swupvz4erwnyutnjq7x39ymw"
    "6j38gp7ynn44"
)


@pytest.mark.parametrize(
    ("invoice", "msat"), [(DONATION, None), (COFFEE, 250_000_000), (HASHED, 2_000_000_000)]
)
@pytest.mark.parametrize("form", [str.lower, str.upper])
def test_the_examples_of_bolt11_are_read(
    invoice: str, msat: int | None, form: Callable[[str], str]
) -> None:
    invoice = form(invoice)
    assert bolt11.amount_msat(invoice) == msat
    assert bolt11.timestamp(invoice) == 1_496_314_658
    assert bolt11.payment_hash(invoice) == PAYMENT_HASH
    assert bolt11.parse(invoice).encode() == invoice.lower()


def test_the_descriptions_of_the_examples_are_read() -> None:
    assert bolt11.description(DONATION) == "Please consider supporting this project"
    assert bolt11.description(COFFEE) == "1 cup coffee"
    assert bolt11.description(HASHED) is None
    assert bolt11.description_hash(COFFEE) is None
    # SHA-256 of "One piece of chocolate cake, one icecream cone, …" in BOLT11.
    hashed = "3925b6f67e2c340036ed12093dd44e0368df1b6ea26c53dbe4811f58fd5db8c1"
    assert bolt11.description_hash(HASHED) == hashed


def test_the_expiries_of_the_examples_are_read() -> None:
    assert bolt11.expiry(COFFEE) == 60
    assert bolt11.expiry(DONATION) == 3600


def createinvoice(unsigned: str) -> str:
    """Return lightningd's invoice (`bolt11_encode_`): fields in order, `h` instead of `d`, signed."""
    parts = bolt11.parse(unsigned)
    letters = [field.type for field in parts.fields]
    kept = [field for field in parts.fields if field.type != "d" or "h" not in letters]
    kept.sort(key=lambda field: "sphdmnxcfr9".index(field.type))
    payload = parts.timestamp + b"".join(map(bolt11._field_words, kept))
    bits = len(payload) * 5
    number = bech32.int_from_words(payload) << -bits % 8
    message = parts.hrp.encode() + number.to_bytes((bits + 7) // 8, "big")
    signature = PrivateKey(bytes.fromhex(NODE_SECRET)).sign_recoverable(message)
    return bech32.encode(parts.hrp, payload + bech32.words_from_bytes(signature))


def with_hash(invoice: str, digest: bytes, text: str) -> str:
    return bolt11.with_description_hash(bolt11.parse(invoice), digest, text).encode()


@pytest.mark.parametrize("invoice", [DONATION, COFFEE, HASHED])
def test_the_examples_signed_again_are_unchanged(invoice: str) -> None:
    assert createinvoice(invoice) == invoice


@pytest.mark.parametrize("text", ["", "One piece of cake", "é" * 319])
def test_a_signed_invoice_commits_to_the_description_hash(text: str) -> None:
    digest = bytes.fromhex(bolt11.description_hash(HASHED) or "")
    template = with_hash(HASHED, HASH, "other")
    unsigned = with_hash(template, digest, text)
    assert bolt11.description(unsigned) == text
    assert createinvoice(unsigned) == HASHED


def test_with_description_hash_keeps_all_other_fields() -> None:
    before = bolt11.parse(COFFEE)
    after = bolt11.parse(with_hash(COFFEE, HASH, "x"))
    assert (after.hrp, after.timestamp) == (before.hrp, before.timestamp)
    assert [field.type for field in after.fields] == ["s", "p", "x", "9", "d", "h"]
    assert set(before.fields) - set(after.fields) == {
        field for field in before.fields if field.type == "d"
    }


def test_with_description_hash_zeroes_the_signature() -> None:
    unsigned = bolt11.parse(with_hash(COFFEE, HASH, "x"))
    assert unsigned.signature == bytes(104)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=159)
needs_pyln_invoice = pytest.mark.skipif(
    not hasattr(BitArray, "len"), reason="pyln.proto.invoice does not work with bitstring 5"
)


def make_invoice(
    *, amount: Decimal | None = None, date: int = 1_700_000_000, tags: list[tuple[str, Any]]
) -> str:
    """Return a signed regtest invoice with a route hint, made by pyln-proto."""
    hint = RouteHint()
    hint.pubkey, hint.short_channel_id = bytes.fromhex(NODE_ID), 1 << 40
    hint.fee_base_msat, hint.fee_proportional_millionths, hint.cltv_expiry_delta = 1, 10, 34
    invoice = Invoice(bytes.fromhex(PAYMENT_HASH), amount, "bcrt", tags, date)
    invoice.route_hints = RouteHintSet()
    invoice.route_hints.add(hint)
    text: str = invoice.encode(NODE_SECRET)
    return text


@needs_pyln_invoice
@settings(max_examples=50, deadline=None)
@given(date=st.integers(1, 2**35 - 1), text=TEXT, seconds=st.integers(1, 2**32), hashed=st.booleans())
def test_invoices_of_pyln_proto_are_read(date: int, text: str, seconds: int, hashed: bool) -> None:
    invoice = make_invoice(date=date, tags=[("h" if hashed else "d", text), ("x", seconds)])
    assert bolt11.timestamp(invoice) == date
    assert bolt11.expiry(invoice) == seconds
    assert bolt11.payment_hash(invoice) == PAYMENT_HASH
    assert bolt11.description(invoice) == (None if hashed else text)
    expected = hashlib.sha256(text.encode()).hexdigest() if hashed else None
    assert bolt11.description_hash(invoice) == expected


@needs_pyln_invoice
@settings(max_examples=50, deadline=None)
@given(text=TEXT, kept=TEXT, digest=st.binary(min_size=32, max_size=32), hashed=st.booleans())
def test_pyln_proto_reads_our_invoices(text: str, kept: str, digest: bytes, hashed: bool) -> None:
    tags = [("h" if hashed else "d", text), ("x", 86_400)]
    template = make_invoice(amount=Decimal("0.0025"), tags=tags)
    signed = Invoice.decode(createinvoice(with_hash(template, digest, kept)))
    assert signed.hexpubkey == NODE_ID
    assert signed.amount == Decimal("0.0025")
    assert signed.date == 1_700_000_000
    assert signed.hexpaymenthash == PAYMENT_HASH
    assert dict(signed.tags) == {"x": 86_400, "h": digest}
    assert signed.route_hints.route_hints[0].short_channel_id == 1 << 40


@pytest.mark.parametrize("text", ["", "a" * 639, "é" * 319])
def test_the_longest_and_the_shortest_description_fit(text: str) -> None:
    unsigned = with_hash(COFFEE, HASH, text)
    assert bolt11.description(unsigned) == text


@pytest.mark.parametrize("text", ["a" * 640, "é" * 320, "\ud800"])
def test_a_description_that_is_too_long_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        with_hash(COFFEE, HASH, text)


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33)])
def test_a_description_hash_of_another_length_is_refused(digest: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        with_hash(COFFEE, digest, "x")


@pytest.mark.parametrize(
    "invoice",
    [
        "",
        "lnbc",
        "lnbc1",
        "lnbc1pvjluez",
        DONATION[:40],
        "x" * 20_000,
        HASHED[:60],
        "lnbc1" + "q" * 20_000,
        DONATION[:30] + "b" + DONATION[31:],
        DONATION[:30] + "é" + DONATION[31:],
        DONATION[:30] + DONATION[30:].upper(),
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "lno1qgsq",
        DONATION.replace("lnbc", "xxbc", 1),
    ],
)
def test_other_texts_are_not_invoices(invoice: str) -> None:
    for function in (bolt11.timestamp, bolt11.parse, bolt11.payment_hash, bolt11.amount_msat):
        with pytest.raises(ValueError):
            function(invoice)


@pytest.mark.parametrize(
    "hrp", ["lni", "ln+i", "ln+ o", "lnp", "lnr", "ln", "lnbc+", "ln bc", "lnbc1x", "lnxy"]
)
def test_words_of_an_invoice_behind_another_prefix_are_no_invoice(hrp: str) -> None:
    """lightningd reads some of these as BOLT12, and does not survive all of that."""
    disguised = replace(bolt11.parse(COFFEE), hrp=hrp).encode()
    for read in (bolt11.payment_hash, bolt11.timestamp, bolt11.description):
        with pytest.raises(ValueError, match="not a BOLT11 invoice"):
            read(disguised)


def test_a_bolt12_invoice_in_disguise_is_no_invoice() -> None:
    bech32.decode(BOLT12_IN_DISGUISE)
    with pytest.raises(ValueError, match="not a BOLT11 invoice"):
        bolt11.payment_hash(BOLT12_IN_DISGUISE)


def test_a_wrong_checksum_is_refused() -> None:
    changed = DONATION[:-1] + "q"
    assert bolt11.timestamp(changed) == 1_496_314_658  # reads only these 35 bits
    with pytest.raises(ValueError, match="checksum"):
        bolt11.payment_hash(changed)


def assemble(*fields: tuple[str, bytes]) -> str:
    parts = tuple(bolt11.TaggedField(letter, words) for letter, words in fields)
    return bolt11.Bolt11("lnbcrt", bytes(7), parts, bytes(104)).encode()


def test_only_the_first_field_of_the_right_length_counts() -> None:
    first, second = bytes([1]) + bytes(51), bytes([2]) + bytes(51)
    invoice = assemble(("p", bytes(51)), ("p", first), ("p", second), ("h", bytes(53)))
    assert bolt11.payment_hash(invoice) == bech32.bytes_from_words(first).hex()
    assert bolt11.description_hash(invoice) is None


def test_an_invoice_without_a_payment_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="no payment hash"):
        bolt11.payment_hash(assemble(("d", b"")))


def test_an_expiry_of_more_than_60_bits_is_refused() -> None:
    assert bolt11.expiry(assemble(("x", b""))) == 0
    assert bolt11.expiry(assemble(("x", bytes([31] * 12)))) == 2**60 - 1
    with pytest.raises(ValueError, match="too large"):
        bolt11.expiry(assemble(("x", bytes([1] * 13))))


def test_a_description_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ValueError):
        bolt11.description(assemble(("d", bech32.words_from_bytes(b"\xff"))))


@given(st.lists(st.integers(0, 31), max_size=60).map(bytes))
def test_junk_fields_raise_only_value_error(words: bytes) -> None:
    text = bech32.encode("lnbc", bytes(7) + words + bytes(104))
    try:
        parts = bolt11.parse(text)
    except ValueError:
        return
    assert parts.encode() == text


@given(
    preimage=st.binary(min_size=32, max_size=32),
    amount_msat=st.integers(0, (2**64 - 1) // 10),
    created_at=st.integers(1, 2**35 - 1),
    expiry=st.integers(1, 2**50),
)
def test_a_renewed_invoice_has_its_own_hash_amount_and_times(
    preimage: bytes, amount_msat: int, created_at: int, expiry: int
) -> None:
    template = bolt11.parse(COFFEE)
    text = bolt11.renewed(
        template, preimage, amount_msat=amount_msat, created_at=created_at, expiry=expiry
    ).encode()
    assert bolt11.timestamp(text) == created_at
    assert bolt11.expiry(text) == expiry
    assert (bolt11.amount_msat(text) or 0) == amount_msat
    assert bolt11.payment_hash(text) == hashlib.sha256(preimage).hexdigest()
    fields = bolt11.parse(text).fields
    assert sorted(field.type for field in fields) == sorted("spx9d")
    assert fields[3:] == tuple(f for f in template.fields if f.type in "9d")


def test_a_renewed_invoice_keeps_the_hints_but_no_address() -> None:
    """lightningd counts payments to the address for the template."""
    fields = tuple(bolt11.TaggedField(letter, bytes([1, 2])) for letter in "frcnmz")
    template = replace(bolt11.parse(COFFEE), fields=fields)
    made = bolt11.renewed(template, bytes(32), amount_msat=0, created_at=1, expiry=1)
    assert [field.type for field in made.fields] == [*"spx", *"rcnmz"]
    with pytest.raises(ValueError, match="currency"):
        bolt11.renewed(replace(template, hrp="lnxx"), bytes(32), amount_msat=0, created_at=1, expiry=1)


# The amount


def with_amount(amount: str, currency: str = "bc") -> str:
    """Return a real invoice with another prefix."""
    return bech32.encode(f"ln{currency}{amount}", bech32.decode(COFFEE)[1])


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


HELD_KEY = bytes([7]) * 32
HELD = double.Bolt11("bcrt", 1, b"\x01" * 32, b"\x02" * 32, 1000, "x", features=0x02024100)


@pytest.mark.parametrize("blocks", [18, 144, 1008])
def test_another_final_cltv_replaces_the_one_of_the_invoice(blocks: int) -> None:
    invoice = bolt11.with_final_cltv(bolt11.parse(double.encode(HELD, HELD_KEY)), blocks)
    assert [field.type for field in invoice.fields].count("c") == 1
    read = double.decode(invoice.encode(), check_signature=False)
    assert read.min_final_cltv_expiry == blocks
    assert set(invoice.signature) == {0}


def test_a_description_replaces_the_description_hash() -> None:
    hashed = bolt11.parse(double.encode(replace(HELD, description_hash=b"\x03" * 32), HELD_KEY))
    read = double.decode(bolt11.with_description(hashed, "tea ☕").encode(), check_signature=False)
    assert (read.description, read.description_hash) == ("tea ☕", None)
    with pytest.raises(ValueError, match="640 bytes"):
        bolt11.with_description(hashed, "x" * 640)


def test_an_invoice_has_the_terms_that_are_given() -> None:
    template = bolt11.parse(double.encode(HELD, HELD_KEY))
    invoice = bolt11.with_terms(
        template,
        payment_hash=b"\x05" * 32,
        payment_secret=b"\x06" * 32,
        amount_msat=7,
        created_at=8,
        expiry=9,
    )
    read = double.decode(invoice.encode(), check_signature=False)
    assert (read.payment_hash, read.payment_secret) == (b"\x05" * 32, b"\x06" * 32)
    assert (read.amount_msat, read.created_at, read.expiry) == (7, 8, 9)
    assert read.features == HELD.features
