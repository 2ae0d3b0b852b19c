"""Child processes for programs that people end with Ctrl-C: none outlives its program."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_TIMEOUT_S = 15


@contextlib.contextmanager
def nothing_left_running() -> Iterator[None]:
    """Kill all child processes at the end of the block, also after an exception or a signal.

    The first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt; later ones are ignored, so that they
    cannot interrupt the cleanup.
    """
    before = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        kill(family(os.getpid())[1:])
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def family(pid: int) -> list[Any]:
    """Return psutil's objects for a process and all its descendants; none if it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def command_line(process: Any) -> list[str]:
    """Return the program and arguments of a psutil process; nothing if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.cmdline())
    return []


def kill(processes: Sequence[Any]) -> None:
    """Kill the processes that still run, and wait until they have ended."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=_STOP_TIMEOUT_S)


class ChildProcess:
    """A child process whose output is kept and can be waited for.

    Its standard input stays open until this process ends, so that the child can notice the end.

    Args:
        command: program and arguments.
        env: environment variables to add.

    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        # In a session of its own it gets no Ctrl-C of the terminal: this process ends it in order.
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_for(self, regex: str, timeout_s: float = 30) -> re.Match[str]:
        """Return the match of the first line of the output that matches, once there is one.

        Raises:
            RuntimeError: the program ended, or `timeout_s` seconds passed, without such a line; quotes
                the end of the output.

        """
        deadline = time.monotonic() + timeout_s
        position = 0
        with self._changed:
            while True:
                for line in self._lines[position:]:
                    if found := re.search(regex, line):
                        return found
                position = len(self._lines)
                if self._ended or not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    tail = "\n".join(self._lines[-100:])
                    raise RuntimeError(f"{self._process.args!r}: no line like {regex!r} in\n{tail}")

    @property
    def is_running(self) -> bool:
        """True if the program has not ended."""
        return self._process.poll() is None

    def last_lines(self, regex: str, count: int) -> list[str]:
        """Return at most `count` lines of the output that match, the last ones."""
        with self._changed:
            return [line for line in self._lines if re.search(regex, line)][-count:]

    def wait(self, timeout_s: float) -> int:
        """Wait until the program ends by itself, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended after `timeout_s` seconds.

        """
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """Terminate the program, and kill what is left of it and its children."""
        if self._process.poll() is not None:
            return  # its process id may already belong to another process
        processes = family(self.pid)
        try:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT_S)
        finally:
            kill(processes)
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as output:
            for line in output:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
