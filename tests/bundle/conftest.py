"""Run some tests of tests/wire with the bundle on the double, in a root file system without Python.

BUNDLE_ROOT names such a root, for example one made by debootstrap. Without it, the tests make one that
has only the C library.
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
import tests.wire  # noqa: F401 - first: it makes pytest rewrite assertions of the modules below
from tests.bundle.root import cannot, make_root, write_starter
from tests.support.channel import Json
from tests.support.not_run import NotRun
from tests.wire.double_fixtures import *  # noqa: F403
from tests.wire.fixtures import *  # noqa: F403
from tests.wire.shared import *  # noqa: F403

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def _cannot_build() -> list[str]:
    command = [sys.executable, ".bundle/build.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return [done.stderr.strip()] if done.returncode else []


_not_run = NotRun(
    "tests of the bundle",
    "; ".join([*cannot(), *_cannot_build()]),
    ["They run the bundle in a root file system without Python."],
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _not_run.skip([item for item in items if HERE in item.path.parents])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Print the reason last, after the list of skipped tests."""
    yield
    _not_run.say(terminalreporter)


@pytest.fixture(scope="module")
def node_kind() -> str:
    """The kind of node that runs the bundle."""
    return "double"


@pytest.fixture(scope="session")
def archive() -> Path:
    """The archive that users download, built from the current sources."""
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
    """What nwc-status shows about the installation of the plugin under test."""
    command = [".bundle/.venv/bin/python", "-c", "import platform; print(platform.python_version())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {"installation": "bundle", "python_version": done.stdout.strip()}


@pytest.fixture(scope="session")  # type: ignore[no-redef]
def plugin_file(tmp_path_factory: pytest.TempPathFactory, root: Path, bundle: Path) -> Path:
    """The program that the node starts: it runs the bundle in that root file system."""
    starter = tmp_path_factory.mktemp("starter") / "nwc"
    return write_starter(starter, root, bundle, visible=tmp_path_factory.getbasetemp())
