"""How the plugin was installed: as source, by reckless, or as a bundle.

Needs only the standard library and is written for Python 3.6, since nwc/bootstrap.py uses it.
"""

import sys
from pathlib import Path
from typing import NamedTuple

SOURCE, RECKLESS, BUNDLE = "source", "reckless", "bundle"
# Holds the package and its requirements.txt.
PACKAGE = Path(__file__).resolve().parent


class Origin(NamedTuple):
    """How the plugin was installed.

    Attributes:
        kind: SOURCE, RECKLESS or BUNDLE.
        directory: the folder that the owner deletes to remove the plugin; a `.venv` would be in it.

    """

    kind: str
    directory: Path


def find_origin() -> Origin:
    """Return how the running plugin was installed."""
    if getattr(sys, "frozen", False):  # set by PyInstaller
        return Origin(BUNDLE, Path(sys.executable).resolve().parent)
    # reckless copies the package to <name>/source/<name>, and starts it by <name>/<name>.py.
    above = PACKAGE.parent.parent
    if PACKAGE.parent.name == "source" and (above / (PACKAGE.name + ".py")).is_file():
        return Origin(RECKLESS, above)
    return Origin(SOURCE, PACKAGE.parent)
