#!/usr/bin/env python3
"""The plugin with faults: a test can kill it at a point and shift its clock, and its timeouts are short.

lightningd runs this instead of plugin.py. Tests control it with tests/support/faults.py.
"""

# ruff: noqa: E402 - sys.path first
import logging
import os
import signal
import sys
import time
from collections import Counter
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

# This directory must not be on the path: its modules' names clash with those of others.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from nwc.cln.node import Node
from nwc.cln.rpc import _Call, _Connection
from nwc.main import build_plugin
from nwc.nostr.pool import RelayPool
from nwc.runner import Runner
from nwc.wallet.server import RequestServer
from nwc.wallet.spending.payments import Payments
from tests.support.faults import CLOCK, CRASH_AT, POINTS

# Seconds. In nwc these are up to about a minute.
SHORT = {"RETRY_FOR_S": 1, "UNSENT_GRACE_S": 1.0, "_POLL_FIRST_S": 0.2, "_POLL_MAX_S": 0.5}


class Steps:
    """Numbers the steps of one request, or of everything followed after a start."""

    def __init__(self) -> None:
        self._counts = Counter[str]()

    def begin(self, what: str) -> str:
        """Return the name of the next step of this kind."""
        self._counts[what] += 1
        return f"{what} {self._counts[what]}"


directory = Path()
steps: ContextVar[Steps | None] = ContextVar("steps", default=None)
# The step whose RPC call is pending.
calling: ContextVar[str | None] = ContextVar("calling", default=None)


def reach(point: str) -> None:
    """Record a point, or kill the process if it is the point to die at."""
    crash_at = directory / CRASH_AT
    if crash_at.exists() and crash_at.read_text() == point:
        os.kill(os.getpid(), signal.SIGKILL)
    with (directory / POINTS).open("a") as points:
        points.write(f"{point}\n")


# Wrappers around the methods that make up the steps


async def call(node: Node, method: str, *given: Any) -> Any:
    current = steps.get()
    if current is None:
        return await original_call(node, method, *given)
    step = current.begin(method)
    reach(f"before {step}")
    calling.set(step)
    try:
        return await original_call(node, method, *given)
    finally:
        calling.set(None)
        reach(f"after {step}")


def send(connection: _Connection, call: _Call) -> None:
    original_send(connection, call)
    if step := calling.get():
        reach(f"sent {step}")


async def publish(pool: RelayPool, event: Any, urls: Any, timeout_s: float) -> bool:
    current = steps.get()
    if current is None:
        return await original_publish(pool, event, urls, timeout_s)
    step = current.begin(f"publish {event.kind}")
    reach(f"before {step}")
    accepted = await original_publish(pool, event, urls, timeout_s)
    reach(f"after {step}")
    return accepted


async def serve(server: RequestServer, *args: Any, **how: Any) -> None:
    steps.set(Steps())
    # Without this memory, each request makes the same calls as the first one after a start.
    server._wallet.payments.payer._usage.clear()
    await original_serve(server, *args, **how)


def follow(payments: Payments) -> None:
    context = copy_context()
    context.run(steps.set, Steps())
    context.run(original_start, payments)


def make_node(node: Node, rpc_path: str) -> None:
    global directory
    directory = Path(rpc_path).parent
    original_node(node, rpc_path)


def shifted_time() -> float:
    try:
        return real_time() + int((directory / CLOCK).read_text())
    except FileNotFoundError:
        return real_time()


original_call, original_node = Node._call, Node.__init__
original_send = _Connection.send
original_publish, original_serve = RelayPool.publish_to_any, RequestServer._serve
original_start, real_time = Payments.start, time.time


def install() -> None:
    """Replace the plugin's methods by the wrappers, and its timeouts by short ones."""
    patches: list[tuple[Any, str, Any]] = [
        (Node, "_call", call),
        (Node, "__init__", make_node),
        (_Connection, "send", send),
        (RelayPool, "publish_to_any", publish),
        (RequestServer, "_serve", serve),
        (Payments, "start", follow),
        (time, "time", shifted_time),
    ]
    ours = [module for name, module in sys.modules.items() if name.startswith("nwc.")]
    patches += [(m, name, value) for m in ours for name, value in SHORT.items() if hasattr(m, name)]
    for owner, name, value in patches:
        setattr(owner, name, value)


if __name__ == "__main__":
    install()
    logging.getLogger("nwc").setLevel(logging.INFO)
    runner = Runner()
    build_plugin(runner).run()
    runner.exit()
