"""All relays: which are connected, who reads where, and publishing to several at once."""

import asyncio
from collections.abc import Callable, Iterable

from nwc.nostr.event import Event
from nwc.nostr.keys import KeyPair
from nwc.nostr.relay import Relay
from nwc.nostr.relay_health import RelayInfo
from nwc.nostr.relay_url import is_onion
from nwc.nostr.session import Published
from nwc.nostr.subscriptions import Inbox


class RelayPool:
    """One connection per relay URL, made when the first inbox needs it and closed after the last.

    Args:
        kinds: event kinds to read from inboxes.
        max_age: seconds the subscriptions reach back.
        proxy: SOCKS proxy URL (`socks5h://host:port`) for `.onion` relays, or None.
        always_use_proxy: every relay goes through the proxy, name resolution included.
        on_event: called with every event of an inbox, signature unchecked, and the relay's URL; tells
            why it is met with silence, None when it is served. Must not raise or wait.
        on_connected: called with the URL each time a relay gets connected.

    """

    def __init__(
        self,
        *,
        kinds: tuple[int, ...],
        max_age: int,
        proxy: str | None,
        always_use_proxy: bool,
        on_event: Callable[[Event, str], str | None],
        on_connected: Callable[[str], None],
    ) -> None:
        self._kinds = kinds
        self._max_age = max_age
        self._proxy = proxy
        self._always_use_proxy = always_use_proxy
        self._on_event = on_event
        self._on_connected = on_connected
        self._relays: dict[str, Relay] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def subscribe(self, inbox: Inbox, urls: Iterable[str]) -> None:
        """Read an inbox on these relays."""
        for url in urls:
            self._relay(url).subscribe(inbox)

    def unsubscribe(self, recipient: str, urls: Iterable[str]) -> None:
        """Stop reading the inbox of one of our keys on these relays."""
        for url in urls:
            if relay := self._relays.get(url):
                relay.unsubscribe(recipient)

    def release(self, url: str) -> None:
        """Close a relay if nobody reads it any more, once nothing is being published on it."""
        relay = self._relays.get(url)
        if relay is None or relay.is_read:
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
        await relay.published()
        self.release(url)

    async def publish(
        self, event: Event, urls: Iterable[str], timeout_s: float, signer: KeyPair | None = None
    ) -> dict[str, Published]:
        """Publish an event on these relays.

        Args:
            event: signed.
            urls: of the relays.
            timeout_s: how long to try.
            signer: its key, for AUTH, where no inbox of that key is read.

        Returns:
            Each relay's verdict, after `timeout_s` seconds at the latest.

        """
        relays = {url: self._relays[url] for url in urls if url in self._relays}
        results = await asyncio.gather(*(r.publish(event, timeout_s, signer) for r in relays.values()))
        return dict(zip(relays, results, strict=True))

    async def publish_to_any(self, event: Event, urls: Iterable[str], timeout_s: float) -> bool:
        """Publish an event on these relays, one after the other, and wait for the first that takes it.

        The others go on trying until the time is over.

        Returns:
            Whether one has taken it within `timeout_s` seconds.

        """
        relays = [self._relays[url] for url in urls if url in self._relays]
        is_taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        left = len(relays)

        def on_verdict(verdict: asyncio.Future[Published]) -> None:
            nonlocal left
            left -= 1
            accepted = verdict.result().accepted
            if (accepted or left == 0) and not is_taken.done():
                is_taken.set_result(accepted)

        for relay in relays:
            relay.begin_publishing(event, timeout_s).add_done_callback(on_verdict)
        return await is_taken if relays else False

    def is_listening(self, recipient: str, url: str) -> bool:
        """Tell whether a relay has confirmed that it delivers the inbox of one of our keys."""
        relay = self._relays.get(url)
        return relay is not None and relay.is_listening(recipient)

    def info(self, urls: Iterable[str] | None = None) -> list[RelayInfo]:
        """Describe these relays, or all of them."""
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
            relay = self._relays[url] = Relay(
                url,
                kinds=self._kinds,
                max_age=self._max_age,
                proxy=self._proxy if self._always_use_proxy or is_onion(url) else None,
                on_event=self._on_event,
                on_connected=self._on_connected,
            )
            relay.start()
        return relay
