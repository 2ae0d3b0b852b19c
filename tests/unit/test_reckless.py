"""The folder nwc alone: the files that reckless needs, and how it runs where reckless installs it."""

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
    """Return a virtual environment without packages, as after an upgrade of Python."""
    venv = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    return venv


def run(wrapper: Path, stdin: str = ONE, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [wrapper],
        # reckless tries the plugin in this folder.
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


# Files that reckless and the collection of plugins look for


def test_the_folder_has_what_reckless_looks_for() -> None:
    assert os.access(PACKAGE / "nwc.py", os.X_OK)
    assert (PACKAGE / "requirements.txt").is_file()


def test_there_is_no_uv_lock() -> None:
    """Without uv, reckless would read it as the list of packages and fail."""
    assert not (PACKAGE / "uv.lock").exists()


def test_manifest_json_describes_the_plugin() -> None:
    described = json.loads((PACKAGE / "manifest.json").read_text())
    assert set(described) == {"short_description", "long_description"}
    assert 20 < len(described["short_description"]) < 100 < len(described["long_description"])


def test_uv_and_the_plugin_need_the_same_python() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    found = re.match(r">=(\d+)\.(\d+),", project["requires-python"])
    assert found
    assert tuple(map(int, found.groups())) == bootstrap.MINIMUM_PYTHON


def test_the_packages_are_listed_once() -> None:
    assert (PACKAGE.parent / "requirements.txt").read_text() == "-r nwc/requirements.txt\n"


# How the plugin runs there


@pytest.mark.parametrize(
    "environment", [{}, {"PYTHONSAFEPATH": "1"}, POSIX], ids=["plain", "safe path", "POSIX"]
)
def test_the_folder_runs_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    wrapper = reckless_layout.install(tmp_path / "nwc")
    if "PYTHONSAFEPATH" in environment:  # the wrapper's folder is not on the path then
        wrapper.write_text(wrapper.read_text().replace("sys.path.remove(", "str("))
    check_runs(run(wrapper, **environment))


def test_the_folder_runs_through_a_link_to_its_entry_point(tmp_path: Path) -> None:
    """reckless makes this link first and replaces it with its wrapper later."""
    wrapper = reckless_layout.install(tmp_path / "nwc")
    wrapper.unlink()
    wrapper.symlink_to(wrapper.parent / "source" / "nwc" / "nwc.py")
    check_runs(run(wrapper))


def test_the_trial_of_reckless_succeeds(tmp_path: Path) -> None:
    wrapper = reckless_layout.install(tmp_path / "nwc")
    done = run(wrapper, "", LIGHTNINGD_PLUGIN="")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_of_reckless_is_preferred(tmp_path: Path, bare_venv: Path) -> None:
    """If another Python starts the plugin, it restarts in the environment of reckless."""
    wrapper = reckless_layout.install(tmp_path / "nwc")
    text = wrapper.read_text()
    wrapper.write_text(text.replace(str(wrapper.parent / ".venv"), str(bare_venv), 1))
    check_runs(run(wrapper))


def test_an_environment_without_packages_disables_the_plugin(tmp_path: Path, bare_venv: Path) -> None:
    wrapper = reckless_layout.install(tmp_path / "nwc", bare_venv)
    done = run(wrapper, BOTH)
    check_disabled(done, "Python packages are missing: pyln-client, websockets", REINSTALL)
    assert "make -C" not in done.stdout


def test_a_copied_folder_shows_the_command_of_pip(tmp_path: Path, bare_venv: Path) -> None:
    """Somebody has copied the folder, without reckless and without `make install`."""
    shutil.copytree(PACKAGE, tmp_path / "nwc", ignore=shutil.ignore_patterns("__pycache__"))
    python = bare_venv / "bin" / "python"
    done = subprocess.run(
        [python, tmp_path / "nwc" / "nwc.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"Run: {python} -m pip install -r {tmp_path}/nwc/requirements.txt" in done.stderr


# How the plugin was installed


def test_the_origin_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert origin.find_origin() == origin.Origin(origin.SOURCE, PACKAGE.parent)

    wrapper = reckless_layout.install(tmp_path / "nwc")
    monkeypatch.setattr(origin, "PACKAGE", tmp_path / "nwc" / "source" / "nwc")
    assert origin.find_origin() == origin.Origin(origin.RECKLESS, tmp_path / "nwc")
    wrapper.unlink()
    assert origin.find_origin().kind == origin.SOURCE

    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bundle" / "nwc"))
    assert origin.find_origin() == origin.Origin(origin.BUNDLE, tmp_path / "bundle")


def test_a_bundle_is_not_checked_for_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(bootstrap, "MINIMUM_PYTHON", (99, 0))
    bootstrap.require_packages(Path("nwc"))


def test_each_origin_has_its_own_repair() -> None:
    repairs = {
        kind: bootstrap._repair(origin.Origin(kind, PACKAGE.parent))
        for kind in (origin.SOURCE, origin.RECKLESS, origin.BUNDLE)
    }
    assert repairs[origin.SOURCE].startswith("Run: make -C ")
    assert repairs[origin.RECKLESS].startswith(REINSTALL)
    assert repairs[origin.BUNDLE].startswith("Unpack the bundle again")
