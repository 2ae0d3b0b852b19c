"""coincurve and its fork install into one folder. With both, chance decides which of them signs."""

from importlib.metadata import packages_distributions

import coincurve

from nwc.nostr.keys import KeyPair, verify_signature


def test_one_distribution_owns_coincurve() -> None:
    owners = set(packages_distributions()["coincurve"])
    assert len(owners) == 1, f"{owners} all install into coincurve/; see nwc/requirements.txt"
    assert owners <= {"coincurve", "coincurve-cp314-fix"}


def test_coincurve_signs_and_verifies() -> None:
    # BIP-340, test vector 0: the public key of the secret 3.
    keys = KeyPair.from_secret((3).to_bytes(32, "big"))
    assert keys.public_key == "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"
    digest = bytes(32)
    signature = keys.sign(digest).hex()
    assert verify_signature(keys.public_key, digest, signature)
    assert not verify_signature(keys.public_key, b"\x01" * 32, signature)
    assert (
        coincurve.PublicKeyXOnly.from_secret((3).to_bytes(32, "big")).format().hex() == keys.public_key
    )
