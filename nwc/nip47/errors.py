"""The error codes of NIP-47 and the exception that carries one to the client."""

from enum import StrEnum
from typing import NoReturn

from nwc.errors import NwcError


class ErrorCode(StrEnum):
    """NIP-47, "Error codes" and the codes its commands add."""

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
    """A request that gets an error for an answer.

    Attributes:
        code: the NIP-47 error code.
        message: for the person at the app: the field and the rule, nothing about the node's inside.

    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def refuse(message: str) -> NoReturn:
    """Refuse a request for what stands in it: the message names the field and the rule.

    Raises:
        Nip47Error: OTHER, always.

    """
    raise Nip47Error(ErrorCode.OTHER, message)
