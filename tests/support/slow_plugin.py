#!/usr/bin/env python3
"""A plugin for the payer of tests, which delays some RPC commands on their way to lightningd."""

from dataclasses import dataclass
from threading import Timer
from typing import Any

from pyln.client import Plugin

PASS = {"result": "continue"}


@dataclass
class Delay:
    """The delay of a command, and counts of its calls.

    Attributes:
        seconds: by which each call is delayed.
        passing: how many more calls pass without a delay first.
        delayed: how many calls were delayed so far.
        passed: how many of the delayed calls have reached lightningd.

    """

    seconds: float
    passing: int
    delayed: int = 0
    passed: int = 0


plugin = Plugin()
delays: dict[str, Delay] = {}


@plugin.async_hook("rpc_command")
def on_command(rpc_command: dict[str, Any], request: Any, **_: Any) -> None:
    """Let a command pass, now or later."""
    delay = delays.get(rpc_command["method"])
    if delay is None or delay.passing > 0:
        if delay is not None:
            delay.passing -= 1
        request.set_result(PASS)
        return
    delay.delayed += 1
    Timer(delay.seconds, let_pass, [delay, request]).start()


def let_pass(delay: Delay, request: Any) -> None:
    """Pass a delayed call on to lightningd."""
    request.set_result(PASS)
    delay.passed += 1


@plugin.method("delay-command")
def set_delay(command: str, seconds: float = 0, passing: int = 0) -> dict[str, int]:
    """Delay a command from now on, after a number of calls that pass; 0 seconds end the delay."""
    delays.pop(command, None)
    if seconds:
        delays[command] = Delay(float(seconds), int(passing))
    return {}


@plugin.method("delayed-commands")
def count(command: str) -> dict[str, int]:
    """Return how many calls of a command were delayed since it was set, and how many were passed on."""
    return {"delayed": delays[command].delayed, "passed": delays[command].passed}


plugin.run()
