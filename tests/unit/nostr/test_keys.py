import dataclasses
import pickle

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.nostr import bech32
from nwc.nostr.keys import KeyPair, parse_public_key, verify_signature

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
# BIP-340 test vector 0, and its public key in the form of NIP-19.
SECRET_3 = (3).to_bytes(32, "big")
PUBLIC_3 = "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"
NPUB_3 = bech32.encode("npub", bech32.words_from_bytes(bytes.fromhex(PUBLIC_3)))
# BIP-340 test vector 5: a public key that is not on the curve.
NOT_ON_CURVE = "eefdea4cdb677750a420fee807eacf21eb9898ae79b9768766e4faa04a2d4a34"

SCALARS = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))


@pytest.mark.parametrize("text", [PUBLIC_3, PUBLIC_3.upper(), NPUB_3, NPUB_3.upper()])
def test_a_public_key_is_read_as_hex_digits_and_as_npub(text: str) -> None:
    assert parse_public_key(text) == PUBLIC_3


def test_the_npub_of_nip_19_is_read() -> None:
    npub = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"  # NIP-19
    public_key = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e"
    assert parse_public_key(npub) == public_key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"64 hex digits or npub1….*0 characters"),
        (PUBLIC_3[:-1], "63 characters"),
        (PUBLIC_3 + "\n", "65 characters"),
        ("02" + PUBLIC_3, "66 characters"),
        (" ".join([PUBLIC_3[:32], PUBLIC_3[:31]]), "64 characters"),
        ("\u0661" * 64, "64 characters"),
        (NOT_ON_CURVE, "no point of secp256k1"),
        ("0" * 64, "no point of secp256k1"),
        ("f" * 64, "no point of secp256k1"),
        (NPUB_3[:-1] + "q", "damaged: wrong bech32 checksum"),
        (NPUB_3[:20], "damaged"),
        (NPUB_3[:-5] + NPUB_3[-5:].upper(), "lower case"),
        (bech32.encode("npub", bytes(8)), "5 bytes instead of 32"),
        (bech32.encode("npub", bytes(52)[:-1] + b"\x01"), "stray bits"),
        (
            bech32.encode("npub", bech32.words_from_bytes(bytes.fromhex(NOT_ON_CURVE))),
            "no point of secp256k1",
        ),
    ],
)
def test_a_wrong_public_key_is_refused_and_not_quoted(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_public_key(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("change", [str, str.upper, lambda text: text[:-3], lambda text: text + "x"])
def test_a_secret_key_is_refused_and_not_quoted(change) -> None:  # type: ignore[no-untyped-def]
    nsec = change(bech32.encode("nsec", bech32.words_from_bytes(SECRET_3)))
    with pytest.raises(ValueError, match="secret key") as caught:
        parse_public_key(nsec)
    assert nsec[5:15] not in str(caught.value)


@pytest.mark.parametrize(
    "secret",
    [b"", bytes(31), bytes(32), bytes(33), b"\xff" * 32, ORDER.to_bytes(32, "big"), b"\x01"],
)
def test_a_secret_out_of_range_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError):
        KeyPair.from_secret(secret)


def test_the_smallest_and_the_largest_secret_are_accepted() -> None:
    one = KeyPair.from_secret((1).to_bytes(32, "big"))
    last = KeyPair.from_secret((ORDER - 1).to_bytes(32, "big"))
    assert one.public_key == last.public_key  # P and -P share the x coordinate


def test_generated_keys_differ() -> None:
    assert KeyPair.generate() != KeyPair.generate()


def test_repr_shows_no_secret() -> None:
    keys = KeyPair.from_secret(SECRET_3)
    assert repr(keys) == f"KeyPair(public_key='{PUBLIC_3}')"
    assert keys.secret_hex() == SECRET_3.hex()
    assert keys == KeyPair.from_secret(SECRET_3)
    assert hash(keys) == hash(KeyPair.from_secret(SECRET_3))


def test_a_key_pair_is_frozen_and_cannot_be_pickled() -> None:
    keys = KeyPair.generate()
    with pytest.raises(dataclasses.FrozenInstanceError):
        keys.public_key = PUBLIC_3  # type: ignore[misc]
    with pytest.raises(TypeError):
        pickle.dumps(keys)


@settings(max_examples=30)
@given(secret=SCALARS, digest=st.binary(min_size=32, max_size=32))
def test_a_signature_is_valid_only_for_its_digest_and_key(secret: bytes, digest: bytes) -> None:
    keys = KeyPair.from_secret(secret)
    signature = keys.sign(digest)
    assert len(signature) == 64
    assert keys.sign(digest) != signature  # auxiliary randomness
    assert verify_signature(keys.public_key, digest, signature.hex())
    other_digest = bytes([digest[0] ^ 1]) + digest[1:]
    assert not verify_signature(keys.public_key, other_digest, signature.hex())
    assert not verify_signature(PUBLIC_3, digest, signature.hex())


def test_a_signature_of_rust_nostr_is_valid() -> None:
    keys = nostr_sdk.Keys.generate()
    digest = bytes(range(32))
    signature = keys.sign_schnorr(digest)
    assert verify_signature(keys.public_key().to_hex(), digest, signature)


def test_the_signature_of_bip_340_vector_0_is_valid() -> None:
    signature = (
        "e907831f80848d1069a5371b402410364bdf1c5f8307b0084c55f1ce2dca8215"
        "25f66a4a85ea8b71e482a74f382d2ce5ebeee8fdb2172f477df4900d310536c0"
    )
    assert KeyPair.from_secret(SECRET_3).public_key == PUBLIC_3
    assert verify_signature(PUBLIC_3, bytes(32), signature)


@pytest.mark.parametrize(
    "signature", ["", "00", "00" * 63, "00" * 64, "00" * 65, "zz" * 64, "ff" * 64, "00 " * 64]
)
def test_a_malformed_signature_is_not_valid(signature: str) -> None:
    assert not verify_signature(PUBLIC_3, bytes(32), signature)


@pytest.mark.parametrize("public_key", ["", "ab", PUBLIC_3 + "00", NOT_ON_CURVE, "xyz"])
def test_no_signature_is_valid_for_a_malformed_public_key(public_key: str) -> None:
    assert not verify_signature(public_key, bytes(32), "11" * 64)


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33)])
def test_only_32_bytes_are_signed(digest: bytes) -> None:
    with pytest.raises(ValueError):
        KeyPair.generate().sign(digest)


@settings(max_examples=30)
@given(ours=SCALARS, theirs=SCALARS)
def test_shared_x_is_the_same_for_both_sides(ours: bytes, theirs: bytes) -> None:
    alice, bob = KeyPair.from_secret(ours), KeyPair.from_secret(theirs)
    shared = alice.shared_x(bob.public_key)
    assert len(shared) == 32
    assert shared == bob.shared_x(alice.public_key)


@pytest.mark.parametrize("peer", ["", "ab", NOT_ON_CURVE, "0" * 64, "f" * 64, PUBLIC_3 + "00", "x"])
def test_shared_x_with_a_wrong_public_key_is_refused(peer: str) -> None:
    with pytest.raises(ValueError, match="not a public key"):
        KeyPair.generate().shared_x(peer)
