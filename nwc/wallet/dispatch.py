"""From an opened request to its outcome: permission, the method's handler, errors.

The methods are listed in nwc/nip47/methods.py, which says how to add one. A method's handler is the
function of the same name in the module of the same name in nwc/wallet/methods/.
"""

import asyncio
import logging
from importlib import import_module
from typing import Any

from nwc.cln.errors import NodeError
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.methods import METHODS, Method, served_methods
from nwc.nip47.request import Request
from nwc.wallet.connections.permissions import is_allowed
from nwc.wallet.connections.record import Connection
from nwc.wallet.context import Call, Handler, Wallet

_log = logging.getLogger(__name__)

Outcome = dict[str, Any] | Nip47Error


def _find_handler(method: str) -> Handler:
    handler: Handler = getattr(import_module(f"nwc.wallet.methods.{method}"), method)
    return handler


HANDLERS = {name: _find_handler(name) for name in METHODS}


async def dispatch(wallet: Wallet, connection: Connection, request: Request, now: float) -> Outcome:
    """Serve a request.

    Args:
        wallet: what the handlers share.
        connection: whose request it is.
        request: opened.
        now: Unix seconds.

    Returns:
        The result, or the error for the client. Never raises: one request cannot harm the others.

    """
    try:
        method = _permitted(wallet, connection, request, now)
        call = Call(request.id, request.params, connection, request.created_at, request.encryption)
        async with asyncio.timeout(method.timeout_s):
            return await HANDLERS[method.name](wallet, call)
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


def _permitted(wallet: Wallet, connection: Connection, request: Request, now: float) -> Method:
    """Return the method that a request may call.

    Raises:
        Nip47Error: the request is malformed, or this connection may not make it.

    """
    if request.error is not None:
        raise request.error
    if connection.has_expired(now):
        raise Nip47Error(ErrorCode.UNAUTHORIZED, "this connection has expired")
    method = METHODS.get(request.method)
    if method is None:
        known = ", ".join(served_methods(has_hold=wallet.hold_invoices.plugin.is_available))
        raise Nip47Error(ErrorCode.NOT_IMPLEMENTED, f"method: must be one of {known}")
    if not is_allowed(connection, request.method):
        why = "" if connection.budget.can_spend or not method.spends else ": it can only receive"
        message = f"{request.method} is not allowed for this connection{why}"
        raise Nip47Error(ErrorCode.RESTRICTED, message)
    return method
