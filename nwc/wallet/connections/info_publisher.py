"""Info events on relays: published, published again after a reconnect and every day, withdrawn."""

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
# A relay that is away when a connection is revoked gets the withdrawal when it is back, within this.
WITHDRAW_TIMEOUT_S = 3600
# With thousands of connections on a relay, this many info events wait for its OK at once: signing and
# sending so many is how long a request can wait meanwhile.
MAX_AT_ONCE_PER_RELAY = 16

# A relay that refuses an info event ("rate-limited:", say) is asked again; at last when it reconnects.
RETRY_DELAYS_S = (2, 10, 60, 300, 1800)

# Relays drop old events, also replaceable ones, and an app that finds no info event finds no wallet.
PERIOD_S = 86_400
LOOK_EVERY_S = 60.0

WAITING = "waiting for the relay"
PUBLISHED = "published"


@dataclass(slots=True)
class _Queue:
    """What one relay is still to get, by wallet key.

    Attributes:
        waiting: whose info event is to be published next, in this order.
        publishing: how many wait for the relay's word at the moment.
        refusals: how often in a row the relay did not take an info event.
        retries: what puts a refused one back into the queue.

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
    """Keeps the info event of every connection on every relay it uses."""

    def __init__(self, pool: RelayPool, connections: ConnectionRegistry, notifications: bool) -> None:
        self._notifications = notifications
        self._pool = pool
        self._connections = connections
        self._queues = defaultdict[str, _Queue](_Queue)
        self._tasks = Tasks()
        self._dates: dict[str, int] = {}

    def publish(self, live: LiveConnection) -> None:
        """Publish a new info event on the relays that are connected now.

        The others get it when they connect: see `relay_connected`.
        """
        live.is_published.clear()
        live.info_states = dict.fromkeys(live.record.relays, WAITING)
        self._renew(live)

    def relay_connected(self, url: str) -> None:
        """Publish the info events of all connections on a relay that has just been connected."""
        for live in self._connections:
            if url in live.record.relays:
                self._enqueue(live, url)

    async def withdraw(self, live: LiveConnection, url: str, created_at: int) -> None:
        """Take a connection's info event off a relay, waiting for it where it is away.

        Args:
            live: the connection, which does not use this relay any more.
            url: the relay.
            created_at: from `next_date`, at the time the connection left the relay.

        """
        for event in withdrawal_events(live.keys, created_at):
            if not self._is_still_there(live.wallet_pubkey, url):
                await self._pool.publish(event, (url,), WITHDRAW_TIMEOUT_S, live.keys)

    def next_date(self, live: LiveConnection) -> int:
        """Return a time after that of all info events and withdrawals of this connection so far.

        Relays keep the newest of a replaceable event; of two in one second, an arbitrary one.
        """
        # By wallet key, which comes back when a client's own key gets a connection once more.
        date = max(int(time.time()), self._dates.get(live.wallet_pubkey, 0) + 1)
        self._dates[live.wallet_pubkey] = date
        return date

    async def keep_fresh(self) -> None:
        """Publish the info event of every connection again once a day, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._renew_old(time.time())

    def _renew_old(self, now: float) -> None:
        """Renew the info events that are older than the last daily moment of their connection.

        That moment follows from the wallet key: thousands of connections are spread over the day, and a
        restart, which publishes all of them, changes nothing about it.
        """
        for live in self._connections:
            if live.info is not None and live.info.created_at < _last_moment(live.wallet_pubkey, now):
                self._renew(live)

    def _renew(self, live: LiveConnection) -> None:
        """Publish a new info event on the relays that are connected; the others get it when they are."""
        live.info = None
        for relay in self._pool.info(live.record.relays):
            if relay.state == "connected":
                self._enqueue(live, relay.url)

    async def stop(self) -> None:
        """End what is under way."""
        for queue in self._queues.values():
            for retry in queue.retries.values():
                retry.cancel()
        await self._tasks.finish(0)

    def _enqueue(self, live: LiveConnection, url: str) -> None:
        """Have the info event in force published on one relay, whatever the relay said before."""
        self._queues[url].forget_refusals(live.wallet_pubkey)
        self._wait(live.wallet_pubkey, url)

    def _wait(self, wallet_pubkey: str, url: str) -> None:
        queue = self._queues[url]
        queue.waiting[wallet_pubkey] = None
        # A task each would be tens of thousands of them, whenever a relay comes back.
        if queue.publishing < MAX_AT_ONCE_PER_RELAY:
            queue.publishing += 1
            self._tasks.spawn(self._publish_waiting(queue, url))

    async def _publish_waiting(self, queue: _Queue, url: str) -> None:
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
        # Here and not for all connections at once: a signature takes its time.
        info = live.info = live.info or self._sign(live)
        results = await self._pool.publish(info, (url,), PUBLISH_TIMEOUT_S)
        # Where there is a newer one by now, that one waits in the queue.
        if live.info is info and url in results:
            self._note(live, url, results[url])

    def _note(self, live: LiveConnection, url: str, published: Published) -> None:
        """Note what a relay said of an info event; one that it did not take is published again later."""
        queue, key = self._queues[url], live.wallet_pubkey
        if published.accepted:
            live.info_states[url] = PUBLISHED
            live.is_published.set()
            queue.forget_refusals(key)
            return
        live.info_states[url] = f"not published: {published.reason}"
        if key in queue.retries:  # one refusal of what was published twice at once
            return
        refusals = queue.refusals[key]
        if refusals < len(RETRY_DELAYS_S):
            queue.refusals[key] += 1
            loop = asyncio.get_running_loop()
            queue.retries[key] = loop.call_later(RETRY_DELAYS_S[refusals], self._retry, live, url)

    def _retry(self, live: LiveConnection, url: str) -> None:
        self._queues[url].retries.pop(live.wallet_pubkey, None)
        if live.info and live.info.created_at < int(time.time()):
            # The relay may have a newer one, of a moment before the plugin was started again.
            live.info = None
        self._wait(live.wallet_pubkey, url)

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

    def _is_still_there(self, wallet_pubkey: str, url: str) -> bool:
        """True if a connection with this wallet key uses this relay, perhaps by another spelling."""
        live = self._connections.of_wallet(wallet_pubkey)
        return live is not None and any(is_same_relay(url, used) for used in live.record.relays)

    def _is_used(self, wallet_pubkey: str, url: str) -> bool:
        """Tell whether a connection with this wallet key is served on this relay now."""
        live = self._connections.of_wallet(wallet_pubkey)
        return live is not None and url in live.record.relays


def _last_moment(wallet_pubkey: str, now: float) -> float:
    """Return when the info event of a wallet key was last due for renewal, in Unix seconds."""
    offset = int(wallet_pubkey[:8], 16) % PERIOD_S
    return now - (now - offset) % PERIOD_S
