"""The messages between a client and a relay (NIP-01, NIP-42), as text in and values out.

No socket, no clock and no state: see session.py for what follows from a message.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nwc.errors import NwcError
from nwc.nostr.event import Event, EventError, parse_event

# A relay may pass on events far larger than a NIP-47 request can be. They are skipped unread, so that
# nobody can make us drop the connection by sending one; only a frame over MAX_FRAME_BYTES ends it.
MAX_FRAME_BYTES = 1 << 20
MAX_MESSAGE_LENGTH = 128 * 1024

MAX_CHALLENGE_LENGTH = 512
_MAX_REASON_LENGTH = 200


class MessageError(NwcError, ValueError):
    """A frame that is no relay message; the text says why, never what came."""


@dataclass(frozen=True, slots=True)
class EventReceived:
    """["EVENT", <subscription id>, <event>]; the signature is not checked yet."""

    subscription_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class OkReceived:
    """["OK", <event id>, <accepted>, <reason>]: the fate of an event we published."""

    event_id: str
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class EoseReceived:
    """["EOSE", <subscription id>]: the stored events are through."""

    subscription_id: str


@dataclass(frozen=True, slots=True)
class ClosedReceived:
    """["CLOSED", <subscription id>, <reason>]: the relay ended a subscription."""

    subscription_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class NoticeReceived:
    """["NOTICE", <text>]: for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class AuthReceived:
    """["AUTH", <challenge>] (NIP-42)."""

    challenge: str


RelayMessage = EventReceived | OkReceived | EoseReceived | ClosedReceived | NoticeReceived | AuthReceived


def parse_relay_message(text: str) -> RelayMessage:
    """Read one frame from a relay.

    Elements after those of NIP-01 and NIP-42 are ignored: NIPs add some (NIP-67 a third one to EOSE).

    Raises:
        MessageError: not a message of NIP-01 or NIP-42, too long, or an event of the wrong shape.

    """
    if len(text) > MAX_MESSAGE_LENGTH:
        raise MessageError(f"longer than {MAX_MESSAGE_LENGTH} characters")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise MessageError("not JSON") from None
    if not isinstance(message, list) or len(message) < 2:
        raise MessageError("not an array of a type and its arguments")
    match message:
        case ["EVENT", str(subscription_id), event, *_]:
            return EventReceived(subscription_id, _event(event))
        case ["OK", str(event_id), bool(accepted), *reason]:
            return OkReceived(event_id, accepted, _reason(reason))
        case ["EOSE", str(subscription_id), *_]:
            return EoseReceived(subscription_id)
        case ["CLOSED", str(subscription_id), *reason]:
            return ClosedReceived(subscription_id, _reason(reason))
        case ["NOTICE", str(), *_]:
            return NoticeReceived(_reason(message[1:]))
        case ["AUTH", str(challenge), *_] if _can_be_signed(challenge):
            return AuthReceived(challenge)
        case _:
            raise MessageError("not a message a relay sends to a client")


def _event(value: object) -> Event:
    try:
        return parse_event(value)
    except EventError as error:
        raise MessageError(f"event: {error}") from None


def _can_be_signed(challenge: str) -> bool:
    """Tell whether a challenge is short and Unicode: one with a lone surrogate has no event id."""
    try:
        challenge.encode()
    except UnicodeEncodeError:
        return False
    return len(challenge) <= MAX_CHALLENGE_LENGTH


def _reason(arguments: list[Any]) -> str:
    return printable(arguments[0]) if arguments and isinstance(arguments[0], str) else ""


def printable(text: str) -> str:
    """Return a relay's words, cut and made printable: they end up in a log and in nwc-status."""
    text = text[:_MAX_REASON_LENGTH]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


@lru_cache(maxsize=64)  # an answer goes to all relays of its connection, one right after the other
def event_message(event: Event) -> str:
    """["EVENT", <event>]: publish."""
    return f'["EVENT",{event.to_json()}]'


def auth_message(event: Event) -> str:
    """["AUTH", <event>]: prove a key to the relay (NIP-42)."""
    return f'["AUTH",{event.to_json()}]'


def req_message(subscription_id: str, filter_: dict[str, Any]) -> str:
    """["REQ", <subscription id>, <filter>]: subscribe, or replace that subscription."""
    return json.dumps(["REQ", subscription_id, filter_], separators=(",", ":"))


def close_message(subscription_id: str) -> str:
    """["CLOSE", <subscription id>]: unsubscribe."""
    return json.dumps(["CLOSE", subscription_id], separators=(",", ":"))
