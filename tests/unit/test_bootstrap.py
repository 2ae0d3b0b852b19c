"""plugin.py started by a Python that cannot run it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nwc import bootstrap

ROOT = Path(__file__).parents[2]
BARE_PYTHON = (getattr(sys, "_base_executable", sys.executable), "-S", "-E")
GETMANIFEST = {"jsonrpc": "2.0", "id": "cln:getmanifest#1", "method": "getmanifest", "params": {}}


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A copy of the plugin without a .venv."""
    directory = tmp_path / "with a space"
    directory.mkdir()
    shutil.copy(ROOT / "plugin.py", directory)
    shutil.copytree(ROOT / "nwc", directory / "nwc", ignore=shutil.ignore_patterns("__pycache__"))
    return directory / "plugin.py"


def run(plugin: Path, *, by_lightningd: bool, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if name != "LIGHTNINGD_PLUGIN"}
    if by_lightningd:
        environment["LIGHTNINGD_PLUGIN"] = "1"
    return subprocess.run(
        [*BARE_PYTHON, str(plugin), "an argument"],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("indent", [None, 2])
def test_lightningd_is_told_what_to_install(plugin: Path, indent: int | None) -> None:
    done = run(plugin, by_lightningd=True, stdin=json.dumps(GETMANIFEST, indent=indent) + "\n\n")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.endswith("\n\n")
    answer = json.loads(done.stdout)
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == GETMANIFEST["id"]
    reason: str = answer["result"]["disable"]
    assert "Python packages are missing: pyln.client, websockets.asyncio.client, coincurve" in reason
    assert f"make -C {plugin.parent} install" in reason


def test_a_request_that_never_comes_is_not_waited_for(plugin: Path) -> None:
    done = run(plugin, by_lightningd=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["id"] is None


def test_a_person_is_told_too(plugin: Path) -> None:
    done = run(plugin, by_lightningd=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("nwc: Python packages are missing: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("by_lightningd", [True, False])
def test_it_goes_on_in_the_venv(plugin: Path, by_lightningd: bool) -> None:
    python = plugin.parent / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\ncat\n')
    python.chmod(0o755)
    done = run(plugin, by_lightningd=by_lightningd, stdin="the request")
    assert done.stdout == f"{plugin}\nan argument\nthe request"
    assert done.returncode == 0


def test_it_does_not_go_round_in_circles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the .venv already, and packages are missing all the same."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(bootstrap, "MODULES", ("no_such_package.at_all", "json"))
    monkeypatch.delenv("LIGHTNINGD_PLUGIN", raising=False)
    with pytest.raises(SystemExit) as caught:
        bootstrap.require_packages(tmp_path / "plugin.py")
    assert str(caught.value.code).startswith("nwc: Python packages are missing: no_such_package.at_all;")


def test_an_old_python_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bootstrap, "MINIMUM_PYTHON", (99, 0))
    monkeypatch.delenv("LIGHTNINGD_PLUGIN", raising=False)
    with pytest.raises(SystemExit, match=r"nwc: Python 3\.11 or newer is needed, this is 3\."):
        bootstrap.require_packages(tmp_path / "plugin.py")


def test_lightningd_is_told_by_a_process_that_can_be_watched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.setattr(bootstrap, "MODULES", ("no_such_package",))
    monkeypatch.setenv("LIGHTNINGD_PLUGIN", "1")
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(GETMANIFEST) + "\n\nnot read any more"))
    with pytest.raises(SystemExit) as caught:
        bootstrap.require_packages(tmp_path / "plugin.py")
    assert caught.value.code == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["id"] == GETMANIFEST["id"]
    assert sys.stdin.read() == "not read any more"


def test_a_good_python_goes_on(tmp_path: Path) -> None:
    bootstrap.require_packages(tmp_path / "plugin.py")
