"""The error that both ciphers (NIP-04 and NIP-44) raise."""

from nwc.errors import NwcError


class DecryptionError(NwcError, ValueError):
    """A payload is malformed, too long, was changed, or was made with another key.

    The message is for the log: it never contains the payload, the plaintext or a key.
    """
