"""Child processes of programs that people end with Ctrl-C: started, listened to, and ended for sure."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_TIMEOUT_S = 15


@contextlib.contextmanager
def nothing_left_running() -> Iterator[None]:
    """End every process started inside, whatever happens: signals, exceptions, or nothing special.

    The first of the usual signals raises KeyboardInterrupt; later ones cannot disturb the clearing up.
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
    """Return a process and all its descendants as psutil shows them; nothing when it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def command_line(process: Any) -> list[str]:
    """Return the program and arguments of a process as psutil shows it; nothing when it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.cmdline())
    return []


def kill(processes: Sequence[Any]) -> None:
    """Kill those that still run, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=_STOP_TIMEOUT_S)


class ChildProcess:
    """A program whose output is kept and can be waited for.

    Its standard input stays open as long as we live, so that it can notice when we do not.

    Args:
        command: program and arguments.
        env: environment variables to add.

    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        # A session of its own: Ctrl-C at the terminal reaches us alone, and we end things in order.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_for(self, regex: str, timeout_s: float = 30) -> re.Match[str]:
        """Wait until a line of the output matches; those that are there already count.

        Raises:
            RuntimeError: the program ended without, or the time is over; with the end of the output.

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
        """Return the last lines of the output that match."""
        with self._changed:
            return [line for line in self._lines if re.search(regex, line)][-count:]

    def wait(self, timeout_s: float) -> int:
        """Wait until the program has ended by itself.

        Returns:
            Its exit code.

        Raises:
            subprocess.TimeoutExpired: it lives on.

        """
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """Ask the program to end, then see to it, its children included."""
        if self._process.poll() is not None:
            return  # by now its process id may be another's
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
