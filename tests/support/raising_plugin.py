#!/usr/bin/env python3
"""The plugin with a broken make_invoice, which raises and logs the client's description in many places.

lightningd runs this instead of plugin.py.
"""

# ruff: noqa: E402 - sys.path first
import asyncio
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

# This directory must not be on the path: its modules' names clash with those of others.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from nwc.main import build_plugin
from nwc.runner import Runner
from nwc.tasks import Tasks
from nwc.wallet.context import Call, Wallet
from nwc.wallet.dispatch import METHODS

METHOD = "make_invoice"

tasks = Tasks()


def fail(words: str) -> None:
    """Raise an exception with these words, caused by another one with the same words."""
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
    METHODS[METHOD] = replace(METHODS[METHOD], handler=handler)
    logging.getLogger("nwc").setLevel(logging.INFO)
    runner = Runner()
    build_plugin(runner).run()
    runner.exit()
