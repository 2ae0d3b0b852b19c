"""The payee of the tests about paying. The double and a line of real nodes each implement it."""

from typing import Any, Protocol

from tests.support.channel import Json


class Payee(Protocol):
    """Another node, which the node under test reaches through a third one.

    Every method returns when its work is done, or raises after a bounded time.
    """

    @property
    def id(self) -> str:
        """The node's public key."""

    def invoice(self, amount_msat: int, description: str = "", **fields: Any) -> Json:
        """Make an invoice and return the result of CLN's `invoice`; 0 msat is any amount."""

    def offer(self, amount_msat: int, **fields: Any) -> str:
        """Make a BOLT12 offer of "tea" and return it; 0 msat is any amount.

        `fields` are more parameters of CLN's `offer`.
        """

    def ended_offer(self) -> str:
        """Make an offer for which there are no invoices any more, and return it."""

    def received_notes(self) -> list[str]:
        """Return the payer's note of each invoice that was fetched for an offer."""

    def fee_msat(self, amount_msat: int) -> int:
        """Return the fee of the node in between for a payment of this amount."""

    def received_msat(self) -> int:
        """Return the sum that the payee has received so far."""

    def forget(self, invoice: Json) -> None:
        """Make the payee refuse payments of this invoice."""

    def hold(self) -> None:
        """Hold payments that arrive from now on: they stay in flight."""

    def held(self) -> int:
        """Return how many payments are held."""

    def release(self, *, fail: bool = False) -> None:
        """Settle (or fail) the held payments, and stop holding new ones."""
