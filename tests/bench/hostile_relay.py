"""A relay that also sends junk, in a process of its own so that its CPU time is not the plugin's.

It serves honest clients as fast_relay.py does. On `["JUNK", <file>, <frames per second>]` from any
client, it sends the lines of that file at that rate to the subscriber of requests. Then it answers
`["SENT", <frames>, <seconds>]`.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop
from websockets.asyncio.client import connect

from nwc.nip47.kinds import KIND_REQUEST
from tests.support.fast_relay import Relay, RelayConnection, serve_relays
from tests.support.processes import ChildProcess
from tests.support.relay import RunningRelay, argument_parser

# A placeholder for the id of the plugin's subscription, which only the relay knows.
SUBSCRIPTION = "@subscription@"
# The relay sends the frames that are due in steps of this length.
STEP_S = 0.005


class HostileRelay(Relay):
    """A relay that sends junk on command."""

    def __init__(self) -> None:
        super().__init__()
        self._floods: set[asyncio.Task[None]] = set()

    def _receive(self, connection: RelayConnection, frame: str) -> None:
        match json.loads(frame):
            case ["JUNK", str(path), per_second]:
                task = asyncio.create_task(self._flood(connection, Path(path), per_second))
                self._floods.add(task)
                task.add_done_callback(self._floods.discard)
            case _:
                super()._receive(connection, frame)

    async def _flood(self, sender: RelayConnection, path: Path, per_second: float) -> None:
        reader, subscription_id = self._reader()
        text = await asyncio.to_thread(path.read_text, encoding="utf-8")
        frames = text.replace(SUBSCRIPTION, subscription_id).splitlines()
        begin = time.perf_counter()
        sent = 0
        while sent < len(frames) and reader.is_open:
            due = int((time.perf_counter() - begin) * per_second)
            for frame in frames[sent:due]:
                reader.send(frame)
                await reader.drain()
            sent = max(sent, min(due, len(frames)))
            await asyncio.sleep(STEP_S)
        sender.send(json.dumps(["SENT", sent, time.perf_counter() - begin]))

    def _reader(self) -> tuple[RelayConnection, str]:
        """Return the connection that subscribes to requests, and the id of that subscription."""
        return self._subscriptions.reading(KIND_REQUEST)[0]


@contextlib.contextmanager
def running_hostile_relay() -> Iterator[RunningRelay]:
    """Run a hostile relay on a free port of this machine."""
    with ChildProcess([sys.executable, "-m", "tests.bench.hostile_relay", "--port", "0"]) as process:
        yield RunningRelay(process.wait_for(r"^ws://\S+$")[0], process.pid)


async def send_junk(url: str, frames: Path, per_second: float) -> tuple[int, float]:
    """Make a hostile relay send the frames of a file; return their number and the seconds it took."""
    async with connect(url, compression=None) as connection:
        await connection.send(json.dumps(["JUNK", str(frames), per_second]))
        match json.loads(await connection.recv()):
            case ["SENT", int(sent), float(seconds)]:
                return sent, seconds
    raise RuntimeError("the relay did not say what it sent")


if __name__ == "__main__":
    chosen = argument_parser("a hostile relay").parse_args()
    uvloop.run(serve_relays(chosen.port, [HostileRelay()]))
