"""Publishes info events on relays, again after each reconnect and once a day, and withdraws them."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from weakref import WeakValueDictionary

from nwc.nip47.info import info_event, withdrawal_events
from nwc.nostr.event import Event
from nwc.nostr.pool import RelayPool
from nwc.nostr.relay_url import is_same_relay
from nwc.tasks import Tasks
from nwc.wallet.connections.permissions import allowed_methods, sent_notifications, used_extensions
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection

PUBLISH_TIMEOUT_S = 30
# A relay that is disconnected when a connection is revoked gets the withdrawal if it reconnects in time.
WITHDRAW_TIMEOUT_S = 3600
# At most this many unconfirmed info events per relay: requests need not wait until those of a thousand
# connections are signed.
MAX_AT_ONCE_PER_RELAY = 16

# Delays after which an info event that the relay refused (such as "rate-limited:") is published again.
# After the last one, only a reconnect publishes it again.
RETRY_DELAYS_S = (2, 10, 60, 300, 1800)

# Relays drop old events, even replaceable ones, and an app without the info event finds no wallet.
PERIOD_S = 86_400
CHECK_EVERY_S = 60.0

WAITING = "waiting for the relay"
PUBLISHED = "published"


class InfoPublisher:
    """Keeps the info event of every connection on each of its relays.

    Args:
        pool: the relays.
        connections: the connections being served.
        notifications: False if the owner has switched notifications off for all connections.
        has_hold: returns True if the node has the plugin `hold`.

    """

    def __init__(
        self,
        pool: RelayPool,
        connections: ConnectionRegistry,
        notifications: bool,
        has_hold: Callable[[], bool] = lambda: False,
    ) -> None:
        self._has_hold = has_hold
        self._notifications = notifications
        self._pool = pool
        self._connections = connections
        self._tasks = Tasks()
        # The running tasks, which `_tasks` keeps alive, by wallet key and relay.
        self._publishing = WeakValueDictionary[tuple[str, str], asyncio.Task[None]]()
        self._slots = defaultdict[str, asyncio.Semaphore](
            lambda: asyncio.Semaphore(MAX_AT_ONCE_PER_RELAY)
        )
        self._dates: dict[str, int] = {}

    def publish(self, live: LiveConnection) -> None:
        """Publish a new info event on the connected relays; the others get it when they connect."""
        live.is_published.clear()
        live.info_states = dict.fromkeys(live.record.relays, WAITING)
        self._renew(live)

    def publish_all(self) -> None:
        """Publish a new info event of every connection: what the node can do has changed."""
        for live in self._connections:
            self.publish(live)

    def relay_connected(self, url: str) -> None:
        """Publish the info events of its connections on a relay that has just connected."""
        for live in self._connections:
            if url in live.record.relays:
                self._start(live, url)

    async def withdraw(self, live: LiveConnection, url: str, created_at: int) -> None:
        """Withdraw a connection's info event from a relay, within WITHDRAW_TIMEOUT_S.

        Args:
            live: the connection, which no longer uses this relay.
            url: the relay.
            created_at: of the withdrawal: `next_date` when the connection left the relay.

        """
        for event in withdrawal_events(live.keys, created_at):
            if not self._is_still_used(live.wallet_pubkey, url):
                await self._pool.publish(event, (url,), WITHDRAW_TIMEOUT_S, live.keys)

    def next_date(self, live: LiveConnection) -> int:
        """Return a `created_at` later than those of all info events and withdrawals of this connection.

        Relays keep the newest replaceable event; of two with the same second, an arbitrary one (NIP-01).
        """
        # By wallet key: a client key that is connected again has the same wallet key again.
        date = max(int(time.time()), self._dates.get(live.wallet_pubkey, 0) + 1)
        self._dates[live.wallet_pubkey] = date
        return date

    async def keep_fresh(self) -> None:
        """Publish the info event of every connection again once a day. Never returns."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            self._renew_old(time.time())

    def _renew_old(self, now: float) -> None:
        for live in self._connections:
            if live.info is not None and live.info.created_at <= now - PERIOD_S:
                self._renew(live)

    def _renew(self, live: LiveConnection) -> None:
        live.info = None
        for relay in self._pool.info(live.record.relays):
            self._cancel(live, relay.url)
            if relay.state == "connected":
                self._start(live, relay.url)

    async def stop(self) -> None:
        """Cancel everything that is being published or retried."""
        await self._tasks.finish(0)

    def _start(self, live: LiveConnection, url: str) -> None:
        """Publish the current info event on a relay in the background, from the first attempt on."""
        self._cancel(live, url)
        key = live.wallet_pubkey, url
        self._publishing[key] = self._tasks.spawn(self._publish_on(live, url))

    def _cancel(self, live: LiveConnection, url: str) -> None:
        if task := self._publishing.get((live.wallet_pubkey, url)):
            task.cancel()

    async def _publish_on(self, live: LiveConnection, url: str) -> None:
        """Publish the current info event on a relay, and retry after RETRY_DELAYS_S if it refuses it."""
        for delay_s in (*RETRY_DELAYS_S, None):
            if not await self._is_refused(live, url) or delay_s is None:
                return
            await asyncio.sleep(delay_s)
            if live.info and live.info.created_at < int(time.time()):
                # The relay may have a newer one, from just before the plugin was restarted.
                live.info = None

    async def _is_refused(self, live: LiveConnection, url: str) -> bool:
        """Publish the current info event once, and note the outcome. Return True if it is refused."""
        async with self._slots[url]:
            if not self._uses(live, url):
                return False
            # Signed here and not for all connections at once: a signature takes time.
            live.info = live.info or self._sign(live)
            results = await self._pool.publish(live.info, (url,), PUBLISH_TIMEOUT_S)
        if url not in results or not self._uses(live, url):
            return False
        published = results[url]
        if published.accepted:
            live.info_states[url] = PUBLISHED
            live.is_published.set()
        else:
            live.info_states[url] = f"not published: {published.reason}"
        return not published.accepted

    def _sign(self, live: LiveConnection) -> Event:
        has_hold = self._has_hold()
        return info_event(
            live.keys,
            live.record.client_pubkey,
            methods=allowed_methods(live.record, has_hold=has_hold),
            notifications=sent_notifications(live.record, self._notifications, has_hold=has_hold),
            extensions=used_extensions(live.record, has_hold=has_hold),
            state=live.record.state,
            created_at=self.next_date(live),
        )

    def _is_still_used(self, wallet_pubkey: str, url: str) -> bool:
        """Return True if a connection with this wallet key uses this relay, in any spelling."""
        live = self._connections.of_wallet(wallet_pubkey)
        return live is not None and any(is_same_relay(url, used) for used in live.record.relays)

    def _uses(self, live: LiveConnection, url: str) -> bool:
        """Return True if a connection is being served, and uses exactly this relay URL."""
        return self._connections.of_wallet(live.wallet_pubkey) is live and url in live.record.relays
