"""Sealing a notification: from a transaction to signed events (NIP-47, "Notification Events")."""

from typing import Any

from nwc.nip47.encryption import Cipher, Encryption
from nwc.nip47.kinds import KIND_NOTIFICATION, KIND_NOTIFICATION_NIP04
from nwc.nostr.encoding import to_json
from nwc.nostr.event import Event, sign_event
from nwc.nostr.keys import KeyPair

PAYMENT_RECEIVED = "payment_received"
PAYMENT_SENT = "payment_sent"
HOLD_INVOICE_ACCEPTED = "hold_invoice_accepted"  # NWC-03
# Beyond NWC-03: an accepted hold invoice has ended without being settled, perhaps at its deadline.
HOLD_INVOICE_CANCELED = "hold_invoice_canceled"
OF_HOLD_INVOICES = (HOLD_INVOICE_ACCEPTED, HOLD_INVOICE_CANCELED)
NOTIFICATION_TYPES = (PAYMENT_RECEIVED, PAYMENT_SENT, *OF_HOLD_INVOICES)

_KINDS = {
    Encryption.NIP44_V2: KIND_NOTIFICATION,
    Encryption.NIP04: KIND_NOTIFICATION_NIP04,
}


def seal_notification(
    notification_type: str, notification: dict[str, Any], keys: KeyPair, cipher: Cipher, now: int
) -> list[Event]:
    """Return the encrypted and signed events of a notification.

    There is one event for each encryption scheme; a client listens for one of them.

    Args:
        notification_type: for example `payment_received`.
        notification: the transaction.
        keys: the wallet key of the connection.
        cipher: the connection's cipher.
        now: Unix seconds.

    """
    body = {"notification_type": notification_type, "notification": notification}
    plaintext = to_json(body)
    return [
        sign_event(
            keys,
            kind=kind,
            content=cipher.encrypt(scheme, plaintext),
            tags=[["p", cipher.peer]],
            created_at=now,
        )
        for scheme, kind in _KINDS.items()
    ]
