"""A relay (NIP-01) with only what NIP-47 needs, for benchmarks: it uses as little CPU time as possible.

It checks no signatures. TCP_NODELAY is set on its sockets, so nothing waits for Nagle's algorithm, as it
does with LocalRelay (some 40 ms for each request). Subscriptions are looked up by their `#p`, so that
the cost of an event does not depend on their number. Over HTTP it reports its traffic (`/traffic`) and
aborts all connections (`/cut`).
"""

import asyncio
import json
import math
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, Self

import uvloop
from picows import (
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from tests.support.relay import argument_parser, standard_input_ends
from tests.support.text_connection import TextConnection

MAX_STORED = 1_000

Json = dict[str, Any]
Key = tuple["RelayConnection", str]


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


@dataclass(slots=True)
class Traffic:
    """Counts of what clients sent.

    Attributes:
        frames: number of frames, by type of message.
        characters: length of all frames together, by type of message.
        longest: length of the longest frame in characters, by type of message.
        kinds: number of events, by kind.

    """

    frames: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    longest: Counter[str] = field(default_factory=Counter)
    kinds: Counter[int] = field(default_factory=Counter)

    def count(self, message: list[Any], length: int) -> None:
        """Count a frame of this length in characters."""
        kind = message[0]
        self.frames[kind] += 1
        self.characters[kind] += length
        self.longest[kind] = max(self.longest[kind], length)
        if kind == "EVENT":
            self.kinds[message[1]["kind"]] += 1


class Subscriptions:
    """Filters by connection and name, indexed by the keys in their `#p`."""

    def __init__(self) -> None:
        self._filters: dict[Key, list[Filter]] = {}
        self._by_p: defaultdict[str | None, dict[Key, None]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._filters)

    def put(self, key: Key, filters: list[Filter]) -> None:
        """Add a subscription, or replace the one of the same name."""
        self.remove(key)
        self._filters[key] = filters
        for p in _all_p(filters):
            self._by_p[p][key] = None

    def remove(self, key: Key) -> None:
        """Remove a subscription, if there is one."""
        for p in _all_p(self._filters.pop(key, [])):
            self._by_p[p].pop(key, None)
            if not self._by_p[p]:
                del self._by_p[p]

    def remove_all(self, connection: "RelayConnection") -> None:
        """Remove the subscriptions of a connection."""
        for key in [key for key in self._filters if key[0] is connection]:
            self.remove(key)

    def matching(self, event: Json) -> list[Key]:
        """Return the subscriptions that match an event."""
        named = [tag[1] for tag in event["tags"] if tag[0] == "p" and len(tag) > 1]
        keys = {key: None for p in (*named, None) for key in self._by_p.get(p, ())}
        return [key for key in keys if any(wanted.matches(event) for wanted in self._filters[key])]

    def reading(self, kind: int) -> list[Key]:
        """Return the subscriptions whose filters name a kind."""
        return [
            key
            for key, filters in self._filters.items()
            if any(kind in (wanted.kinds or ()) for wanted in filters)
        ]

    def recipients(self) -> int:
        """Return how many different keys all `#p` together name."""
        return len(self._by_p) - (None in self._by_p)


def _all_p(filters: list[Filter]) -> set[str | None]:
    return {p for wanted in filters for p in (wanted.p or (None,))}


class Relay:
    """One relay: its subscriptions, and the few events that it stores because they are not ephemeral.

    Args:
        delay_s: seconds by which each frame is delayed; inf if frames are never handled.

    """

    def __init__(self, delay_s: float = 0) -> None:
        self._delay_s = delay_s
        self._subscriptions = Subscriptions()
        self._stored: deque[tuple[Json, str]] = deque(maxlen=MAX_STORED)
        self._connections: set[RelayConnection] = set()
        self._traffic = Traffic()

    async def serve(self, port: int) -> str:
        """Listen on a port of this machine, 0 for any free one; return the URL."""
        server = await ws_create_server(self._accept, "127.0.0.1", port)
        return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def handle(self, connection: "RelayConnection", frame: str) -> None:
        """Handle a frame, now or after the delay."""
        if not self._delay_s:
            self._receive(connection, frame)
        elif self._delay_s != math.inf:
            asyncio.get_running_loop().call_later(self._delay_s, self._receive, connection, frame)

    def add(self, connection: "RelayConnection") -> None:
        """Add a new connection."""
        self._connections.add(connection)

    def remove(self, connection: "RelayConnection") -> None:
        """Remove a connection that has ended, and its subscriptions."""
        self._connections.discard(connection)
        self._subscriptions.remove_all(connection)

    def _accept(self, request: WSUpgradeRequest) -> "RelayConnection | WSUpgradeResponseWithListener":
        """Answer the HTTP requests of a benchmark; open a WebSocket for all others."""
        match request.path:
            case b"/traffic":
                return _ok(json.dumps(self._describe()))
            case b"/cut":
                for other in list(self._connections):
                    other.abort()
                return _ok("")
        return RelayConnection(self)

    def _describe(self) -> Json:
        traffic = self._traffic
        return {
            "subscriptions": len(self._subscriptions),
            "recipients": self._subscriptions.recipients(),
            "frames": traffic.frames,
            "characters": traffic.characters,
            "longest": traffic.longest,
            "kinds": traffic.kinds,
        }

    def _receive(self, connection: "RelayConnection", frame: str) -> None:
        message = json.loads(frame)
        self._traffic.count(message, len(frame))
        match message:
            case ["EVENT", event]:
                self._publish(connection, event, frame)
            case ["REQ", str(name), *filters]:
                self._subscribe(connection, name, [Filter.parse(value) for value in filters])
            case ["CLOSE", str(name)]:
                self._subscriptions.remove((connection, name))
            case _:
                connection.send('["NOTICE","not a message of NIP-01"]')

    def _publish(self, sender: "RelayConnection", event: Json, frame: str) -> None:
        text = frame[frame.index("{") : frame.rindex("}") + 1]
        for connection, name in self._subscriptions.matching(event):
            connection.send(f'["EVENT","{name}",{text}]')
        sender.send(f'["OK","{event["id"]}",true,""]')
        if not 20_000 <= event["kind"] < 30_000:
            self._stored.append((event, text))

    def _subscribe(self, connection: "RelayConnection", name: str, filters: list[Filter]) -> None:
        self._subscriptions.put((connection, name), filters)
        for event, text in self._stored:
            if any(wanted.matches(event) for wanted in filters):
                connection.send(f'["EVENT","{name}",{text}]')
        connection.send(f'["EOSE","{name}"]')


class RelayConnection(TextConnection):
    """The connection of a client."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def begun(self) -> None:
        """Add it to the relay."""
        self._relay.add(self)

    def received(self, text: str) -> None:
        """Pass a frame to the relay."""
        self._relay.handle(self, text)

    def lost(self) -> None:
        """Remove it from the relay."""
        self._relay.remove(self)


def _ok(body: str) -> WSUpgradeResponseWithListener:
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(body.encode()), None)


async def serve_relays(port: int, relays: list[Relay]) -> None:
    """Print the relays' URLs and serve them until standard input ends."""
    print(*[await relay.serve(port) for relay in relays], flush=True)
    await standard_input_ends()


if __name__ == "__main__":
    arguments = argument_parser("a minimal relay, or several that are slow")
    arguments.add_argument("--delay", type=float, nargs="+", default=[0], help="seconds, for each relay")
    chosen = arguments.parse_args()
    uvloop.run(serve_relays(chosen.port, [Relay(delay_s) for delay_s in chosen.delay]))
