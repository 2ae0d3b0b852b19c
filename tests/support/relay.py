"""A relay for tests, in a process of its own so that its CPU time is not counted with the tests'.

`python -m tests.support.relay [--port N] [--auth read|write|both]` runs rust-nostr's LocalRelay, a full
relay. The other relay program, for benchmarks, is fast_relay.py. Both print their URL and end when their
standard input ends.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from nostr_sdk import LocalRelayBuilder, LocalRelayBuilderNip42, LocalRelayBuilderNip42Mode, RateLimit

from tests.support.processes import ChildProcess


class RelayKind(StrEnum):
    """The relay programs, by their names on the command line."""

    FAST = "fast"
    NOSTR_SDK = "nostr-sdk"


RELAY_MODULES = {RelayKind.FAST: "tests.support.fast_relay", RelayKind.NOSTR_SDK: "tests.support.relay"}


@dataclass(frozen=True, slots=True)
class RunningRelay:
    """The URL and the process id of a relay."""

    url: str
    pid: int


@contextlib.contextmanager
def running_relay(kind: RelayKind) -> Iterator[RunningRelay]:
    """Yield a relay that runs on a free port of this machine."""
    with ChildProcess([sys.executable, "-m", RELAY_MODULES[kind], "--port", "0"]) as process:
        url = process.wait_for(r"^ws://\S+$")[0]
        yield RunningRelay(url, process.pid)


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for the command line of a relay program, with `--port`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="0, the default, for any free port")
    return parser


async def standard_input_ends() -> None:
    """Wait for the end of standard input: the parent process has closed it, or has ended."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _main(port: int, auth: str | None) -> None:
    # The default of 60 events a minute is too few for the tests.
    limit = RateLimit(max_reqs=1_000, notes_per_minute=10_000_000)
    # LocalRelay would put port 0 into its URL literally. Without a port it finds a free one.
    builder = LocalRelayBuilder().addr("127.0.0.1").rate_limit(limit)
    if auth is not None:
        mode = LocalRelayBuilderNip42Mode[auth.upper()]
        builder = builder.nip42(LocalRelayBuilderNip42(mode=mode))
    relay = (builder.port(port) if port else builder).build()
    await relay.run()
    url = await relay.url()
    print(str(url).rstrip("/"), flush=True)
    await standard_input_ends()
    relay.shutdown()


if __name__ == "__main__":
    arguments = argument_parser("rust-nostr's LocalRelay")
    arguments.add_argument("--auth", choices=("read", "write", "both"), help="what needs AUTH (NIP-42)")
    chosen = arguments.parse_args()
    asyncio.run(_main(chosen.port, chosen.auth))
