"""Retry a call to lightningd until it succeeds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nwc.backoff import backoff
from nwc.cln.errors import NodeError

_T = TypeVar("_T")


async def retry(
    action: Callable[[], Awaitable[_T]],
    first_s: float,
    max_s: float,
    failed: Callable[[NodeError], None],
) -> _T:
    """Retry an action until it raises no NodeError, and return its result.

    Args:
        action: called once for each attempt.
        first_s, max_s: of `backoff`.
        failed: called with each error.

    """
    waits = backoff(first_s, max_s)
    while True:
        try:
            return await action()
        except NodeError as error:
            failed(error)
        await asyncio.sleep(next(waits))
