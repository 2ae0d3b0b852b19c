"""The service: a background thread whose event loop owns the relays, connections and requests.

`App` makes the parts and connects, starts and stops them. `Service` is the thread. The main thread,
which is pyln's, uses only the methods that are marked thread-safe.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from nwc.cln.errors import NodeError, RpcCallError
from nwc.cln.hold import HoldPlugin
from nwc.cln.node import Json, Node
from nwc.cln.payer import Payer
from nwc.cln.retry import retry
from nwc.nip47.kinds import KIND_REQUEST
from nwc.nostr.pool import RelayPool
from nwc.nostr.relay import Relay
from nwc.options import Settings
from nwc.tasks import ShieldedTasks, Tasks
from nwc.wallet.connections.info_publisher import InfoPublisher
from nwc.wallet.connections.manager import ConnectionManager, ManagementError
from nwc.wallet.connections.record import Connection
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection
from nwc.wallet.context import ChainTip, Wallet
from nwc.wallet.hold_invoices import HoldInvoices
from nwc.wallet.hold_record import HoldRecords
from nwc.wallet.notifier import Notifier
from nwc.wallet.paid_invoices import PaidInvoices, Receipts
from nwc.wallet.server import RequestServer
from nwc.wallet.spending.breaker import CircuitBreaker
from nwc.wallet.spending.late import LatePayments
from nwc.wallet.spending.ledgers import Ledgers
from nwc.wallet.spending.payment_records import PaymentRecords
from nwc.wallet.spending.payments import Payments
from nwc.wallet.spending.refusals import Refusals
from nwc.wallet.stored_data import Deleted, StoredData

SWEEP_INTERVAL_S = 3600
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 10.0
# A start that takes more than a moment is logged once at level info.
LOG_AFTER_FAILURES = 3
# A command of the owner, who is waiting.
COMMAND_TIMEOUT_S = 25.0
# When the plugin stops, work that takes less than this is finished; lightningd waits for a few seconds.
FINISH_TIMEOUT_S = 1.0
STOP_TIMEOUT_S = 2.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Step = Callable[[], Awaitable[object]]
# Runs a step of the start until lightningd is ready for it.
RunStep = Callable[[Step], Coroutine[Any, Any, None]]


class App:
    """The parts of the service. It is made, used and stopped in the event loop."""

    def __init__(self, settings: Settings, node: Node, tip: ChainTip) -> None:
        self.settings = settings
        self._node = node
        self._tasks = Tasks()
        self.started_at = int(time.time())
        self.connections = ConnectionRegistry()
        self.pool = RelayPool(self._make_relay)
        hold = HoldPlugin(node)
        holds = HoldRecords(node)
        self.info_publisher = InfoPublisher(
            self.pool, self.connections, settings.notifications, lambda: hold.is_available
        )
        records = PaymentRecords(node)
        payer = Payer(node, settings.pay_command)
        self.notifier = Notifier(
            node, self.pool, self.connections, records, holds, is_enabled=settings.notifications
        )
        self.stored = StoredData(node)
        # After nwc-forget nothing is stored until a connection is created.
        self._has_forgotten = False
        # Held by the sweeps that may store something.
        self._sweeping = asyncio.Lock()
        self.payments = Payments(
            payer,
            Ledgers(node),
            records,
            CircuitBreaker(node),
            Refusals(node),
            connection_of=self.connections.record_of,
            notify=self.notifier.payment_sent,
            answer=lambda key, record: self.server.answer_payment(key, record),  # noqa: PLW0108 - not made yet
            is_stored=lambda client_pubkey: self.manager.is_unserved(client_pubkey),  # noqa: PLW0108
        )
        self.late_payments = LatePayments(node, payer, self.payments)
        self.manager = ConnectionManager(
            node,
            self.pool,
            self.info_publisher,
            self.connections,
            settings.rate_limit,
            count_pending=self.payments.count_in_flight,
            on_deleted=self.payments.forget_if_done,
        )
        self.hold_invoices = HoldInvoices(
            node,
            hold,
            holds,
            client_pubkey_of=self._client_pubkey_of,
            count=self.payments.receive_hold,
            notify=self.notifier.hold_invoice,
            on_found=self.info_publisher.publish_all,
        )
        receipts = Receipts(
            self.connections,
            unserved_key=self.manager.unserved_key,
            count=self.payments.receive,
            notify=self.notifier.payment_received,
        )
        self.paid_invoices = PaidInvoices(node, receipts.take)
        self.wallet = Wallet(
            node,
            settings.invoice_expiry,
            tip,
            self.payments,
            hold_invoices=self.hold_invoices,
            notifications=settings.notifications,
        )
        self.server = RequestServer(
            self.wallet,
            self.connections,
            settings.max_request_age,
            self.pool.publish_to_any,
            self.manager.note_request,
        )

    def start(self, run_step: RunStep) -> None:
        """Start the background work, once, after the connections are loaded.

        Commands of the owner and requests to receive do not wait for it. Payments wait until the books
        are read.

        Args:
            run_step: runs a step until lightningd is ready for it.

        """
        self._tasks.spawn(run_step(partial(self.wallet.templates.sweep, is_start=True)))
        self._tasks.spawn(self._open_books(run_step))
        self._tasks.spawn(self.info_publisher.keep_fresh())

    async def _open_books(self, run_step: RunStep) -> None:
        # Notifications are sent in the order of the payments, so the pending ones are read first.
        await run_step(self.notifier.load)
        self.paid_invoices.start()
        self.hold_invoices.start()
        await run_step(partial(self.payments.load, is_node_start=self.settings.is_node_start))
        # Payments are made from here on, so this must not be repeated.
        self.payments.start()
        _log.debug("the books are read; payments can be made")
        await run_step(self._read_records)
        await self._sweep_hourly()

    def _client_pubkey_of(self, connection_id: str) -> str | None:
        """Return the client key of a stored connection by its id, None if it is revoked."""
        live = self.connections.with_id(connection_id)
        return live.client_pubkey if live else self.manager.unserved_key(connection_id)

    async def _read_records(self) -> None:
        """Read the payment records of all connections in advance: else the first request reads them."""
        revoked = await self.manager.revoked_ids()
        await self.payments.records.load([live.record.id for live in self.connections] + revoked)

    async def connect(self, record: Connection) -> LiveConnection:
        """Store a new connection, serve and return it. Raises what ConnectionManager.create raises."""
        live = await self.manager.create(record)
        if self._has_forgotten:
            self._has_forgotten = False
            self.paid_invoices.start()
        return live

    async def forget(self) -> Deleted:
        """End all connections and delete everything that the plugin stores.

        If lightningd takes too long, the next call deletes the rest.

        Raises:
            ManagementError: payments are pending, or the books are not read yet; nothing has been done.
                Or hold invoices cannot be cancelled; nothing has been deleted.
            NodeError: lightningd is unavailable; some records may be deleted.

        """
        if not self.payments.is_started:
            raise ManagementError("the plugin is still reading its books from lightningd; try again")
        deleted = await self.manager.end_all(self._delete_everything)
        how_much = "everything" if deleted.is_complete else "a part"
        _log.info("all connections have ended; %s of what was stored is deleted", how_much)
        return deleted

    async def _delete_everything(self) -> Deleted:
        async with self._sweeping:
            self._has_forgotten = True
        await self.paid_invoices.stop(FINISH_TIMEOUT_S)
        _, still_open = await self.hold_invoices.cancel_open()
        await self.hold_invoices.look_for_plugin()
        # If `hold` has ended, lightningd has failed what it held.
        if still_open and self.hold_invoices.plugin.is_available:
            raise ManagementError(f"{still_open} hold invoices cannot be cancelled; try again")
        try:
            return await self.stored.delete_all()
        finally:
            self.notifier.forget_what_was_read()
            self.wallet.records.forget_what_was_read()
            self.hold_invoices.records.forget_what_was_read()
            await self.payments.forget_what_was_read()

    async def _sweep_hourly(self) -> None:
        """Delete records that are no longer needed, and look for late payments, every hour."""
        while True:
            for step in (
                self.wallet.templates.sweep,
                partial(self._unless_forgotten, self.payments.records.sweep),
                partial(self._unless_forgotten, self.late_payments.sweep),
                self._sweep_invoice_records,
            ):
                try:
                    await step()
                except NodeError as error:
                    _log.debug("cleanup postponed: %s", error)
            await asyncio.sleep(SWEEP_INTERVAL_S)

    async def _unless_forgotten(self, sweep: Callable[[float], Awaitable[object]]) -> None:
        async with self._sweeping:
            if not self._has_forgotten:
                await sweep(time.time())

    async def _sweep_invoice_records(self) -> None:
        served = [live.record.id for live in self.connections]
        deleted = await self.wallet.records.sweep(served + await self.manager.revoked_ids())
        _log.debug("deleted %d records of invoices", deleted)

    async def _sweep_templates(self) -> None:
        """Delete the templates: this may be the plugin's last run. The next start deletes the rest."""
        with contextlib.suppress(NodeError, TimeoutError):
            async with asyncio.timeout(FINISH_TIMEOUT_S / 2):
                await self.wallet.templates.sweep()

    def _make_relay(self, url: str) -> Relay:
        return Relay(
            url,
            kinds=(KIND_REQUEST,),
            max_age=self.settings.max_request_age,
            proxy=self.settings.proxy_for(url),
            on_event=self.server.on_event,
            on_connected=self._on_connected,
        )

    def _on_connected(self, url: str) -> None:
        self.info_publisher.relay_connected(url)
        self.notifier.relay_connected(url)

    async def stop(self) -> None:
        """Finish short work, cancel the rest, and close the relays."""
        await self._tasks.finish(0)
        await self.hold_invoices.stop()
        await asyncio.gather(
            self.paid_invoices.stop(FINISH_TIMEOUT_S), self.server.finish(FINISH_TIMEOUT_S)
        )
        await self.payments.stop()
        # After everything that sends notifications or needs a template.
        await asyncio.gather(self.notifier.stop(FINISH_TIMEOUT_S / 2), self._sweep_templates())
        await self.manager.stop()
        await self.info_publisher.stop()
        await self.pool.stop()


