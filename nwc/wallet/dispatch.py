"""From an opened request to its outcome: permission, the method's handler, errors."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from nwc.cln.errors import NodeError
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.notification import PAYMENT_RECEIVED, PAYMENT_SENT
from nwc.nip47.request import Request
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.context import Call, Handler, Wallet
from nwc.wallet.methods.get_balance import get_balance
from nwc.wallet.methods.get_budget import get_budget
from nwc.wallet.methods.get_info import get_info
from nwc.wallet.methods.list_transactions import list_transactions
from nwc.wallet.methods.lookup_invoice import lookup_invoice
from nwc.wallet.methods.make_invoice import make_invoice
from nwc.wallet.methods.pay_invoice import pay_invoice
from nwc.wallet.methods.pay_keysend import pay_keysend

# Clients wait 10 s for reads and 60 s for all else; an error in time is better than none.
READ_TIMEOUT_S = 8
WRITE_TIMEOUT_S = 50

_log = logging.getLogger(__name__)

Outcome = dict[str, Any] | Nip47Error


@dataclass(frozen=True, slots=True)
class Method:
    """One NIP-47 method.

    Attributes:
        handler: serves it.
        timeout_s: seconds it may take; None for as long as it takes: that a payment is not through
            when the client's patience ends does not mean that it has failed.
        spends: only for connections that have a budget.

    """

    handler: Handler
    timeout_s: float | None
    spends: bool = False


async def _get_info(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Serve get_info, which tells what is decided here."""
    methods = allowed_methods(call.connection)
    notifications = sent_notifications(call.connection, wallet.notifications)
    return await get_info(wallet, call, methods, notifications)


METHODS: dict[str, Method] = {
    "get_info": Method(_get_info, READ_TIMEOUT_S),
    "get_balance": Method(get_balance, READ_TIMEOUT_S),
    "get_budget": Method(get_budget, READ_TIMEOUT_S),
    "make_invoice": Method(make_invoice, WRITE_TIMEOUT_S),
    "lookup_invoice": Method(lookup_invoice, READ_TIMEOUT_S),
    "list_transactions": Method(list_transactions, READ_TIMEOUT_S),
    "pay_invoice": Method(pay_invoice, None, spends=True),
    "pay_keysend": Method(pay_keysend, None, spends=True),
}


def allowed_methods(connection: Connection) -> tuple[str, ...]:
    """Return the methods a connection may call, as its info event and get_info list them."""
    return tuple(name for name in METHODS if _is_allowed(connection, name))


def _is_allowed(connection: Connection, name: str) -> bool:
    if connection.methods is not None and name not in connection.methods:
        return False
    return not METHODS[name].spends or connection.budget.can_spend


def sent_notifications(connection: Connection, enabled: bool) -> tuple[str, ...]:
    """Return the notification types a connection gets, as its info event and get_info list them."""
    if not (enabled and connection.notifications):
        return ()
    is_told_of_sent = connection.budget.can_spend or connection.view is View.NODE
    return (PAYMENT_RECEIVED, PAYMENT_SENT) if is_told_of_sent else (PAYMENT_RECEIVED,)


async def dispatch(wallet: Wallet, connection: Connection, request: Request, now: float) -> Outcome:
    """Serve a request.

    Args:
        wallet: what the handlers work with.
        connection: whose request it is.
        request: opened.
        now: Unix seconds.

    Returns:
        The result, or the error for the client. Never raises: one request cannot harm the others.

    """
    try:
        method = _permitted(connection, request, now)
        call = Call(request.id, request.params, connection, request.created_at, request.encryption)
        async with asyncio.timeout(method.timeout_s):
            return await method.handler(wallet, call)
    except Nip47Error as error:
        return error
    except TimeoutError:
        _log.debug("%s of %r: lightningd did not answer in time", request.method, connection.name)
        return Nip47Error(ErrorCode.INTERNAL, "the node did not answer in time")
    except NodeError as error:
        _log.debug("%s of %r failed: %s", request.method, connection.name, error)
        return Nip47Error(ErrorCode.INTERNAL, "the node could not do this now")
    except Exception:
        _log.exception("%s of %r failed", request.method, connection.name)
        return Nip47Error(ErrorCode.INTERNAL, "internal error")


def _permitted(connection: Connection, request: Request, now: float) -> Method:
    """Return the method to run.

    Raises:
        Nip47Error: the request is malformed, or may not be served for this connection.

    """
    if request.error is not None:
        raise request.error
    if connection.has_expired(now):
        raise Nip47Error(ErrorCode.UNAUTHORIZED, "this connection has expired")
    method = METHODS.get(request.method)
    if method is None:
        known = ", ".join(METHODS)
        raise Nip47Error(ErrorCode.NOT_IMPLEMENTED, f"method: must be one of {known}")
    if not _is_allowed(connection, request.method):
        why = "" if connection.budget.can_spend or not method.spends else ": it can only receive"
        message = f"{request.method} is not allowed for this connection{why}"
        raise Nip47Error(ErrorCode.RESTRICTED, message)
    return method
