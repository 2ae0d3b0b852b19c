"""The errors that a client gets when a payment is refused or fails, in words that a person understands.

lightningd's own messages are not passed on: they name channels and nodes, which clients must not learn.
"""

from nwc.cln.errors import RpcCallError, RpcCode
from nwc.cln.payer import exceeds_fee_limit
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.spending.payment import Payment

_MESSAGES = {
    RpcCode.PAY_DESTINATION_PERM_FAIL: "the payee refused the payment",
    RpcCode.PAY_NO_USABLE_ROUTE_HINT: "no route to the payee was found",
    RpcCode.PAY_ROUTE_NOT_FOUND: "no route to the payee was found",
    RpcCode.PAY_ROUTE_TOO_EXPENSIVE: "no route to the payee was found",
    RpcCode.PAY_INVOICE_EXPIRED: "the invoice has expired",
    RpcCode.PAY_INVOICE_PREAPPROVAL_DECLINED: "the node's signer declined the payment",
    RpcCode.PAY_KEYSEND_PREAPPROVAL_DECLINED: "the node's signer declined the payment",
}
INSUFFICIENT = Nip47Error(ErrorCode.INSUFFICIENT_BALANCE, "the node cannot send that much at the moment")
ALREADY_PAID = "this invoice is paid already, or is being paid"
NO_SUCH_INVOICE = "the node has made this invoice, but no longer takes a payment of it; nothing was paid"
UNREADABLE_BOOKS = Nip47Error(
    ErrorCode.INTERNAL, "the ledger or the payments of this connection cannot be read"
)
STILL_STARTING = Nip47Error(
    ErrorCode.INTERNAL,
    "the plugin is still starting; ask again in a minute for the outcome",
)
NOT_BEGUN = Nip47Error(ErrorCode.INTERNAL, "the node could not do this now; nothing was paid")
SUSPENDED = (
    "payments of this connection are suspended, since the node stopped during them; "
    "its owner can resume them"
)
REFUSED_BEFORE = (
    "this request was sent before the wallet service started, and may have been refused then; "
    "nothing was paid; send a new request"
)
NOT_SENT = Nip47Error(ErrorCode.PAYMENT_FAILED, "the payment was interrupted; nothing was paid")


def fee_of_payee_too_high(asked_msat: int, max_fee_msat: int) -> Nip47Error:
    """Return the error for an invoice whose payee asks for more than the limit on the fee."""
    return Nip47Error(
        ErrorCode.FEE_LIMIT_EXCEEDED,
        f"the payee asks for a fee of {asked_msat} msat; it must be at most {max_fee_msat} msat",
    )


def too_costly(payment: Payment, code: ErrorCode) -> Nip47Error:
    """Return the error for a payment of which nothing was sent, since no route is cheap enough."""
    return Nip47Error(
        code, f"no route to the payee was found for a fee of at most {payment.max_fee_msat} msat"
    )


def failure_of(error: RpcCallError, payment: Payment) -> Nip47Error:
    """Return the error that the client gets for an error of a paying command."""
    if error.code == RpcCode.METHOD_NOT_FOUND:
        return Nip47Error(ErrorCode.INTERNAL, "the node has no command to pay with now")
    if _is_about_the_fee(error):
        message = f"no route to the payee worked for a fee of at most {payment.max_fee_msat} msat"
    else:
        message = _MESSAGES.get(RpcCode(error.code), "") if error.code in set(RpcCode) else ""
    return Nip47Error(ErrorCode.PAYMENT_FAILED, message or "the payment did not succeed in time")


def _is_about_the_fee(error: RpcCallError) -> bool:
    return exceeds_fee_limit(error) or error.code == RpcCode.PAY_STOPPED_RETRYING


def is_insufficient(error: RpcCallError) -> bool:
    """Return True if a lack of funds may have caused the error."""
    return error.code in (
        RpcCode.PAY_ROUTE_NOT_FOUND,
        RpcCode.PAY_ROUTE_TOO_EXPENSIVE,
        RpcCode.PAY_STOPPED_RETRYING,
    )
