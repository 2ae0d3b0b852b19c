# mypy: allow-untyped-calls
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyln.proto.bech32 import bech32_decode, bech32_encode, convertbits

from nwc.nostr import bech32

WORDS = st.lists(st.integers(0, 31), max_size=400).map(bytes)


@given(hrp=st.sampled_from(["a", "npub", "lnbc20m", "lnbcrt1"]), words=WORDS)
def test_encoding_is_the_same_as_in_pyln_proto(hrp: str, words: bytes) -> None:
    text = bech32.encode(hrp, words)
    assert text == bech32_encode(hrp, words)
    assert bech32.decode(text) == bech32_decode(text) == (hrp, words)
    assert bech32.decode(text.upper()) == (hrp, words)


@given(st.binary(max_size=700))
def test_words_and_bytes_are_the_same_as_in_pyln_proto(data: bytes) -> None:
    words = bech32.words_from_bytes(data)
    assert words == bytes(convertbits(data, 8, 5))
    assert bech32.bytes_from_words(words) == data
    assert bech32.int_from_words(words) >> (len(words) * 5 - len(data) * 8) == int.from_bytes(data)


@given(WORDS)
def test_stray_bits_are_refused_where_pyln_proto_refuses_them(words: bytes) -> None:
    expected = convertbits(words, 5, 8, pad=False)
    if expected is None:
        with pytest.raises(ValueError, match="stray bits"):
            bech32.bytes_from_words(words)
    else:
        assert bech32.bytes_from_words(words) == bytes(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no prefix"),
        ("pzry9x0s0muk", "no prefix"),
        ("1pzry9x0s0muk", "no prefix"),
        ("a1qqqqq", "too short"),
        ("A1qqqqqqqq", "all lower case or all upper case"),
        ("a1qqqqbqqqq", "alphabet"),
        ("a1qqqqqqqqq", "checksum"),
        ("\u212a1qqqqqqqq", "ASCII"),  # KELVIN SIGN, whose lower case is an ASCII k
        ("a1\u0661qqqqqqq", "ASCII"),
    ],
)
def test_a_text_that_is_not_bech32_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bech32.decode(text)


@given(st.integers(0, 57), st.sampled_from(bech32.ALPHABET))
def test_the_checksum_reveals_a_wrong_character(position: int, character: str) -> None:
    prefix, data = "npub1", bech32.encode("npub", bytes(range(32)) * 2)[5:63]
    changed = data[:position] + character + data[position + 1 :]
    good = bech32.encode("npub", bytes(range(32)) * 2)
    text = prefix + changed + good[63:]
    if text != good:
        with pytest.raises(ValueError, match="checksum"):
            bech32.decode(text)
