"""Info events on relays: published, published again after a reconnect, withdrawn."""

import asyncio
import logging
import time
from collections import defaultdict

from nwc.nip47.info import info_event, withdrawal_events
from nwc.nostr.pool import RelayPool
from nwc.tasks import Tasks
from nwc.wallet.dispatch import allowed_methods, sent_notifications
from nwc.wallet.get_info import EXTENSIONS
from nwc.wallet.live import LiveConnection, LiveConnections

ANNOUNCE_TIMEOUT_S = 30
# A relay that is away when a connection is revoked gets the withdrawal when it is back, within this.
WITHDRAW_TIMEOUT_S = 3600
# With thousands of connections on a relay, this many info events wait for its OK at once.
MAX_AT_ONCE_PER_RELAY = 64

WAITING = "waiting for the relay"
PUBLISHED = "published"

_log = logging.getLogger(__name__)


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

    def announce(self, live: LiveConnection) -> None:
        """Sign a new info event and publish it on the relays that are connected now.

        The others get it when they connect: see `relay_connected`.
        """
        # Relays keep the newest of a replaceable event; of two in one second, an arbitrary one.
        after = live.info.created_at + 1 if live.info else 0
        live.info = info_event(
            live.keys,
            live.record.client_pubkey,
            methods=allowed_methods(live.record),
            notifications=sent_notifications(live.record, self._notifications),
            extensions=EXTENSIONS,
            created_at=max(int(time.time()), after),
        )
        live.is_announced.clear()
        live.announced = dict.fromkeys(live.record.relays, WAITING)
        for relay in self._pool.info(live.record.relays):
            if relay.state == "connected":
                self._tasks.spawn(self._announce_on(live, relay.url))

    def relay_connected(self, url: str) -> None:
        """Publish the info events of all connections on a relay that has just been connected."""
        for live in self._connections.all():
            if url in live.record.relays and live.info is not None:
                self._tasks.spawn(self._announce_on(live, url))

    async def withdraw(self, live: LiveConnection, urls: tuple[str, ...]) -> None:
        """Take a connection's info event off these relays, waiting for those that are away."""
        after = live.info.created_at + 1 if live.info else 0
        for event in withdrawal_events(live.keys, max(int(time.time()), after)):
            await self._pool.publish(event, urls, WITHDRAW_TIMEOUT_S)

    async def stop(self) -> None:
        """End what is under way."""
        await self._tasks.finish(0)

    async def _announce_on(self, live: LiveConnection, url: str) -> None:
        async with self._slots[url]:
            event = live.info
            if event is None:
                return
            results = await self._pool.publish(event, (url,), ANNOUNCE_TIMEOUT_S)
        published = results.get(url)
        if published is None or event is not live.info:
            return
        if published.accepted:
            live.announced[url] = PUBLISHED
            live.is_announced.set()
        else:
            live.announced[url] = f"refused: {published.reason}"
            _log.debug("relay %s did not take an info event: %s", url, published.reason)
