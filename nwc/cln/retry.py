"""Doing what must be done, however long lightningd is away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nwc.cln.errors import NodeError

_T = TypeVar("_T")


async def retry(
    action: Callable[[], Awaitable[_T]],
    first_s: float,
    max_s: float,
    failed: Callable[[NodeError], None],
) -> _T:
    """Do something again and again until it raises no NodeError, and return what it does.

    Args:
        action: what to do.
        first_s: seconds until the second attempt; doubled for each that follows.
        max_s: the most of that.
        failed: called with each error.

    """
    delay = first_s
    while True:
        try:
            return await action()
        except NodeError as error:
            failed(error)
        await asyncio.sleep(delay)
        delay = min(delay * 2, max_s)
