"""A double as a process for tests: start it, search its log, kill it, restart it."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pyln.client import LightningRpc

# Only to end tests that hang: enough time for a busy machine.
PATIENCE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]
STARTED = "Server started with public key"
# An option's value: a list repeats the option, None is a flag without a value.
OptionValue = str | list[str] | None


class LightningdDouble:
    """A lightningd double that runs one plugin.

    Args:
        directory: the lightning directory; its state survives the process.
        plugin: the plugin's executable.
        options: options for the double (`proxy`, `network`) or the plugin.
        python: the interpreter, for the double and, through PATH, for `#!/usr/bin/env python3`.
        env: additional environment variables.

    """

    def __init__(
        self,
        directory: Path,
        plugin: Path,
        options: Mapping[str, OptionValue] | None = None,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.plugin = plugin.resolve()
        self.options: dict[str, OptionValue] = dict(options or {})
        self.python = python
        self.env = dict(env or {})
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._drain: threading.Thread | None = None
        self._ended = True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def socket(self) -> Path:
        """The JSON-RPC socket, as for `lightning-cli --rpc-file`."""
        return self.directory / str(self.options.get("network", "regtest")) / "lightning-rpc"

    @property
    def rpc(self) -> Any:
        """A new LightningRpc; Any, because its type hints fail strict checking."""
        return LightningRpc(str(self.socket))  # type: ignore[no-untyped-call]

    @property
    def pid(self) -> int:
        """The process id of the double."""
        assert self._process
        return self._process.pid

    @property
    def plugin_pid(self) -> int:
        """The process id of the last plugin that was started."""
        started = rf"started\((\d+)\) {re.escape(str(self.plugin))}$"
        return int([m[1] for line in self._lines if (m := re.search(started, line))][-1])

    def start(self) -> None:
        """Start the double and wait until the plugin is initialised or has disabled itself.

        Raises:
            RuntimeError: the double ended instead.

        """
        position = self.mark()
        self._process = subprocess.Popen(
            self._command(),
            cwd=ROOT,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        self._ended = False
        self._drain = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._drain.start()
        try:
            self.wait_for_log(STARTED, timeout=70, since=position)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = PATIENCE_S) -> int:
        """End the double as a service manager does, if it still runs, and return its exit code."""
        assert self._process
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self.wait()

    def kill(self) -> None:
        """Kill the double with SIGKILL, so that it cannot clean up."""
        assert self._process
        self._process.kill()
        self.wait()

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Wait until the double and its plugin have ended, and return the double's exit code.

        Raises:
            TimeoutError: one of them still runs.

        """
        assert self._process
        assert self._drain
        code = self._process.wait(timeout)
        self._drain.join(timeout)
        if self._drain.is_alive():  # the plugin holds the same stderr open
            raise TimeoutError(f"a plugin outlives the double:\n{self._tail()}")
        return code

    def restart(self) -> None:
        """Stop and start again, in the same directory."""
        self.stop()
        self.start()

    def kill_plugin(self) -> None:
        """Kill the plugin with SIGKILL and wait until the double has noticed."""
        position = self.mark()
        os.kill(self.plugin_pid, signal.SIGKILL)
        name = re.escape(self.plugin.name)
        self.wait_for_log(rf"plugin-{name}: Killing plugin: exited", since=position)

    def log_lines(self) -> list[str]:
        """Return all log lines since the first start."""
        with self._changed:
            return list(self._lines)

    def mark(self) -> int:
        """Return the current end of the log, for `since`."""
        with self._changed:
            return len(self._lines)

    def wait_for_log(self, regex: str, timeout: float = PATIENCE_S, since: int = 0) -> str:
        """Return the first line after `since` that matches; wait for it if there is none yet.

        Raises:
            TimeoutError: there is none after `timeout` seconds.
            RuntimeError: there is none, and the double has ended.

        """
        deadline = time.monotonic() + timeout
        position = since
        with self._changed:
            while True:
                for line in self._lines[position:]:
                    if re.search(regex, line):
                        return line
                position = len(self._lines)
                if self._ended:
                    raise RuntimeError(f"the double ended before {regex!r}:\n{self._tail()}")
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"no line matches {regex!r}:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self._lines[-30:])

    def _command(self) -> list[str]:
        command = [
            self.python,
            "-m",
            "tests.double",
            f"--lightning-dir={self.directory.absolute()}",
        ]
        command.append(f"--plugin={self.plugin}")
        for name, value in self.options.items():
            values = value if isinstance(value, list) else [value]
            command += [f"--{name}" if v is None else f"--{name}={v}" for v in values]
        return command

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(self.python).parent), os.environ.get("PATH", "")])
        return {**os.environ, "PATH": path, **self.env}

    def _read_log(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
