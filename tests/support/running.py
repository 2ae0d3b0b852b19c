"""What runs between entering and leaving it, and is made of parts that end in turn."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self


class Running:
    """Starts when it is entered. What has started ends when it is left, or if the rest fails."""

    def __init__(self) -> None:
        self._running = ExitStack()

    def _start(self) -> None:
        """Start the parts, and have `_running` end them."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()
