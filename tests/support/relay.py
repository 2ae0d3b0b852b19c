"""A relay for tests, in a process of its own so that its CPU time is not ours.

`python -m tests.support.relay [--port N]` runs rust-nostr's LocalRelay, a full relay. fast_relay.py is
the other one, for measuring. Both print their URL and end when their standard input does.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from nostr_sdk import LocalRelayBuilder, RateLimit

from tests.support.processes import ChildProcess


class RelayKind(StrEnum):
    """The relays there are, by the names people use on the command line."""

    FAST = "fast"
    NOSTR_SDK = "nostr-sdk"


RELAY_MODULES = {RelayKind.FAST: "tests.support.fast_relay", RelayKind.NOSTR_SDK: "tests.support.relay"}


@dataclass(frozen=True, slots=True)
class RunningRelay:
    """Where a relay listens, and its process id."""

    url: str
    pid: int


@contextlib.contextmanager
def running_relay(kind: RelayKind) -> Iterator[RunningRelay]:
    """Run a relay on a free port of this machine."""
    with ChildProcess([sys.executable, "-m", RELAY_MODULES[kind], "--port", "0"]) as process:
        url = process.wait_for(r"^ws://\S+$")[0]
        yield RunningRelay(url, process.pid)


def port_argument(description: str) -> int:
    """Read the port from the command line of a relay program."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="0, the default, is any free one")
    port: int = parser.parse_args().port
    return port


async def standard_input_ends() -> None:
    """Wait until whoever started this program has closed its standard input, or is gone."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _main(port: int) -> None:
    # Its default is 60 events a minute, which a demonstration would not notice but a test would.
    limit = RateLimit(max_reqs=1_000, notes_per_minute=10_000_000)
    # Port 0 would be taken literally in its URL; without a port it finds a free one.
    builder = LocalRelayBuilder().addr("127.0.0.1").rate_limit(limit)
    relay = (builder.port(port) if port else builder).build()
    await relay.run()
    url = await relay.url()
    print(str(url).rstrip("/"), flush=True)
    await standard_input_ends()
    relay.shutdown()


if __name__ == "__main__":
    asyncio.run(_main(port_argument("rust-nostr's LocalRelay")))
