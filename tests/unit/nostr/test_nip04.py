import base64
from collections.abc import Callable

import nostr_sdk
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.nostr import nip04
from nwc.nostr.encoding import DecryptionError
from nwc.nostr.keys import KeyPair

ALICE, BOB = KeyPair.generate(), KeyPair.generate()
RUST_BOB = nostr_sdk.SecretKey.parse(BOB.secret_hex())
RUST_ALICE_PUBLIC = nostr_sdk.PublicKey.parse(ALICE.public_key)
KEY = nip04.shared_key(ALICE, BOB.public_key)
IV = bytes(range(16))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def seal(padded: bytes) -> str:
    """Return the payload of a plaintext whose padding may be wrong."""
    ciphertext = Cipher(AES256(KEY), CBC(IV)).encryptor().update(padded)
    return f"{base64.b64encode(ciphertext).decode()}?iv={base64.b64encode(IV).decode()}"


def test_both_sides_share_a_key() -> None:
    assert nip04.shared_key(BOB, ALICE.public_key) == KEY


@settings(max_examples=200)
@given(TEXT)
def test_messages_are_exchanged_with_rust_nostr(plaintext: str) -> None:
    ours = nip04.encrypt(plaintext, KEY)
    assert nostr_sdk.nip04_decrypt(RUST_BOB, RUST_ALICE_PUBLIC, ours) == plaintext
    theirs = nostr_sdk.nip04_encrypt(RUST_BOB, RUST_ALICE_PUBLIC, plaintext)
    assert nip04.decrypt(theirs, KEY) == plaintext


def test_the_longest_message_fits_into_a_payload() -> None:
    payload = nip04.encrypt("a" * 65_535, KEY)
    assert len(payload) == nip04.MAX_PAYLOAD_LENGTH
    assert nip04.decrypt(payload, KEY) == "a" * 65_535


@pytest.mark.parametrize("plaintext", ["a" * 65_536, "é" * 32_768, "\ud800"])
def test_a_plaintext_too_long_or_not_unicode_is_not_encrypted(plaintext: str) -> None:
    with pytest.raises(ValueError):
        nip04.encrypt(plaintext, KEY)


@pytest.mark.parametrize(("key", "iv"), [(b"", IV), (bytes(16), IV), (KEY, b""), (KEY, IV + b"x")])
def test_a_key_or_iv_of_a_wrong_length_is_refused(key: bytes, iv: bytes) -> None:
    with pytest.raises(ValueError):
        nip04.encrypt("a", key, iv)


def test_every_message_has_a_fresh_iv() -> None:
    assert nip04.encrypt("a", KEY) != nip04.encrypt("a", KEY)
    assert nip04.encrypt("a", KEY, IV) == nip04.encrypt("a", KEY, IV)


GOOD = nip04.encrypt("hello", KEY, IV)
CIPHERTEXT, IV_TEXT = GOOD.split("?iv=")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("", "no .iv="),
        (CIPHERTEXT, "no .iv="),
        (f"?iv={IV_TEXT}", "whole blocks"),
        (f"{CIPHERTEXT}?iv=", "whole blocks"),
        (f"{CIPHERTEXT}?iv=AAAA", "whole blocks"),
        (f"AAAA?iv={IV_TEXT}", "whole blocks"),
        (f"{GOOD}?iv={IV_TEXT}", "base64"),
        (f"{CIPHERTEXT}=?iv={IV_TEXT}", "base64"),
        (f"{CIPHERTEXT}====?iv={IV_TEXT}", "base64"),
        (f"{CIPHERTEXT}?iv={IV_TEXT[:-1]}", "base64"),
        (f"={CIPHERTEXT}?iv={IV_TEXT}", "base64"),
        (f"{CIPHERTEXT}é?iv={IV_TEXT}", "base64"),
        (seal(bytes(16)), "padding"),
        (seal(b"a" * 15 + b"\x11"), "padding"),
        (seal(b"a" * 14 + b"\x03\x02"), "padding"),
        (seal(b"\xff" * 15 + b"\x01"), "UTF-8"),
        ("A" * 10_000_000, "too long"),
    ],
    ids=range(17),
)
def test_a_malformed_payload_is_not_decrypted(payload: str, message: str) -> None:
    with pytest.raises(DecryptionError, match=message):
        nip04.decrypt(payload, KEY)


LONG = nip04.encrypt("\u00ff\u00fe?>" * 200, KEY, bytes([251, 239, 190] * 5 + [255]))


def url_safe(payload: str) -> str:
    return payload.replace("+", "-").replace("/", "_")


def unpadded(payload: str) -> str:
    return payload.replace("=?iv=", "?iv=").replace("=?iv=", "?iv=").rstrip("=")


def with_line_breaks(payload: str) -> str:
    return "\r\n".join(payload[at : at + 76] for at in range(0, len(payload), 76)) + "\n"


@pytest.mark.parametrize(
    "spell",
    [
        url_safe,
        unpadded,
        with_line_breaks,
        lambda payload: f" {payload}\n",
        lambda payload: payload.replace("?iv=", "\n?iv="),
        lambda payload: with_line_breaks(unpadded(url_safe(payload))),
    ],
)
@pytest.mark.parametrize("payload", [GOOD, LONG])
def test_other_spellings_of_base64_are_decrypted(payload: str, spell: Callable[[str], str]) -> None:
    """Some clients write each of them, and all are unambiguous."""
    assert nip04.decrypt(spell(payload), KEY) == nip04.decrypt(payload, KEY)


def test_the_spellings_differ() -> None:
    assert {"+", "/"} <= set(LONG)
    assert "=" in unpadded(GOOD), "the one of the separator"
    assert len({GOOD, unpadded(GOOD), with_line_breaks(GOOD)}) == 3


def test_the_longest_message_with_line_breaks_is_decrypted() -> None:
    payload = nip04.encrypt("a" * 65_535, KEY)
    assert nip04.decrypt(with_line_breaks(payload), KEY) == "a" * 65_535


@given(st.text(max_size=100) | st.binary(max_size=99).map(lambda b: base64.b64encode(b).decode()))
def test_junk_raises_only_decryption_errors(junk: str) -> None:
    for payload in (junk, f"{junk}?iv={IV_TEXT}", f"{CIPHERTEXT}?iv={junk}"):
        try:
            nip04.decrypt(payload, KEY)
        except DecryptionError:
            continue
