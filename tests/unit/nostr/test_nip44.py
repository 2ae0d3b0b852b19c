import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.nostr import nip44
from nwc.nostr.encoding import DecryptionError
from nwc.nostr.keys import KeyPair

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("nip44_vectors.json").read_text("utf-8"))
KEY = bytes(range(32))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=600)


def pair(secret: str) -> KeyPair:
    return KeyPair.from_secret(bytes.fromhex(secret))


def seal(padded: bytes, *, version: int = 2, key: bytes = KEY) -> str:
    """Return a payload with a valid MAC and a padding that may be wrong."""
    nonce = bytes(32)
    chacha_key, chacha_nonce, mac_key = nip44._message_keys(key, nonce)
    ciphertext = nip44._chacha20(chacha_key, chacha_nonce, padded)
    mac = hmac.digest(mac_key, nonce + ciphertext, "sha256")
    return base64.b64encode(bytes([version]) + nonce + ciphertext + mac).decode()


@pytest.mark.parametrize("vector", VECTORS["conversation_key"])
def test_the_conversation_key_is_that_of_the_vector(vector: dict[str, str]) -> None:
    key = nip44.conversation_key(pair(vector["sec1"]), vector["pub2"])
    assert key.hex() == vector["conversation_key"]


@pytest.mark.parametrize("vector", VECTORS["invalid_conversation_key"], ids=lambda v: v["note"])
def test_an_invalid_key_has_no_conversation_key(vector: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        nip44.conversation_key(pair(vector["sec1"]), vector["pub2"])


@pytest.mark.parametrize(("length", "padded"), VECTORS["padded_length"])
def test_the_padded_length_is_that_of_the_vector(length: int, padded: int) -> None:
    assert nip44.padded_length(length) == padded


@pytest.mark.parametrize("vector", VECTORS["encrypt_decrypt"])
def test_payload_and_plaintext_are_those_of_the_vector(vector: dict[str, str]) -> None:
    alice, bob = pair(vector["sec1"]), pair(vector["sec2"])
    key = nip44.conversation_key(alice, bob.public_key)
    assert key == nip44.conversation_key(bob, alice.public_key)
    assert key.hex() == vector["conversation_key"]
    nonce = bytes.fromhex(vector["nonce"])
    assert nip44.encrypt(vector["plaintext"], key, nonce) == vector["payload"]
    assert nip44.decrypt(vector["payload"], key) == vector["plaintext"]


@pytest.mark.parametrize("vector", VECTORS["long_message"], ids=lambda v: v["pattern"])
def test_a_long_payload_is_that_of_the_vector(vector: dict[str, Any]) -> None:
    key, nonce = bytes.fromhex(vector["conversation_key"]), bytes.fromhex(vector["nonce"])
    plaintext = vector["pattern"] * vector["repeat"]
    payload = nip44.encrypt(plaintext, key, nonce)
    assert hashlib.sha256(payload.encode()).hexdigest() == vector["payload_sha256"]
    assert nip44.decrypt(payload, key) == plaintext


def test_the_longest_payload_is_that_of_the_specification() -> None:
    key = bytes.fromhex("c41c775356fd92eadc63ff5a0dc1da211b268cbea22316767095b2871ea1412d")
    payload = nip44.encrypt("a" * 65_535, key, (1).to_bytes(32, "big"))
    assert len(payload) == nip44.MAX_PAYLOAD_LENGTH
    digest = hashlib.sha256(payload.encode()).hexdigest()
    assert digest == "6d8c2810d1e870fbaa1f0a0937126cca837a15f9260e27060c331d70a3c0bc84"


# Our error text, by the beginning of the vector's note.
REASONS = {
    "unknown encryption version": "unknown NIP-44 version",
    "invalid base64": "not base64",
    "invalid MAC": "wrong MAC",
    "invalid padding": "wrong padding",
    "invalid payload length": "too short",
}


@pytest.mark.parametrize("vector", VECTORS["invalid_decrypt"], ids=lambda v: v["note"])
def test_the_invalid_payload_of_a_vector_is_refused(vector: dict[str, str]) -> None:
    (match,) = (ours for theirs, ours in REASONS.items() if vector["note"].startswith(theirs))
    with pytest.raises(DecryptionError, match=match):
        nip44.decrypt(vector["payload"], bytes.fromhex(vector["conversation_key"]))


@pytest.mark.parametrize("plaintext", ["", "a" * 65_536, "é" * 32_768, "a" * 1_000_000])
def test_a_plaintext_of_a_wrong_length_is_not_encrypted(plaintext: str) -> None:
    with pytest.raises(ValueError, match="1 to 65535 bytes"):
        nip44.encrypt(plaintext, KEY)


def test_a_lone_surrogate_is_not_encrypted() -> None:
    with pytest.raises(ValueError):
        nip44.encrypt("\ud800", KEY)


@pytest.mark.parametrize(("key", "nonce"), [(b"", bytes(32)), (KEY, bytes(31)), (KEY + b"x", None)])
def test_a_key_or_nonce_of_a_wrong_length_is_refused(key: bytes, nonce: bytes | None) -> None:
    with pytest.raises(ValueError, match="32 bytes each"):
        nip44.encrypt("a", key, nonce)


def test_every_message_has_a_fresh_nonce() -> None:
    assert nip44.encrypt("a", KEY) != nip44.encrypt("a", KEY)


def test_a_payload_made_by_seal_is_decrypted() -> None:
    assert nip44.decrypt(seal(b"\x00\x01a" + bytes(31)), KEY) == "a"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (seal(b"\x00\x00" + bytes(32)), "padding"),
        (seal(b"\x00\x01a" + bytes(30)), "padding"),
        (seal(b"\x00\x01a" + bytes(32)), "padding"),
        (seal(b"\x00\x21a" + bytes(31)), "padding"),
        (seal(b"\xff\xffa" + bytes(31)), "padding"),
        (seal(b"\x00\x00\x00\x00\x00\x01a" + bytes(31)), "padding"),  # extended, and too short
        (seal(b"\x00\x01\xff" + bytes(31)), "UTF-8"),
        (seal(b"\x00\x03\xed\xa0\x80" + bytes(29)), "UTF-8"),  # a surrogate
        (seal(b"\x00\x01a" + bytes(31), version=1), "version 1"),
        (seal(b"\x00\x01a" + bytes(31), version=3), "version 3"),
        (seal(b"\x00\x01a" + bytes(31), key=bytes(32)), "MAC"),
        (seal(b"\x00\x00\x00\x01\x00\x00" + b"a" * 65_536), "too long"),  # 44.md, extended prefix
        ("A" * 10_000_000, "too long"),
        ("#" * 10_000_000, "version"),
    ],
    ids=range(14),
)
def test_a_malformed_payload_is_not_decrypted(payload: str, message: str) -> None:
    with pytest.raises(DecryptionError, match=message):
        nip44.decrypt(payload, KEY)


