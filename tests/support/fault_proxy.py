"""A WebSocket proxy in front of a real relay, in this process, and the faults it can have.

A fault is switched on and off while the proxy runs, alone or with others; what it does not touch goes
through as it is. The relay behind stays honest: a test may use it directly.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from nostr_sdk import EventBuilder, Keys, Kind, Tag
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from tests.support.channel import KIND_REQUEST, Json
from tests.support.loop_thread import LoopThread
from tests.support.waiting import PATIENCE_S, wait_until

Data = str | bytes


class Line:
    """One connection through the proxy.

    Attributes:
        proxy: whose it is.
        client: the socket to the plugin.
        relay: the socket to the relay.
        subscriptions: those that the relay behind has confirmed.

    """

    def __init__(self, proxy: "FaultProxy", client: ServerConnection, relay: ClientConnection) -> None:
        self.proxy = proxy
        self.client = client
        self.relay = relay
        self.subscriptions: set[str] = set()

    def act(self, count: int = 1) -> None:
        """Count what a fault has done."""
        self.proxy.acts += count

    def abort(self) -> None:
        """End it without a closing handshake."""
        self.client.transport.abort()


class Fault:
    """No fault at all; the others say what they do differently."""

    async def accept(self, proxy: "FaultProxy", client: ServerConnection) -> None:
        """Deal with a client whose handshake has not been answered."""

    async def run(self, line: Line) -> None:
        """Do something on every line, as long as it lasts."""

    async def down(self, line: Line, frames: list[Data]) -> list[Data]:
        """Return what the plugin gets of what the relay says."""
        return frames

    async def up(self, line: Line, frames: list[Data]) -> list[Data]:
        """Return what the relay gets of what the plugin says."""
        return frames

    def end(self, line: Line) -> list[Data]:
        """Return what the plugin is to get now that all is well again."""
        return []


class FaultProxy(LoopThread):
    """A relay that is as good as the one behind it, but for its faults.

    Args:
        relay_url: of the relay behind.

    Attributes:
        acts: what the faults have done since they were switched on, in their own units.
        requests: the requests that the relay has passed on, as a relay knows them.
        heard: how often the plugin has said what since the faults were switched on, by type of message.
        port: where it listens, once it does.

    """

    def __init__(self, relay_url: str) -> None:
        super().__init__()
        self.acts = 0
        self.requests: list[Json] = []
        self.heard: Counter[str] = Counter()
        self._relay_url = relay_url
        self._faults: tuple[Fault, ...] = ()
        self._lines: dict[Line, list[asyncio.Task[None]]] = {}
        self.all_is_well = asyncio.Event()
        self.all_is_well.set()

    # From the test's thread

    def switch_on(self, *faults: Fault) -> None:
        """Have these faults from now on, on the lines there are and those to come."""
        self._in_loop(self._switch_on(faults))

    def switch_off(self) -> None:
        """Be an honest relay again, on the lines that are left."""
        self._in_loop(self._switch_off())

    def wait_for_acts(self, count: int) -> None:
        """Wait until the faults have done so much."""
        wait_until(lambda: self.acts >= count, f"{count} acts of the fault", 2 * PATIENCE_S)

    # In the loop

    async def _main(self) -> None:
        how: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None}
        async with serve(
            self._serve,
            "127.0.0.1",
            0,
            process_request=self._accept,
            open_timeout=None,
            close_timeout=0,
            **how,
        ) as server:
            await self._until_stopped(server)
            await self._switch_off()
            for line in self._lines:
                line.abort()

    async def _switch_on(self, faults: tuple[Fault, ...]) -> None:
        self.acts, self._faults = 0, faults
        self.heard.clear()
        self.all_is_well.clear()
        for line in self._lines:
            self._begin(line)

    async def _switch_off(self) -> None:
        faults, self._faults = self._faults, ()
        for line, tasks in self._lines.items():
            for task in tasks:
                task.cancel()
            tasks.clear()
            for fault in faults:
                for frame in fault.end(line):
                    await self._tell(line, frame)
        self.all_is_well.set()

    def _begin(self, line: Line) -> None:
        self._lines[line] += [asyncio.create_task(_alone(f.run(line))) for f in self._faults]

    async def _accept(self, client: ServerConnection, _: Request) -> None:
        for fault in self._faults:
            await fault.accept(self, client)

    async def _serve(self, client: ServerConnection) -> None:
        async with connect(self._relay_url, compression=None, max_size=None, proxy=None) as relay:
            line = Line(self, client, relay)
            self._lines[line] = []
            self._begin(line)
            pumps = [asyncio.create_task(_alone(pump(line))) for pump in (self._up, self._down)]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            tasks = [*pumps, *self._lines.pop(line)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        line.abort()

    async def _up(self, line: Line) -> None:
        async for frame in line.client:
            self.heard[_message(frame)[0]] += 1
            frames = [frame]
            for fault in self._faults:
                frames = await fault.up(line, frames)
            for one in frames:
                await line.relay.send(one)

    async def _down(self, line: Line) -> None:
        async for frame in line.relay:
            match _message(frame):
                case ["EVENT", _, event] if event["kind"] == KIND_REQUEST:
                    self.requests.append(event)
            frames = [frame]
            for fault in self._faults:
                frames = await fault.down(line, frames)
            for one in frames:
                await self._tell(line, one)
            match _message(frame):
                case ["EOSE", name]:
                    line.subscriptions.add(name)

    async def _tell(self, line: Line, frame: Data) -> None:
        with contextlib.suppress(ConnectionClosed):
            await line.client.send(frame)


async def _alone(coroutine: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(ConnectionClosed):
        await coroutine


def _message(frame: Data) -> list[Any]:
    message: list[Any] = json.loads(frame)
    return message


# Connections that do not come about, or do not last


class Refuse(Fault):
    """Ends each connection before the handshake; with a reset, if wanted."""

    def __init__(self, *, reset: bool = False) -> None:
        self._reset = reset

    async def accept(self, proxy: FaultProxy, client: ServerConnection) -> None:
        proxy.acts += 1
        self._end(client)

    async def run(self, line: Line) -> None:
        self._end(line.client)

    def _end(self, client: ServerConnection) -> None:
        if self._reset:
            linger = struct.pack("ii", 1, 0)
            client.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
        client.transport.abort()


class Drop(Fault):
    """Ends each connection after so many frames of the relay."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._counts: dict[Line, int] = {}

    async def run(self, line: Line) -> None:
        if not self._frames:
            line.act()
            line.abort()

    async def down(self, line: Line, frames: list[Data]) -> list[Data]:
        self._counts[line] = self._counts.get(line, 0) + len(frames)
        if self._counts[line] < self._frames:
            return frames
        line.act()
        line.abort()
        return []


