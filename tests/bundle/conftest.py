"""The plugin of the cases is the bundle, in a root file system without Python; the node is the double.

BUNDLE_ROOT names one made by debootstrap, say. Without it, one is made that has the C library alone.
"""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nwc

# First: it has pytest rewrite the assertions of the cases.
from tests.plugin.conftest import make_node, node, payee  # noqa: F401

# isort: split
from tests.bundle.root import cannot, make_root, write_starter
from tests.cases.fixtures import *  # noqa: F403
from tests.cases.shared import *  # noqa: F403
from tests.support.channel import Json
from tests.support.not_run import NotRun

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def _cannot_build() -> list[str]:
    command = [sys.executable, ".bundle/build.py", "--can-it"]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return [asked.stderr.strip()] if asked.returncode else []


_not_run = NotRun(
    HERE,
    "tests of the bundle",
    "; ".join([*cannot(), *_cannot_build()]),
    ["They run the bundle in a root file system without Python."],
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _not_run.skip(items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Have the last word, after the list of the skipped tests."""
    yield
    _not_run.say(terminalreporter)


@pytest.fixture(scope="session")
def archive() -> Path:
    """The bundle as it is handed out, built from the present sources."""
    subprocess.run(["make", "bundle", f"PYTHON={shlex.quote(sys.executable)}"], cwd=ROOT, check=True)
    return ROOT / "dist" / f"nwc-{nwc.__version__}-linux-{platform.machine()}.tar.gz"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    """The unpacked bundle; tests do not change it."""
    folder = tmp_path_factory.mktemp("bundle")
    subprocess.run(["tar", "-xzf", archive, "-C", folder], check=True)
    return folder / "nwc"


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system without Python."""
    if given := os.environ.get("BUNDLE_ROOT"):
        return Path(given)
    return make_root(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="session")  # type: ignore[no-redef]
def how_it_runs(archive: Path) -> Json:
    """What nwc-status tells of the way in which the node under test runs the plugin."""
    command = [".bundle/.venv/bin/python", "-c", "import platform; print(platform.python_version())"]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {"installation": "bundle", "python_version": asked.stdout.strip()}


@pytest.fixture(scope="session")
def plugin_file(tmp_path_factory: pytest.TempPathFactory, root: Path, bundle: Path) -> Path:
    """What the node starts: the bundle in that root file system."""
    starter = tmp_path_factory.mktemp("starter") / "nwc"
    return write_starter(starter, root, bundle, visible=tmp_path_factory.getbasetemp())
