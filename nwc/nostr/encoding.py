"""Strict base64 and UTF-8 for the ciphers (NIP-04, NIP-44), with their one error; compact JSON."""

import binascii
import json

from nwc.errors import NwcError

# Return a value as compact JSON. Kept, because `json.dumps` with other than its default options makes a
# new encoder at each call, which takes as long as the encoding. No value of ours contains itself.
#
# NIP-01 escapes \b \t \n \f \r \" \\ and wants everything else verbatim. JSON does not allow the other
# control characters verbatim; here, as in other implementations, they are \u00xx.
to_json = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


class DecryptionError(NwcError, ValueError):
    """A payload is malformed, too long, was changed, or was encrypted with another key.

    The message is for the log: it never contains the payload, the plaintext or a key.
    """


def encode_base64(data: bytes) -> str:
    """Return `data` as padded base64 (RFC 4648 section 4)."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_base64(text: str) -> bytes:
    """Decode padded base64 (RFC 4648 section 4) in its one canonical spelling.

    The caller limits the length of `text`.

    Raises:
        DecryptionError: For foreign characters, wrong padding or stray bits at the end.
    """
    try:
        data = binascii.a2b_base64(text)
    except ValueError as error:
        raise DecryptionError("payload is not base64") from error
    # The decoder skips characters that it does not know. Encoding again reveals them.
    if encode_base64(data) != text:
        raise DecryptionError("payload is not canonical base64")
    return data


def decode_text(data: bytes) -> str:
    """Decode UTF-8.

    Raises:
        DecryptionError: If `data` is not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # `from None`: the cause would carry the plaintext into the log.
        raise DecryptionError("plaintext is not UTF-8") from None
