"""A real NWC client: Alby's JavaScript SDK in a Node.js process (tests/clients/alby.mjs)."""

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

from tests.support.channel import EventLog, Json

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
NPM_INSTALL = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
_STOP_TIMEOUT_S = 10


class AlbyError(Exception):
    """The SDK threw an error.

    Attributes:
        name: the class of the error.
        code: the NIP-47 error code; None if it has none.

    """

    def __init__(self, name: str, code: str | None, message: str) -> None:
        super().__init__(f"{name} {code}: {message}")
        self.name = name
        self.code = code


class AlbyApp:
    """An app with a connection URI.

    Args:
        node_js: path of the Node.js program.
        uri: from nwc-connect.
        encryption: the scheme to use; the SDK chooses if it is None.

    """

    def __init__(self, node_js: str, uri: str, encryption: str | None = None) -> None:
        self._answers = EventLog()
        self._asked = 0
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

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()  # alby.mjs ends at the end of its input
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join(_STOP_TIMEOUT_S)

    def call(self, method: str, params: Any = None) -> Any:
        """Return what a method of the SDK's NWCClient resolves to.

        Raises:
            AlbyError: its promise was rejected.

        """
        return self._ask({"call": method, "params": params})

    def get(self, name: str) -> Any:
        """Return a property of the NWCClient."""
        return self._ask({"get": name})

    def subscribe(self, *types: str) -> None:
        """Subscribe to notifications of these types, and wait until the relay has the subscription."""
        self.call("subscribeNotifications", list(types))
        # The SDK does not wait for the relay. A later request over the same socket does.
        self.call("getInfo")

    def wait_for_notification(self, payment_hash: str) -> Json:
        """Return the notification of a payment, once it has come."""
        found = self._notifications.wait_for(
            lambda message: message["notification"]["payment_hash"] == payment_hash, "a notification"
        )
        return found[0]

    def notifications(self) -> list[Json]:
        """Return the notifications received so far."""
        return self._notifications.all()

    def _ask(self, question: Json) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        self._asked += 1
        answer = self._answers.wait_for(lambda _: True, str(question), self._asked)[self._asked - 1]
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


class PairingAlbyApp(AlbyApp):
    """An app that makes its own key with the SDK's NWAClient; it can be called once it is connected.

    Args:
        node_js: path of the Node.js program.
        options: of the NWAClient.

    Attributes:
        auth_uri: the URI that it shows to its user.

    """

    def __init__(self, node_js: str, options: Json) -> None:
        super().__init__(node_js, json.dumps(options))
        self._asked = 1
        first = self._answers.wait_for(lambda _: True, "the URI of the app")[0]
        self.auth_uri = str(first["result"])
