"""Large payments: those that lightningd may have to split, because no channel alone can carry them.

Where all that the node has is not enough, lightningd tries one split after the other, thousands in a
minute. So what certainly does not fit is refused, and of those that may not fit only a few run at once.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from nwc.cln.channels import Sendable
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.spending.failure import INSUFFICIENT
from nwc.wallet.spending.payment import Payment

MAX_LARGE_PER_CONNECTION = 1
MAX_LARGE_IN_ALL = 4


class LargePayments:
    """Counts the large payments that lightningd is making attempts for."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()

    @contextmanager
    def place(self, client_pubkey: str) -> Iterator["Place"]:
        """Hold a place for one payment of a connection, if it turns out to be large."""
        place = Place(self._running, client_pubkey)
        try:
            yield place
        finally:
            place.leave()


class Place:
    """The place of one payment; taken by `check` only when the payment is large."""

    def __init__(self, running: Counter[str], client_pubkey: str) -> None:
        self._running = running
        self._client_pubkey = client_pubkey
        self._is_taken = False

    def check(self, payment: Payment, sendable: Sendable) -> None:
        """Take the place if the payment is large.

        Raises:
            Nip47Error: INSUFFICIENT_BALANCE, the node cannot send that much; RATE_LIMITED, too many
                large payments run already.

        """
        if payment.amount_msat > sendable.total_msat:
            raise INSUFFICIENT
        if payment.reserved_msat <= sendable.largest_msat:
            return
        if (
            self._running[self._client_pubkey] >= MAX_LARGE_PER_CONNECTION
            or self._running.total() >= MAX_LARGE_IN_ALL
        ):
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "too many payments that need several channels are being tried; try again in a minute",
            )
        self._running[self._client_pubkey] += 1
        self._is_taken = True

    def leave(self) -> None:
        """Give the place back."""
        if self._is_taken:
            self._running[self._client_pubkey] -= 1
            if not self._running[self._client_pubkey]:
                del self._running[self._client_pubkey]
