"""A real NWC client, Alby's JavaScript SDK, in a process of Node.js (tests/clients/alby.mjs)."""

import json
import os
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.channel import EventLog, Json

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
NPM_INSTALL = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
_STOP_TIMEOUT_S = 10


class AlbyError(Exception):
    """The SDK threw an error.

    Attributes:
        name: its class.
        code: of NIP-47, where it has one.

    """

    def __init__(self, name: str, code: str | None, message: str) -> None:
        super().__init__(f"{name} {code}: {message}")
        self.name = name
        self.code = code


class AlbyApp:
    """The app at the other end of a URI.

    Args:
        node_js: the program.
        uri: from nwc-connect.
        encryption: instead of what the SDK chooses.

    """

    def __init__(self, node_js: str, uri: str, encryption: str | None = None) -> None:
        self._answers = EventLog()
        self._answered = 0
        self._notifications = EventLog()
        self._process = subprocess.Popen(
            [node_js, "alby.mjs", uri, *([encryption] if encryption else [])],
            cwd=CLIENTS,
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()  # which ends it
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join(_STOP_TIMEOUT_S)

    def call(self, method: str, params: Any = None) -> Any:
        """Call a method of the SDK's NWCClient and return what it resolves to.

        Raises:
            AlbyError: it was rejected.

        """
        return self._ask({"call": method, "params": params})

    def get(self, name: str) -> Any:
        """Return a property of the NWCClient."""
        return self._ask({"get": name})

    def subscribe(self, *types: str) -> None:
        """Subscribe to notifications of these types, and see that the relay knows it."""
        self.call("subscribeNotifications", list(types))
        # The SDK does not wait for the relay, but this goes over the same socket, later.
        self.call("getInfo")

    def wait_for_notification(self, payment_hash: str) -> Json:
        """Wait until a payment is told, and return the whole notification."""
        found = self._notifications.wait_for(
            lambda told: told["notification"]["payment_hash"] == payment_hash, "a notification"
        )
        return found[0]

    def notifications(self) -> list[Json]:
        """Return what was told so far."""
        return self._notifications.all()

    def _ask(self, asked: Json) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        self._answered += 1
        answer = self._answers.wait_for(lambda _: True, str(asked), self._answered)[self._answered - 1]
        if error := answer.get("error"):
            raise AlbyError(error["name"], error.get("code"), error["message"])
        return answer.get("result")

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as output:
            for line in output:
                message = json.loads(line)
                if "notification" in message:
                    self._notifications.add(message["notification"])
                else:
                    self._answers.add(message)
