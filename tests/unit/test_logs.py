"""An exception is logged with type and place, but without its message."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pyln.client.plugin import Request

from nwc import logs
from nwc.runner import NwcPlugin

SECRET = "correct horse battery staple"


def fail(error: BaseException, cause: BaseException | None = None) -> None:
    if cause is not None:
        raise error from cause
    raise error


def formatted(error: BaseException) -> str:
    record = logging.LogRecord("nwc.x", logging.ERROR, "", 0, "it failed", (), None)
    record.exc_info = (type(error), error, error.__traceback__)
    return logs.PlacesFormatter().format(record)


def test_an_exception_is_logged_without_its_message() -> None:
    try:
        fail(KeyError(SECRET), ValueError(SECRET))
    except KeyError as error:
        text = formatted(error)
    first, *lines = text.splitlines()
    assert first == "nwc.x       : it failed"
    assert lines[0] == lines[2] == "Traceback (most recent call last):"
    assert lines[1] == "ValueError"
    assert f'File "{__file__}", line' in lines[3]
    assert lines[-1] == "KeyError"
    assert SECRET not in text


def test_the_exception_that_was_being_handled_is_logged_too() -> None:
    try:
        try:
            fail(ValueError(SECRET))
        except ValueError:
            fail(KeyError(SECRET))
    except KeyError as error:
        text = formatted(error)
    assert text.splitlines().index("ValueError") < text.splitlines().index("KeyError")
    assert SECRET not in text


def test_a_circular_chain_of_causes_ends() -> None:
    first, second = KeyError(SECRET), ValueError(SECRET)
    first.__cause__, second.__cause__ = second, first
    assert formatted(first).count("Traceback") == 10


class Output:
    """A plugin whose standard output is in memory."""

    def __init__(self) -> None:
        self.bytes = io.BytesIO()
        self.plugin: Any = NwcPlugin(autopatch=False)
        self.plugin.stdout = io.TextIOWrapper(self.bytes, encoding="utf-8")

    @property
    def text(self) -> str:
        return self.bytes.getvalue().decode()

    def messages(self) -> list[Any]:
        return [json.loads(text) for text in self.text.split("\n\n") if text]


@pytest.fixture
def output() -> Iterator[Output]:
    root = logging.getLogger()
    before = list(root.handlers)
    yield Output()
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)


def test_pyln_logs_no_message_of_an_exception(output: Output) -> None:
    """This holds for methods and notifications; the answer to lightningd has no message either."""

    def handler(**_: Any) -> None:
        fail(KeyError(SECRET))

    output.plugin.add_method("strange", lambda: fail(KeyError(SECRET)))
    output.plugin.add_subscription("stranger", handler)
    output.plugin._dispatch_request(Request(output.plugin, "1", "strange", {}))
    output.plugin._dispatch_notification(Request(output.plugin, None, "stranger", {}))
    [answer] = [message for message in output.messages() if "error" in message]
    assert answer["error"] == {"code": -32603, "message": "internal error; see lightningd's log"}
    assert "strange failed" in output.text
    assert "stranger failed" in output.text
    assert "KeyError(SECRET)" in output.text  # the source line in the traceback
    assert SECRET not in output.text


@pytest.mark.parametrize("name", ["websockets.client", "asyncio"])
def test_libraries_log_no_frames_and_arguments(output: Output, name: str) -> None:
    logger = logging.getLogger(name)
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        logger.debug("< TEXT %s", SECRET)
        logger.info("< TEXT %s", SECRET)
        logger.error("closed")
    finally:
        logging.getLogger().setLevel(logging.WARNING)
    assert "closed" in output.text
    assert SECRET not in output.text
