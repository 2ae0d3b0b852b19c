"""Kills and restarts of the relays, the plugin and the node: a random plan, and its execution."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pyln.client import RpcError

from tests.support.node import PLUGIN, Node
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until

# Enough time to recover from one misfortune before the next.
SPACING_S = 45.0
MAX_DOWN_S = 10.0
# The plugin waits a minute at most before it tries a relay again.
RECOVERY_TIMEOUT_S = 90.0


class Misfortune(StrEnum):
    """The sorts of misfortunes."""

    RELAY_A = "relay A killed"
    RELAY_B = "relay B killed"
    BOTH_RELAYS = "both relays killed"
    PLUGIN_STOP = "plugin stopped"
    PLUGIN_KILL = "plugin killed"
    NODE = "node restarted"


OF_RELAYS = (Misfortune.RELAY_A, Misfortune.RELAY_B, Misfortune.BOTH_RELAYS)
RESTARTS_PLUGIN = (Misfortune.PLUGIN_STOP, Misfortune.PLUGIN_KILL, Misfortune.NODE)


@dataclass(frozen=True, slots=True)
class Planned:
    """A planned misfortune.

    Attributes:
        after_s: seconds after the beginning of its part of the run.
        misfortune: its sort.
        down_s: seconds until the restart.

    """

    after_s: float
    misfortune: Misfortune
    down_s: float


def plan(rng: random.Random, sorts: Sequence[Misfortune], seconds: float) -> list[Planned]:
    """Return one or more cycles of these sorts, each in random order, spread over `seconds`."""
    cycles = max(1, round(seconds / SPACING_S / len(sorts)))
    spacing = seconds / cycles / len(sorts)
    order = [sort for _ in range(cycles) for sort in rng.sample(sorts, len(sorts))]
    return [
        Planned(
            after_s=spacing * (number + rng.uniform(0, 0.3)),
            misfortune=misfortune,
            down_s=rng.uniform(0.2, min(MAX_DOWN_S, spacing / 3)),
        )
        for number, misfortune in enumerate(order)
    ]


class Scene:
    """The node and its two relays. Every method blocks for a bounded time."""

    def __init__(self, node: Node, relays: tuple[RestartableRelay, RestartableRelay]) -> None:
        self.node = node
        self.relays = relays

    def cause(self, misfortune: Misfortune, down_s: float) -> None:
        """Kill or stop something, and restart it after `down_s` seconds."""
        match misfortune:
            case Misfortune.RELAY_A:
                self._kill_relays(self.relays[:1], down_s)
            case Misfortune.RELAY_B:
                self._kill_relays(self.relays[1:], down_s)
            case Misfortune.BOTH_RELAYS:
                self._kill_relays(self.relays, down_s)
            case Misfortune.PLUGIN_STOP:
                self.node.rpc.plugin_stop(str(PLUGIN))
                self._start_plugin(down_s)
            case Misfortune.PLUGIN_KILL:
                os.kill(self.node.plugin_pid, signal.SIGKILL)
                wait_until(lambda: not self._lists_plugin(), "the node to notice that the plugin died")
                self._start_plugin(down_s)
            case Misfortune.NODE:
                self.node.restart()

    def wait_until_recovered(self) -> None:
        """Wait until every connection is served over both relays.

        Raises:
            TimeoutError: some is not after RECOVERY_TIMEOUT_S seconds.

        """
        wait_until(self._has_recovered, "every connection on both relays", RECOVERY_TIMEOUT_S)

    def _has_recovered(self) -> bool:
        with contextlib.suppress(RpcError, OSError):
            relays = [
                relay
                for connection in self.node.rpc.call("nwc-list")["connections"]
                for relay in connection["relays"]
            ]
            return all(relay["listening"] and relay["info_event"] == "published" for relay in relays)
        return False

    def _kill_relays(self, relays: Sequence[RestartableRelay], down_s: float) -> None:
        for relay in relays:
            relay.kill()
        time.sleep(down_s)
        for relay in relays:
            relay.start()

    def _start_plugin(self, down_s: float) -> None:
        time.sleep(down_s)
        self.node.rpc.plugin_start(str(PLUGIN))

    def _lists_plugin(self) -> bool:
        plugins: list[dict[str, Any]] = self.node.rpc.plugin_list()["plugins"]
        return any(plugin["name"] == str(PLUGIN) for plugin in plugins)
