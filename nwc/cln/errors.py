"""Errors of calls to lightningd, and lightningd's error codes."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from enum import IntEnum
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from nwc.errors import NwcError

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Raised by code that reads an answer which is not as lightningd documents it.
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError)


class RpcCode(IntEnum):
    """Codes from lightningd's common/jsonrpc_errors.h that the plugin decides on."""

    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    PAY_NO_USABLE_ROUTE_HINT = 0
    PAY_DESTINATION_PERM_FAIL = 203
    PAY_ROUTE_NOT_FOUND = 205
    PAY_ROUTE_TOO_EXPENSIVE = 206
    PAY_INVOICE_EXPIRED = 207
    PAY_STOPPED_RETRYING = 210
    PAY_INVOICE_PREAPPROVAL_DECLINED = 213
    PAY_KEYSEND_PREAPPROVAL_DECLINED = 214
    INVOICE_LABEL_ALREADY_EXISTS = 900
    INVOICE_WAIT_TIMED_OUT = 904
    INVOICE_NOT_FOUND = 905
    INVOICE_STATUS_UNEXPECTED = 906
    DATASTORE_DEL_DOES_NOT_EXIST = 1200
    DATASTORE_UPDATE_ALREADY_EXISTS = 1202
    DATASTORE_UPDATE_DOES_NOT_EXIST = 1203
    DATASTORE_UPDATE_WRONG_GENERATION = 1204


class NodeError(NwcError):
    """A call to lightningd failed."""


class RpcCallError(NodeError):
    """lightningd answered with an error.

    Attributes:
        method: the RPC method.
        code: lightningd's error code.
        message: lightningd's text; for the owner at lightning-cli, not for the log or apps.
        details: lightningd's whole error object. It can have megabytes, so do not keep it.

    """

    def __init__(
        self, method: str, code: int, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        # Without the message: lightningd quotes parameters in it, which are private to the app.
        super().__init__(f"{method}: error {code}")
        self.method = method
        self.code = code
        self.message = message
        self.details = details or {}


class NodeUnavailableError(NodeError):
    """lightningd is unreachable, gave no answer, or gave one that is unreadable."""


def translates_malformed_answers(
    call: Callable[_P, Awaitable[_T]],
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Decorate a call: an unreadable answer raises NodeUnavailableError, as a missing answer does."""

    @wraps(call)
    async def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await call(*args, **kwargs)
        except UNREADABLE as error:
            raise NodeUnavailableError(
                f"{call.__name__}: unreadable answer: {type(error).__name__}"
            ) from error

    return checked
