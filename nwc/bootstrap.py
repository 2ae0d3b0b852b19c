"""Checks first whether this Python can run the plugin. If not, lightningd and the owner learn why.

It needs only the standard library and is written for Python 3.6, as are nwc/manifest.py and
nwc/origin.py. A plugin that dies with a traceback would leave its owner guessing, and lightningd would
not start if its configuration has an option of the plugin. So a plugin that cannot run declares its
options and then disables itself.
"""

import json
import operator
import os
import pwd
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from nwc import origin
from nwc.manifest import manifest

MINIMUM_PYTHON = (3, 11)

_REQUIREMENTS = origin.PACKAGE / "requirements.txt"
# Holds the id of the process that has already been replaced by the right Python; exec keeps the id.
_ALREADY_THERE = "NWC_BOOTSTRAP_PID"
_MAX_ERROR_LENGTH = 300
_REQUIREMENT = re.compile(r"([\w.-]+) *([=<>0-9.,]+)(?: *; *python_version *(<|>=) *\"([0-9.]+)\")?")
_COMPARISONS = {"==": operator.eq, ">=": operator.ge, "<": operator.lt}


def require_packages(entry_point: Path) -> None:
    """Return if the plugin can run here. Otherwise run it in `.venv`, or disable it and exit.

    Args:
        entry_point: the script that was started, for the Python of `.venv`.

    """
    here = origin.find_origin()
    if here.kind == origin.BUNDLE:  # it has its own packages and its own Python
        return
    venv_problem = _go_on_in_the_right_python(here.directory / ".venv", entry_point)
    problem = _problem()
    if problem:
        _disable(problem + venv_problem)


@contextmanager
def import_errors_disable() -> "Iterator[None]":
    """Disable the plugin and exit if an import in the body fails: a package may be broken."""
    try:
        yield
    except Exception as error:
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _disable(f"a Python package cannot be loaded ({words[:_MAX_ERROR_LENGTH]})")


# Which Python


def _go_on_in_the_right_python(venv: Path, entry_point: Path) -> str:
    """Replace this process unless its Python is the right one; return the fault of `.venv`, if any."""
    python, problem = sys.executable, ""
    if os.path.lexists(str(venv)):
        in_venv = str(venv / "bin" / "python")
        if os.access(in_venv, os.X_OK):
            python = in_venv
        else:
            problem = f"; {shlex.quote(in_venv)} cannot be run"
    is_right = python == sys.executable or Path(sys.prefix).resolve() == venv.resolve()
    # lightningd's paths are UTF-8, whatever the locale.
    if is_right and sys.getfilesystemencoding().lower() == "utf-8":
        return problem
    if os.environ.get(_ALREADY_THERE) == str(os.getpid()):
        return problem
    os.environ.update({_ALREADY_THERE: str(os.getpid()), "PYTHONUTF8": "1"})
    try:
        os.execv(python, [python, str(entry_point), *sys.argv[1:]])  # noqa: S606
    except OSError as error:
        return f"; {shlex.quote(python)} cannot be run: {error.strerror}"


# Its packages


def _problem() -> str:
    if sys.version_info < MINIMUM_PYTHON:
        return "Python 3.11 or newer is needed, this is " + sys.version.split()[0]
    try:
        lines = _REQUIREMENTS.read_text(encoding="utf-8").splitlines()
        return _unmet([line.partition("#")[0].strip() for line in lines])
    except (OSError, ValueError) as error:
        return f"nwc/requirements.txt is unreadable ({error})"


def _unmet(requirements: "list[str]") -> str:
    """Return which packages do not meet the requirements, "" if all do."""
    from importlib import metadata  # since Python 3.8

    missing, wrong = [], []
    for requirement in filter(None, requirements):
        name, bounds, is_for_us = _parse_requirement(requirement)
        if not is_for_us:
            continue
        try:
            version = metadata.version(name) or ""
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if not _is_within(version, bounds):
            wrong.append(f"{name} {version} (must be {bounds})")
    problems = ["Python packages are missing: " + ", ".join(missing)] if missing else []
    problems += ["Python packages have the wrong version: " + ", ".join(wrong)] if wrong else []
    return "; ".join(problems)


