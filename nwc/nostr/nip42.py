"""NIP-42: proving to a relay that we hold a key."""

from nwc.nostr.event import Event, sign_event
from nwc.nostr.keys import KeyPair

KIND_CLIENT_AUTH = 22242


def auth_event(keys: KeyPair, relay_url: str, challenge: str, created_at: int) -> Event:
    """Sign the answer to a relay's AUTH challenge (NIP-42, "Signed event for authentication")."""
    tags = [["relay", relay_url], ["challenge", challenge]]
    return sign_event(keys, kind=KIND_CLIENT_AUTH, content="", tags=tags, created_at=created_at)
