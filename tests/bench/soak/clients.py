"""The apps: two relays each, connected again for ever; what they get goes into the books.

A request without an answer is sent again, the very same event, when a relay is back and every few
seconds, as long as the plugin takes it for young enough.
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
# nwc-max-request-age is 120 s; what is sent now must still be on its way then.
SEND_AGAIN_UNTIL_S = 110.0
GIVE_UP_S = 130.0


class Link:
    """A relay as a real app has it: away at times.

    Attributes:
        received: stays empty; what comes goes to `on_event`.

    """

    def __init__(self, url: str) -> None:
        self.received = EventLog()
        self._url = url
        self._outgoing: asyncio.Queue[str] | None = None

    def send(self, event: Json) -> None:
        """Send an event if the relay is there."""
        if self._outgoing is not None:
            self._outgoing.put_nowait(json.dumps(["EVENT", event]))

    def close(self) -> None:
        """Nothing: it ends with its task."""

    async def run(
        self, filter_: Json, on_event: Callable[[Json], None], on_connected: Callable[[], None]
    ) -> None:
        """Be connected, for ever."""
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
                        raise RuntimeError(f"the relay says {other!r:.200}")
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
        uri: the connection's; other clients may have the same.
        encryption: the scheme of its requests.
        books: where everything is noted.
        on_invoice: called with each new result of make_invoice.

    Attributes:
        payment_hashes: of invoices made through it.

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
        """Stay connected to both relays, and send again what has no answer; for ever."""
        filter_ = self.app.answer_filter
        async with asyncio.TaskGroup() as tasks:
            for link in self.links:
                send_again = self._sender_again(link)
                tasks.create_task(link.run(filter_, self._on_event, send_again))
            tasks.create_task(self._keep_asking())

    def ask(self, wanted: Wanted) -> None:
        """Send a request on both relays."""
        event = self.app.request(wanted.method, wanted.params, encryption=wanted.encryption)
        now = time.time()
        asked = Asked(self.app, event, wanted, now, now)
        self._books.asked[event["id"]] = asked
        self._books.open.add(event["id"])
        self.app.send(event)

    def _open(self) -> Iterable[Asked]:
        waiting = [self._books.asked[event_id] for event_id in self._books.open]
        return [asked for asked in waiting if asked.app is self.app]

    def _sender_again(self, link: Link) -> Callable[[], None]:
        def send_again() -> None:
            for asked in self._open():
                link.send(asked.event)

        return send_again

    async def _keep_asking(self) -> None:
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
                told = self.app.open_notification(event)
                key = (told.transaction["payment_hash"], event["kind"])
                self._books.told.setdefault(key, []).append(time.time())
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
