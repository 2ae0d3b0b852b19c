"""Channels between an app and its wallet: they send events and collect the events that come back."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol, Self

from nostr_sdk import EventBuilder, Keys, Kind, Tag
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import PATIENCE_S

Json = dict[str, Any]

KIND_INFO, KIND_REQUEST, KIND_RESPONSE = 13194, 23194, 23195
KIND_AUTH = 22242
KIND_NOTIFICATION_NIP04, KIND_NOTIFICATION = 23196, 23197


def tag(event: Json, name: str) -> str | None:
    """Return the value of the first tag of that name; None if there is none."""
    return next((t[1] for t in event["tags"] if t[0] == name and len(t) > 1), None)


class EventLog:
    """Events in the order of their arrival. Any thread may add to it, read it and wait on it."""

    def __init__(self) -> None:
        self._events: list[Json] = []
        self._changed = threading.Condition()

    def add(self, event: Json) -> None:
        """Append an event."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def all(self, wanted: Callable[[Json], bool] = lambda event: True) -> list[Json]:
        """Return the events for which `wanted` is true; all by default."""
        with self._changed:
            return [event for event in self._events if wanted(event)]

    def wait_for(
        self, wanted: Callable[[Json], bool], what: str, count: int = 1, timeout_s: float = PATIENCE_S
    ) -> list[Json]:
        """Return the wanted events, once there are at least `count` of them.

        Raises:
            TimeoutError: there were fewer after `timeout_s` seconds; names `what`.

        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while len(found := [event for event in self._events if wanted(event)]) < count:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"{what}: {len(found)} of {count} after {timeout_s} s")
            return found


class Channel(Protocol):
    """A relay as an app sees it."""

    received: EventLog

    def send(self, event: Json) -> None:
        """Send an event to the wallet."""

    def close(self) -> None:
        """Disconnect the app from it."""


class RelaySocket:
    """An app's connection to a relay that runs elsewhere.

    It reads on one socket and publishes on another: on a socket that does both, LocalRelay's answers are
    delayed by Nagle's algorithm.

    Args:
        url: of the relay.
        filter_: which events to read (NIP-01).
        keys: for AUTH, if the relay requires it (NIP-42); fresh ones by default.

    """

    def __init__(self, url: str, filter_: Json, keys: Keys | None = None) -> None:
        self.received = EventLog()
        self._url = url
        self._keys = keys or Keys.generate()
        self._request = json.dumps(["REQ", "app", filter_])
        self._lock = threading.Lock()
        with ExitStack() as opened:
            self._publisher = opened.enter_context(connect(url, compression=None, proxy=None))
            self._reader = opened.enter_context(connect(url, compression=None, proxy=None))
            self._opened = opened.pop_all()
        self._reader.send(self._request)
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if not self._listening.wait(PATIENCE_S):
            raise TimeoutError(f"{url} did not confirm the subscription")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, event: Json) -> None:
        """Publish an event. Asserts that the relay accepts it."""
        with self._lock:
            self._publisher.send(json.dumps(["EVENT", event]))
            while True:
                match json.loads(self._publisher.recv(PATIENCE_S)):
                    case ["AUTH", challenge]:
                        self._authenticate(self._publisher, challenge)
                    case ["OK", event_id, False, str(reason)] if reason.startswith("auth-required:"):
                        assert event_id == event["id"], "the relay refused AUTH"
                        self._publisher.send(json.dumps(["EVENT", event]))
                    case ["OK", event_id, accepted, reason] if event_id == event["id"]:
                        assert accepted, f"the relay refused: {reason}"
                        return

    def close(self) -> None:
        """Close both sockets."""
        self._opened.close()
        self._thread.join(PATIENCE_S)

    def _authenticate(self, connection: ClientConnection, challenge: str) -> None:
        tags = [Tag.parse(["relay", self._url]), Tag.parse(["challenge", challenge])]
        event = EventBuilder(Kind(KIND_AUTH), "").tags(tags).finalize(self._keys)
        connection.send(f'["AUTH",{event.as_json()}]')

    def _read(self) -> None:
        try:
            for frame in self._reader:
                match json.loads(frame):
                    case ["AUTH", challenge]:
                        self._authenticate(self._reader, challenge)
                    case ["CLOSED", _, str(reason)] if reason.startswith("auth-required:"):
                        self._reader.send(self._request)
                    case ["EVENT", _, event]:
                        self.received.add(event)
                    case ["EOSE", _]:
                        self._listening.set()
        except ConnectionClosed:
            pass


def stored_events(url: str, filter_: Json) -> list[Json]:
    """Return the stored events of a relay that match a filter."""
    with RelaySocket(url, filter_) as socket:
        return socket.received.all()
