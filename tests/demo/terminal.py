"""How the demonstration looks: aligned fields, long values cut in the middle, colours for people."""

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
    """Return the text in a style, where a person can see it and wants to (no-color.org)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"{_STYLES[style]}{text}{_RESET}"


def shorten(text: str, width: int) -> str:
    """Cut out the middle of what is too long."""
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
        label: of a group of fields, in its first row.
        name: of the field.
        value: of the field.
        is_right: the verdict; None where there is none.

    """
    verdict = {None: "", True: styled("good", "ok"), False: styled("bad", "WRONG")}[is_right]
    shown = shorten(str(value), VALUE)
    fact(label, f"{name:{NAME}}{shown:{VALUE}}  {verdict}")


def command(line: str, output: str) -> None:
    """Print what a person types, and what comes of it."""
    say(f"$ {line}")
    for answered in output.splitlines():
        say(shorten(answered, WIDTH - len(INDENT)))
