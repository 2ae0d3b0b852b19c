"""Inboxes: which keys we read mail for on one relay, packed into few subscriptions (NIP-01 filters).

A relay allows few subscriptions (strfry 20 for long, nostream 10) and bounds the size of each (both
over 128 KB, some 16 KB): the first packs are small, for everyone, those after them as large as most
relays take. An inbox keeps its place in one pack for life, so that adding or removing one re-issues a
single subscription, however many there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nwc.nostr.keys import KeyPair

# The REQ of 100 inboxes has 13,500 characters, that of 900 has 120,700; 10,000 inboxes are 15 REQs.
SMALL_PACKS = 4
INBOXES_IN_SMALL_PACK = 100
INBOXES_IN_PACK = 900


@dataclass(frozen=True, slots=True)
class Inbox:
    """Events of one author to one of our keys."""

    recipient: KeyPair
    author: str


@dataclass(slots=True)
class Pack:
    """The inboxes of one subscription, by recipient, and how many it has room for."""

    subscription_id: str
    inboxes: dict[str, Inbox] = field(default_factory=dict)
    room: int = INBOXES_IN_PACK

    def filter(self, kinds: tuple[int, ...], since: int) -> dict[str, Any]:
        """Return the NIP-01 filter. Naming the authors lets an honest relay keep strangers out."""
        return {
            "kinds": list(kinds),
            "#p": list(self.inboxes),
            "authors": sorted({inbox.author for inbox in self.inboxes.values()}),
            "since": since,
        }


class Packs:
    """All inboxes on one relay."""

    def __init__(self) -> None:
        self._packs: dict[str, Pack] = {}
        self._pack_of: dict[str, Pack] = {}
        self._free: dict[str, Pack] = {}
        self._made = 0

    def __iter__(self) -> Iterator[Pack]:
        return iter(self._packs.values())

    def __len__(self) -> int:
        return len(self._pack_of)

    def get(self, subscription_id: str) -> Pack | None:
        """Return the pack of a subscription that is still wanted."""
        return self._packs.get(subscription_id)

    def pack_of(self, recipient: str) -> Pack | None:
        """Return the pack that holds the inbox of one of our keys."""
        return self._pack_of.get(recipient)

    def inboxes(self) -> list[Inbox]:
        """Return every inbox."""
        return [inbox for pack in self for inbox in pack.inboxes.values()]

    def add(self, inbox: Inbox) -> Pack:
        """Put an inbox into a pack and return that pack, whose subscription has to be re-issued."""
        recipient = inbox.recipient.public_key
        pack = self._pack_of.get(recipient) or next(iter(self._free.values()), None)
        if pack is None:
            pack = self._make()
            self._free[pack.subscription_id] = pack
        pack.inboxes[recipient] = inbox
        self._pack_of[recipient] = pack
        if len(pack.inboxes) >= pack.room:
            self._free.pop(pack.subscription_id, None)
        return pack

    def divide(self, pack: Pack, recipients: list[str]) -> Pack:
        """Move these inboxes from a pack to a new one, and return that; both have to be re-issued."""
        new = self._make()
        for recipient in recipients:
            new.inboxes[recipient] = pack.inboxes.pop(recipient)
            self._pack_of[recipient] = new
        return new

    def remove(self, recipient: str) -> Pack | None:
        """Take an inbox out and return its pack; an empty pack is forgotten (close it then)."""
        pack = self._pack_of.pop(recipient, None)
        if pack is None:
            return None
        del pack.inboxes[recipient]
        self._free[pack.subscription_id] = pack
        if not pack.inboxes:
            del self._packs[pack.subscription_id], self._free[pack.subscription_id]
        return pack

    def _make(self) -> Pack:
        self._made += 1
        room = INBOXES_IN_SMALL_PACK if len(self._packs) < SMALL_PACKS else INBOXES_IN_PACK
        pack = self._packs[f"nwc{self._made}"] = Pack(f"nwc{self._made}", room=room)
        return pack
