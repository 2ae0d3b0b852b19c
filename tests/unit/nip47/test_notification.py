import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from nostr_sdk import Event as SdkEvent
from nostr_sdk import PublicKey, SecretKey, nip04_decrypt, nip44_decrypt

from nwc.nip47.encryption import Cipher
from nwc.nip47.notification import PAYMENT_RECEIVED, seal_notification
from nwc.nostr.event import Event
from nwc.nostr.keys import KeyPair

NOW = 1_750_000_000
WALLET = KeyPair.generate()
CLIENT_SECRET = "11" * 32
CLIENT = KeyPair.from_secret(bytes.fromhex(CLIENT_SECRET))


def sealed(transaction: dict[str, Any]) -> list[Event]:
    cipher = Cipher(WALLET, CLIENT.public_key)
    return seal_notification(PAYMENT_RECEIVED, transaction, WALLET, cipher, NOW)


def opened(event: Event) -> Any:
    """Return the content, decrypted by another implementation."""
    decrypt = {23197: nip44_decrypt, 23196: nip04_decrypt}[event.kind]
    text = decrypt(SecretKey.parse(CLIENT_SECRET), PublicKey.parse(event.pubkey), event.content)
    return json.loads(text)


def test_there_is_one_event_for_each_encryption() -> None:
    """NIP-47, "Notification Events": kind 23197 in NIP-44, 23196 in NIP-04."""
    transaction = {"type": "incoming", "amount": 1, "description": 'é "x"', "metadata": {}}
    events = sealed(transaction)
    assert sorted(event.kind for event in events) == [23196, 23197]
    for event in events:
        assert event.pubkey == WALLET.public_key
        assert event.created_at == NOW
        assert [list(tag) for tag in event.tags] == [["p", CLIENT.public_key]]
        assert SdkEvent.from_json(event.to_json()).verify()
        assert opened(event) == {
            "notification_type": "payment_received",
            "notification": transaction,
        }


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=4))
def test_another_implementation_reads_any_notification(transaction: dict[str, Any]) -> None:
    for event in sealed(transaction):
        assert opened(event)["notification"] == transaction


def test_the_same_notification_never_has_the_same_id_twice() -> None:
    ids = {event.id for _ in range(2) for event in sealed({"a": 1})}
    assert len(ids) == 4
