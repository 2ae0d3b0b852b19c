"""Large payments: those that lightningd may try to split again and again.

Where no split fits, `pay` tries thousands in a minute, and keeps some 22 KB of each until lightningd
ends. So what certainly does not fit is refused; of the payments that no channel alone can carry, only a
few run at once; and a connection for which thousands were tried in vain waits a day with its next large
one. The attempts in vain of all connections together are bounded too. That count is never reset:
lightningd frees the memory only when it ends, and then this plugin starts again as well.
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
# The most attempts that `pay` makes for one payment; and the bound for all connections, some 1.3 GB.
MOST_ATTEMPTS = 20_000
MAX_ATTEMPTS_IN_ALL = MAX_LARGE_IN_ALL * MOST_ATTEMPTS

_log = logging.getLogger(__name__)


class LargePayments:
    """Knows which large payments are being tried, and for whom thousands of attempts failed.

    Args:
        now: returns the seconds of a clock that nobody sets.

    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._slots = Slots(own=0, most=MAX_LARGE_PER_CONNECTION, shared=MAX_LARGE_IN_ALL)
        self._exhausted_at: dict[str, list[float]] = {}
        self._attempts = 0

    @contextmanager
    def slot(self, client_pubkey: str, payment: Payment, sendable: Sendable) -> Iterator[bool]:
        """Let one payment be tried while this is entered, which tells whether it is large.

        Raises:
            Nip47Error: INSUFFICIENT_BALANCE, the node cannot send that much; RATE_LIMITED, too many
                large payments are being tried, or were tried in vain.

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
            self._slots.release(client_pubkey)

    def note_failure(self, client_pubkey: str, attempts: int) -> None:
        """Note how many attempts lightningd made for a payment that failed."""
        if attempts < MANY_ATTEMPTS:
            return
        earlier = self._exhausted_at.get(client_pubkey, [])
        self._exhausted_at[client_pubkey] = [*earlier, self._now()][-MAX_EXHAUSTED:]
        self._attempts += attempts
        if self._attempts >= MAX_ATTEMPTS_IN_ALL:
            _log.warning(
                "lightningd tried %d routes in vain for large payments, and keeps them in memory; "
                "apps cannot pay %d msat or more until lightningd is restarted",
                self._attempts,
                SMALL_MSAT,
            )

    def _check_memory(self) -> None:
        if self._attempts >= MAX_ATTEMPTS_IN_ALL:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "lightningd tried too many routes in vain for large payments; "
                f"payments of {SMALL_MSAT} msat and more wait until it is restarted",
            )

    def _check_exhausted(self, client_pubkey: str) -> None:
        recent = [
            at for at in self._exhausted_at.get(client_pubkey, ()) if self._now() - at < EXHAUSTED_FOR_S
        ]
        if len(recent) >= MAX_EXHAUSTED:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "lightningd tried thousands of routes in vain for this connection; "
                f"payments of {SMALL_MSAT} msat and more wait until tomorrow",
            )

    def _check_slot(self, client_pubkey: str) -> None:
        expected = self._attempts + self._slots.shared_taken * MOST_ATTEMPTS
        if expected >= MAX_ATTEMPTS_IN_ALL or not self._slots.has_free(client_pubkey):
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "too many payments that need several channels are being tried; try again in a minute",
            )
