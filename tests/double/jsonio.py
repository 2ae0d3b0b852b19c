"""JSON on lightningd's sockets and pipes, where one object follows another.

This module splits and prints objects. What they mean is decided elsewhere.
"""

import json
import re
from collections.abc import Iterator
from json import decoder, scanner
from typing import Any

Json = Any


class JsonError(ValueError):
    """The stream contains something that cannot become a JSON object."""


class EscapedText(str):
    r"""A JSON string written with a `\u` escape, which some parameters of lightningd refuse."""

    __slots__ = ()


# An escaped backslash before a `u` is not such an escape.
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\u")


class _TokenDecoder(json.JSONDecoder):
    r"""A decoder that returns strings written with `\u` as EscapedText."""

    def __init__(self) -> None:
        super().__init__()
        self.parse_string = self._string
        self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]

    @staticmethod
    def _string(text: str, start: int, strict: bool = True) -> tuple[str, int]:
        value, end = decoder.scanstring(text, start, strict)  # type: ignore[attr-defined]
        return (EscapedText(value) if _ESCAPED.search(text[start:end]) else value), end


_DECODER = _TokenDecoder()


class JsonSplitter:
    """Splits a byte stream into JSON objects, whatever the chunks."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Json]:
        """Yield the objects that `data` completes.

        Raises:
            JsonError: the stream continues with something that is not JSON or not UTF-8.

        """
        self._buffer += data
        # No object is complete before a closing brace.
        if b"}" in data:
            yield from self._complete_objects()
        if self._buffer.strip()[:1] not in (b"", b"{"):
            raise JsonError(f"Invalid token in JSON input: {self._buffer[:80]!r}")

    def _complete_objects(self) -> Iterator[Json]:
        end = self._buffer.rindex(b"}") + 1
        try:
            text, rest = self._buffer[:end].decode(), self._buffer[end:]
        except UnicodeDecodeError as error:
            raise JsonError("Invalid UTF-8 in JSON input") from error
        while text := text.lstrip():
            try:
                value, end = _DECODER.raw_decode(text)
            except json.JSONDecodeError as error:
                if not _may_continue(error, text):
                    raise JsonError(f"Invalid token in JSON input: {error}") from error
                break
            text = text[end:]
            yield value
        self._buffer = text.encode() + rest


def _may_continue(error: json.JSONDecodeError, text: str) -> bool:
    return error.msg.startswith("Unterminated string") or error.pos >= len(text)


def dumps(value: Json) -> bytes:
    """Return one object as lightningd prints it: compact, UTF-8, followed by an empty line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def token(value: Json) -> str:
    """Return the text of a value as in the JSON source; a string without its quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
