"""A relay in this process that does what a test tells it, honest or not.

It stores nothing by itself, checks nothing, and sends to every subscription whatever it is given.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from tests.support.channel import EventLog, Json
from tests.support.waiting import PATIENCE_S, wait_until


class ScriptedRelay:
    """A relay and, for the app in a test, the channel to its wallet.

    Args:
        port: where to listen; 0 for any that is free.

    Attributes:
        received: the events that clients published.
        kept: events that a new subscription gets at once, before its EOSE.
        is_mute: it takes what comes and never says a word.
        port: where it listens, once it does.
        connections_so_far: how many clients have connected.

    """

    def __init__(self, port: int = 0) -> None:
        self.received = EventLog()
        self.kept: list[Json] = []
        self.is_mute = False
        self.connections_so_far = 0
        self._connections: set[ServerConnection] = set()
        self._subscriptions: dict[tuple[ServerConnection, str], Json] = {}
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self.port = port
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(PATIENCE_S)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self.port}"

    # From the test's thread

    def send(self, event: Json) -> None:
        """Deliver an event to every subscription, whatever that asked for."""
        self._in_loop(self._deliver(event))

    def send_frame(self, frame: str | bytes) -> None:
        """Send a frame as it is to every client."""
        self._in_loop(self._send_frame(frame))

    def forget_subscriptions(self) -> None:
        """Deliver no more to the subscriptions there are, without a word."""
        self._subscriptions.clear()

    def subscription_names(self) -> list[str]:
        """Return the names of all subscriptions."""
        return [name for _, name in self._subscriptions]

    def close(self) -> None:
        """Nothing: the relay outlives the app."""

    def wait_for_subscription(self, wallet_pubkey: str) -> None:
        """Wait until somebody reads the requests for a wallet key."""
        wait_until(lambda: self._is_read(wallet_pubkey), f"a subscription for {wallet_pubkey}")

    def filters(self) -> list[Json]:
        """Return the filters of all subscriptions."""
        return list(self._subscriptions.values())

    def _is_read(self, wallet_pubkey: str) -> bool:
        return any(wallet_pubkey in filter_.get("#p", []) for filter_ in self.filters())

    def _in_loop(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    # In the loop

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._main())

    async def _main(self) -> None:
        async with serve(self._serve, "127.0.0.1", self.port, compression=None) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._started.set()
            await self._stopping.wait()

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections_so_far += 1
        self._connections.add(connection)
        try:
            async for frame in connection:
                self._receive(connection, json.loads(frame))
        except ConnectionClosed:
            pass
        finally:
            self._connections.discard(connection)
            for key in [key for key in self._subscriptions if key[0] is connection]:
                del self._subscriptions[key]

    def _receive(self, connection: ServerConnection, message: list[Any]) -> None:
        if self.is_mute:
            return
        match message:
            case ["EVENT", event]:
                self.received.add(event)
                _send(connection, ["OK", event["id"], True, ""])
            case ["REQ", str(name), filter_]:
                self._subscriptions[connection, name] = filter_
                for event in self.kept:
                    _send(connection, ["EVENT", name, event])
                _send(connection, ["EOSE", name])
            case ["CLOSE", str(name)]:
                self._subscriptions.pop((connection, name), None)

    async def _deliver(self, event: Json) -> None:
        for connection, name in self._subscriptions:
            _send(connection, ["EVENT", name, event])

    async def _send_frame(self, frame: str | bytes) -> None:
        broadcast(self._connections, frame)


def _send(connection: ServerConnection, message: list[Any]) -> None:
    broadcast([connection], json.dumps(message))
