"""Base64 and UTF-8 as the ciphers need them: strict, and failing with one error. JSON as we write it."""

import binascii
import json

from nwc.nostr.errors import DecryptionError

# A value as compact JSON. Kept: `json.dumps` makes an encoder anew at each call that wants anything but
# its defaults, and that takes as long as what it then encodes. No value of ours holds itself.
#
# NIP-01 escapes \b \t \n \f \r \" \\ and wants everything else verbatim. The other control
# characters are not allowed verbatim in JSON; here as in other implementations they are \u00xx.
to_json = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


def encode_base64(data: bytes) -> str:
    """Return `data` as padded base64 (RFC 4648 section 4)."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_base64(text: str) -> bytes:
    """Decode padded base64 (RFC 4648 section 4) that is written in the one canonical way.

    The caller bounds the length of `text` first.

    Raises:
        DecryptionError: For foreign characters, wrong padding or stray bits at the end.
    """
    try:
        data = binascii.a2b_base64(text)
    except ValueError as error:
        raise DecryptionError("payload is not base64") from error
    # The decoder skips what it does not know; encoding again shows everything it let pass.
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
