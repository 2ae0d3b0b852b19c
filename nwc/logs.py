"""What reaches lightningd's log. Of an exception that is where it arose and its type, not its words.

An exception's words may hold anything, such as a request's parameters or what a relay sent.
"""

import logging
import traceback
from types import TracebackType

_FORMAT = "%(name)-12s: %(message)s"
_MAX_CAUSES = 10

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class PlacesFormatter(logging.Formatter):
    """Formats a record as pyln does, and its exception without words."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def formatException(self, ei: _ExcInfo) -> str:
        """Return the calls that led to an exception and to those behind it, the first of them first."""
        behind: list[str] = []
        error = ei[1]
        while error is not None and len(behind) < _MAX_CAUSES:
            calls = "".join(traceback.format_tb(error.__traceback__))
            behind.append(f"Traceback (most recent call last):\n{calls}{type(error).__qualname__}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(reversed(behind))


def set_up(handler: logging.Handler) -> None:
    """Have this handler, which passes everything on to lightningd, pass on nothing secret."""
    handler.setFormatter(PlacesFormatter())
    # In asyncio's debug mode (an environment variable), warnings show the arguments of callbacks.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # At debug level, which is off anyway, it would show every frame.
    logging.getLogger("websockets").setLevel(logging.WARNING)