class SayNothing(Fault):
    """Takes TCP connections and does not even answer the handshake."""

    async def accept(self, proxy: FaultProxy, client: ServerConnection) -> None:
        proxy.acts += 1
        await proxy.all_is_well.wait()

    async def run(self, line: Line) -> None:
        line.abort()


class Stall(Fault):
    """In the middle of a session, passes nothing on and reads nothing."""

    async def run(self, line: Line) -> None:
        line.client.transport.pause_reading()

    async def down(self, line: Line, frames: list[Data]) -> list[Data]:
        line.act()
        await line.proxy.all_is_well.wait()
        return frames

    def end(self, line: Line) -> list[Data]:
        line.client.transport.resume_reading()
        return []


# What the relay says comes otherwise


class Delay(Fault):
    """Lets every frame wait."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def down(self, line: Line, frames: list[Data]) -> list[Data]:
        await asyncio.sleep(self._seconds)
        line.act()
        return frames


class Reorder(Fault):
    """Lets the second of two frames pass the first."""

    def __init__(self) -> None:
        self._held: dict[Line, list[Data]] = {}

    async def down(self, line: Line, frames: list[Data]) -> list[Data]:
        if line not in self._held:
            self._held[line] = frames
            return []
        line.act()
        return [*frames, *self._held.pop(line)]

    def end(self, line: Line) -> list[Data]:
        return self._held.pop(line, [])


class Rewrite(Fault):
    """Puts other frames in the place of some.

    Args:
        rewrite: returns these, or None where the frame stays.

    """

    def __init__(self, rewrite: Callable[[Data], list[Data] | None]) -> None:
        self._rewrite = rewrite

    async def down(self, line: Line, frames: list[Data]) -> list[Data]:
        result: list[Data] = []
        for frame in frames:
            instead = self._rewrite(frame)
            line.act(instead is not None)
            result += [frame] if instead is None else instead
        return result


class TakeNothing(Fault):
    """Says OK true to every event and passes none on."""

    async def up(self, line: Line, frames: list[Data]) -> list[Data]:
        result: list[Data] = []
        for frame in frames:
            match _message(frame):
                case ["EVENT", event]:
                    line.act()
                    await line.client.send(json.dumps(["OK", event["id"], True, ""]))
                case _:
                    result.append(frame)
        return result


def thrice(frame: Data) -> list[Data]:
    """Say everything three times."""
    return [frame] * 3


def cut(frame: Data) -> list[Data]:
    """Say half of everything."""
    return [frame[: len(frame) // 2]]


def deny(frame: Data) -> list[Data] | None:
    """Turn every OK into a refusal."""
    match _message(frame):
        case ["OK", event_id, *_]:
            return [json.dumps(["OK", event_id, False, "blocked: no"])]
    return None


def swallow(frame: Data) -> list[Data] | None:
    """Say no OK."""
    return [] if _message(frame)[0] == "OK" else None


# What the relay says of its own


class Say(Fault):
    """Says, as fast as the socket takes it, what a generator of the line gives."""

    def __init__(self, frames: Callable[[Line], Iterator[Data]]) -> None:
        self._frames = frames

    async def run(self, line: Line) -> None:
        for frame in self._frames(line):
            await line.client.send(frame)
            line.act()
            await asyncio.sleep(0)


class Write(Fault):
    """Writes WebSocket frames as bytes (RFC 6455 section 5.2), as fast as the socket takes them.

    Args:
        frame: over and over.
        times: how often, on each line. So small are they that the buffers of two sockets hold millions.
        first: once, at the beginning.
        reads: whether it reads what the plugin says meanwhile.

    """

    def __init__(self, frame: bytes, times: int, *, first: bytes = b"", reads: bool = True) -> None:
        self._frame = frame
        self._times = times
        self._first = first
        self._reads = reads

    async def run(self, line: Line) -> None:
        transport = line.client.transport
        if not self._reads:
            transport.pause_reading()
        transport.write(self._first)
        count = 1000
        for _ in range(self._times // count):
            while transport.get_write_buffer_size():  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.001)
            transport.write(self._frame * count)
            line.act(count)
            await asyncio.sleep(0)

    def end(self, line: Line) -> list[Data]:
        line.client.transport.resume_reading()
        return []


def notices(_: Line) -> Iterator[Data]:
    """Complain without end."""
    for number in itertools.count():
        yield json.dumps(["NOTICE", f"complaint {number}"])


def closings(line: Line) -> Iterator[Data]:
    """End all subscriptions without end."""
    while True:
        for name in line.subscriptions or {"nwc1"}:
            yield json.dumps(["CLOSED", name, "error: no more"])


def challenges(_: Line) -> Iterator[Data]:
    """Want AUTH without end (NIP-42)."""
    for number in itertools.count():
        yield json.dumps(["AUTH", f"challenge {number}"])


def garbage(_: Line) -> Iterator[Data]:
    """Say what is no message."""
    yield from itertools.cycle(
        ["", "{}", '["EVENT"', '["EVENT","nwc1",{}]', '["WHAT","?"]', "\0", "[" * 1000, b"\xff\xfe", b""]
    )


def oversize(_: Line) -> Iterator[Data]:
    """Say more than a megabyte at once."""
    yield from itertools.repeat("x" * (2 << 20))


def forged_ids(line: Line) -> Iterator[Data]:
    """Pass on a request under other ids."""
    for number in itertools.count():
        yield from _to_all(line, {**_request(line), "id": f"{number:064x}"})


def forged_signatures(line: Line) -> Iterator[Data]:
    """Pass on requests that nobody has signed."""
    for number in itertools.count():
        event = {**_request(line), "created_at": int(time.time()), "content": f"content {number}"}
        fields = ("pubkey", "created_at", "kind", "tags", "content")
        canonical = json.dumps([0, *(event[field] for field in fields)], separators=(",", ":"))
        yield from _to_all(line, {**event, "id": hashlib.sha256(canonical.encode()).hexdigest()})


def strangers(line: Line) -> Iterator[Data]:
    """Pass on what others have written, to this wallet key and to all the world."""
    keys, to_wallet = Keys.generate(), Tag.parse(["p", line.proxy.requests[0]["tags"][0][1]])
    builders = [EventBuilder(Kind(KIND_REQUEST), "x").tags([to_wallet]), EventBuilder(Kind(1), "hello")]
    events = [json.loads(builder.finalize(keys).as_json()) for builder in builders]
    for event in itertools.cycle(events):
        yield from _to_all(line, event)


def replays(line: Line) -> Iterator[Data]:
    """Pass on the requests of before, again and again."""
    while True:
        for event in line.proxy.requests[:10]:
            yield from _to_all(line, event)


def _request(line: Line) -> Json:
    return line.proxy.requests[0]


def _to_all(line: Line, event: Json) -> Iterator[Data]:
    for name in line.subscriptions or {"nwc1"}:
        yield json.dumps(["EVENT", name, event], separators=(",", ":"))
