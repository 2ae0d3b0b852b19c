"""Info events on relays: published, published again after a reconnect, withdrawn."""

import asyncio
import logging
import time
from collections import defaultdict

from nwc.nip47.info import info_event, withdrawal_events
from nwc.nostr.event import Event
from nwc.nostr.pool import RelayPool
from nwc.nostr.session import Published
from nwc.tasks import Tasks
from nwc.wallet.dispatch import allowed_methods
from nwc.wallet.get_info import EXTENSIONS, NOTIFICATIONS
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

_log = logging.getLogger(__name__)


class Announcer:
    """Keeps the info event of every connection on every relay it uses."""

    def __init__(self, pool: RelayPool, connections: LiveConnections) -> None:
        self._pool = pool
        self._connections = connections
        self._slots = defaultdict[str, asyncio.Semaphore](
            lambda: asyncio.Semaphore(MAX_AT_ONCE_PER_RELAY)
        )
        self._tasks = Tasks()
        # Of wallet keys, which come back when a client's own key gets a connection once more.
        self._withdrawn_at: dict[str, int] = {}

    def announce(self, live: LiveConnection) -> None:
        """Sign a new info event and publish it on the relays that are connected now.

        The others get it when they connect: see `relay_connected`.
        """
        live.info = info_event(
            live.keys,
            live.record.client_pubkey,
            methods=allowed_methods(live.record),
            notifications=NOTIFICATIONS,
            extensions=EXTENSIONS,
            created_at=self._next_date(live),
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
        withdrawn_at = self._withdrawn_at[live.wallet_pubkey] = self._next_date(live)
        for event in withdrawal_events(live.keys, withdrawn_at):
            await self._pool.publish(event, urls, WITHDRAW_TIMEOUT_S)

    async def stop(self) -> None:
        """End what is under way."""
        await self._tasks.finish(0)

    def _next_date(self, live: LiveConnection) -> int:
        """Return a time after that of all info events and withdrawals of this connection so far.

        Relays keep the newest of a replaceable event; of two in one second, an arbitrary one.
        """
        announced_at = live.info.created_at if live.info else 0
        withdrawn_at = self._withdrawn_at.get(live.wallet_pubkey, 0)
        return max(int(time.time()), announced_at + 1, withdrawn_at + 1)

    async def _announce_on(self, live: LiveConnection, url: str) -> None:
        """Publish the info event in force on one relay; where it is refused, again and again later."""
        event = live.info
        for delay in (*RETRY_DELAYS_S, None):
            if event is None or event is not live.info:
                return
            async with self._slots[url]:
                results = await self._pool.publish(event, (url,), ANNOUNCE_TIMEOUT_S)
            published = results.get(url)
            if published is None or self._take_verdict(live, event, url, published) or delay is None:
                return
            await asyncio.sleep(delay)

    def _take_verdict(self, live: LiveConnection, event: Event, url: str, published: Published) -> bool:
        """Note what a relay said of an info event; tells whether it has it."""
        if event is not live.info:
            return True
        if published.accepted:
            live.announced[url] = PUBLISHED
            live.is_announced.set()
        else:
            live.announced[url] = f"not published: {published.reason}"
            _log.debug("relay %s did not take an info event: %s", url, published.reason)
        return published.accepted
