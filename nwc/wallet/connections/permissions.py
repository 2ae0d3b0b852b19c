"""What a connection may call and is notified of, as its info event and get_info list it."""

from nwc.nip47.methods import METHODS
from nwc.nip47.notification import PAYMENT_RECEIVED, PAYMENT_SENT
from nwc.wallet.connections.record import Connection, View


def allowed_methods(connection: Connection) -> tuple[str, ...]:
    """Return the methods that a connection may call."""
    return tuple(name for name in METHODS if is_allowed(connection, name))


def is_allowed(connection: Connection, method: str) -> bool:
    """Return True if a connection may call a method of METHODS."""
    if connection.methods is None:
        is_chosen = not METHODS[method].only_by_name
    else:
        is_chosen = method in connection.methods
    return is_chosen and (connection.budget.can_spend or not METHODS[method].spends)


def sent_notifications(connection: Connection, enabled: bool) -> tuple[str, ...]:
    """Return the notification types that a connection gets.

    Args:
        connection: which.
        enabled: False if the owner has switched notifications off for all connections.

    """
    if not (enabled and connection.notifications):
        return ()
    sees_sent = connection.budget.can_spend or connection.view is View.NODE
    return (PAYMENT_RECEIVED, PAYMENT_SENT) if sees_sent else (PAYMENT_RECEIVED,)
