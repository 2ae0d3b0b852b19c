"""All relays: which are connected, which recipients each one serves, and publishing to several."""

import asyncio
from collections.abc import Callable, Iterable

from nwc.nostr.event import Event
from nwc.nostr.keys import KeyPair
from nwc.nostr.relay import Relay
from nwc.nostr.relay_health import RelayInfo
from nwc.nostr.session import Published
from nwc.nostr.subscriptions import Recipient


class RelayPool:
    """One connection per relay URL, opened for the first recipient and closed after the last.

    Args:
        make_relay: returns the relay of a URL, not started.

    """

    def __init__(self, make_relay: Callable[[str], Relay]) -> None:
        self._make_relay = make_relay
        self._relays: dict[str, Relay] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def subscribe(self, recipient: Recipient, urls: Iterable[str]) -> None:
        """Start to read a recipient's events from these relays."""
        for url in urls:
            self._relay(url).subscribe(recipient)

    def unsubscribe(self, public_key: str, urls: Iterable[str]) -> None:
        """Stop reading a recipient's events from these relays."""
        for url in urls:
            if relay := self._relays.get(url):
                relay.unsubscribe(public_key)

    def release(self, url: str) -> None:
        """Close a relay that has no recipients, as soon as no publication is pending on it."""
        relay = self._relays.get(url)
        if relay is None or relay.has_recipients:
            return
        if relay.is_publishing:
            closing = self._release_later(url, relay)
        else:
            del self._relays[url]
            closing = relay.stop()
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _release_later(self, url: str, relay: Relay) -> None:
        await relay.publications_done()
        self.release(url)

    async def publish(
        self, event: Event, urls: Iterable[str], timeout_s: float, signer: KeyPair | None = None
    ) -> dict[str, Published]:
        """Publish an event on these relays.

        Args:
            event: signed.
            urls: of the relays.
            timeout_s: how long to try.
            signer: the key that signed it, for AUTH, if that key is no recipient there.

        Returns:
            The outcome for each relay, after `timeout_s` seconds at the latest.

        """
        relays = {url: self._relays[url] for url in urls if url in self._relays}
        results = await asyncio.gather(*(r.publish(event, timeout_s, signer) for r in relays.values()))
        return dict(zip(relays, results, strict=True))

    async def publish_to_any(self, event: Event, urls: Iterable[str], timeout_s: float) -> bool:
        """Publish an event on these relays, and wait until one accepts it.

        The publications on the other relays go on until `timeout_s` is over.

        Returns:
            True if a relay has accepted it within `timeout_s` seconds.

        """
        relays = [self._relays[url] for url in urls if url in self._relays]
        is_accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        pending = len(relays)

        def on_outcome(outcome: asyncio.Future[Published]) -> None:
            nonlocal pending
            pending -= 1
            accepted = outcome.result().accepted
            if (accepted or pending == 0) and not is_accepted.done():
                is_accepted.set_result(accepted)

        for relay in relays:
            relay.begin_publishing(event, timeout_s).add_done_callback(on_outcome)
        return await is_accepted if relays else False

    def is_listening(self, public_key: str, url: str) -> bool:
        """Return True if a relay has confirmed the subscription for a recipient."""
        relay = self._relays.get(url)
        return relay is not None and relay.is_listening(public_key)

    def info(self, urls: Iterable[str] | None = None) -> list[RelayInfo]:
        """Return the state of these relays, by default of all."""
        chosen = self._relays if urls is None else [url for url in urls if url in self._relays]
        return [self._relays[url].info() for url in chosen]

    async def stop(self) -> None:
        """Close every connection."""
        relays = list(self._relays.values())
        self._relays.clear()
        await asyncio.gather(*(relay.stop() for relay in relays), *self._closing)

    def _relay(self, url: str) -> Relay:
        relay = self._relays.get(url)
        if relay is None:
            relay = self._relays[url] = self._make_relay(url)
            relay.start()
        return relay
