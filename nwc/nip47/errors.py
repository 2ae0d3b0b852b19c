"""The error codes of NIP-47 and the exception that carries one to the client."""

from enum import StrEnum
from typing import NoReturn

from nwc.errors import NwcError


class ErrorCode(StrEnum):
    """The codes of NIP-47, "Error codes", and those that its commands add."""

    RATE_LIMITED = "RATE_LIMITED"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    RESTRICTED = "RESTRICTED"
    UNAUTHORIZED = "UNAUTHORIZED"
    INTERNAL = "INTERNAL"
    UNSUPPORTED_ENCRYPTION = "UNSUPPORTED_ENCRYPTION"
    NOT_FOUND = "NOT_FOUND"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    OTHER = "OTHER"


class Nip47Error(NwcError):
    """The request is answered with an error.

    Attributes:
        code: the NIP-47 error code.
        message: for the app's user: the field and its rule, and nothing internal to the node.

    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def refuse(message: str) -> NoReturn:
    """Raise the error for an invalid request; the message names the field and its rule.

    Raises:
        Nip47Error: always, with code OTHER.

    """
    raise Nip47Error(ErrorCode.OTHER, message)
