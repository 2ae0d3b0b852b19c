"""What can go wrong between the plugin and lightningd, and lightningd's error codes."""

from enum import IntEnum


class RpcCode(IntEnum):
    """Codes from lightningd's common/jsonrpc_errors.h that the plugin decides on."""

    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    PAY_DESTINATION_PERM_FAIL = 203
    PAY_ROUTE_NOT_FOUND = 205
    PAY_ROUTE_TOO_EXPENSIVE = 206
    PAY_INVOICE_EXPIRED = 207
    INVOICE_LABEL_ALREADY_EXISTS = 900
    INVOICE_WAIT_TIMED_OUT = 904
    INVOICE_NOT_FOUND = 905
    INVOICE_STATUS_UNEXPECTED = 906
    DATASTORE_DEL_DOES_NOT_EXIST = 1200
    DATASTORE_UPDATE_ALREADY_EXISTS = 1202
    DATASTORE_UPDATE_DOES_NOT_EXIST = 1203
    DATASTORE_UPDATE_WRONG_GENERATION = 1204


class NodeError(Exception):
    """Base of what a call to lightningd raises."""


class RpcFailed(NodeError):
    """Lightningd answered with an error.

    Attributes:
        method: the RPC method.
        code: lightningd's error code.
        message: lightningd's words; for the owner at lightning-cli, not for the log or clients.

    """

    def __init__(self, method: str, code: int, message: str) -> None:
        # Without the message: lightningd quotes parameters in it, and they are a client's business.
        super().__init__(f"{method}: error {code}")
        self.method = method
        self.code = code
        self.message = message


class NodeUnavailable(NodeError):
    """Lightningd cannot be reached, or hung up without an answer."""
