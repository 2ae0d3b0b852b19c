"""The log: lines as lightningd prints them, to stdout and to a file."""

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path

LEVELS = {
    "io": "IO     ",
    "trace": "TRACE  ",
    "debug": "DEBUG  ",
    "info": "INFO   ",
    "unusual": "UNUSUAL",
    "warn": "UNUSUAL",
    "broken": "**BROKEN**",
    "error": "**BROKEN**",
}


class Log:
    """Where every part of the double writes what happens."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = path.open("a", encoding="utf-8") if path else None

    def add(self, level: str, source: str, message: str) -> None:
        """Write one line for every line of `message`."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        for line in message.split("\n"):
            entry = f"{now} {LEVELS[level]} {source}: {line}\n"
            if self._file:
                self._file.write(entry)
                self._file.flush()
            with contextlib.suppress(BrokenPipeError):  # nobody reads any more: the end is near
                sys.stdout.write(entry)
                sys.stdout.flush()
