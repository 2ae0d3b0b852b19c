"""The `expiration` tag of a request (NIP-47, "Request and Response Events")."""

from nwc.nip47.errors import refuse
from nwc.nostr.event import Event


def has_expired(event: Event, now: float) -> bool:
    """Return True if a request must be ignored because it has expired; `now` is in Unix seconds.

    A request whose tag is malformed has not expired: it gets an error, see `check_expiration`.
    """
    try:
        expiration = _expiration(event)
    except ValueError:
        return False
    return expiration is not None and expiration < now


def check_expiration(event: Event) -> None:
    """Raise an error if the tag is malformed.

    Raises:
        Nip47Error: OTHER; the tag does not hold a Unix timestamp.

    """
    try:
        _expiration(event)
    except ValueError as error:
        refuse(str(error))


def _expiration(event: Event) -> int | None:
    """Return the Unix second in the tag, None without the tag; raise ValueError if it is malformed."""
    text = event.tag("expiration")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ValueError("tag expiration: must be a Unix timestamp in seconds")
    return int(text)
