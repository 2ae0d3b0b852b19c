"""Nostr events (NIP-01): shape, id and signature. No relay messages, no meaning of kinds or tags.

`parse_event` checks only the shape of what a hostile relay sent. `verify_event` does the expensive part.
In between, a caller can drop most of the events that it does not want.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from nwc.errors import NwcError
from nwc.nostr.encoding import to_json
from nwc.nostr.keys import KeyPair, verify_signature

MAX_CONTENT_LENGTH = 131_072
MAX_TAGS = 256
MAX_TAG_ITEMS = 64
MAX_TAG_ITEM_LENGTH = 1_024
MAX_CREATED_AT = 2**53 - 1  # the largest integer that every JSON parser reads exactly
MAX_KIND = 65_535

_HEX_64 = re.compile(r"[0-9a-f]{64}")
_HEX_128 = re.compile(r"[0-9a-f]{128}")


Tags = tuple[tuple[str, ...], ...]


class EventError(NwcError, ValueError):
    """An event is malformed, or its id or signature is wrong; the message names the field."""


@dataclass(frozen=True, slots=True)
class Event:
    """A Nostr event with the fields of NIP-01; `created_at` is in Unix seconds.

    `id`, `pubkey` and `sig` are lower-case hex digits. The signature of an `Event` may be wrong:
    `verify_event` checks it.
    """

    id: str
    pubkey: str
    created_at: int
    kind: int
    tags: Tags
    content: str
    sig: str

    def to_json(self) -> str:
        """Return the event as compact JSON."""
        return to_json(
            {
                "id": self.id,
                "pubkey": self.pubkey,
                "created_at": self.created_at,
                "kind": self.kind,
                "tags": self.tags,
                "content": self.content,
                "sig": self.sig,
            }
        )

    def tag(self, name: str) -> str | None:
        """Return the value of the first tag with this name, None if there is no such tag or value."""
        for tag in self.tags:
            if tag[0] == name:
                return tag[1] if len(tag) > 1 else None
        return None

    def tags_named(self, name: str) -> Tags:
        """Return all tags with this name, whole and in order."""
        return tuple(tag for tag in self.tags if tag[0] == name)


def parse_event(value: object) -> Event:
    """Return an event after checking its shape and size, but neither id nor signature.

    Args:
        value: A decoded JSON value from a stranger. Fields that are not in NIP-01 are ignored.

    Raises:
        EventError: The text names the field and the rule. Text that is not Unicode (a lone surrogate,
            which JSON can contain) is refused too, because it cannot be hashed or sent.
    """
    if not isinstance(value, dict):
        raise EventError("event must be an object")
    # Cheapest checks first: the number and length of values are checked before their characters.
    kind = _integer(value, "kind", MAX_KIND)
    created_at = _integer(value, "created_at", MAX_CREATED_AT)
    content = value.get("content")
    if not _is_text(content, MAX_CONTENT_LENGTH):
        raise EventError(f"content must be text of at most {MAX_CONTENT_LENGTH} characters")
    return Event(
        id=_hex(value, "id", _HEX_64),
        pubkey=_hex(value, "pubkey", _HEX_64),
        created_at=created_at,
        kind=kind,
        tags=_tags(value.get("tags")),
        content=content,
        sig=_hex(value, "sig", _HEX_128),
    )


def event_id(pubkey: str, created_at: int, kind: int, tags: Tags, content: str) -> str:
    """Return the id of an event: SHA-256 of its canonical JSON (NIP-01), 64 hex digits.

    Args:
        pubkey: 64 hex digits.
        created_at, kind, tags, content: of the event.

    Raises:
        EventError: If content or tags contain a lone surrogate.
    """
    canonical = to_json([0, pubkey, created_at, kind, tags, content])
    try:
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
    except UnicodeEncodeError as error:
        raise EventError("content and tags must be Unicode without lone surrogates") from error


def verify_event(event: Event) -> None:
    """Check that the id is the hash of the event and that the author signed it.

    Raises:
        EventError: If not. The hash is checked first, because that is much cheaper.
    """
    expected = event_id(event.pubkey, event.created_at, event.kind, event.tags, event.content)
    if event.id != expected:
        raise EventError("id is not the hash of the event")
    if not verify_signature(event.pubkey, bytes.fromhex(event.id), event.sig):
        raise EventError("signature is not the author's")


def sign_event(
    keys: KeyPair, *, kind: int, content: str, tags: Sequence[Sequence[str]], created_at: int
) -> Event:
    """Return an event signed with our keys. `created_at` is in Unix seconds; every tag has a name.

    Raises:
        EventError: If content or tags contain a lone surrogate.
    """
    frozen_tags = tuple(map(tuple, tags))
    identifier = event_id(keys.public_key, created_at, kind, frozen_tags, content)
    return Event(
        id=identifier,
        pubkey=keys.public_key,
        created_at=created_at,
        kind=kind,
        tags=frozen_tags,
        content=content,
        sig=keys.sign(bytes.fromhex(identifier)).hex(),
    )


def _integer(value: dict[str, object], name: str, maximum: int) -> int:
    number = value.get(name)
    # `type`, not `isinstance`: in Python, True is an int.
    if type(number) is not int or not 0 <= number <= maximum:
        raise EventError(f"{name} must be an integer from 0 to {maximum}")
    return number


def _hex(value: dict[str, object], name: str, pattern: re.Pattern[str]) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise EventError(f"{name} must be the right number of lower-case hex digits")
    return text


def _tags(tags: object) -> Tags:
    if not isinstance(tags, list) or len(tags) > MAX_TAGS:
        raise EventError(f"tags must be a list of at most {MAX_TAGS} tags")
    return tuple(map(_tag, tags))


def _tag(tag: object) -> tuple[str, ...]:
    if not isinstance(tag, list) or not 1 <= len(tag) <= MAX_TAG_ITEMS:
        raise EventError(f"tags must be lists of 1 to {MAX_TAG_ITEMS} strings")
    for item in tag:
        if not _is_text(item, MAX_TAG_ITEM_LENGTH):
            raise EventError(f"tags must contain text of at most {MAX_TAG_ITEM_LENGTH} characters")
    return tuple(tag)


def _is_text(value: object, max_length: int) -> TypeGuard[str]:
    """Return True if a value is a string of at most `max_length` characters, all of them Unicode."""
    if not isinstance(value, str) or len(value) > max_length:
        return False
    return value.isascii() or is_unicode(value)


def is_unicode(text: str) -> bool:
    """Return True if a text has no lone surrogate: else it can be neither hashed nor sent."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
