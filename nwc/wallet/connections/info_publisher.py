"""Publishes info events on relays, again after each reconnect and once a day, and withdraws them."""

import asyncio
import time
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass, field

from nwc.nip47.info import info_event, withdrawal_events
from nwc.nip47.methods import extensions_of
from nwc.nostr.event import Event
from nwc.nostr.pool import RelayPool
from nwc.nostr.relay_url import is_same_relay
from nwc.nostr.session import Published
from nwc.tasks import Tasks
from nwc.wallet.connections.permissions import allowed_methods, sent_notifications
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection

PUBLISH_TIMEOUT_S = 30
# A relay that is disconnected when a connection is revoked gets the withdrawal if it reconnects in time.
WITHDRAW_TIMEOUT_S = 3600
# At most this many unconfirmed info events per relay, so that signing them never delays a request for
# long, however many connections there are.
MAX_AT_ONCE_PER_RELAY = 16

# Delays after which an info event that the relay refused (such as "rate-limited:") is published again.
# After the last one, only a reconnect publishes it again.
RETRY_DELAYS_S = (2, 10, 60, 300, 1800)

# Relays drop old events, even replaceable ones, and an app without the info event finds no wallet.
PERIOD_S = 86_400
CHECK_EVERY_S = 60.0

WAITING = "waiting for the relay"
PUBLISHED = "published"


@dataclass(slots=True)
class _Queue:
    """The info events that one relay has yet to get, by wallet key.

    Attributes:
        waiting: those to publish next, in order.
        publishing: how many tasks publish them at the moment.
        refusals: how many times in a row the relay has refused an info event.
        retries: the timers that put a refused one back into `waiting`.

    """

    waiting: OrderedDict[str, None] = field(default_factory=OrderedDict)
    publishing: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    retries: dict[str, asyncio.TimerHandle] = field(default_factory=dict)

    def forget_refusals(self, wallet_pubkey: str) -> None:
        self.refusals.pop(wallet_pubkey, None)
        if retry := self.retries.pop(wallet_pubkey, None):
            retry.cancel()


class InfoPublisher:
    """Keeps the info event of every connection on each of its relays.

    Args:
        pool: the relays.
        connections: the connections being served.
        notifications: False if the owner has switched notifications off for all connections.

    """

    def __init__(self, pool: RelayPool, connections: ConnectionRegistry, notifications: bool) -> None:
        self._notifications = notifications
        self._pool = pool
        self._connections = connections
        self._queues = defaultdict[str, _Queue](_Queue)
        self._tasks = Tasks()
        self._dates: dict[str, int] = {}

    def publish(self, live: LiveConnection) -> None:
        """Publish a new info event on the connected relays; the others get it when they connect."""
        live.is_published.clear()
        live.info_states = dict.fromkeys(live.record.relays, WAITING)
        self._renew(live)

    def relay_connected(self, url: str) -> None:
        """Publish the info events of its connections on a relay that has just connected."""
        for live in self._connections:
            if url in live.record.relays:
                self._enqueue(live, url)

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
        """Renew the info events that are older than the last daily renewal time of their connection.

        That time of day depends on the wallet key, which spreads thousands of connections over the day.
        A restart, which publishes all of them, does not change it.
        """
        for live in self._connections:
            if live.info is not None and live.info.created_at < _last_due_at(live.wallet_pubkey, now):
                self._renew(live)

    def _renew(self, live: LiveConnection) -> None:
        live.info = None
        for relay in self._pool.info(live.record.relays):
            if relay.state == "connected":
                self._enqueue(live, relay.url)

    async def stop(self) -> None:
        """Cancel everything that is being published or retried."""
        for queue in self._queues.values():
            for retry in queue.retries.values():
                retry.cancel()
        await self._tasks.finish(0)

    def _enqueue(self, live: LiveConnection, url: str) -> None:
        """Queue the current info event for a relay, and forget earlier refusals."""
        self._queues[url].forget_refusals(live.wallet_pubkey)
        self._queue(live.wallet_pubkey, url)

    def _queue(self, wallet_pubkey: str, url: str) -> None:
        queue = self._queues[url]
        queue.waiting[wallet_pubkey] = None
        # A task per info event would be tens of thousands of tasks whenever a relay reconnects.
        if queue.publishing < MAX_AT_ONCE_PER_RELAY:
            queue.publishing += 1
            self._tasks.spawn(self._publish_queue(queue, url))

    async def _publish_queue(self, queue: _Queue, url: str) -> None:
        try:
            while queue.waiting:
                wallet_pubkey, _ = queue.waiting.popitem(last=False)
                await self._publish_on(wallet_pubkey, url)
        finally:
            queue.publishing -= 1

    async def _publish_on(self, wallet_pubkey: str, url: str) -> None:
        live = self._connections.of_wallet(wallet_pubkey)
        if live is None or not self._is_used(wallet_pubkey, url):
            self._queues[url].forget_refusals(wallet_pubkey)
            return
        # Signed here and not for all connections at once: a signature takes time.
        info = live.info = live.info or self._sign(live)
        results = await self._pool.publish(info, (url,), PUBLISH_TIMEOUT_S)
        # If there is a newer one by now, it is in the queue.
        if live.info is info and url in results:
            self._note(live, url, results[url])

    def _note(self, live: LiveConnection, url: str, published: Published) -> None:
        """Note whether a relay accepted an info event, and schedule a retry if it did not."""
        queue, key = self._queues[url], live.wallet_pubkey
        if published.accepted:
            live.info_states[url] = PUBLISHED
            live.is_published.set()
            queue.forget_refusals(key)
            return
        live.info_states[url] = f"not published: {published.reason}"
        if key in queue.retries:  # it was published twice at once, and this is the second refusal
            return
        refusals = queue.refusals[key]
        if refusals < len(RETRY_DELAYS_S):
            queue.refusals[key] += 1
            loop = asyncio.get_running_loop()
            queue.retries[key] = loop.call_later(RETRY_DELAYS_S[refusals], self._retry, live, url)

    def _retry(self, live: LiveConnection, url: str) -> None:
        self._queues[url].retries.pop(live.wallet_pubkey, None)
        if live.info and live.info.created_at < int(time.time()):
            # The relay may have a newer one, from just before the plugin was restarted.
            live.info = None
        self._queue(live.wallet_pubkey, url)

    def _sign(self, live: LiveConnection) -> Event:
        methods = allowed_methods(live.record)
        return info_event(
            live.keys,
            live.record.client_pubkey,
            methods=methods,
            notifications=sent_notifications(live.record, self._notifications),
            extensions=extensions_of(methods),
            created_at=self.next_date(live),
        )

    def _is_still_used(self, wallet_pubkey: str, url: str) -> bool:
        """Return True if a connection with this wallet key uses this relay, in any spelling."""
        live = self._connections.of_wallet(wallet_pubkey)
        return live is not None and any(is_same_relay(url, used) for used in live.record.relays)

    def _is_used(self, wallet_pubkey: str, url: str) -> bool:
        """Return True if a connection with this wallet key uses exactly this relay URL."""
        live = self._connections.of_wallet(wallet_pubkey)
        return live is not None and url in live.record.relays


def _last_due_at(wallet_pubkey: str, now: float) -> float:
    """Return when the info event of a wallet key was last due for renewal, in Unix seconds."""
    offset = int(wallet_pubkey[:8], 16) % PERIOD_S
    return now - (now - offset) % PERIOD_S
