"""A SOCKS5 proxy (RFC 1928, CONNECT only) in this process, which records its requests."""

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import Self

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S

_SUCCEEDED, _HOST_UNREACHABLE = 0, 4
_END_OF_REPLY = b"\x00\x01" + bytes(6)


class AddressType(IntEnum):
    """The address types of RFC 1928 section 5."""

    IPV4 = 1
    NAME = 3
    IPV6 = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a client: the destination, and the type of its address."""

    type: AddressType
    host: str
    port: int


class SocksProxy:
    """A proxy that can be stopped and started again.

    Args:
        routes: the port of this machine for each host that clients ask for. Other hosts are unreachable.

    Attributes:
        port: the port it listens on.

    """

    def __init__(self, routes: dict[str, int]) -> None:
        self.port = free_port()
        self._routes = routes
        self._asked: list[Asked] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Its address in the form of lightningd's option `proxy`."""
        return f"127.0.0.1:{self.port}"

    def asked_for(self, host: str) -> set[Asked]:
        """Return the different requests for a host."""
        return {asked for asked in self._asked if asked.host == host}

    def start(self) -> None:
        """Start to listen."""
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(started)), daemon=True)
        self._thread.start()
        assert started.wait(PATIENCE_S)

    def stop(self) -> None:
        """Close all connections and stop listening, if it listens."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(PATIENCE_S)
            self._loop = None

    async def _main(self, started: threading.Event) -> None:
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._loop = asyncio.get_running_loop()
        started.set()
        await self._stopping.wait()
        server.close()
        # asyncio.run cancels the tasks of open connections.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Tasks are cancelled at the end, and start_server of Python 3.11 logs that as an error.
        ends = (OSError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*ends), contextlib.closing(writer):
            _, count = await reader.readexactly(2)
            await reader.readexactly(count)
            writer.write(b"\x05\x00")  # no authentication
            asked = await _read_request(reader)
            self._asked.append(asked)
            port = self._routes.get(asked.host)
            status = _HOST_UNREACHABLE if port is None else _SUCCEEDED
            writer.write(bytes([5, status]) + _END_OF_REPLY)
            if port is None:
                await writer.drain()
                return
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(there_writer):
                await asyncio.wait(
                    [
                        asyncio.create_task(_pump(reader, there_writer)),
                        asyncio.create_task(_pump(there_reader, writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )


async def _read_request(reader: asyncio.StreamReader) -> Asked:
    version, command, _, kind = await reader.readexactly(4)
    assert (version, command) == (5, 1)
    if kind == AddressType.NAME:
        [length] = await reader.readexactly(1)
        host = (await reader.readexactly(length)).decode()
    else:
        host = str(ip_address(await reader.readexactly(4 if kind == AddressType.IPV4 else 16)))
    return Asked(AddressType(kind), host, int.from_bytes(await reader.readexactly(2)))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
