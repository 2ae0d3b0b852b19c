"""TCP ports of this machine."""

import socket


def free_port() -> int:
    """Return a TCP port of this machine on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
