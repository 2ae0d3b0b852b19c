"""A relay (NIP-01) on websockets with only what NIP-47 needs, for benchmarks.

It checks no signatures. Unlike LocalRelay it does not wait for Nagle's algorithm (some 40 ms for each
request). Over HTTP it reports its traffic (`/traffic`).
"""

import asyncio
import json
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.support.relay import argument_parser, standard_input_ends

MAX_STORED = 1_000

Json = dict[str, Any]
Key = tuple[ServerConnection, str]


@dataclass(frozen=True, slots=True)
class Filter:
    """The parts of a NIP-01 filter that are used here; None matches everything."""

    kinds: frozenset[int] | None
    authors: frozenset[str] | None
    p: frozenset[str] | None
    e: frozenset[str] | None
    since: int

    @classmethod
    def parse(cls, value: Json) -> Self:
        """Return the filter of a REQ."""
        kinds, authors, p, e = (
            frozenset(value[name]) if name in value else None
            for name in ("kinds", "authors", "#p", "#e")
        )
        return cls(kinds, authors, p, e, value.get("since", 0))

    def matches(self, event: Json) -> bool:
        """Return True if an event matches."""
        return (
            (self.kinds is None or event["kind"] in self.kinds)
            and (self.authors is None or event["pubkey"] in self.authors)
            and event["created_at"] >= self.since
            and _has_tag(event, "p", self.p)
            and _has_tag(event, "e", self.e)
        )


def _has_tag(event: Json, name: str, values: frozenset[str] | None) -> bool:
    return values is None or any(t[0] == name and t[1] in values for t in event["tags"] if len(t) > 1)


class Relay:
    """One relay: its subscriptions, and the few events that it stores because they are not ephemeral."""

    def __init__(self) -> None:
        self._subscriptions: dict[Key, list[Filter]] = {}
        self._stored: deque[tuple[Json, str]] = deque(maxlen=MAX_STORED)
        # How many frames of each type of message clients have sent.
        self._frames: Counter[str] = Counter()

    async def serve(self, port: int) -> str:
        """Listen on a port of this machine, 0 for any free one; return the URL."""
        server = await serve(self._serve, "127.0.0.1", port, process_request=self._answer_http)
        return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer `/traffic`; open a WebSocket for all other requests."""
        if request.path != "/traffic":
            return None
        recipients = {p for _, wanted in self._all_filters() for p in wanted.p or ()}
        traffic = {
            "subscriptions": len(self._subscriptions),
            "recipients": len(recipients),
            "frames": self._frames,
        }
        return connection.respond(HTTPStatus.OK, json.dumps(traffic))

    def _all_filters(self) -> list[tuple[Key, Filter]]:
        return [(key, wanted) for key, filters in self._subscriptions.items() for wanted in filters]

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            with suppress(ConnectionClosed):
                while True:
                    self._receive(connection, await connection.recv(decode=True))
        finally:
            for key in [key for key in self._subscriptions if key[0] is connection]:
                del self._subscriptions[key]

    def _receive(self, connection: ServerConnection, frame: str) -> None:
        message = json.loads(frame)
        self._frames[message[0]] += 1
        match message:
            case ["EVENT", event]:
                self._publish(connection, event, frame)
            case ["REQ", str(name), *filters]:
                self._subscribe(connection, name, [Filter.parse(value) for value in filters])
            case ["CLOSE", str(name)]:
                self._subscriptions.pop((connection, name), None)
            case _:
                send(connection, '["NOTICE","not a message of NIP-01"]')

    def _publish(self, sender: ServerConnection, event: Json, frame: str) -> None:
        text = frame[frame.index("{") : frame.rindex("}") + 1]
        for (connection, name), filters in self._subscriptions.items():
            if any(wanted.matches(event) for wanted in filters):
                send(connection, f'["EVENT","{name}",{text}]')
        send(sender, f'["OK","{event["id"]}",true,""]')
        if not 20_000 <= event["kind"] < 30_000:
            self._stored.append((event, text))

    def _subscribe(self, connection: ServerConnection, name: str, filters: list[Filter]) -> None:
        self._subscriptions[connection, name] = filters
        for event, text in self._stored:
            if any(wanted.matches(event) for wanted in filters):
                send(connection, f'["EVENT","{name}",{text}]')
        send(connection, f'["EOSE","{name}"]')


def send(connection: ServerConnection, text: str) -> None:
    """Send a text without waiting; do nothing if the connection has ended."""
    broadcast([connection], text)


async def serve_relay(port: int, relay: Relay) -> None:
    """Print the relay's URL and serve it until standard input ends."""
    print(await relay.serve(port), flush=True)
    await standard_input_ends()


if __name__ == "__main__":
    asyncio.run(serve_relay(argument_parser("a minimal relay").parse_args().port, Relay()))
