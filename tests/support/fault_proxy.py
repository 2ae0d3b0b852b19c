"""A WebSocket proxy in front of a real relay, in this process, and the faults it can have.

One or more faults are switched on and off while the proxy runs. Frames that no fault touches pass
unchanged. The relay behind the proxy stays honest, and a test may use it directly.
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
        proxy: the proxy it belongs to.
        client: the socket to the plugin.
        relay: the socket to the relay.
        subscriptions: the names of those that the relay has confirmed.

    """

    def __init__(self, proxy: "FaultProxy", client: ServerConnection, relay: ClientConnection) -> None:
        self.proxy = proxy
        self.client = client
        self.relay = relay
        self.subscriptions: set[str] = set()

    def act(self, count: int = 1) -> None:
        """Add to the proxy's count of what faults have done."""
        self.proxy.acts += count

    def abort(self) -> None:
        """End the connection without a closing handshake."""
        self.client.transport.abort()


class Fault:
    """The base class of faults, which does nothing. Subclasses override what they do differently."""

    async def accept(self, proxy: "FaultProxy", client: ServerConnection) -> None:
        """Act on a new client before its handshake is answered."""

    async def run(self, line: Line) -> None:
        """Act on a line; it is called once for each line, and cancelled at the end of the fault."""

    async def down(self, line: Line, frames: list[Data]) -> list[Data]:
        """Return what the plugin receives instead of these frames of the relay."""
        return frames

    async def up(self, line: Line, frames: list[Data]) -> list[Data]:
        """Return what the relay receives instead of these frames of the plugin."""
        return frames

    def end(self, line: Line) -> list[Data]:
        """Return the frames that the plugin receives when the fault is switched off."""
        return []


class FaultProxy(LoopThread):
    """A proxy that behaves like the relay behind it, apart from its faults.

    Args:
        relay_url: of the relay behind the proxy.

    Attributes:
        acts: how often the faults have acted since they were switched on; each fault counts its own way.
        requests: the NIP-47 requests that the relay has sent to the plugin.
        heard: number of messages of the plugin since the faults were switched on, by type.
        all_off: set while no fault is on.
        port: the port it listens on, once it is entered.

    """

    def __init__(self, relay_url: str) -> None:
        super().__init__()
        self.acts = 0
        self.requests: list[Json] = []
        self.heard: Counter[str] = Counter()
        self._relay_url = relay_url
        self._faults: tuple[Fault, ...] = ()
        self._lines: dict[Line, list[asyncio.Task[None]]] = {}
        self.all_off = asyncio.Event()
        self.all_off.set()

    # From the test's thread

    def switch_on(self, *faults: Fault) -> None:
        """Switch on these faults, on existing lines and on new ones."""
        self._in_loop(self._switch_on(faults))

    def switch_off(self) -> None:
        """Switch off all faults, on the lines that are left too."""
        self._in_loop(self._switch_off())

    def wait_for_acts(self, count: int) -> None:
        """Wait until `acts` has reached a count."""
        wait_until(lambda: self.acts >= count, f"{count} acts of the fault", 2 * PATIENCE_S)

    # In the loop

    async def _main(self) -> None:
        settings: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None}
        async with serve(
            self._serve,
            "127.0.0.1",
            0,
            process_request=self._accept,
            open_timeout=None,
            close_timeout=0,
            **settings,
        ) as server:
            await self._until_stopped(server)
            await self._switch_off()
            for line in self._lines:
                line.abort()

    async def _switch_on(self, faults: tuple[Fault, ...]) -> None:
        self.acts, self._faults = 0, faults
        self.heard.clear()
        self.all_off.clear()
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
                    await self._send_to_plugin(line, frame)
        self.all_off.set()

    def _begin(self, line: Line) -> None:
        self._lines[line] += [asyncio.create_task(_until_closed(f.run(line))) for f in self._faults]

    async def _accept(self, client: ServerConnection, _: Request) -> None:
        for fault in self._faults:
            await fault.accept(self, client)

    async def _serve(self, client: ServerConnection) -> None:
        async with connect(self._relay_url, compression=None, max_size=None, proxy=None) as relay:
            line = Line(self, client, relay)
            self._lines[line] = []
            self._begin(line)
            pumps = [asyncio.create_task(_until_closed(pump(line))) for pump in (self._up, self._down)]
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
                await self._send_to_plugin(line, one)
            match _message(frame):
                case ["EOSE", name]:
                    line.subscriptions.add(name)

    async def _send_to_plugin(self, line: Line, frame: Data) -> None:
        with contextlib.suppress(ConnectionClosed):
            await line.client.send(frame)