class Service:
    """The thread that runs App in an event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._node = Node(settings.rpc_path)
        self._tip = ChainTip()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log_loop_error)
        self._app: asyncio.Future[App] = self._loop.create_future()
        self._stopping = asyncio.Event()
        self._commands = ShieldedTasks()
        self._failures = 0
        self._thread = threading.Thread(target=self._run_loop, name="nwc", daemon=True)

    # Thread-safe

    def start(self) -> None:
        """Start the thread, without waiting for it."""
        self._thread.start()

    def run(self, action: Callable[[App], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """Run a command of the owner in the loop once the connections are loaded; return its future.

        The future raises TimeoutError after COMMAND_TIMEOUT_S, but the command still continues.
        """
        return asyncio.run_coroutine_threadsafe(self._in_time(action), self._loop)

    def block_added(self, height: int, block_hash: str) -> None:
        """Set the newest block."""
        self._loop.call_soon_threadsafe(self._set_tip, height, block_hash)

    def stop(self) -> None:
        """End the thread. Short work is finished; the rest is cut off after STOP_TIMEOUT_S."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(STOP_TIMEOUT_S)

    # In the loop

    def _set_tip(self, height: int, block_hash: str) -> None:
        self._tip.height, self._tip.hash = height, block_hash

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except Exception:
            # A plugin that ends is noticed by lightningd, one that does nothing is not.
            _log.exception("the service failed unexpectedly, so the plugin ends")
            os._exit(1)

    async def _in_time(self, action: Callable[[App], Coroutine[Any, Any, _T]]) -> _T:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            return await self._commands.run(self._when_loaded(action))

    async def _when_loaded(self, action: Callable[[App], Coroutine[Any, Any, _T]]) -> _T:
        return await action(await asyncio.shield(self._app))

    async def _main(self) -> None:
        app = App(self._settings, self._node, self._tip)
        stopping = asyncio.create_task(self._stopping.wait())
        loading = asyncio.create_task(self._load(app))
        await asyncio.wait((stopping, loading), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            await stopping
        loading.cancel()
        await asyncio.gather(app.stop(), self._commands.finish(FINISH_TIMEOUT_S))
        self._node.close()

    async def _follow_log_level(self) -> None:
        """Send no debug lines that lightningd would drop: each costs time on both sides."""
        try:
            level = await self._node.log_level()
        except RpcCallError:  # not worth a retry
            level = "info"
        is_verbose = any(word in level for word in ("debug", "trace", "io"))
        logging.getLogger("nwc").setLevel(logging.DEBUG if is_verbose else logging.INFO)

    async def _load(self, app: App) -> None:
        """Load the connections, and start the rest.

        The connections come first, so that the owner can always revoke one.
        """
        await self._run_step(self._follow_log_level)
        # Before the info events are published, which list what the node can do.
        await self._run_step(app.hold_invoices.look_for_plugin)
        await self._run_step(app.manager.load)
        app.start(self._run_step)
        self._app.set_result(app)
        self._failures = 0
        _log.debug("ready: %d connections", len(app.connections))

    async def _run_step(self, step: Step) -> None:
        """Run a step of the start until lightningd is ready for it."""
        await retry(step, RETRY_FIRST_S, RETRY_MAX_S, self._log_failure)

    def _log_failure(self, error: NodeError) -> None:
        self._failures += 1
        level = logging.INFO if self._failures == LOG_AFTER_FAILURES else logging.DEBUG
        what = "the books are not read" if self._app.done() else "the connections are not loaded"
        _log.log(level, "%s yet: %s", what, error)


def _log_loop_error(_: asyncio.AbstractEventLoop, context: Json) -> None:
    """Log an uncaught error without asyncio's own message, which would show arguments."""
    _log.error("an error in the event loop", exc_info=context.get("exception"))
