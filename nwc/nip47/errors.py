"""The error codes of NIP-47 and the exception that carries one to the client."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NoReturn

from nwc.errors import NwcError


class ErrorCode(StrEnum):
    """The codes of NIP-47, "Error codes", and those that its commands and NWC-321 add.

    Those of NWC-321 are only for `pay` and `receive`, since older clients fail on unknown codes.
    FEE_LIMIT_EXCEEDED is also for clients that gave `max_fee`.
    """

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
    BAD_REQUEST = "BAD_REQUEST"
    FEE_LIMIT_EXCEEDED = "FEE_LIMIT_EXCEEDED"
    UNSUPPORTED_PAYMENT_INSTRUCTION = "UNSUPPORTED_PAYMENT_INSTRUCTION"
    UNSUPPORTED_NETWORK = "UNSUPPORTED_NETWORK"


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


@contextmanager
def refusing_with(code: ErrorCode) -> Iterator[None]:
    """Raise another code instead of OTHER, around checks that methods with different codes share."""
    try:
        yield
    except Nip47Error as error:
        if error.code is not ErrorCode.OTHER:
            raise
        raise Nip47Error(code, error.message) from None
