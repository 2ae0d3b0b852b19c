"""The folder nwc alone: what reckless needs in it, and how it runs where reckless has put it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nwc import bootstrap, origin
from nwc.manifest import OPTIONS
from tests.support import reckless_layout
from tests.unit.test_bootstrap import BOTH, GETMANIFEST, answers, check_disabled

PACKAGE = Path(__file__).parents[2] / "nwc"
ONE = json.dumps(GETMANIFEST) + "\n\n"
POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
REINSTALL = "Run: reckless uninstall nwc && reckless install nwc"


@pytest.fixture
def bare_venv(tmp_path: Path) -> Path:
    """A virtual environment without packages, as a newer Python leaves one of an older Python."""
    venv = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    return venv


def run(wrapper: Path, stdin: str = ONE, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [wrapper],
        # reckless tries the plugin from here.
        cwd=wrapper.parent / "source" / "nwc",
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "LIGHTNINGD_PLUGIN": "1", **environment},
        timeout=60,
        check=False,
    )


def check_runs(done: "subprocess.CompletedProcess[str]") -> None:
    assert done.stderr == ""
    [answer] = answers(done.stdout)
    assert answer["id"] == GETMANIFEST["id"]
    assert len(answer["result"]["options"]) == len(OPTIONS)


# What reckless and the collection of plugins look for


def test_the_folder_has_what_reckless_looks_for() -> None:
    assert os.access(PACKAGE / "nwc.py", os.X_OK)
    assert (PACKAGE / "requirements.txt").is_file()


def test_no_lock_file_misleads_reckless() -> None:
    """Where uv is missing, reckless would take it for the list of packages and fail."""
    assert not (PACKAGE / "uv.lock").exists()


def test_the_collection_can_describe_the_plugin() -> None:
    described = json.loads((PACKAGE / "manifest.json").read_text())
    assert set(described) == {"short_description", "long_description"}
    assert 20 < len(described["short_description"]) < 100 < len(described["long_description"])


def test_uv_takes_a_python_that_the_plugin_takes() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    found = re.match(r">=(\d+)\.(\d+),", project["requires-python"])
    assert found
    assert tuple(map(int, found.groups())) == bootstrap.MINIMUM_PYTHON


def test_the_list_of_packages_is_there_once() -> None:
    assert (PACKAGE.parent / "requirements.txt").read_text() == "-r nwc/requirements.txt\n"


# How it runs there


@pytest.mark.parametrize(
    "environment", [{}, {"PYTHONSAFEPATH": "1"}, POSIX], ids=["plain", "safe path", "POSIX"]
)
def test_it_runs_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    wrapper = reckless_layout.install(tmp_path / "nwc")
    if "PYTHONSAFEPATH" in environment:  # the wrapper's folder is not on the path then
        wrapper.write_text(wrapper.read_text().replace("sys.path.remove(", "str("))
    check_runs(run(wrapper, **environment))


def test_it_runs_from_a_link_to_the_entry_point(tmp_path: Path) -> None:
    """reckless has a link there until its wrapper takes its place."""
    wrapper = reckless_layout.install(tmp_path / "nwc")
    wrapper.unlink()
    wrapper.symlink_to(wrapper.parent / "source" / "nwc" / "nwc.py")
    check_runs(run(wrapper))


def test_the_trial_of_reckless_succeeds(tmp_path: Path) -> None:
    wrapper = reckless_layout.install(tmp_path / "nwc")
    done = run(wrapper, "", LIGHTNINGD_PLUGIN="")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_of_reckless_wins(tmp_path: Path, bare_venv: Path) -> None:
    """Started by another Python, the plugin goes on in the one that reckless has made."""
    wrapper = reckless_layout.install(tmp_path / "nwc")
    text = wrapper.read_text()
    wrapper.write_text(text.replace(str(wrapper.parent / ".venv"), str(bare_venv), 1))
    check_runs(run(wrapper))


def test_an_environment_without_packages(tmp_path: Path, bare_venv: Path) -> None:
    wrapper = reckless_layout.install(tmp_path / "nwc", bare_venv)
    done = run(wrapper, BOTH)
    check_disabled(done, "Python packages are missing: pyln-client, websockets", REINSTALL)
    assert "make -C" not in done.stdout


def test_a_folder_alone_elsewhere(tmp_path: Path, bare_venv: Path) -> None:
    """Neither reckless nor `make install`: somebody has copied the folder."""
    shutil.copytree(PACKAGE, tmp_path / "nwc", ignore=shutil.ignore_patterns("__pycache__"))
    python = bare_venv / "bin" / "python"
    done = subprocess.run(
        [python, tmp_path / "nwc" / "nwc.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"Run: {python} -m pip install -r {tmp_path}/nwc/requirements.txt" in done.stderr


# Where it comes from


def test_origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert origin.find_origin() == origin.Origin(origin.SOURCE, PACKAGE.parent)

    wrapper = reckless_layout.install(tmp_path / "nwc")
    monkeypatch.setattr(origin, "PACKAGE", tmp_path / "nwc" / "source" / "nwc")
    assert origin.find_origin() == origin.Origin(origin.RECKLESS, tmp_path / "nwc")
    wrapper.unlink()
    assert origin.find_origin().kind == origin.SOURCE

    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bundle" / "nwc"))
    assert origin.find_origin() == origin.Origin(origin.BUNDLE, tmp_path / "bundle")


def test_a_bundle_is_not_asked_for_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(bootstrap, "MINIMUM_PYTHON", (99, 0))
    bootstrap.require_packages(Path("nwc"))


def test_repairs_fit_the_way_of_installation() -> None:
    repairs = {
        kind: bootstrap._repair(origin.Origin(kind, PACKAGE.parent))
        for kind in (origin.SOURCE, origin.RECKLESS, origin.BUNDLE)
    }
    assert repairs[origin.SOURCE].startswith("Run: make -C ")
    assert repairs[origin.RECKLESS].startswith(REINSTALL)
    assert repairs[origin.BUNDLE].startswith("Unpack the bundle again")
