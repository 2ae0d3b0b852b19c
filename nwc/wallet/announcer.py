"""Info events on relays: published, published again after a reconnect, withdrawn."""

import asyncio
import time
from collections import defaultdict

from nwc.nip47.info import info_event, withdrawal_events
from nwc.nostr.pool import RelayPool
from nwc.nostr.session import Published
from nwc.tasks import Tasks
from nwc.wallet.dispatch import allowed_methods, sent_notifications
from nwc.wallet.get_info import used_extensions
from nwc.wallet.live import LiveConnection, LiveConnections

ANNOUNCE_TIMEOUT_S = 30
# A relay that is away when a connection is revoked gets the withdrawal when it is back, within this.
WITHDRAW_TIMEOUT_S = 3600
# With thousands of connections on a relay, this many info events wait for its OK at once.
MAX_AT_ONCE_PER_RELAY = 64

# A relay that refuses an info event ("rate-limited:", say) is asked again; at last when it reconnects.
RETRY_DELAYS_S = (2, 10, 60, 300, 1800)

WAITING = "waiting for the relay"
PUBLISHED = "published"


class Announcer:
    """Keeps the info event of every connection on every relay it uses."""

    def __init__(self, pool: RelayPool, connections: LiveConnections, notifications: bool) -> None:
        self._notifications = notifications
        self._pool = pool
        self._connections = connections
        self._slots = defaultdict[str, asyncio.Semaphore](
            lambda: asyncio.Semaphore(MAX_AT_ONCE_PER_RELAY)
        )
        self._tasks = Tasks()
        self._under_way: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._dates: dict[str, int] = {}

    def announce(self, live: LiveConnection) -> None:
        """Sign a new info event and publish it on the relays that are connected now.

        The others get it when they connect: see `relay_connected`.
        """
        self._sign(live)
        live.is_announced.clear()
        live.announced = dict.fromkeys(live.record.relays, WAITING)
        for relay in self._pool.info(live.record.relays):
            if relay.state == "connected":
                self._start(live, relay.url)

    def relay_connected(self, url: str) -> None:
        """Publish the info events of all connections on a relay that has just been connected."""
        for live in self._connections.all():
            if url in live.record.relays:
                self._start(live, url)

    async def withdraw(self, live: LiveConnection, url: str, created_at: int) -> None:
        """Take a connection's info event off a relay, waiting for it where it is away.

        Args:
            live: the connection, which does not use this relay any more.
            url: the relay.
            created_at: from `next_date`, at the time the connection left the relay.

        """
        for event in withdrawal_events(live.keys, created_at):
            if not self._is_used(live.wallet_pubkey, url):
                await self._pool.publish(event, (url,), WITHDRAW_TIMEOUT_S, live.keys)

    def next_date(self, live: LiveConnection) -> int:
        """Return a time after that of all info events and withdrawals of this connection so far.

        Relays keep the newest of a replaceable event; of two in one second, an arbitrary one.
        """
        # By wallet key, which comes back when a client's own key gets a connection once more.
        date = max(int(time.time()), self._dates.get(live.wallet_pubkey, 0) + 1)
        self._dates[live.wallet_pubkey] = date
        return date

    async def stop(self) -> None:
        """End what is under way."""
        await self._tasks.finish(0)

    def _start(self, live: LiveConnection, url: str) -> None:
        """Publish the info event in force on one relay, instead of what is under way there."""
        key = (live.wallet_pubkey, url)
        if before := self._under_way.pop(key, None):
            before.cancel()
        task = self._under_way[key] = self._tasks.spawn(self._announce(live, url))
        task.add_done_callback(lambda _: self._done(key, task))

    def _sign(self, live: LiveConnection) -> None:
        methods = allowed_methods(live.record)
        live.info = info_event(
            live.keys,
            live.record.client_pubkey,
            methods=methods,
            notifications=sent_notifications(live.record, self._notifications),
            extensions=used_extensions(methods),
            created_at=self.next_date(live),
        )

    def _done(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._under_way.get(key) is task:
            del self._under_way[key]

    async def _announce(self, live: LiveConnection, url: str) -> None:
        """Publish until the relay takes it; where it refuses, again and again later."""
        for delay in (*RETRY_DELAYS_S, None):
            if live.info is None or not self._is_used(live.wallet_pubkey, url):
                return
            async with self._slots[url]:
                results = await self._pool.publish(live.info, (url,), ANNOUNCE_TIMEOUT_S)
            if url not in results or self._is_taken(live, results[url], url) or delay is None:
                return
            await asyncio.sleep(delay)
            if live.info.created_at < int(time.time()):
                # The relay may have a newer one, of a moment before the plugin was started again.
                self._sign(live)

    def _is_taken(self, live: LiveConnection, published: Published, url: str) -> bool:
        """Note what a relay said of an info event."""
        if published.accepted:
            live.announced[url] = PUBLISHED
            live.is_announced.set()
        else:
            live.announced[url] = f"not published: {published.reason}"
        return published.accepted

    def _is_used(self, wallet_pubkey: str, url: str) -> bool:
        """Tell whether a connection with this wallet key is served on this relay now."""
        live = self._connections.of_wallet(wallet_pubkey)
        return live is not None and url in live.record.relays
