from types import SimpleNamespace
from unittest.mock import patch

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from nwc.nostr import schnorr
from nwc.nostr.schnorr import SigningKey

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
SECRETS = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
SECRET = (3).to_bytes(32, "big")


@settings(max_examples=30)
@given(SECRETS, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_signatures_are_the_same_as_from_coincurve(
    secret: bytes, digest: bytes, randomness: bytes
) -> None:
    with patch("os.urandom", return_value=randomness):
        signature = SigningKey(secret).sign(digest)
    assert signature == PrivateKey(secret).sign_schnorr(digest, randomness)


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, ORDER.to_bytes(32, "big")])
def test_a_number_that_is_not_a_secret_key_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="not a secret key"):
        SigningKey(secret)


def test_a_failure_of_libsecp256k1_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    key = SigningKey(SECRET)
    refusing = SimpleNamespace(
        secp256k1_schnorrsig_sign32=lambda *_: 0, secp256k1_keypair_create=lambda *_: 0
    )
    monkeypatch.setattr(schnorr, "lib", refusing)
    with pytest.raises(ValueError, match="could not sign"):
        key.sign(bytes(32))
    with pytest.raises(ValueError, match="not a secret key"):
        SigningKey(SECRET)