def _parse_requirement(text: str) -> "tuple[str, str, bool]":
    """Return a requirement's name and bounds, and True if it is for this Python.

    It reads only the forms of nwc/requirements.txt: `name>=1,<2; python_version < "3.13"`.

    Raises:
        ValueError: the requirement has another form.

    """
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        raise ValueError(repr(text))
    name, bounds, comparison, python = match.groups()
    ours = sys.version_info[:2]
    return name, bounds, comparison is None or _COMPARISONS[comparison](ours, _numbers(python))


def _is_within(version: str, bounds: str) -> bool:
    found = _numbers(version)
    parsed = (re.match("([=<>]+)(.*)", bound) for bound in bounds.split(","))
    return all(_COMPARISONS[bound[1]](found, _numbers(bound[2])) for bound in parsed if bound)


def _numbers(version: str) -> "tuple[int, ...]":
    """Return a version as numbers: v26.06.0 is (26, 6). A suffix like rc1 is ignored."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", version)
    numbers = [int(number) for number in match.group(1).split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


# The message to lightningd and its owner


def _repair(installed: origin.Origin) -> str:
    """Return the command by which the owner repairs this installation."""
    if installed.kind == origin.RECKLESS:
        # reckless makes `.venv` with its own Python.
        return "Run: reckless uninstall nwc && reckless install nwc (with Python 3.11 or newer)"
    if installed.kind == origin.BUNDLE:
        return f"Unpack the bundle again over {_quoted(installed.directory)}"
    if (installed.directory / "Makefile").is_file():
        return f"Run: make -C {_quoted(installed.directory)} install"
    return f"Run: {_quoted(Path(sys.executable))} -m pip install -r {_quoted(_REQUIREMENTS)}"


def _quoted(path: Path) -> str:
    # With some locales the path has surrogates.
    return shlex.quote(os.fsencode(str(path)).decode("utf-8", "replace"))


def _reason_and_repair(reason: str) -> str:
    """Return the reason and the repair. If a file is unreadable, that is the reason."""
    installed = origin.find_origin()
    unreadable = _unreadable(origin.PACKAGE) or _unreadable(installed.directory / ".venv")
    if not unreadable:
        return f"{reason}. {_repair(installed)}"
    user, directory = _user(), _quoted(installed.directory)
    text = (
        f"user {user} cannot read {_quoted(Path(unreadable))}. Run as root: chown -R {user} {directory}"
    )
    if (
        installed.directory / "Makefile"
    ).is_file():  # `.venv` may use a Python that is not readable either
        text += f" - then as {user}: make -C {directory} clean install"
    return text


def _unreadable(top: Path) -> str:
    """Return the first path in this folder that the user of this process cannot read, or ""."""
    if _is_closed(str(top)):
        return str(top)
    for directory, directories, files in os.walk(str(top)):
        for name in sorted(directories + files):
            path = os.path.join(directory, name)
            if _is_closed(path):
                return path
    return ""


def _is_closed(path: str) -> bool:
    try:
        os.stat(path)
    except PermissionError:
        return True
    except OSError:  # missing, or a link to nowhere
        return False
    return not os.access(path, os.R_OK)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _disable(reason: str) -> NoReturn:
    """Send the reason to lightningd (answers to getmanifest and init), or print it, and exit."""
    text = f"nwc: the plugin cannot run: {_reason_and_repair(reason)}"
    if os.environ.get("LIGHTNINGD_PLUGIN") != "1":
        sys.stderr.buffer.write(text.encode("utf-8", "replace") + b"\n")
        sys.exit(1)
    for request in _requests():
        if request.get("method") == "getmanifest":
            _send({"id": request.get("id"), "result": manifest()})
        elif request.get("method") == "init":
            # lightningd itself logs the reason only at level debug.
            _send({"method": "log", "params": {"level": "warn", "message": text}})
            _send({"id": request.get("id"), "result": {"disable": text}})
            break
    sys.exit(0)


def _requests() -> "Iterator[dict[str, Any]]":
    text = b""
    for line in sys.stdin.buffer:
        text += line
        if text.endswith(b"\n\n") and text.strip():
            yield json.loads(text.decode("utf-8", "replace"))
            text = b""


def _send(message: "dict[str, Any]") -> None:
    # Not as ASCII: lightningd would show the escapes.
    text = json.dumps(dict(jsonrpc="2.0", **message), ensure_ascii=False)
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n\n")
    sys.stdout.buffer.flush()
