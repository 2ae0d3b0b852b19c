"""The info event of a connection: what its client may ask for (NIP-47, "Info Event")."""

from collections.abc import Iterable

from nwc.nip47.encryption import Encryption
from nwc.nip47.kinds import KIND_INFO
from nwc.nostr.event import Event, sign_event
from nwc.nostr.keys import KeyPair

KIND_DELETION = 5


def info_event(
    keys: KeyPair,
    client_pubkey: str,
    *,
    methods: Iterable[str],
    notifications: Iterable[str],
    extensions: Iterable[str],
    created_at: int,
    state: str | None = None,
) -> Event:
    """Return the signed, replaceable event that lists what this connection offers.

    `state` is the app's (NWC-08): by it the app knows that its own request was answered.
    """
    content = [*methods]
    tags = [["encryption", " ".join(Encryption)], ["p", client_pubkey]]
    if notified := " ".join(notifications):
        tags.append(["notifications", notified])
        content.append("notifications")
    if extended := " ".join(extensions):
        tags.append(["extensions", extended])
    if state is not None:
        tags.append(["state", state])
    return sign_event(keys, kind=KIND_INFO, content=" ".join(content), tags=tags, created_at=created_at)


def withdrawal_events(keys: KeyPair, created_at: int) -> list[Event]:
    """Return the signed events that remove an info event from a relay: an empty one, then its deletion.

    Relays without NIP-09 keep the empty one. `created_at` must not be before the info event's.
    """
    empty = sign_event(keys, kind=KIND_INFO, content="", tags=[], created_at=created_at)
    address = f"{KIND_INFO}:{keys.public_key}:"
    tags = [["a", address], ["k", str(KIND_INFO)]]
    deletion = sign_event(keys, kind=KIND_DELETION, content="", tags=tags, created_at=created_at)
    return [empty, deletion]
