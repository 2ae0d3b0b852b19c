"""The least of a relay (NIP-01) that NIP-47 needs, for measuring: it should cost next to nothing.

It trusts everyone: no signatures are checked. asyncio sets TCP_NODELAY on its sockets, so nothing waits
for Nagle's algorithm, as it does with LocalRelay (some 40 ms for each request).
"""

import asyncio
import contextlib
import json
from collections import deque
from dataclasses import dataclass
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from tests.support.relay import port_argument, standard_input_ends

MAX_STORED = 1_000

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """The parts of a NIP-01 filter in use here; None matches everything."""

    kinds: frozenset[int] | None
    authors: frozenset[str] | None
    p: frozenset[str] | None
    e: frozenset[str] | None
    since: int

    @classmethod
    def parse(cls, value: Json) -> Self:
        """Read a filter as it comes in a REQ."""
        kinds, authors, p, e = (
            frozenset(value[name]) if name in value else None
            for name in ("kinds", "authors", "#p", "#e")
        )
        return cls(kinds, authors, p, e, value.get("since", 0))

    def matches(self, event: Json) -> bool:
        """Tell whether an event is wanted."""
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
    """Subscriptions, and the few events that are not ephemeral."""

    def __init__(self) -> None:
        self._subscriptions: dict[tuple[ServerConnection, str], list[Filter]] = {}
        self._stored: deque[tuple[Json, str]] = deque(maxlen=MAX_STORED)

    async def serve(self, connection: ServerConnection) -> None:
        """Serve one client until it goes."""
        try:
            with contextlib.suppress(ConnectionClosed):
                async for frame in connection:
                    self._receive(connection, str(frame))
        finally:
            for key in [key for key in self._subscriptions if key[0] is connection]:
                del self._subscriptions[key]

    def _receive(self, connection: ServerConnection, frame: str) -> None:
        match json.loads(frame):
            case ["EVENT", event]:
                self._publish(connection, event, frame)
            case ["REQ", str(name), *filters]:
                self._subscribe(connection, name, [Filter.parse(value) for value in filters])
            case ["CLOSE", str(name)]:
                self._subscriptions.pop((connection, name), None)
            case _:
                _send(connection, '["NOTICE","not a message of NIP-01"]')

    def _publish(self, sender: ServerConnection, event: Json, frame: str) -> None:
        text = frame[frame.index("{") : frame.rindex("}") + 1]
        for (connection, name), filters in self._subscriptions.items():
            if any(wanted.matches(event) for wanted in filters):
                _send(connection, f'["EVENT","{name}",{text}]')
        _send(sender, f'["OK","{event["id"]}",true,""]')
        if not 20_000 <= event["kind"] < 30_000:
            self._stored.append((event, text))

    def _subscribe(self, connection: ServerConnection, name: str, filters: list[Filter]) -> None:
        self._subscriptions[connection, name] = filters
        for event, text in self._stored:
            if any(wanted.matches(event) for wanted in filters):
                _send(connection, f'["EVENT","{name}",{text}]')
        _send(connection, f'["EOSE","{name}"]')


def _send(connection: ServerConnection, frame: str) -> None:
    broadcast([connection], frame)  # unlike send, it waits for nobody


async def _main(port: int) -> None:
    relay = Relay()
    async with serve(relay.serve, "127.0.0.1", port, compression=None) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await standard_input_ends()


if __name__ == "__main__":
    asyncio.run(_main(port_argument("a minimal relay")))
