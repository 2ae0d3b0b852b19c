#!/usr/bin/env python3
"""The plugin itself, but a request for an invoice fails everywhere at once, with the client's words.

Lightningd runs this instead of plugin.py.
"""

# ruff: noqa: E402 - sys.path first
import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

# Not this directory, whose modules have names that others have too.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from nwc.main import build_plugin
from nwc.runner import Runner
from nwc.tasks import Tasks
from nwc.wallet.context import Call, Wallet
from nwc.wallet.dispatch import HANDLERS

FAILED = "make_invoice"

tasks = Tasks()


def fail(words: str) -> None:
    """Fail with words, and because of an exception with the same words."""
    try:
        raise KeyError(words)
    except KeyError as error:
        raise ValueError(f"strange: {words}") from error


async def fail_later(words: str) -> None:
    fail(words)


async def handler(_: Wallet, call: Call) -> dict[str, Any]:
    words = call.params["description"]
    loop = asyncio.get_running_loop()
    tasks.spawn(fail_later(words))
    loop.call_soon(fail, words)
    unwatched = loop.create_task(fail_later(words))
    await asyncio.wait([unwatched])
    del unwatched  # "Task exception was never retrieved"
    logging.getLogger("websockets.client").debug("< TEXT %s", words)
    logging.getLogger("asyncio").warning("Executing %s took long", words)
    fail(words)
    raise AssertionError


if __name__ == "__main__":
    HANDLERS[FAILED] = handler
    logging.getLogger("nwc").setLevel(logging.INFO)
    runner = Runner()
    build_plugin(runner).run()
    runner.exit()
