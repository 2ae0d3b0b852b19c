"""Sealing a response: from a result or an error to a signed event."""

from typing import Any

from nwc.nip47.encryption import Cipher
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.kinds import KIND_RESPONSE
from nwc.nip47.request import Request
from nwc.nostr.encoding import to_json
from nwc.nostr.event import Event, sign_event
from nwc.nostr.keys import KeyPair

# Many relays refuse events of more than 64 KiB. NIP-44 pads a longer plaintext to the next 8 KiB, so its
# event would be larger than that.
MAX_PLAINTEXT_BYTES = 40_960

Result = dict[str, Any]


def seal_response(
    request: Request, outcome: Result | Nip47Error, keys: KeyPair, cipher: Cipher, now: int
) -> Event:
    """Return the encrypted and signed answer to a request (NIP-47, "Request and Response Events").

    Args:
        request: the request to answer.
        outcome: the method's result, or the error.
        keys: the wallet key of the connection.
        cipher: the connection's cipher.
        now: Unix seconds. The answer is never dated before its request, since relays might drop it.

    """
    plaintext = _plaintext(request.method, outcome)
    if len(plaintext.encode()) > MAX_PLAINTEXT_BYTES:
        too_long = Nip47Error(ErrorCode.INTERNAL, "the answer is too long to be sent over a relay")
        plaintext = _plaintext(request.method, too_long)
    client_pubkey = cipher.peer
    return sign_event(
        keys,
        kind=KIND_RESPONSE,
        content=cipher.encrypt(request.encryption, plaintext),
        tags=[["p", client_pubkey], ["e", request.id]],
        created_at=max(now, request.created_at),
    )


def _plaintext(method: str, outcome: Result | Nip47Error) -> str:
    if isinstance(outcome, Nip47Error):
        error = {"code": outcome.code, "message": outcome.message}
        return to_json({"result_type": method, "error": error, "result": None})
    return to_json({"result_type": method, "error": None, "result": outcome})
