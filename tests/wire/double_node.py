"""The test double of lightningd with the interface of the tests."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.double.process import LightningdDouble
from tests.support.waiting import PATIENCE_S, wait_until
from tests.wire.node import HasRpcSocket, Options


class DoubleNode(HasRpcSocket):
    """A running double, as NodeUnderTest (tests/wire/node.py).

    Attributes:
        double: the process of the double.
        delayed: the RPC methods whose answers are delayed, or were.

    """

    def __init__(self, directory: Path, plugin: Path, options: Options) -> None:
        values = {name: str(value) for name, value in options.items()}
        self.delayed: set[str] = set()
        self.double = LightningdDouble(directory, plugin, values)
        self.directory = self.double.socket.parent

    @property
    def plugin_pid(self) -> int:
        return self.double.plugin_pid

    def stop_plugin(self) -> None:
        self.rpc.plugin_stop(str(self.double.plugin))

    def start_plugin(self, options: Options | None = None) -> None:
        plugin = str(self.double.plugin)
        self.rpc.call("plugin", {"subcommand": "start", "plugin": plugin, **(options or {})})

    def kill_plugin(self) -> None:
        self.double.kill_plugin()

    def wait_until_plugin_died(self) -> None:
        path = str(self.double.plugin.resolve())
        wait_until(lambda: path not in self._plugins(), "the double to notice that the plugin died")

    def _plugins(self) -> list[str]:
        return [plugin["name"] for plugin in self.rpc.plugin_list()["plugins"]]

    def restart_node(self) -> None:
        self.double.restart()

    def kill_node(self) -> None:
        self.double.kill()

    def start_node(self) -> None:
        self.double.start()

    def begin_anew(self) -> None:
        # The faults end with the double's process.
        self.delayed.clear()
        self.show_rpc_socket()
        with suppress(ProcessLookupError):
            os.kill(self.plugin_pid, signal.SIGKILL)
        self.double.kill()
        self.double.start()

    def pay(self, invoice: str, amount_msat: int | None = None) -> None:
        amount = {} if amount_msat is None else {"amount_msat": amount_msat}
        self.rpc.call("dev-pay", {"bolt11": invoice, **amount})

    def log_text(self) -> str:
        return "\n".join(self.double.log_lines())

    def mark(self) -> int:
        return self.double.mark()

    def wait_for_log(self, regex: str, timeout: float = PATIENCE_S, since: int = 0) -> str:
        return self.double.wait_for_log(regex, timeout, since)

    # Only the double can do this

    def delay(self, method: str, seconds: float) -> None:
        """Delay a method's answers by some seconds; it still acts at once. 0 ends that for new calls."""
        self.delayed.add(method)
        self.rpc.call("dev-delay", {"method": method, "seconds": seconds})

    def fail(self, method: str, code: int, message: str, times: int = 1) -> None:
        """Make the next calls of a method fail with this error."""
        self.rpc.call("dev-fail", {"method": method, "code": code, "message": message, "times": times})

    def answer(self, method: str, text: str | None, times: int = 1) -> None:
        """Answer the next calls of a method with a text, and then hang up.

        ID in the text is replaced by the call's id. None hangs up without an answer.
        """
        given = {"method": method, "times": times} | ({} if text is None else {"text": text})
        self.rpc.call("dev-answer", given)

    def commits(self) -> dict[str, int]:
        """Return how often each method has committed to the database."""
        counts: dict[str, int] = self.rpc.call("dev-commits")["commits"]
        return counts
