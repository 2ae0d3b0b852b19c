"""What a connection may call and is notified of, as its info event and get_info list it."""

from nwc.nip47.methods import METHODS, served_methods
from nwc.nip47.notification import HOLD_INVOICE_ACCEPTED, PAYMENT_RECEIVED, PAYMENT_SENT
from nwc.wallet.connections.record import Connection, View


def allowed_methods(connection: Connection, *, has_hold: bool) -> tuple[str, ...]:
    """Return the methods that a connection may call.

    Args:
        connection: which.
        has_hold: True if the node has the plugin `hold`.

    """
    return tuple(name for name in served_methods(has_hold=has_hold) if is_allowed(connection, name))


def is_allowed(connection: Connection, method: str) -> bool:
    """Return True if a connection may call a method of METHODS."""
    if connection.methods is not None and method not in connection.methods:
        return False
    return not METHODS[method].spends or connection.budget.can_spend


def sent_notifications(connection: Connection, enabled: bool, *, has_hold: bool) -> tuple[str, ...]:
    """Return the notification types that a connection gets.

    Args:
        connection: which.
        enabled: False if the owner has switched notifications off for all connections.
        has_hold: True if the node has the plugin `hold`.

    """
    if not (enabled and connection.notifications):
        return ()
    sees_sent = connection.budget.can_spend or connection.view is View.NODE
    types = (PAYMENT_RECEIVED, PAYMENT_SENT) if sees_sent else (PAYMENT_RECEIVED,)
    makes_hold = has_hold and is_allowed(connection, "make_hold_invoice")
    return (*types, HOLD_INVOICE_ACCEPTED) if makes_hold else types
