"""The connection URI (NIP-47, "Nostr Wallet Connect URI")."""

from collections.abc import Sequence
from urllib.parse import quote

SCHEME = "nostr+walletconnect"


def connection_uri(
    wallet_pubkey: str, relays: Sequence[str], secret: str | None, lud16: str | None
) -> str:
    """Return the connection URI for the client. It contains the client's secret.

    Args:
        wallet_pubkey: the wallet key of this connection, 64 hex digits.
        relays: every relay of the connection.
        secret: the client's secret key, 64 hex digits; None if only the client has it.
        lud16: a lightning address, or None.

    """
    query = [("relay", relay) for relay in relays]
    if secret is not None:
        query.append(("secret", secret))
    if lud16 is not None:
        query.append(("lud16", lud16))
    encoded = "&".join(f"{name}={quote(value, safe='')}" for name, value in query)
    return f"{SCHEME}://{wallet_pubkey}?{encoded}"
