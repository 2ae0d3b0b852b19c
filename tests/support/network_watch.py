"""Reads the files that tests/support/watched_plugin.py writes beside lightningd's RPC socket."""

from pathlib import Path

WATCHED_PLUGIN = Path(__file__).with_name("watched_plugin.py")

LOOKUPS, CONNECTS = "test-lookups", "test-connects"


def lookups(directory: Path) -> set[str]:
    """Return the host names that the plugin resolved on this machine."""
    return set((directory / LOOKUPS).read_text().split())


def connects(directory: Path) -> set[tuple[str, int]]:
    """Return the hosts and ports that the plugin tried to connect to."""
    lines = (directory / CONNECTS).read_text().splitlines()
    return {(host, int(port)) for host, port in (line.split() for line in lines)}
