"""The package as reckless installs it, but without reckless: a copy, `.venv`, and a wrapper for both.

tests/integration/test_reckless.py has reckless itself do it.
"""

import shutil
import sys
from pathlib import Path

from tests.support.processes import ROOT

# What reckless writes, in short: the package is run as a module that is called like the plugin.
_WRAPPER = """#!{directory}/.venv/bin/python
import runpy
import sys

sys.path.append("{directory}/source/nwc")
sys.path.remove("{directory}")
runpy.run_module("nwc", {{}}, "__main__")
"""


def install(directory: Path, venv: Path = Path(sys.prefix)) -> Path:
    """Copy the package, and nothing else, to where reckless would.

    Args:
        directory: is made; reckless calls it `nwc`.
        venv: what `.venv` shall be.

    Returns:
        The wrapper, which lightningd would run.

    """
    directory.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nwc", directory / "source" / "nwc", ignore=ignored)
    (directory / ".venv").symlink_to(venv)
    wrapper = directory / "nwc.py"
    wrapper.write_text(_WRAPPER.format(directory=directory))
    wrapper.chmod(0o755)
    return wrapper
