"""Opening a request: from an authentic event to a method and its parameters."""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from nwc.nip47.encryption import Cipher, Encryption, encryption_of, named_encryption
from nwc.nip47.errors import ErrorCode, Nip47Error, refuse
from nwc.nip47.expiration import check_expiration
from nwc.nostr.encoding import DecryptionError
from nwc.nostr.event import Event

MAX_METHOD_LENGTH = 64
UNKNOWN_METHOD = "unknown"


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client, decrypted.

    Attributes:
        id: the id of the request event, 64 hex digits.
        created_at: the event's time, Unix seconds.
        encryption: the scheme of the answer.
        method: the method's name: short, printable ASCII, but perhaps no method of NIP-47.
        params: the method's parameters, unchecked.
        error: the answer, if the request itself is invalid; the method is then not served.

    """

    id: str
    created_at: int
    encryption: Encryption
    method: str
    params: dict[str, Any]
    error: Nip47Error | None = None


def open_request(event: Event, cipher: Cipher) -> Request:
    """Return a request event that passed the gate, decrypted and parsed.

    An invalid request has its `error` set. It is answered and not ignored, since its author is known and
    waits for an answer.
    """
    named = named_encryption(event)
    scheme = named or Encryption.NIP44_V2
    method, params, error = UNKNOWN_METHOD, {}, None
    try:
        if named is None:
            method = _method_under_nip44(event, cipher)
            raise Nip47Error(
                ErrorCode.UNSUPPORTED_ENCRYPTION,
                f"encryption: must be one of {', '.join(Encryption)}",
            )
        plaintext = _decrypt(event, cipher)
        scheme = encryption_of(event.content)  # the client has used it, so it can read the answer
        body = _parse_object(plaintext)
        method = _method(body)
        params = _params(body)
        check_expiration(event)
    except Nip47Error as problem:
        error = problem
    return Request(event.id, event.created_at, scheme, method, params, error)


def _decrypt(event: Event, cipher: Cipher) -> str:
    try:
        return cipher.decrypt(encryption_of(event.content), event.content)
    except DecryptionError:
        refuse(
            f"content: must be encrypted with {' or '.join(Encryption)}, for the client's key and this "
            "connection's wallet key"
        )


def _parse_object(plaintext: str) -> dict[str, Any]:
    try:
        body = json.loads(plaintext, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        refuse("request: must be a JSON object with method and params")
    if not isinstance(body, dict):
        refuse("request: must be a JSON object with method and params")
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _method(body: dict[str, Any]) -> str:
    method = body.get("method")
    if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD_LENGTH:
        refuse(f"method: must be a string of 1 to {MAX_METHOD_LENGTH} characters")
    if not method.isascii() or not method.isprintable():
        refuse("method: must be printable ASCII")
    return method


def _params(body: dict[str, Any]) -> dict[str, Any]:
    params = body.get("params")
    if params is None or params == []:  # PHP's empty object
        return {}
    if not isinstance(params, dict):
        refuse("params: must be a JSON object")
    return params


def _method_under_nip44(event: Event, cipher: Cipher) -> str:
    """Return the method of a request that names an unknown scheme, in case it is NIP-44 all the same."""
    try:
        return _method(_parse_object(cipher.decrypt(Encryption.NIP44_V2, event.content)))
    except (DecryptionError, Nip47Error):
        return UNKNOWN_METHOD
