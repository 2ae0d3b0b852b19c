"""What `make install` says where it cannot succeed. No package is installed: Python is a stand-in."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Stands for the Python of the .venv. It is complete once pip has run, unless a file `broken` is there.
IN_VENV = """#!/bin/sh
case "$*" in
  *pip*) touch .venv/packages ;;
  plugin.py)
    test -e .venv/packages && test ! -e broken && exit
    echo "nwc: the plugin cannot run" >&2
    exit 1 ;;
  *) exec PYTHON "$@" ;;
esac
"""
# Stands for the Python that makes the .venv.
PYTHON = """#!/bin/sh
case "$*" in
  "-m venv"*) mkdir -p .venv/bin && cp in_venv .venv/bin/python ;;
  *) exec PYTHON "$@" ;;
esac
"""


def write_script(path: Path, text: str) -> None:
    path.write_text(text.replace("PYTHON", shlex.quote(sys.executable)))
    path.chmod(0o755)


def folder(path: Path) -> Path:
    """Make a folder with what `make install` needs."""
    (path / "nwc").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "nwc/requirements.txt"):
        shutil.copy(ROOT / name, path / name)
    write_script(path / "in_venv", IN_VENV)
    write_script(path / "python", PYTHON)
    return path


def make_install(where: Path, path: str = "") -> "subprocess.CompletedProcess[str]":
    path = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    # That of a `make` above us would be inherited.
    variables = {
        name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(
        ["make", "install", "PYTHON=./python"],
        cwd=where,
        env={**variables, "PATH": path},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [("plain", "{path}/plugin.py"), ("café with a space", "'{path}/plugin.py'")],
)
def test_ready(tmp_path: Path, name: str, shown: str) -> None:
    where = folder(tmp_path / name)
    done = make_install(where)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"Ready: lightningd --plugin={shown.format(path=where)}\n")


def test_a_package_that_is_missing_later_is_installed(tmp_path: Path) -> None:
    where = folder(tmp_path / "x")
    make_install(where)
    (where / ".venv" / "packages").unlink()
    done = make_install(where)
    assert "is not complete; making it anew" in done.stdout
    assert "Ready:" in done.stdout
    assert (where / ".venv" / "packages").exists()


def test_not_ready_if_the_plugin_cannot_run(tmp_path: Path) -> None:
    where = folder(tmp_path / "x")
    (where / "broken").touch()
    done = make_install(where)
    assert done.returncode != 0
    assert "nwc: the plugin cannot run" in done.stderr
    assert "Ready:" not in done.stdout


def test_colon_in_the_path(tmp_path: Path) -> None:
    where = folder(tmp_path / "a:b")
    done = make_install(where)
    assert done.returncode != 0
    assert "path has a colon. Move or rename this folder" in done.stderr
    assert str(where) in done.stderr
    assert "python3-venv" not in done.stderr


def test_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """Root may write everywhere, so `touch` is a stand-in too."""
    where = folder(tmp_path / "x")
    write_script(tmp_path / "touch", "#!/bin/sh\nexit 1\n")
    done = make_install(where, str(tmp_path))
    assert done.returncode != 0
    assert "cannot write to this folder" in done.stderr
    assert str(where) in done.stderr
    assert "python3-venv" not in done.stderr


def test_python_that_cannot_make_an_environment(tmp_path: Path) -> None:
    where = folder(tmp_path / "x")
    stand_in = PYTHON.replace('"-m venv"*)', '*ensurepip*) exit 1 ;;\n  "-m venv"*)')
    write_script(where / "python", stand_in)
    done = make_install(where)
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr
