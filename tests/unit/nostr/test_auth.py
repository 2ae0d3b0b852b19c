import json

import nostr_sdk
import pytest

from nwc.nostr.auth import KIND_CLIENT_AUTH, auth_event
from nwc.nostr.event import verify_event
from nwc.nostr.keys import KeyPair

KEYS = KeyPair.generate()


@pytest.mark.parametrize("challenge", ["abc", "x" * 512, 'a"b\\c\n', "é漢\U0001f984"])
def test_rust_nostr_accepts_our_auth_event(challenge: str) -> None:
    event = auth_event(KEYS, "wss://relay.example", challenge, 1_700_000_000)
    verify_event(event)
    theirs = nostr_sdk.Event.from_json(event.to_json())
    assert theirs.verify()
    assert theirs.kind().as_u16() == KIND_CLIENT_AUTH == 22242
    assert theirs.author().to_hex() == KEYS.public_key
    assert theirs.created_at().as_secs() == 1_700_000_000
    # NIP-42: these two tags name the relay and the challenge.
    assert json.loads(event.to_json())["tags"] == [
        ["relay", "wss://relay.example"],
        ["challenge", challenge],
    ]
    message = nostr_sdk.ClientMessage.auth(theirs)
    assert json.loads(message.as_json())[1]["id"] == event.id
