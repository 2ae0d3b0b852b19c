"""A relay that a test can kill and start again under the same URL: rust-nostr's, or the fast one."""

import subprocess
import sys
from typing import Self

from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.relay import RELAY_MODULES, RelayKind


class RestartableRelay:
    """A relay in a process of its own. Its stored events are lost with the process.

    Args:
        kind: which relay program.
        auth: what needs AUTH (NIP-42): "read", "write" or "both". Only rust-nostr's relay has this.

    """

    def __init__(self, kind: RelayKind = RelayKind.NOSTR_SDK, auth: str | None = None) -> None:
        self._module = RELAY_MODULES[kind]
        self._port = free_port()
        self._options = ["--port", str(self._port), *(["--auth", auth] if auth else [])]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Its URL, which stays the same after a restart."""
        return f"ws://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Its process id; None while it does not run."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the relay and wait until it listens."""
        # It ends with its standard input, so it does not outlive tests that are killed.
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module, *self._options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        line = self._process.stdout.readline().strip()
        assert line == self.url, f"the relay did not start: {line!r}"

    def kill(self) -> None:
        """Kill the relay, if it runs, without a closing handshake, and wait until it has ended."""
        if self._process is None:
            return
        with self._process as process:
            process.kill()
        self._process = None
