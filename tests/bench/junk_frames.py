"""Junk of every sort, as the frames of a relay."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from nwc.nip47.encryption import Cipher, Encryption
from nwc.nip47.kinds import KIND_REQUEST
from nwc.nostr.event import Event, event_id, sign_event
from nwc.nostr.keys import KeyPair
from tests.bench.hostile_relay import SUBSCRIPTION
from tests.support.client import ConnectionUri

REQUEST = json.dumps({"method": "make_invoice", "params": {"amount": 21_000, "description": "coffee"}})


class Sort(StrEnum):
    """What makes a frame junk."""

    BAD_JSON = "bad JSON"
    BAD_SIGNATURE = "bad signature"
    UNKNOWN_AUTHOR = "unknown author"
    UNDECRYPTABLE = "undecryptable"
    TOO_FAST = "too fast"


@dataclass(frozen=True, slots=True)
class Target:
    """One connection: the app's key pair and the wallet's public key."""

    keys: KeyPair
    wallet_pubkey: str

    @classmethod
    def of(cls, uri: str) -> "Target":
        """Return the target that a connection URI describes."""
        parsed = ConnectionUri.parse(uri)
        return cls(KeyPair.from_secret(bytes.fromhex(parsed.secret)), parsed.wallet_pubkey)

    def encrypt(self, recipient: str | None = None) -> str:
        """Return a request, encrypted to the wallet or to another public key."""
        cipher = Cipher(self.keys, recipient or self.wallet_pubkey)
        return cipher.encrypt(Encryption.NIP44_V2, REQUEST)

    def tags(self, number: int) -> list[list[str]]:
        """Return the tags of a request; the number makes its event id unique."""
        return [["p", self.wallet_pubkey], ["encryption", "nip44_v2"], ["n", str(number)]]

    def sign(self, content: str, number: int, created_at: int) -> Event:
        """Return a signed request."""
        return sign_event(
            self.keys,
            kind=KIND_REQUEST,
            content=content,
            tags=self.tags(number),
            created_at=created_at,
        )


Make = Callable[[int, int], str]


def maker(sort: Sort, target: Target) -> Make:
    """Return a function that makes a frame of this sort from a number and a time in Unix seconds."""
    stranger = Target(KeyPair.generate(), target.wallet_pubkey)
    content, unreadable = target.encrypt(), target.encrypt(stranger.keys.public_key)
    # The valid signature of another event takes as long to verify as the right one.
    signature = target.sign(content, 0, 0).sig

    def forged(number: int, created_at: int) -> Event:
        tags = tuple(map(tuple, target.tags(number)))
        author = target.keys.public_key
        identifier = event_id(author, created_at, KIND_REQUEST, tags, content)
        return Event(identifier, author, created_at, KIND_REQUEST, tags, content, signature)

    match sort:
        case Sort.BAD_JSON:
            return lambda number, at: _frame(forged(number, at))[:-20]
        case Sort.BAD_SIGNATURE:
            return lambda number, at: _frame(forged(number, at))
        case Sort.UNKNOWN_AUTHOR:
            return lambda number, at: _frame(stranger.sign(content, number, at))
        case Sort.UNDECRYPTABLE:
            return lambda number, at: _frame(target.sign(unreadable, number, at))
        case Sort.TOO_FAST:
            return lambda number, at: _frame(target.sign(content, number, at))


def prepare(targets: dict[Sort, Target], count: int, first_at: float, per_second: float) -> list[str]:
    """Return `count` frames of each sort, alternating, with dates for `per_second` of each sort."""
    makers = [maker(sort, target) for sort, target in targets.items()]
    first = int(first_at * 1000)  # no later flood repeats a number
    return [
        make(first + number, int(first_at + number / per_second))
        for number in range(count)
        for make in makers
    ]


def _frame(event: Event) -> str:
    return f'["EVENT","{SUBSCRIPTION}",{event.to_json()}]'
