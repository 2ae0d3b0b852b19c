"""The look of the demonstration: aligned fields, long values cut in the middle, colours on terminals."""

import os
import sys

WIDTH = 90
INDENT = "  "
LABEL = 10
NAME = 18
VALUE = WIDTH - len(INDENT) - LABEL - NAME - len("  WRONG")

_RESET = "\033[0m"
_STYLES = {"title": "\033[1m", "good": "\033[32m", "bad": "\033[1;31m", "label": "\033[36m"}


def styled(style: str, text: str) -> str:
    """Return the text in a style if the output is a terminal and NO_COLOR (no-color.org) is not set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"{_STYLES[style]}{text}{_RESET}"


def shorten(text: str, width: int) -> str:
    """Return the text, without its middle if it is longer than `width` characters."""
    if len(text) <= width:
        return text
    tail = (width - 3) // 2
    return f"{text[: width - 3 - tail]}...{text[-tail:]}"


def say(text: str = "") -> None:
    """Print a line, indented."""
    print(f"{INDENT}{text}".rstrip(), flush=True)


def title(text: str) -> None:
    """Print the heading of a step."""
    print("\n" + styled("title", text), flush=True)


def fact(label: str, text: str) -> None:
    """Print `label  text`."""
    say(styled("label", label.ljust(LABEL)) + text)


def field(label: str, name: str, value: object, is_right: bool | None = None) -> None:
    """Print `label  name  value  ok`.

    Args:
        label: the name of a group of fields, for its first row.
        name: the name of the field.
        value: the value of the field.
        is_right: the verdict; None if there is none.

    """
    verdict = {None: "", True: styled("good", "ok"), False: styled("bad", "WRONG")}[is_right]
    shown = shorten(str(value), VALUE)
    fact(label, f"{name:{NAME}}{shown:{VALUE}}  {verdict}")


def command(line: str, output: str) -> None:
    """Print a command and its output."""
    say(f"$ {line}")
    for printed in output.splitlines():
        say(shorten(printed, WIDTH - len(INDENT)))
