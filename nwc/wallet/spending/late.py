"""Late payments: complete in lightningd, but not booked.

A payment is booked as failed only when it is certain that no part can complete any more. If lightningd
pays all the same, or if a record is lost, the sweep in this module finds the payment: it goes through
the complete parts on the node, by `created_index`, and books each payment with our label that is not
booked.

The index of the next part to look at is at ["nwc", "late_payments"] in the datastore.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from nwc.cln.errors import UNREADABLE
from nwc.cln.node import Json, Node
from nwc.cln.payer import Payer
from nwc.wallet.labels import RequestLabel, parse_request_label
from nwc.wallet.records import RecordError, RecordKind, read
from nwc.wallet.spending.payment import Payment
from nwc.wallet.spending.payment_records import REPLAY_S, UnreadableRecordError
from nwc.wallet.spending.payments import Payments

_KEY = ("nwc", "late_payments")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Progress:
    """The record: the `created_index` of the next part to look at."""

    first_index: int


_KIND = RecordKind.of(_Progress)


class LatePayments:
    """Finds late payments and books them. Methods raise NodeError, as Node's do."""

    def __init__(self, node: Node, payer: Payer, payments: Payments) -> None:
        self._node = node
        self._payer = payer
        self._payments = payments

    async def sweep(self, now: float) -> None:
        """Book the late payments among the parts that completed since the last sweep.

        Args:
            now: Unix seconds.

        """
        first_index = await self._first_index()
        # Both are read before the parts: a part that is pending now, or begins later, is for the next
        # sweep.
        next_index = await self._payer.next_sendpay_index()
        pending = await self._payer.oldest_pending_index()
        found = defaultdict[RequestLabel, list[Json]](list)
        async for part in self._payer.completed(first_index):
            if label := parse_request_label(str(part.get("label"))):
                found[label].append(part)
        for (connection_id, request_id), parts in found.items():
            try:
                await self._book(connection_id, request_id, parts, now)
            except UNREADABLE:
                _log.exception(
                    "payment %s of connection %s cannot be checked: unexpected parts",
                    request_id,
                    connection_id,
                )
        upto = next_index if pending is None else min(pending, next_index)
        await self._node.datastore_put(_KEY, _KIND.to_json({"first_index": max(first_index, upto)}))

    async def _first_index(self) -> int:
        """Return where the last sweep ended; 0 if that is unknown.

        A sweep from the beginning finds the same, and takes longer.
        """
        try:
            return read(_Progress, _KIND.parse(await self._node.datastore_get(_KEY) or "")).first_index
        except RecordError:
            return 0

    async def _book(
        self, connection_id: str, request_id: str, parts: Iterable[Json], now: float
    ) -> None:
        client_pubkey = self._payments.ledgers.client_pubkey_of(connection_id)
        if client_pubkey is None or self._payments.is_in_flight(client_pubkey, request_id):
            return
        try:
            record = await self._payments.records.get(connection_id, request_id)
        except UnreadableRecordError:
            return
        if record is not None and record.is_settled:
            return
        payment = record.payment if record else _payment_of(request_id, list(parts))
        # The records of older settled payments may have been deleted.
        if record is None and now - payment.created_at > REPLAY_S:
            return
        _log.warning(
            "payment %s of connection %s was not booked as paid, but lightningd has paid it; "
            "it is booked now",
            request_id,
            connection_id,
        )
        await self._payments.book_late(client_pubkey, payment)


def _payment_of(request_id: str, parts: list[Json]) -> Payment:
    """Return a payment that has no record, made from its parts."""
    sent_msat = sum(int(part["amount_sent_msat"]) for part in parts)
    amounts = [int(part.get("amount_msat") or part["amount_sent_msat"]) for part in parts]
    amount_msat = sum(amounts)
    created_at = min(int(part["created_at"]) for part in parts)
    return Payment(
        request_id=request_id,
        request_created_at=created_at,
        method="pay_invoice",
        encryption="nip44_v2",
        created_at=created_at,
        amount_msat=amount_msat,
        max_fee_msat=max(0, sent_msat - amount_msat),
        payment_hash=parts[0]["payment_hash"],
        invoice=None,
        destination=parts[0].get("destination"),
        first_sendpay_index=min(int(part["created_index"]) for part in parts),
        is_bolt12="bolt12" in parts[0],
    )
