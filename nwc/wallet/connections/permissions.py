"""What a connection may call and is notified of, as its info event and get_info list it."""

from nwc.nip47.methods import METHODS, extensions_of, served_methods
from nwc.nip47.notification import OF_HOLD_INVOICES, PAYMENT_RECEIVED, PAYMENT_SENT
from nwc.wallet.connections.record import Connection, Pairing, View

# NWC-08: the app has made its own key.
_CLIENT_INITIATED = "08"


def allowed_methods(connection: Connection, *, has_hold: bool = False) -> tuple[str, ...]:
    """Return the methods that a connection may call.

    Args:
        connection: which.
        has_hold: True if the node has the plugin `hold`.

    """
    return tuple(name for name in served_methods(has_hold=has_hold) if is_allowed(connection, name))


def is_allowed(connection: Connection, method: str) -> bool:
    """Return True if a connection may call a method of METHODS."""
    if connection.methods is None:
        is_chosen = not METHODS[method].only_by_name
    else:
        is_chosen = method in connection.methods
    return is_chosen and (connection.budget.can_spend or not METHODS[method].spends)


def sent_notifications(
    connection: Connection, enabled: bool, *, has_hold: bool = False
) -> tuple[str, ...]:
    """Return the notification types that a connection gets.

    Args:
        connection: which.
        enabled: False if the owner has switched notifications off for all connections.
        has_hold: True if the node has the plugin `hold`.

    """
    if not (enabled and connection.notifications):
        return ()
    sees_sent = connection.budget.can_spend or connection.view is View.NODE
    types: tuple[str, ...] = (PAYMENT_RECEIVED, PAYMENT_SENT) if sees_sent else (PAYMENT_RECEIVED,)
    if has_hold and is_allowed(connection, "make_hold_invoice"):
        types = (*types, *OF_HOLD_INVOICES)
    wanted = connection.notification_types
    return types if wanted is None else tuple(name for name in types if name in wanted)


def used_extensions(connection: Connection, *, has_hold: bool = False) -> tuple[str, ...]:
    """Return the numbers of the NIP-47 extensions that a connection uses.

    Args:
        connection: which.
        has_hold: True if the node has the plugin `hold`.

    """
    of_methods = extensions_of(allowed_methods(connection, has_hold=has_hold))
    of_pairing = {_CLIENT_INITIATED} if connection.pairing is Pairing.WALLETAUTH else set[str]()
    return tuple(sorted({*of_methods, *of_pairing}))
