"""The apps: each reconnects to two relays forever and records what it receives in the books.

The event of a pending request is sent again after each reconnection and every few seconds, until it is
too old for the plugin.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.bench.soak.books import OK, Answered, Asked, Books, Wanted
from tests.support.app import NOTIFICATION_KINDS, App
from tests.support.channel import KIND_RESPONSE, EventLog, Json, tag

RECONNECT_S = 0.1
SEND_AGAIN_S = 5.0
# Less than nwc-max-request-age, 120 s, because delivery takes time too.
SEND_AGAIN_UNTIL_S = 110.0
GIVE_UP_S = 130.0


class Link:
    """An app's connection to one relay, which is down at times.

    Attributes:
        received: always empty; events go to `on_event`.

    """

    def __init__(self, url: str) -> None:
        self.received = EventLog()
        self._url = url
        self._outgoing: asyncio.Queue[str] | None = None

    def send(self, event: Json) -> None:
        """Send an event if the relay is connected."""
        if self._outgoing is not None:
            self._outgoing.put_nowait(json.dumps(["EVENT", event]))

    def close(self) -> None:
        """Do nothing: the link ends with its task."""

    async def run(
        self, filter_: Json, on_event: Callable[[Json], None], on_connected: Callable[[], None]
    ) -> None:
        """Stay connected, forever."""
        while True:
            with contextlib.suppress(OSError, WebSocketException):
                async with connect(self._url, compression=None, proxy=None) as connection:
                    await connection.send(json.dumps(["REQ", "app", filter_]))
                    await self._serve(connection, on_event, on_connected)
            await asyncio.sleep(RECONNECT_S)

    async def _serve(
        self,
        connection: ClientConnection,
        on_event: Callable[[Json], None],
        on_connected: Callable[[], None],
    ) -> None:
        outgoing: asyncio.Queue[str] = asyncio.Queue()
        writer = asyncio.create_task(_write(connection, outgoing))
        try:
            async for frame in connection:
                match json.loads(frame):
                    case ["EVENT", _, event]:
                        on_event(event)
                    case ["EOSE", _]:
                        self._outgoing = outgoing
                        on_connected()
                    case ["OK", _, True, _]:
                        pass
                    case other:
                        raise RuntimeError(f"unexpected message of the relay: {other!r:.200}")
        finally:
            self._outgoing = None
            writer.cancel()


async def _write(connection: ClientConnection, outgoing: "asyncio.Queue[str]") -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.send(await outgoing.get())


class Client:
    """One app with a connection.

    Args:
        uri: the connection's URI; other clients may have the same.
        encryption: the scheme of its requests.
        books: the record of all requests and events.
        on_invoice: called with each new result of make_invoice.

    Attributes:
        payment_hashes: the payment hashes of its invoices.

    """

    def __init__(
        self, uri: str, encryption: str, books: Books, on_invoice: Callable[[Json], None]
    ) -> None:
        relays = parse_qs(urlsplit(uri).query)["relay"]
        self.links = [Link(url) for url in relays]
        self.app = App(uri, self.links)
        self.encryption = encryption
        self.payment_hashes: list[str] = []
        self._books = books
        self._on_invoice = on_invoice

    async def run(self) -> None:
        """Stay connected to both relays and send pending requests again, forever."""
        filter_ = self.app.answer_filter
        async with asyncio.TaskGroup() as tasks:
            for link in self.links:
                resend = self._resender(link)
                tasks.create_task(link.run(filter_, self._on_event, resend))
            tasks.create_task(self._resend())

    def ask(self, wanted: Wanted) -> None:
        """Send a request to both relays."""
        event = self.app.request(wanted.method, wanted.params, encryption=wanted.encryption)
        now = time.time()
        asked = Asked(self.app, event, wanted, now, now)
        self._books.asked[event["id"]] = asked
        self._books.open.add(event["id"])
        self.app.send(event)

    def _open(self) -> Iterable[Asked]:
        pending = [self._books.asked[event_id] for event_id in self._books.open]
        return [asked for asked in pending if asked.app is self.app]

    def _resender(self, link: Link) -> Callable[[], None]:
        def resend() -> None:
            for asked in self._open():
                link.send(asked.event)

        return resend

    async def _resend(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            now = time.time()
            for asked in self._open():
                age = now - asked.sent_at
                if age > GIVE_UP_S:
                    self._books.open.discard(asked.event["id"])
                elif age < SEND_AGAIN_UNTIL_S and now - asked.last_sent_at > SEND_AGAIN_S:
                    asked.last_sent_at = now
                    self.app.send(asked.event)

    def _on_event(self, event: Json) -> None:
        if not self._books.is_new(event["id"]):
            return
        try:
            if event["kind"] == KIND_RESPONSE:
                self._on_answer(event)
            elif event["kind"] in NOTIFICATION_KINDS:
                notification = self.app.open_notification(event)
                key = (notification.transaction["payment_hash"], event["kind"])
                self._books.notified.setdefault(key, []).append(time.time())
        except (AssertionError, LookupError, ValueError) as error:
            self._books.wrong.append(f"event {event['id'][:8]} of kind {event['kind']}: {error!r}")

    def _on_answer(self, event: Json) -> None:
        asked = self._books.asked[tag(event, "e") or ""]
        body: dict[str, Any] = self.app.open(event, asked.event).body
        error, result = body["error"], body["result"]
        is_invoice = result is not None and asked.wanted.method == "make_invoice"
        is_first = not asked.answers
        outcome = OK if error is None else error["code"]
        asked.answers.append(Answered(time.time(), outcome, result if is_invoice else None))
        self._books.open.discard(asked.event["id"])
        if is_invoice and is_first:
            self.payment_hashes.append(result["payment_hash"])
            self._on_invoice(result)
