"""A server on a socket in place of lightningd."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.unit.cln.rpc_server import Server


@pytest.fixture
def socket_path() -> Iterator[Path]:
    # Not tmp_path: the path of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "rpc"


@pytest_asyncio.fixture
async def server(socket_path: Path) -> AsyncIterator[Server]:
    server = Server(socket_path)
    async with await asyncio.start_unix_server(server.talk, socket_path):
        yield server
