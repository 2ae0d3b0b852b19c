"""Hold invoices of connections: made, polled, settled and cancelled through the plugin `hold`.

    unpaid ──► accepted ──► settled
       │           └──────► cancelled: by its connection, by the owner, or near the deadline
       └──────────────────► cancelled, or expired

What keeps the money right:

1. Only the connection that made an invoice settles and cancels it.
2. It is settled only in state accepted, and while lightningd holds the whole amount: `hold` would give
   the preimage away for a part of it too. `hold` also counts parts that lightningd has failed because
   `hold` was restarted, and can count one that times out in the moment in which the last one arrives.
3. An accepted invoice that nobody settles is cancelled CANCEL_MARGIN blocks before its deadline, long
   before a peer would close the channel for it.
4. What was paid is counted before the record says "settled". The ledger remembers the payment hashes
   that are counted until their records are done, so a crash in between counts nothing twice.
5. If the connection is gone (revoked), its open invoices are cancelled, and nothing is counted.
6. What `hold` says is paid is counted once lightningd has the preimage. If lightningd is killed before,
   it asks `hold` again, which cannot settle any more, and fails the HTLCs after its MPP timeout (60 s).

`hold` gives no notification, so each open invoice is looked up every POLL_S seconds.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from weakref import WeakValueDictionary

from nwc.cln.errors import NodeError, RpcCallError
from nwc.cln.hold import HoldInvoice, HoldPlugin, HoldState
from nwc.cln.node import Node
from nwc.nip47.errors import ErrorCode, Nip47Error, refuse
from nwc.tasks import Tasks
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.hold_record import HoldRecord, HoldRecords, HoldRecordState

POLL_S = 5.0
# Without open invoices: how soon it is noticed that the owner has started `hold`.
IDLE_POLL_S = 60.0
MAX_OPEN_PER_CONNECTION = 100
# lightningd closes a channel some 17 blocks before an incoming HTLC expires if it knows the preimage
# and the peer does not take it. One block more, and six for a settlement that takes its time.
DEADLINE_MARGIN = 18 + 6
# An invoice is cancelled this many blocks before its deadline.
CANCEL_MARGIN = 3
# The waits before each look whether lightningd still holds HTLCs that `hold` has settled, which it does
# for milliseconds. Together they must be shorter than the MPP timeout of `hold`: an HTLC that it has
# failed looks like one that is fulfilled.
LOOKS_S = (0, 0.1, 0.4, 2.5)

_NOT_FOUND = "there is no such hold invoice of this connection"
_SYNCING = ("warning_bitcoind_sync", "warning_lightningd_sync")

_log = logging.getLogger(__name__)

Notify = Callable[[str, HoldRecord], Awaitable[None]]


class HoldInvoices:
    """The hold invoices of all connections.

    Methods raise Nip47Error for the client, NodeError if lightningd or `hold` refuses or is unavailable.

    Args:
        node: lightningd.
        plugin: the commands of `hold`.
        records: what is stored about hold invoices.
        client_pubkey_of: returns the client key of a stored connection by its id, None if it is gone.
        count: adds what was received, in msat, to the ledger of a client key, once for each payment
            hash; the last argument are the payment hashes that must be remembered.
        notify: notifies apps of an invoice that is accepted or settled, by connection id.
        on_found: called when `hold` has appeared or disappeared.

    """

    def __init__(
        self,
        node: Node,
        plugin: HoldPlugin,
        records: HoldRecords,
        *,
        client_pubkey_of: Callable[[str], str | None],
        count: Callable[[str, int, str, frozenset[str]], Awaitable[None]],
        notify: Notify,
        on_found: Callable[[], None] = lambda: None,
    ) -> None:
        self._node = node
        self.plugin = plugin
        self.records = records
        self._client_pubkey_of = client_pubkey_of
        self._count = count
        self._notify = notify
        self._on_found = on_found
        self._tasks = Tasks()
        self._wake = asyncio.Event()
        self._adding = defaultdict[str, asyncio.Lock](asyncio.Lock)
        # How many open invoices of revoked connections have ended, by connection id.
        self._ended_of_gone = Counter[str]()
        # By payment hash. Everything that decides about an invoice happens under its lock.
        self._locks = WeakValueDictionary[str, asyncio.Lock]()

    def start(self) -> None:
        """Start polling, in the background."""
        self._tasks.spawn(self._run())

    async def stop(self) -> None:
        """Stop polling. What was interrupted is done after the next start."""
        await self._tasks.finish(0)

    # For the methods

    async def require(self) -> None:
        """Raise Nip47Error NOT_IMPLEMENTED if the node has no `hold` now."""
        await self.look_for_plugin()
        if not self.plugin.is_available:
            raise Nip47Error(ErrorCode.NOT_IMPLEMENTED, "this node does not serve hold invoices")
        await self.records.ready()

    async def visible_to(
        self, connection: Connection, payment_hash: str | None = None
    ) -> list[HoldRecord]:
        """Return the hold invoices that a connection may see, newest first.

        Args:
            connection: which.
            payment_hash: only the one with this payment hash; None for all.

        """
        await self.records.ready()
        found = self.records.of(None if connection.view is View.NODE else connection.id)
        return [record for record in found if payment_hash in (None, record.payment_hash)]

    async def add(
        self,
        connection_id: str,
        request_id: str,
        payment_hash: str,
        make: Callable[[], Awaitable[HoldRecord]],
    ) -> HoldRecord:
        """Return the hold invoice of a request, a new one unless a copy of it has made one.

        Args:
            connection_id: whose request.
            request_id: of the request event.
            payment_hash: from the client.
            make: returns the record with the signed invoice, which `hold` does not know yet.

        """
        await self.require()
        async with self._adding[connection_id], self._lock(payment_hash):
            if self._client_pubkey_of(connection_id) is None:
                raise Nip47Error(ErrorCode.UNAUTHORIZED, "this connection is revoked")
            known = self.records.get(connection_id, payment_hash)
            if known is None or known.request_id != request_id:
                await self._check_new(connection_id, payment_hash)
                known = await make()
                # Stored first: an invoice without a record could be paid, but belongs to nobody.
                await self.records.put(connection_id, known)
            await self._inject(connection_id, known)
        self._wake.set()
        return known

    async def settle(self, connection_id: str, payment_hash: str, preimage: str) -> None:
        """Settle an accepted invoice of a connection; nothing happens if it is settled already."""
        await self.require()
        async with self._lock(payment_hash):
            # It cancels the invoice if the deadline is near.
            await self._check(connection_id, payment_hash)
            record = self._check_owner(connection_id, payment_hash)
            if record.state is HoldRecordState.SETTLED:
                return
            if record.state is not HoldRecordState.ACCEPTED:
                refuse(f"preimage: its hold invoice must be accepted; it is {_word(record)}")
            info = await self._node.info()
            if any(warning in info for warning in _SYNCING):
                raise Nip47Error(ErrorCode.INTERNAL, "the node is still reading the newest blocks")
            found = await self.plugin.find(payment_hash)
            if not await self._cancel_unless_whole(connection_id, record, found):
                refuse("preimage: its hold invoice must be accepted; its payment is gone")
            await self._settle(connection_id, payment_hash, preimage)

    async def _settle(self, connection_id: str, payment_hash: str, preimage: str) -> None:
        try:
            await self.plugin.settle(preimage)
        except RpcCallError as error:
            # `hold` has lost the HTLCs (it was restarted), or it could not store what it has done.
            _log.warning("hold did not settle the hold invoice %s: %s", payment_hash, error)
            raise Nip47Error(
                ErrorCode.INTERNAL, "the node did not settle it; its payment may be gone"
            ) from None
        # It is settled: what fails from here on is done by the next poll.
        with suppress(NodeError):
            await self._check(connection_id, payment_hash)

    async def cancel(self, connection_id: str, payment_hash: str) -> None:
        """Cancel an open invoice of a connection; nothing happens if it is cancelled already."""
        await self.require()
        async with self._lock(payment_hash):
            await self._check(connection_id, payment_hash)
            record = self._check_owner(connection_id, payment_hash)
            if record.state is HoldRecordState.SETTLED:
                refuse("payment_hash: its hold invoice must be open; it is settled")
            if record.is_open:
                await self._cancel(connection_id, record, HoldRecordState.CANCELLED)

    # For the owner

    def summary(self) -> str:
        """Return whether hold invoices are served, and how many are open."""
        if not self.plugin.is_available:
            return "not served: the plugin hold is missing"
        some = self.records.of(None)
        accepted = sum(record.state is HoldRecordState.ACCEPTED for record in some)
        return f"{sum(record.is_open for record in some)} open, of which {accepted} are accepted"

    async def cancel_open(self, connection_id: str | None = None) -> tuple[int, int]:
        """Cancel the open invoices of a revoked connection, or of all connections for None.

        Returns:
            How many were cancelled since it is revoked, also by a poll meanwhile, and how many are still
            open because `hold` or lightningd failed. The next poll tries again.

        """
        await self.records.ready()
        for adding in [lock for id_, lock in self._adding.items() if connection_id in (None, id_)]:
            async with adding:
                pass  # what is being made is cancelled too; nothing is made afterwards
        wanted = [(id_, hash_) for id_, hash_ in self.records.not_done() if connection_id in (None, id_)]
        await asyncio.gather(*(self._check_alone(id_, hash_) for id_, hash_ in wanted))
        still_open = sum(self._is_open(id_, hash_) for id_, hash_ in wanted)
        ids = list(self._ended_of_gone) if connection_id is None else [connection_id]
        return sum(self._ended_of_gone.pop(id_, 0) for id_ in ids), still_open

    def _is_open(self, connection_id: str, payment_hash: str) -> bool:
        record = self.records.get(connection_id, payment_hash)
        return record is not None and record.is_open

    # Polling

    async def _run(self) -> None:
        while True:
            wait_s = POLL_S
            try:
                if not await self.poll():
                    wait_s = IDLE_POLL_S
            except NodeError as error:
                _log.debug("the hold invoices are not looked up: %s", error)
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def poll(self) -> bool:
        """Look up all invoices with something left to do, and return True if any is left."""
        await self.records.ready()
        await self.look_for_plugin()
        wanted = self.records.not_done()
        if self.plugin.is_available:
            await asyncio.gather(*(self._check_alone(id_, hash_) for id_, hash_ in wanted))
        return bool(self.records.not_done())

    async def look_for_plugin(self) -> None:
        """Look for the commands of `hold`, and have it noted if they have appeared or disappeared."""
        before = self.plugin.is_available
        if await self.plugin.look_for() is not before:
            _log.info("hold invoices: the plugin hold %s", "is gone" if before else "is there")
            self._on_found()

    async def _check_alone(self, connection_id: str, payment_hash: str) -> None:
        """Look up one invoice; a failure must not concern the others."""
        try:
            async with self._lock(payment_hash):
                await self._check(connection_id, payment_hash)
        except NodeError as error:
            _log.debug("a hold invoice is not looked up: %s", error)
        except Exception:
            _log.exception("a hold invoice is not looked up")

    async def _check(self, connection_id: str, payment_hash: str) -> None:
        """Bring the record of an invoice up to what `hold` says, and do what follows from it."""
        record = self.records.get(connection_id, payment_hash)
        if record is None or record.is_done:
            return
        if not record.is_open:
            await self._announce(connection_id, record)
            return
        found = await self.plugin.find(payment_hash)
        if found is None:
            await self._missing(connection_id, record)
        elif found.state in (HoldState.PAID, HoldState.CANCELLED):
            await self._ended(connection_id, record, found, HoldRecordState.CANCELLED)
        elif self._client_pubkey_of(connection_id) is None:
            await self._cancel(connection_id, record, HoldRecordState.CANCELLED)
        elif found.state is HoldState.ACCEPTED:
            await self._accepted(connection_id, record, found)
        elif record.expires_at <= time.time():
            await self._cancel(connection_id, record, HoldRecordState.EXPIRED)

    async def _missing(self, connection_id: str, record: HoldRecord) -> None:
        """End an invoice that `hold` does not know, unless a copy of its request may still inject it."""
        if record.state is HoldRecordState.ACCEPTED:
            _log.warning("hold has lost the accepted hold invoice %s", record.payment_hash)
            await self._end(connection_id, record, HoldRecordState.CANCELLED)
        elif record.expires_at <= time.time() or self._client_pubkey_of(connection_id) is None:
            await self._end(connection_id, record, HoldRecordState.EXPIRED)

    async def _accepted(self, connection_id: str, record: HoldRecord, found: HoldInvoice) -> None:
        deadline = (found.lowest_cltv_expiry or 0) - DEADLINE_MARGIN
        info = await self._node.info()
        if int(info["blockheight"]) >= deadline - CANCEL_MARGIN:
            _log.warning(
                "the hold invoice %s is cancelled: nobody has settled it, and it had to be settled "
                "before block %d",
                record.payment_hash,
                deadline,
            )
            await self._cancel(connection_id, record, HoldRecordState.CANCELLED)
        elif record.state is HoldRecordState.UNPAID:
            if held_msat := await self._cancel_unless_whole(connection_id, record, found):
                await self._accept(connection_id, record, deadline, held_msat)
        elif not record.is_announced:
            await self._announce(connection_id, record)

    async def _accept(
        self, connection_id: str, record: HoldRecord, deadline: int, held_msat: int
    ) -> None:
        accepted = replace(
            record,
            state=HoldRecordState.ACCEPTED,
            settle_deadline=deadline,
            received_msat=held_msat,
            is_announced=False,
        )
        await self.records.put(connection_id, accepted)
        await self._announce(connection_id, accepted)

    async def _cancel_unless_whole(
        self, connection_id: str, record: HoldRecord, found: HoldInvoice | None
    ) -> int:
        """Return what lightningd holds of an accepted invoice, in msat.

        If that is less than its amount, cancel it and return 0.
        """
        held_msat = await self._held_msat(record.payment_hash, found) if found is not None else 0
        if held_msat >= record.amount_msat:
            return held_msat
        _log.warning("the hold invoice %s is cancelled: its payment is gone", record.payment_hash)
        await self._cancel(connection_id, record, HoldRecordState.CANCELLED)
        return 0

    async def _cancel(self, connection_id: str, record: HoldRecord, state: HoldRecordState) -> None:
        """Cancel an open invoice, and store how it has ended."""
        found = await self.plugin.find(record.payment_hash)
        if found is not None:
            await self.plugin.cancel(record.payment_hash)
            found = await self.plugin.find(record.payment_hash)
        await self._ended(connection_id, record, found, state)

    async def _ended(
        self,
        connection_id: str,
        record: HoldRecord,
        found: HoldInvoice | None,
        state: HoldRecordState,
    ) -> None:
        """Store how an invoice has ended: settled, or else in the given state.

        Raises:
            NodeError: it has not ended yet, or lightningd is unavailable.

        """
        if found is None or found.state is HoldState.CANCELLED:
            await self._end(connection_id, record, state)
        elif found.state is not HoldState.PAID:
            raise RpcCallError("cancelholdinvoice", 0, "it is still open")
        elif await self._is_lost(record.payment_hash, found):
            _log.warning(
                "the hold invoice %s is not counted: hold says that it is paid, but lightningd did not "
                "get its preimage, and fails the payment",
                record.payment_hash,
            )
            await self._end(connection_id, record, HoldRecordState.CANCELLED)
        else:
            await self._paid(connection_id, record, found)

    async def _is_lost(self, payment_hash: str, found: HoldInvoice) -> bool:
        """Return True if lightningd still holds HTLCs of a paid invoice, and so will not be paid."""
        for wait_s in LOOKS_S:
            await asyncio.sleep(wait_s)
            if not await self._held_msat(payment_hash, found):
                return False
        return True

    async def _held_msat(self, payment_hash: str, found: HoldInvoice) -> int:
        """Return the sum of an invoice's HTLCs that lightningd holds, neither fulfilled nor failed."""
        held = await self._node.held_htlcs(payment_hash)
        return sum(htlc.amount_msat for htlc in held if htlc.id in found.htlc_ids)

    async def _paid(self, connection_id: str, record: HoldRecord, found: HoldInvoice) -> None:
        """Count a settled invoice, then store that it is settled, then notify apps. In this order."""
        client_pubkey = self._client_pubkey_of(connection_id)
        if client_pubkey is None:
            _log.info("the hold invoice %s of a revoked connection was settled", record.payment_hash)
            await self.records.delete(connection_id, record.payment_hash)
            return
        remembered = self.records.hashes_not_done(connection_id)
        # `hold` also says "paid" of parts that lightningd has failed; none arrives once it has accepted.
        received_msat = min(found.paid_msat, record.received_msat or record.amount_msat)
        await self._count(client_pubkey, received_msat, record.payment_hash, remembered)
        settled = replace(
            record,
            state=HoldRecordState.SETTLED,
            is_announced=False,
            received_msat=received_msat,
            preimage=found.preimage,
            settled_at=int(time.time()),
        )
        await self.records.put(connection_id, settled)
        await self._announce(connection_id, settled)

    async def _end(self, connection_id: str, record: HoldRecord, state: HoldRecordState) -> None:
        if self._client_pubkey_of(connection_id) is None:
            await self.records.delete(connection_id, record.payment_hash)
            self._ended_of_gone[connection_id] += 1
        else:
            # The app counts on an accepted one, and may not be the one that has ended it.
            is_announced = record.state is not HoldRecordState.ACCEPTED
            ended = replace(record, state=state, is_announced=is_announced)
            await self.records.put(connection_id, ended)
            if not is_announced:
                await self._announce(connection_id, ended)

    async def _announce(self, connection_id: str, record: HoldRecord) -> None:
        await self._notify(connection_id, record)
        await self.records.put(connection_id, replace(record, is_announced=True))

    # Small ones

    def _lock(self, payment_hash: str) -> asyncio.Lock:
        return self._locks.setdefault(payment_hash, asyncio.Lock())

    def _check_owner(self, connection_id: str, payment_hash: str) -> HoldRecord:
        """Return the record of a connection's own invoice.

        Raises:
            Nip47Error: NOT_FOUND, also for an invoice of another connection.

        """
        record = self.records.get(connection_id, payment_hash)
        if record is None:
            raise Nip47Error(ErrorCode.NOT_FOUND, _NOT_FOUND)
        return record

    async def _check_new(self, connection_id: str, payment_hash: str) -> None:
        """Raise Nip47Error if the node knows the payment hash, or too many invoices are open."""
        if sum(record.is_open for record in self.records.of(connection_id)) >= MAX_OPEN_PER_CONNECTION:
            refuse(
                f"this connection has {MAX_OPEN_PER_CONNECTION} open hold invoices, which is the limit"
            )
        if (
            self.records.with_hash(payment_hash) is not None
            or await self._node.invoice_by_payment_hash(payment_hash) is not None
            or await self._node.payment_parts(payment_hash)
            or await self.plugin.find(payment_hash) is not None
        ):
            refuse("payment_hash: must be a new one; this node knows it already")

    async def _inject(self, connection_id: str, record: HoldRecord) -> None:
        """Give an invoice to `hold`, unless it has it already."""
        if not record.is_open or await self.plugin.find(record.payment_hash) is not None:
            return
        try:
            await self.plugin.inject(record.invoice, record.min_cltv)
        except RpcCallError:
            await self.records.delete(connection_id, record.payment_hash)
            raise


def _word(record: HoldRecord) -> str:
    return "not paid yet" if record.state is HoldRecordState.UNPAID else str(record.state)
