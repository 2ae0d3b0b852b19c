"""Command line: `python -m tests.double --lightning-dir=DIR --plugin=PATH [--OPTION=VALUE …]`."""

import asyncio
import sys

from tests.double.node import Node
from tests.double.settings import parse


async def main() -> int:
    """Run a double until it is asked to stop, and return its exit code."""
    return await Node(parse(sys.argv[1:])).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