async def _until_closed(coroutine: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(ConnectionClosed):
        await coroutine


def _message(frame: Data) -> list[Any]:
    message: list[Any] = json.loads(frame)
    return message


# Connections that fail or end


class Refuse(Fault):
    """Ends each connection before the handshake, with a TCP reset if `reset` is true."""

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
    """Ends each connection after a number of frames of the relay."""

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
    """Accepts TCP connections and never answers the handshake."""

    async def accept(self, proxy: FaultProxy, client: ServerConnection) -> None:
        proxy.acts += 1
        await proxy.all_off.wait()

    async def run(self, line: Line) -> None:
        line.abort()


class Stall(Fault):
    """Stops reading and passing on frames in the middle of a session."""

    async def run(self, line: Line) -> None:
        line.client.transport.pause_reading()

    async def down(self, line: Line, frames: list[Data]) -> list[Data]:
        line.act()
        await line.proxy.all_off.wait()
        return frames

    def end(self, line: Line) -> list[Data]:
        line.client.transport.resume_reading()
        return []


# Frames of the relay that are changed or delayed


class Delay(Fault):
    """Delays every frame by some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def down(self, line: Line, frames: list[Data]) -> list[Data]:
        await asyncio.sleep(self._seconds)
        line.act()
        return frames


class Reorder(Fault):
    """Swaps every two frames."""

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
    """Replaces frames by others.

    Args:
        rewrite: returns the frames that replace a frame, or None to leave it unchanged.

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
    """Answers every event with OK true and passes none on."""

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
    """Repeat every frame, so that it comes three times."""
    return [frame] * 3


def cut(frame: Data) -> list[Data]:
    """Cut off the second half of every frame."""
    return [frame[: len(frame) // 2]]


def deny(frame: Data) -> list[Data] | None:
    """Turn every OK into a refusal."""
    match _message(frame):
        case ["OK", event_id, *_]:
            return [json.dumps(["OK", event_id, False, "blocked: no"])]
    return None


def swallow(frame: Data) -> list[Data] | None:
    """Drop every OK."""
    return [] if _message(frame)[0] == "OK" else None


# Frames that the proxy makes itself


class Say(Fault):
    """Sends frames as fast as the socket takes them.

    Args:
        frames: yields the frames for a line.

    """

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
        frame: the frame, written again and again.
        times: how often to write it on each line. The buffers of two sockets hold millions of small
            frames.
        first: bytes that are written once, before the frames.
        reads: False to read nothing that the plugin sends meanwhile.

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
            while transport.get_write_buffer_size():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.001)
            transport.write(self._frame * count)
            line.act(count)
            await asyncio.sleep(0)

    def end(self, line: Line) -> list[Data]:
        line.client.transport.resume_reading()
        return []


def notices(_: Line) -> Iterator[Data]:
    """Yield NOTICE messages without end."""
    for number in itertools.count():
        yield json.dumps(["NOTICE", f"complaint {number}"])


def closings(line: Line) -> Iterator[Data]:
    """Yield CLOSED messages for all subscriptions without end."""
    while True:
        for name in line.subscriptions or {"nwc1"}:
            yield json.dumps(["CLOSED", name, "error: no more"])


def challenges(_: Line) -> Iterator[Data]:
    """Yield AUTH challenges without end (NIP-42)."""
    for number in itertools.count():
        yield json.dumps(["AUTH", f"challenge {number}"])


def garbage(_: Line) -> Iterator[Data]:
    """Yield frames that are no message of NIP-01, without end."""
    yield from itertools.cycle(
        ["", "{}", '["EVENT"', '["EVENT","nwc1",{}]', '["WHAT","?"]', "\0", "[" * 1000, b"\xff\xfe", b""]
    )


def oversize(_: Line) -> Iterator[Data]:
    """Yield frames of two megabytes without end."""
    yield from itertools.repeat("x" * (2 << 20))


def forged_ids(line: Line) -> Iterator[Data]:
    """Yield a request with false ids, without end."""
    for number in itertools.count():
        yield from _to_all(line, {**_request(line), "id": f"{number:064x}"})


def forged_signatures(line: Line) -> Iterator[Data]:
    """Yield requests with false signatures, without end."""
    for number in itertools.count():
        event = {**_request(line), "created_at": int(time.time()), "content": f"content {number}"}
        fields = ("pubkey", "created_at", "kind", "tags", "content")
        canonical = json.dumps([0, *(event[field] for field in fields)], separators=(",", ":"))
        yield from _to_all(line, {**event, "id": hashlib.sha256(canonical.encode()).hexdigest()})


def strangers(line: Line) -> Iterator[Data]:
    """Yield valid events of a stranger, to this wallet key and to nobody, without end."""
    keys, to_wallet = Keys.generate(), Tag.parse(["p", line.proxy.requests[0]["tags"][0][1]])
    builders = [EventBuilder(Kind(KIND_REQUEST), "x").tags([to_wallet]), EventBuilder(Kind(1), "hello")]
    events = [json.loads(builder.finalize(keys).as_json()) for builder in builders]
    for event in itertools.cycle(events):
        yield from _to_all(line, event)


def replays(line: Line) -> Iterator[Data]:
    """Yield the first ten requests again and again."""
    while True:
        for event in line.proxy.requests[:10]:
            yield from _to_all(line, event)


def _request(line: Line) -> Json:
    return line.proxy.requests[0]


def _to_all(line: Line, event: Json) -> Iterator[Data]:
    for name in line.subscriptions or {"nwc1"}:
        yield json.dumps(["EVENT", name, event], separators=(",", ":"))
