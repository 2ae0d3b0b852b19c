"""Lays out the package as reckless does, without reckless: a copy, `.venv` and a wrapper.

tests/wire/only_lightningd/test_reckless.py installs it with reckless itself.
"""

import shutil
import sys
from pathlib import Path

from tests.support.processes import ROOT

# A short form of reckless's wrapper, which runs the package as a module with the plugin's name.
_WRAPPER = """#!{directory}/.venv/bin/python
import runpy
import sys

sys.path.append("{directory}/source/nwc")
sys.path.remove("{directory}")
runpy.run_module("nwc", {{}}, "__main__")
"""


def install(directory: Path, venv: Path = Path(sys.prefix)) -> Path:
    """Copy the package alone to where reckless would copy it; return the wrapper that lightningd runs.

    Args:
        directory: the directory to make; reckless calls it `nwc`.
        venv: the virtual environment that `.venv` links to.

    """
    directory.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nwc", directory / "source" / "nwc", ignore=ignored)
    (directory / ".venv").symlink_to(venv)
    wrapper = directory / "nwc.py"
    wrapper.write_text(_WRAPPER.format(directory=directory))
    wrapper.chmod(0o755)
    return wrapper
