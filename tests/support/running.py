"""A base class of context managers that run several parts."""

from contextlib import ExitStack
from typing import Self


class Running:
    """Starts its parts on entry, and ends them on exit or if one fails to start."""

    def __init__(self) -> None:
        self._running = ExitStack()

    def _start(self) -> None:
        """Start the parts, and register their ends with `_running`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()
