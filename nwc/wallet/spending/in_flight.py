"""The payments in flight of a connection, each with its payment hash, for showing them to apps.

NIP-47 requires a payment hash for every transaction. lightningd chooses the preimage of a keysend, so
its hash is unknown until lightningd lists a part of it. Until then the keysend is not shown.
"""

import asyncio
from dataclasses import replace

from nwc.cln.payer import Payer
from nwc.wallet.connections.record import connection_id_of
from nwc.wallet.labels import request_label
from nwc.wallet.spending.ledgers import Ledgers
from nwc.wallet.spending.payment import Payment


class InFlight:
    """Finds the payments in flight, and caches the payment hashes of keysends in flight."""

    def __init__(self, payer: Payer, ledgers: Ledgers) -> None:
        self._payer = payer
        self._ledgers = ledgers
        # By client key and request id.
        self._hashes: dict[tuple[str, str], str] = {}

    async def of(self, client_pubkey: str) -> list[Payment]:
        """Return the payments in flight of a connection, except keysends of unknown hash.

        Each returned payment has its payment hash.

        Raises:
            NodeError: lightningd is unavailable.

        """
        await self._learn(client_pubkey)
        # Read after the wait: a payment may have ended meanwhile.
        reserved = self._ledgers.known(client_pubkey).reservations.values()
        with_hash = [self._with_hash(client_pubkey, payment) for payment in reserved]
        return [payment for payment in with_hash if payment.payment_hash]

    async def with_hash(self, client_pubkey: str, payment_hash: str) -> Payment | None:
        """Return the payment in flight of a connection with this hash, None if there is none.

        Raises:
            NodeError: lightningd is unavailable.

        """
        in_flight = await self.of(client_pubkey)
        return next((one for one in in_flight if one.payment_hash == payment_hash), None)

    async def _learn(self, client_pubkey: str) -> None:
        """Ask lightningd for the unknown payment hashes."""
        unknown = [
            payment
            for payment in self._ledgers.known(client_pubkey).reservations.values()
            if not self._with_hash(client_pubkey, payment).payment_hash
        ]
        if not unknown:
            return
        hashes = await asyncio.gather(*(self._hash_of(client_pubkey, one) for one in unknown))
        self._forget_ended()
        for payment, payment_hash in zip(unknown, hashes, strict=True):
            if payment_hash is not None:
                self._hashes[client_pubkey, payment.request_id] = payment_hash

    async def _hash_of(self, client_pubkey: str, payment: Payment) -> str | None:
        label = request_label(connection_id_of(client_pubkey), payment.request_id)
        return await self._payer.hash_of(payment.first_sendpay_index, label)

    def _forget_ended(self) -> None:
        self._hashes = {
            (client_pubkey, request_id): payment_hash
            for (client_pubkey, request_id), payment_hash in self._hashes.items()
            if request_id in self._ledgers.known(client_pubkey).reservations
        }

    def _with_hash(self, client_pubkey: str, payment: Payment) -> Payment:
        known = payment.payment_hash or self._hashes.get((client_pubkey, payment.request_id))
        return replace(payment, payment_hash=known)
