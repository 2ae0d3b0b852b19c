import contextlib

import nostr_sdk
import pytest

from nwc.nip47.encryption import Cipher, Encryption, encryption_of, named_encryption
from nwc.nostr import nip44
from nwc.nostr.encoding import DecryptionError
from nwc.nostr.keys import KeyPair
from tests.unit.helpers import (
    CLIENT,
    STRANGER,
    WALLET,
    cipher_of_client,
    cipher_of_wallet,
    request_event,
)

BOTH = pytest.mark.parametrize("scheme", list(Encryption))


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        (None, Encryption.NIP04),
        ("nip04", Encryption.NIP04),
        ("nip44_v2", Encryption.NIP44_V2),
        ("nip44_v3", None),
        ("nip44_v2 nip04", None),
        ("NIP04", None),
        ("", None),
    ],
)
def test_a_tag_names_the_scheme(name: str | None, scheme: Encryption | None) -> None:
    event = request_event(content="x", encryption_tag=name)
    assert named_encryption(event) is scheme


@BOTH
@pytest.mark.parametrize("length", [1, 100, 10_000])
def test_the_content_shows_its_scheme(scheme: Encryption, length: int) -> None:
    assert encryption_of(cipher_of_client().encrypt(scheme, "x" * length)) is scheme


def test_a_tag_without_value_counts_as_absent() -> None:
    event = request_event(content="x", encryption_tag=None, more_tags=[["encryption"]])
    assert named_encryption(event) is Encryption.NIP04


def test_nip44_is_offered_before_nip04() -> None:
    assert " ".join(Encryption) == "nip44_v2 nip04"


@BOTH
def test_both_sides_decrypt_each_others_texts(scheme: Encryption) -> None:
    ours, theirs = cipher_of_wallet(), cipher_of_client()
    assert theirs.decrypt(scheme, ours.encrypt(scheme, "é")) == "é"
    assert ours.decrypt(scheme, theirs.encrypt(scheme, "é")) == "é"


@BOTH
def test_nobody_else_decrypts_them(scheme: Encryption) -> None:
    payload = cipher_of_client().encrypt(scheme, "x" * 100)
    stranger = Cipher(STRANGER, CLIENT.public_key)
    with contextlib.suppress(DecryptionError):  # NIP-04: the padding can be right by chance
        assert stranger.decrypt(scheme, payload) != "x" * 100
    other = next(name for name in Encryption if name != scheme)
    with pytest.raises(DecryptionError):
        cipher_of_wallet().decrypt(other, payload)


def test_rust_nostr_decrypts_our_texts() -> None:
    secret = nostr_sdk.SecretKey.parse(CLIENT.secret_hex())
    wallet = nostr_sdk.PublicKey.parse(WALLET.public_key)
    cipher = cipher_of_wallet()
    assert nostr_sdk.nip44_decrypt(secret, wallet, cipher.encrypt(Encryption.NIP44_V2, "a")) == "a"
    assert nostr_sdk.nip04_decrypt(secret, wallet, cipher.encrypt(Encryption.NIP04, "b")) == "b"


def test_a_conversation_key_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, derive = [], nip44.conversation_key

    def conversation_key(keys: KeyPair, peer: str) -> bytes:
        made.append(peer)
        return derive(keys, peer)

    monkeypatch.setattr(nip44, "conversation_key", conversation_key)
    cipher = cipher_of_wallet()
    for _ in range(3):
        cipher.decrypt(Encryption.NIP44_V2, cipher.encrypt(Encryption.NIP44_V2, "x"))
    assert made == [CLIENT.public_key]
