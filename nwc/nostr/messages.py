"""Parse and write the messages between a client and a relay (NIP-01, NIP-42).

No socket, no clock and no state: session.py acts on the messages.
"""

import json
from dataclasses import dataclass
from typing import Any

from nwc.errors import NwcError
from nwc.nostr.encoding import to_json
from nwc.nostr.event import Event, EventError, is_unicode, parse_event

# A relay may forward events that are much larger than any NIP-47 request. We skip them without parsing,
# so that nobody can end the connection by sending one. Only a frame over MAX_FRAME_BYTES ends it.
MAX_FRAME_BYTES = 1 << 20
MAX_MESSAGE_LENGTH = 128 * 1024

MAX_CHALLENGE_LENGTH = 512
_MAX_REASON_LENGTH = 200


class MessageError(NwcError, ValueError):
    """A frame is not a relay message. The text says why and never quotes the frame."""


@dataclass(frozen=True, slots=True)
class EventReceived:
    """["EVENT", <subscription id>, <event>]: an event whose signature is not checked yet."""

    subscription_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class OkReceived:
    """["OK", <event id>, <accepted>, <reason>]: the outcome of an event that we published."""

    event_id: str
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class EoseReceived:
    """["EOSE", <subscription id>]: all stored events have been sent."""

    subscription_id: str


@dataclass(frozen=True, slots=True)
class ClosedReceived:
    """["CLOSED", <subscription id>, <reason>]: the relay ended a subscription."""

    subscription_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class NoticeReceived:
    """["NOTICE", <text>]: a text for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class AuthReceived:
    """["AUTH", <challenge>]: a challenge to sign (NIP-42)."""

    challenge: str


RelayMessage = EventReceived | OkReceived | EoseReceived | ClosedReceived | NoticeReceived | AuthReceived


def parse_relay_message(text: str) -> RelayMessage:
    """Return the message in one frame from a relay.

    Additional elements at its end are ignored, because newer NIPs add some (NIP-67 adds one to EOSE).

    Raises:
        MessageError: not a message of NIP-01 or NIP-42, too long, or its event is malformed.

    """
    if len(text) > MAX_MESSAGE_LENGTH:
        raise MessageError(f"longer than {MAX_MESSAGE_LENGTH} characters")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise MessageError("not JSON") from None
    if not isinstance(message, list) or len(message) < 2:
        raise MessageError("not an array of a message type and its arguments")
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
            raise MessageError("not a message that a relay sends to a client")


def _event(value: object) -> Event:
    try:
        return parse_event(value)
    except EventError as error:
        raise MessageError(f"event: {error}") from None


def _can_be_signed(challenge: str) -> bool:
    return len(challenge) <= MAX_CHALLENGE_LENGTH and is_unicode(challenge)


def _reason(arguments: list[Any]) -> str:
    return printable(arguments[0]) if arguments and isinstance(arguments[0], str) else ""


def printable(text: str) -> str:
    """Return a relay's text, shortened and printable, for the log and nwc-status."""
    text = text[:_MAX_REASON_LENGTH]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def event_message(event: Event) -> str:
    """Return ["EVENT", <event>]: publish an event."""
    return f'["EVENT",{event.to_json()}]'


def auth_message(event: Event) -> str:
    """Return ["AUTH", <event>]: prove to the relay that we hold a key (NIP-42)."""
    return f'["AUTH",{event.to_json()}]'


def req_message(subscription_id: str, filter_: dict[str, Any]) -> str:
    """Return ["REQ", <subscription id>, <filter>]: subscribe, or replace a subscription."""
    return to_json(["REQ", subscription_id, filter_])


def close_message(subscription_id: str) -> str:
    """Return ["CLOSE", <subscription id>]: unsubscribe."""
    return to_json(["CLOSE", subscription_id])
