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

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from nwc.nip47.kinds import KIND_REQUEST
from tests.support.fast_relay import Relay, send, serve_relay
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

    def _receive(self, connection: ServerConnection, frame: str) -> None:
        match json.loads(frame):
            case ["JUNK", str(path), per_second]:
                task = asyncio.create_task(self._flood(connection, Path(path), per_second))
                self._floods.add(task)
                task.add_done_callback(self._floods.discard)
            case _:
                super()._receive(connection, frame)

    async def _flood(self, sender: ServerConnection, path: Path, per_second: float) -> None:
        reader, subscription_id = self._reader()
        text = await asyncio.to_thread(path.read_text, encoding="utf-8")
        frames = text.replace(SUBSCRIPTION, subscription_id).splitlines()
        begin = time.perf_counter()
        sent = 0
        with contextlib.suppress(ConnectionClosed):
            while sent < len(frames):
                due = int((time.perf_counter() - begin) * per_second)
                for frame in frames[sent:due]:
                    await reader.send(frame)
                    sent += 1
                await asyncio.sleep(STEP_S)
        send(sender, json.dumps(["SENT", sent, time.perf_counter() - begin]))

    def _reader(self) -> tuple[ServerConnection, str]:
        """Return the connection that subscribes to requests, and the id of that subscription."""
        return next(key for key, wanted in self._all_filters() if KIND_REQUEST in (wanted.kinds or ()))


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
    asyncio.run(serve_relay(chosen.port, HostileRelay()))
