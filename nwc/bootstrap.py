"""Before anything else: is this Python able to run the plugin?

Needs only the standard library, in a form that old Pythons understand. A plugin that dies with a
traceback or says nothing would leave its owner guessing and lightningd waiting.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

MINIMUM_PYTHON = (3, 11)
# By a module that each has only in a version that is new enough.
MODULES = (
    "pyln.client",
    "websockets.asyncio.client",
    "coincurve",
    "cryptography",
    "python_socks",
    "segno",
)


def require_packages(entry_point: Path) -> None:
    """Return if the plugin can run here; otherwise go on in `.venv`, or tell lightningd and exit.

    Args:
        entry_point: plugin.py; `.venv` lies beside it.

    """
    problem = _problem()
    if problem is None:
        return
    python = entry_point.resolve().parent / ".venv" / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != python.parent.parent.resolve():
        os.execv(str(python), [str(python), str(entry_point), *sys.argv[1:]])  # noqa: S606
    _disable(problem + "; run: make -C " + str(entry_point.resolve().parent) + " install")


def _problem() -> "str | None":
    if sys.version_info < MINIMUM_PYTHON:
        return "Python 3.11 or newer is needed, this is " + sys.version.split()[0]
    missing = [name for name in MODULES if not _is_there(name)]
    return "Python packages are missing: " + ", ".join(missing) if missing else None


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # the parent package of a dotted name is not there
        return False


def _disable(reason: str) -> None:
    """Answer lightningd's getmanifest with the reason (plugin protocol), or a person with it."""
    if os.environ.get("LIGHTNINGD_PLUGIN") != "1":
        sys.exit("nwc: " + reason)
    request = _read_request()
    answer = {"jsonrpc": "2.0", "id": request.get("id"), "result": {"disable": "nwc: " + reason}}
    sys.stdout.write(json.dumps(answer) + "\n\n")
    sys.stdout.flush()
    sys.exit(0)


def _read_request() -> dict:  # type: ignore[type-arg]
    text = ""
    for line in sys.stdin:
        text += line
        if text.endswith("\n\n"):
            break
    return dict(json.loads(text)) if text.strip() else {}
