"""The plugin's lines in lightningd's log. Of an exception they show type and place, not its message.

The message of an exception may hold anything, such as a request's parameters or a relay's words.
"""

import logging
import traceback
from types import TracebackType

_FORMAT = "%(name)-12s: %(message)s"
_MAX_CAUSES = 10

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class PlacesFormatter(logging.Formatter):
    """Formats a record as pyln does, but its exception without the message."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines for a record, without the text that another formatter has cached in it."""
        record.exc_text = None
        text = super().format(record)
        record.exc_text = None
        return text

    def formatException(self, ei: _ExcInfo) -> str:
        """Return the tracebacks of an exception and its causes, the first cause first."""
        behind: list[str] = []
        error = ei[1]
        while error is not None and len(behind) < _MAX_CAUSES:
            calls = "".join(traceback.format_tb(error.__traceback__))
            behind.append(f"Traceback (most recent call last):\n{calls}{type(error).__qualname__}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(reversed(behind))


def set_up(handler: logging.Handler) -> None:
    """Set up the handler that sends records to lightningd, so that it sends nothing secret."""
    handler.setFormatter(PlacesFormatter())
    # In asyncio's debug mode (an environment variable), warnings show the arguments of callbacks.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # At debug level it would show every frame.
    logging.getLogger("websockets").setLevel(logging.WARNING)