def test_padding_bytes_are_not_checked() -> None:
    # NIP-44 and rust-nostr check only their number.
    assert nip44.decrypt(seal(b"\x00\x01a" + b"x" * 31), KEY) == "a"


GOOD = nip44.encrypt("hello", KEY, bytes(32))
LONGER = nip44.encrypt("a" * 33, KEY, bytes(32))


@pytest.mark.parametrize(
    "payload",
    [
        GOOD[:60] + "\n" + GOOD[60:],
        GOOD + "\n",
        " " + GOOD,
        GOOD[:60] + "-_" + GOOD[62:],
        GOOD + "=",
        GOOD + "AAAA=",
        LONGER[:-1],
        LONGER[:-2] + "=",
        GOOD[:40] + "====" + GOOD[40:],
        LONGER.rstrip("="),
        LONGER[:-2] + "B=",
        GOOD[:60] + "\u00e9" + GOOD[61:],
        GOOD[:60] + "\ud800" + GOOD[61:],
    ],
    ids=range(13),
)
def test_base64_that_is_not_canonical_is_refused(payload: str) -> None:
    with pytest.raises(DecryptionError, match="base64"):
        nip44.decrypt(payload, KEY)


@given(position=st.integers(0, len(GOOD) - 1), character=st.characters(max_codepoint=127))
def test_a_payload_with_a_changed_character_is_refused(position: int, character: str) -> None:
    changed = GOOD[:position] + character + GOOD[position + 1 :]
    if changed != GOOD:
        with pytest.raises(DecryptionError):
            nip44.decrypt(changed, KEY)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda b: base64.b64encode(b).decode()))
def test_junk_raises_only_decryption_errors(payload: str) -> None:
    with pytest.raises(DecryptionError):
        nip44.decrypt(payload, KEY)


ALICE, BOB = KeyPair.generate(), KeyPair.generate()
RUST_BOB = nostr_sdk.SecretKey.parse(BOB.secret_hex())
RUST_ALICE_PUBLIC = nostr_sdk.PublicKey.parse(ALICE.public_key)
CONVERSATION_KEY = nip44.conversation_key(ALICE, BOB.public_key)


@settings(max_examples=200)
@given(TEXT)
def test_messages_are_exchanged_with_rust_nostr(plaintext: str) -> None:
    ours = nip44.encrypt(plaintext, CONVERSATION_KEY)
    assert nostr_sdk.nip44_decrypt(RUST_BOB, RUST_ALICE_PUBLIC, ours) == plaintext
    version = nostr_sdk.Nip44Version.V2
    theirs = nostr_sdk.nip44_encrypt(RUST_BOB, RUST_ALICE_PUBLIC, plaintext, version)
    assert nip44.decrypt(theirs, CONVERSATION_KEY) == plaintext


@pytest.mark.parametrize("length", [1, 32, 33, 256, 257, 1_024, 1_025, 61_440, 65_408])
def test_messages_of_rust_nostr_are_decrypted(length: int) -> None:
    # rust-nostr encrypts up to 65,408 bytes and decrypts up to 65,535.
    version = nostr_sdk.Nip44Version.V2
    theirs = nostr_sdk.nip44_encrypt(RUST_BOB, RUST_ALICE_PUBLIC, "a" * length, version)
    assert nip44.decrypt(theirs, CONVERSATION_KEY) == "a" * length


def test_rust_nostr_reads_our_longest_message() -> None:
    ours = nip44.encrypt("a" * 65_535, CONVERSATION_KEY)
    assert nostr_sdk.nip44_decrypt(RUST_BOB, RUST_ALICE_PUBLIC, ours) == "a" * 65_535
