"""Reading as little at once as a message has, so that what measures costs less itself."""

from websockets.asyncio.connection import Connection

READ_BYTES = 64 * 1024


def read_little(connection: Connection) -> None:
    """Have asyncio read no more at once; for its 256 KiB, memory is mapped and unmapped each time."""
    connection.transport.max_size = READ_BYTES  # type: ignore[attr-defined]
