"""Who is paid in the cases about paying. Implemented over the double and over a line of real nodes."""

from typing import Any, Protocol

from tests.support.channel import Json


class Payee(Protocol):
    """Another node, which the node under test reaches through a third.

    Every method returns when what it says has happened, or raises after a bounded time.
    """

    @property
    def id(self) -> str:
        """The node's public key."""

    def invoice(self, amount_msat: int, description: str = "", **fields: Any) -> Json:
        """Make an invoice; 0 msat for any amount. Returns what CLN's `invoice` does."""

    def fee_msat(self, amount_msat: int) -> int:
        """Return what the node in between takes for a payment of this amount."""

    def received_msat(self) -> int:
        """Return what it has ever received."""

    def forget(self, invoice: Json) -> None:
        """Have the payee refuse a payment of this invoice."""

    def hold(self) -> None:
        """Keep payments under way from now on."""

    def held(self) -> int:
        """Return how many payments are kept under way."""

    def release(self, *, fail: bool = False) -> None:
        """Let the payments that are held end, and those still to come pass."""
