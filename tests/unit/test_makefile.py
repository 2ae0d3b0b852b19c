"""What `make install` shows, above all if it fails. Python is a stand-in that installs no package."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.unit.helpers import OBEYING_FILE_MODES

ROOT = Path(__file__).parents[2]

# Stands for the Python of .venv. It has its packages once pip has run, unless a file `broken` exists.
IN_VENV = """#!/bin/sh
case "$*" in
  "-m ensurepip"*) ;;
  "-m pip"*) touch .venv/packages ;;
  plugin.py)
    test -e .venv/packages && test ! -e broken && exit
    echo "nwc: the plugin cannot run" >&2
    exit 1 ;;
  *) exec PYTHON "$@" ;;
esac
"""
# Stands for the Python that makes .venv.
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
    """Make and return a folder with the files that `make install` needs."""
    (path / "nwc").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "nwc/requirements.txt"):
        shutil.copy(ROOT / name, path / name)
    write_script(path / "in_venv", IN_VENV)
    write_script(path / "python", PYTHON)
    return path


def make_install(
    where: Path, path: str = "", *, wrapper: tuple[str, ...] = (), **environment: str
) -> "subprocess.CompletedProcess[str]":
    path = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    # The variables of an outer `make` would be inherited.
    variables = {
        name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(
        [*wrapper, "make", "install", "PYTHON=./python"],
        cwd=where,
        env={**variables, "PATH": path, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [("plain", "{path}/plugin.py"), ("café with a space", "'{path}/plugin.py'")],
)
def test_make_install_shows_the_option_for_lightningd(tmp_path: Path, name: str, shown: str) -> None:
    where = folder(tmp_path / name)
    done = make_install(where)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Ready: lightningd --plugin={shown.format(path=where)}\n" in done.stdout


def test_make_install_repairs_an_incomplete_venv(tmp_path: Path) -> None:
    where = folder(tmp_path / "x")
    make_install(where)
    (where / ".venv" / "packages").unlink()
    done = make_install(where)
    assert "is incomplete; making it again" in done.stdout
    assert "Ready:" in done.stdout
    assert (where / ".venv" / "packages").exists()


def test_a_plugin_that_cannot_run_is_not_ready(tmp_path: Path) -> None:
    where = folder(tmp_path / "x")
    (where / "broken").touch()
    done = make_install(where)
    assert done.returncode != 0
    assert "nwc: the plugin cannot run" in done.stderr
    assert "Ready:" not in done.stdout


def test_a_path_with_a_colon_is_refused(tmp_path: Path) -> None:
    where = folder(tmp_path / "a:b")
    done = make_install(where)
    assert done.returncode != 0
    assert "path has a colon. Move or rename this folder" in done.stderr
    assert str(where) in done.stderr
    assert "python3-venv" not in done.stderr


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    """`touch` is a stand-in too, since root may write everywhere."""
    where = folder(tmp_path / "x")
    write_script(tmp_path / "touch", "#!/bin/sh\nexit 1\n")
    done = make_install(where, str(tmp_path))
    assert done.returncode != 0
    assert "cannot write to this folder" in done.stderr
    assert str(where) in done.stderr
    assert "python3-venv" not in done.stderr


def test_a_python_that_cannot_make_a_venv_is_refused(tmp_path: Path) -> None:
    where = folder(tmp_path / "x")
    stand_in = PYTHON.replace('"-m venv"*)', '*ensurepip*) exit 1 ;;\n  "-m venv"*)')
    write_script(where / "python", stand_in)
    done = make_install(where)
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr


# Files of another user


@pytest.mark.parametrize("closed", ["", ".venv", ".venv/bin"])
def test_a_folder_that_is_closed_to_other_users_is_named(closed: str) -> None:
    """It needs its own folder, since pytest's is closed to other users."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        where = folder(Path(directory) / "a plugin")
        done = make_install(where)
        assert done.stdout.splitlines()[-1].startswith("Ready: ")
        (where / closed).chmod(0o700)
        done = make_install(where)
    assert done.stdout.endswith(f": other users cannot enter {where / closed}\n")


def test_an_incomplete_venv_of_another_user_is_refused(tmp_path: Path) -> None:
    """This user cannot write to it, as if root had made it."""
    where = folder(tmp_path / "x")
    make_install(where)
    (where / ".venv" / "packages").unlink()
    (where / ".venv").chmod(0o555)
    done = make_install(where, wrapper=OBEYING_FILE_MODES)
    (where / ".venv").chmod(0o755)
    assert done.returncode != 0
    assert "cannot delete .venv, which another user made. Run as root: rm -r .venv" in done.stderr
    assert str(where) in done.stderr
    assert done.stderr.count("\n") == 3  # with make's own line


def test_a_closed_venv_is_refused(tmp_path: Path) -> None:
    where = folder(tmp_path / "x")
    make_install(where)
    (where / ".venv").chmod(0)
    done = make_install(where, wrapper=OBEYING_FILE_MODES)
    (where / ".venv").chmod(0o755)
    assert done.returncode != 0
    assert "give it to that user" in done.stderr
    assert "Traceback" not in done.stderr


# When pip fails


def test_a_missing_network_is_named(tmp_path: Path) -> None:
    """The real pip runs, since the Makefile recognizes this failure by what pip prints."""
    where = folder(tmp_path / "x")
    write_script(where / "in_venv", IN_VENV.replace("touch .venv/packages", 'exec PYTHON "$@"'))
    (where / "requirements.txt").write_text("nwc-is-no-package-of-this-name\n")
    done = make_install(where, PIP_INDEX_URL="http://127.0.0.1:9", PIP_RETRIES="1", PIP_NO_INDEX="")
    assert done.returncode != 0
    assert "cannot be downloaded: pip does not reach its server" in done.stderr
    assert "No matching distribution" not in done.stderr
    assert "No matching distribution" in (where / ".venv" / "pip.log").read_text()


def test_the_last_line_of_a_failed_pip_is_shown(tmp_path: Path) -> None:
    where = folder(tmp_path / "x")
    error = 'Traceback (most recent call last):\\n  File "x"\\n    x()\\nKeyError: 1\\n'
    fails = f"{{ printf '{error}' >&2; exit 1; }}"
    write_script(where / "in_venv", IN_VENV.replace("touch .venv/packages", fails))
    done = make_install(where)
    assert done.returncode != 0
    reason, sentence, _ = done.stderr.splitlines()
    assert reason == "KeyError: 1"
    assert f"pip cannot install the Python packages for Python 3.{sys.version_info.minor}." in sentence
    assert not (where / ".venv" / "installed").exists()


def test_an_old_pip_is_replaced(tmp_path: Path) -> None:
    """Python brings the new one; the old one may fail in a newer Python."""
    where = folder(tmp_path / "x")
    text = IN_VENV.replace('ensurepip"*)', 'ensurepip --upgrade"*) touch .venv/pip')
    write_script(where / "in_venv", text.replace("touch .venv/packages", "cp .venv/pip .venv/packages"))
    done = make_install(where)
    assert (done.returncode, done.stderr) == (0, "")
