"""Large payments: those that lightningd may try to split again and again.

If no split works, `pay` tries thousands in a minute, and keeps some 22 KB of each in memory until
lightningd stops. So there are three limits:

- A payment that exceeds what the node can send is refused.
- Only a few payments that need more than one channel run at once.
- After two payments with thousands of failed attempts, a connection may make no large payment for a day.

The failed attempts of all connections together are limited too. Their count is never reset: lightningd
frees the memory only when it stops, and then this plugin restarts as well.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nwc.cln.channels import Sendable
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.slots import Slots
from nwc.wallet.spending.payment import Payment
from nwc.wallet.spending.payment_errors import INSUFFICIENT

MAX_LARGE_PER_CONNECTION = 1
MAX_LARGE_IN_ALL = 3
# `pay` makes no parts below 100 sat, so payments below this are split into fewer than 1,000.
SMALL_MSAT = 50_000_000
MANY_ATTEMPTS = 1000
MAX_EXHAUSTED = 2
EXHAUSTED_FOR_S = 86_400
# The most attempts that `pay` makes for one payment, and the limit for all connections: some 1.3 GB.
MOST_ATTEMPTS = 20_000
MAX_ATTEMPTS_IN_ALL = MAX_LARGE_IN_ALL * MOST_ATTEMPTS

_log = logging.getLogger(__name__)


class LargePayments:
    """Limits the large payments in flight, and the failed attempts at them.

    Args:
        now: returns the seconds of a monotonic clock.

    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._slots = Slots(own=0, most=MAX_LARGE_PER_CONNECTION, shared=MAX_LARGE_IN_ALL)
        self._exhausted_at: dict[str, list[float]] = {}
        self._attempts = 0

    @contextmanager
    def slot(self, client_pubkey: str, payment: Payment, sendable: Sendable) -> Iterator[bool]:
        """Hold a slot for a payment, if it needs one, and yield True if it does.

        Args:
            client_pubkey: of the connection that pays.
            payment: as reserved.
            sendable: what the node can send now.

        Raises:
            Nip47Error: INSUFFICIENT_BALANCE, the node cannot send that much; RATE_LIMITED, too many
                large payments are in flight, or too many attempts have failed.

        """
        if payment.amount_msat > sendable.total_msat:
            raise INSUFFICIENT
        if payment.amount_msat >= SMALL_MSAT:
            self._check_memory()
            self._check_exhausted(client_pubkey)
        if payment.reserved_msat <= sendable.largest_msat:
            yield False
            return
        self._check_slot(client_pubkey)
        self._slots.take(client_pubkey)
        try:
            yield True
        finally:
            self._slots.give_back(client_pubkey)

    def note_failure(self, client_pubkey: str, attempts: int) -> None:
        """Count the attempts that lightningd made for a payment that failed."""
        if attempts < MANY_ATTEMPTS:
            return
        earlier = self._exhausted_at.get(client_pubkey, [])
        self._exhausted_at[client_pubkey] = [*earlier, self._now()][-MAX_EXHAUSTED:]
        self._attempts += attempts
        if self._attempts >= MAX_ATTEMPTS_IN_ALL:
            _log.warning(
                "lightningd tried %d routes for large payments that failed, and keeps them in memory; "
                "apps cannot pay %d msat or more until lightningd is restarted",
                self._attempts,
                SMALL_MSAT,
            )

    def _check_memory(self) -> None:
        if self._attempts >= MAX_ATTEMPTS_IN_ALL:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "lightningd tried too many routes for large payments that failed; "
                f"payments of {SMALL_MSAT} msat and more are refused until it is restarted",
            )

    def _check_exhausted(self, client_pubkey: str) -> None:
        recent = [
            at for at in self._exhausted_at.get(client_pubkey, ()) if self._now() - at < EXHAUSTED_FOR_S
        ]
        if len(recent) >= MAX_EXHAUSTED:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "lightningd tried thousands of routes for payments of this connection that failed; "
                f"payments of {SMALL_MSAT} msat and more are refused until tomorrow",
            )

    def _check_slot(self, client_pubkey: str) -> None:
        expected = self._attempts + self._slots.shared_taken * MOST_ATTEMPTS
        if expected >= MAX_ATTEMPTS_IN_ALL or not self._slots.are_free(client_pubkey):
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "too many payments that need several channels are pending; try again in a minute",
            )
