"""The recipients whose events we read from one relay, grouped into few subscriptions (NIP-01 filters).

Relays limit the number of subscriptions (strfry 200 and 20 before, nostr-rs-relay 32, nostream 10) and
the size of each (some allow 16 KB; strfry, nostr-rs-relay and khatru 128 KB or more). A recipient stays
in one subscription, so adding or removing a recipient sends one REQ, however many recipients there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nwc.nostr.keys import KeyPair

# The most recipients of one subscription. Its REQ then has 13,500 characters; 1,000 recipients: 10 REQs.
SUBSCRIPTION_ROOM = 100


@dataclass(frozen=True, slots=True)
class Recipient:
    """One of our keys, and the author whose events to this key are read.

    Attributes:
        keys: the key pair that the events are addressed to.
        author: the author's public key, 64 hex digits.

    """

    keys: KeyPair
    author: str


@dataclass(slots=True)
class Subscription:
    """One NIP-01 subscription.

    Attributes:
        id: the subscription id.
        recipients: by public key.
        since: of its last REQ, in Unix seconds; 0 before that.

    """

    id: str
    recipients: dict[str, Recipient] = field(default_factory=dict)
    since: int = 0

    def filter(self, kinds: tuple[int, ...]) -> dict[str, Any]:
        """Return the NIP-01 filter. It names the authors, so an honest relay holds back all others."""
        return {
            "kinds": list(kinds),
            "#p": list(self.recipients),
            "authors": sorted({recipient.author for recipient in self.recipients.values()}),
            "since": self.since,
        }


class Subscriptions:
    """All subscriptions on one relay. Its length is the number of recipients."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, Subscription] = {}
        self._subscription_of: dict[str, Subscription] = {}
        self._created = 0

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._subscriptions.values())

    def __len__(self) -> int:
        return len(self._subscription_of)

    def get(self, subscription_id: str) -> Subscription | None:
        """Return the subscription with this id, None if we have none."""
        return self._subscriptions.get(subscription_id)

    def subscription_of(self, public_key: str) -> Subscription | None:
        """Return the subscription that holds the recipient with this public key."""
        return self._subscription_of.get(public_key)

    def recipients(self) -> list[Recipient]:
        """Return every recipient."""
        return [recipient for subscription in self for recipient in subscription.recipients.values()]

    def add(self, recipient: Recipient) -> Subscription:
        """Add a recipient and return its subscription, whose REQ must be sent again."""
        public_key = recipient.keys.public_key
        with_room = (each for each in self if len(each.recipients) < SUBSCRIPTION_ROOM)
        subscription = self._subscription_of.get(public_key) or next(with_room, None) or self._create()
        subscription.recipients[public_key] = recipient
        self._subscription_of[public_key] = subscription
        return subscription

    def remove(self, public_key: str) -> Subscription | None:
        """Remove a recipient and return its subscription.

        If no recipient is left in it, the subscription is forgotten: send its CLOSE.
        """
        subscription = self._subscription_of.pop(public_key, None)
        if subscription is None:
            return None
        del subscription.recipients[public_key]
        if not subscription.recipients:
            del self._subscriptions[subscription.id]
        return subscription

    def _create(self) -> Subscription:
        self._created += 1
        subscription = Subscription(f"nwc{self._created}")
        self._subscriptions[subscription.id] = subscription
        return subscription
