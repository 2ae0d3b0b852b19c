"""What plugin.py does if its Python cannot run it."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from nwc import bootstrap
from nwc.manifest import OPTIONS
from tests.unit.helpers import OBEYING_FILE_MODES

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "nwc" / "requirements.txt"
BARE_PYTHON = (getattr(sys, "_base_executable", sys.executable), "-S", "-E")
GETMANIFEST = {"jsonrpc": "2.0", "id": "cln:getmanifest#1", "method": "getmanifest", "params": {}}
INIT = {"jsonrpc": "2.0", "id": "cln:init#2", "method": "init", "params": {"options": {}}}
BOTH = f"{json.dumps(GETMANIFEST)}\n\n{json.dumps(INIT)}\n\n"
OLD_PYTHONS = ("3.6", "3.7", "3.8", "3.9", "3.10")


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Return a copy of plugin.py without a .venv, in a folder whose path needs quotes in a shell."""
    directory = tmp_path / "café with a space"
    directory.mkdir()
    for name in ("plugin.py", "Makefile"):
        shutil.copy(ROOT / name, directory)
    shutil.copytree(ROOT / "nwc", directory / "nwc", ignore=shutil.ignore_patterns("__pycache__"))
    return directory / "plugin.py"


def run(
    plugin: Path,
    *,
    by_lightningd: bool,
    stdin: str = "",
    python: tuple[str, ...] = BARE_PYTHON,
    **environment: str,
) -> "subprocess.CompletedProcess[str]":
    variables = {name: text for name, text in os.environ.items() if name != "LIGHTNINGD_PLUGIN"}
    if by_lightningd:
        variables["LIGHTNINGD_PLUGIN"] = "1"
    return subprocess.run(
        [*python, str(plugin), "an argument"],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env={**variables, **environment},
        timeout=60,
        check=False,
    )


def answers(output: str) -> list[dict[str, Any]]:
    *messages, rest = output.split("\n\n")
    assert rest == ""
    return [json.loads(message) for message in messages]


def make_install(plugin: Path) -> str:
    return f"make -C '{plugin.parent}' install"


def check_disabled(done: "subprocess.CompletedProcess[str]", reason: str, repair: str) -> None:
    """Check that lightningd gets the options first, and the reason with the answer to `init`."""
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    declared, log, disabled = answers(done.stdout)
    assert declared["id"] == GETMANIFEST["id"]
    assert [option["name"] for option in declared["result"]["options"]] == [o.name for o in OPTIONS]
    assert "disable" not in declared["result"]
    assert disabled["id"] == INIT["id"]
    text = disabled["result"]["disable"]
    assert reason in text
    assert repair in text
    assert log["method"] == "log"
    assert log["params"] == {"level": "warn", "message": text}


@pytest.mark.parametrize("indent", [None, 2])
def test_missing_packages_disable_the_plugin(plugin: Path, indent: int | None) -> None:
    stdin = "".join(json.dumps(request, indent=indent) + "\n\n" for request in (GETMANIFEST, INIT))
    done = run(plugin, by_lightningd=True, stdin=stdin)
    check_disabled(
        done, "Python packages are missing: pyln-client, websockets, cryptography", make_install(plugin)
    )


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_the_reason_is_shown_under_a_posix_locale(plugin: Path, locale: str) -> None:
    odd = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    python = (BARE_PYTHON[0], "-S")
    done = run(plugin, by_lightningd=True, stdin=BOTH, python=python, **odd)
    check_disabled(done, "Python packages are ", make_install(plugin))
    done = run(plugin, by_lightningd=False, python=python, **odd)
    assert make_install(plugin) in done.stderr


def test_the_folder_nwc_is_found_with_pythonsafepath(plugin: Path) -> None:
    python = (BARE_PYTHON[0], "-S")
    done = run(plugin, by_lightningd=True, stdin=BOTH, python=python, PYTHONSAFEPATH="1")
    check_disabled(done, "Python packages are missing", make_install(plugin))


@pytest.mark.parametrize("version", OLD_PYTHONS)
def test_an_old_python_disables_the_plugin(plugin: Path, version: str) -> None:
    python = shutil.which(f"python{version}")
    probe = [python or "", "-c", "import sys; print(sys.version_info[:2])"]
    if python is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip(
            f"no Python {version} here; test_architecture.py only checks that it can parse the files"
        )
    done = run(plugin, by_lightningd=True, stdin=BOTH, python=(python,))
    check_disabled(done, f"Python 3.11 or newer is needed, this is {version}.", make_install(plugin))


def test_the_plugin_exits_if_stdin_is_closed(plugin: Path) -> None:
    done = run(plugin, by_lightningd=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_start_by_hand_shows_the_reason(plugin: Path) -> None:
    done = run(plugin, by_lightningd=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("nwc: the plugin cannot run: Python packages are missing: ")
    assert "Traceback" not in done.stderr


def test_plugin_py_without_the_folder_nwc_disables_itself(plugin: Path) -> None:
    shutil.rmtree(plugin.parent / "nwc")
    done = run(plugin, by_lightningd=True, stdin=BOTH)
    [answer] = answers(done.stdout)
    assert answer["id"] == GETMANIFEST["id"]
    assert "the folder nwc is missing beside plugin.py" in answer["result"]["disable"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", [None, "segno~=1.6\n", "\xff"])
def test_an_unreadable_requirements_txt_disables_the_plugin(plugin: Path, text: str | None) -> None:
    requirements = plugin.parent / "nwc" / "requirements.txt"
    if text is None:
        requirements.unlink()
    else:
        requirements.write_bytes(text.encode("latin-1"))
    done = run(plugin, by_lightningd=True, stdin=BOTH)
    check_disabled(done, "nwc/requirements.txt is unreadable (", make_install(plugin))


@pytest.mark.parametrize(
    "error", ["ImportError('no\\n symbol')", "OSError('libssl')", "SyntaxError('x')"]
)
def test_a_broken_package_disables_the_plugin(plugin: Path, error: str) -> None:
    (plugin.parent / "segno.py").write_text(f"raise {error}\n")
    done = run(plugin, by_lightningd=True, stdin=BOTH, python=(sys.executable,))
    check_disabled(
        done, f"a Python package cannot be loaded ({error.partition('(')[0]}: ", make_install(plugin)
    )


# Which Python


def make_venv(plugin: Path, script: str) -> Path:
    python = plugin.parent / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(script)
    python.chmod(0o755)
    return python


@pytest.mark.parametrize("by_lightningd", [True, False])
@pytest.mark.parametrize("python", [BARE_PYTHON, (sys.executable,)], ids=["bare", "complete"])
def test_the_venv_is_preferred(plugin: Path, by_lightningd: bool, python: tuple[str, ...]) -> None:
    """Even if the Python that runs plugin.py has all packages."""
    make_venv(plugin, '#!/bin/sh\nprintf "%s\\n" "$@"\ncat\n')
    done = run(plugin, by_lightningd=by_lightningd, stdin="the request", python=python)
    assert done.stdout == f"{plugin}\nan argument\nthe request"
    assert done.returncode == 0


def test_a_venv_that_runs_another_python_is_entered_once(plugin: Path) -> None:
    make_venv(plugin, f'#!/bin/sh\nexec {BARE_PYTHON[0]} -S "$@"\n')
    done = run(plugin, by_lightningd=True, stdin=BOTH)
    check_disabled(done, "Python packages are missing", make_install(plugin))


@pytest.mark.parametrize("state", ["a link to nowhere", "not executable", "no program"])
def test_an_unusable_venv_is_named(plugin: Path, state: str) -> None:
    python = make_venv(plugin, "\x7fELF, and nothing else of a program")
    if state == "a link to nowhere":
        python.unlink()
        python.symlink_to("/nowhere/python3.99")
    elif state == "not executable":
        python.chmod(0o644)
    done = run(plugin, by_lightningd=True, stdin=BOTH)
    check_disabled(done, f"; '{python}' cannot be run", make_install(plugin))


def test_a_python_with_all_packages_needs_no_venv(plugin: Path) -> None:
    done = run(
        plugin, by_lightningd=True, stdin=json.dumps(GETMANIFEST) + "\n\n", python=(sys.executable,)
    )
    [answer] = answers(done.stdout)
    assert len(answer["result"]["options"]) == len(OPTIONS)


# Files of another user


@pytest.mark.parametrize(
    "closed",
    ["nwc/requirements.txt", "nwc/service.py", "nwc/cln", ".venv", ".venv/bin", ".venv/bin/python"],
)
def test_an_unreadable_file_is_named(plugin: Path, closed: str) -> None:
    make_venv(plugin, f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (plugin.parent / "Makefile").touch()
    path = plugin.parent / closed
    path.chmod(0)
    done = run(plugin, by_lightningd=True, stdin=BOTH, python=(*OBEYING_FILE_MODES, *BARE_PYTHON))
    path.chmod(0o755)
    repair = f": make -C '{plugin.parent}' clean install"
    check_disabled(done, f" cannot read '{path}'. Run as root: chown -R ", repair)


def test_a_python_in_a_closed_folder_is_named(plugin: Path, tmp_path: Path) -> None:
    """A `.venv` made by root often links to a Python in root's home folder."""
    python = make_venv(plugin, "")
    home = tmp_path / "home"
    home.mkdir()
    python.rename(home / "python")
    python.symlink_to(home / "python")
    home.chmod(0)
    done = run(plugin, by_lightningd=True, stdin=BOTH, python=(*OBEYING_FILE_MODES, *BARE_PYTHON))
    home.chmod(0o755)
    check_disabled(done, f" cannot read '{python}'.", "Run as root: chown -R ")


@pytest.mark.parametrize("closed", ["nwc", "nwc/bootstrap.py", "nwc/manifest.py"])
def test_an_unreadable_folder_nwc_is_named(plugin: Path, closed: str) -> None:
    path = plugin.parent / closed
    path.chmod(0)
    done = run(plugin, by_lightningd=True, stdin=BOTH, python=(*OBEYING_FILE_MODES, *BARE_PYTHON))
    path.chmod(0o755)
    [answer] = answers(done.stdout)
    assert f" cannot read all of {plugin.parent / 'nwc'}. " in answer["result"]["disable"]
    assert "Traceback" not in done.stderr


# Versions


def test_every_requirement_is_parsed() -> None:
    lines = [line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    names = {bootstrap._parse_requirement(line)[0] for line in lines if line}
    assert names >= {"pyln-client", "websockets", "cryptography", "python-socks", "segno", "coincurve"}


@pytest.mark.parametrize("text", ["a", "a~=1", "a>=1; sys_platform == 'x'", "a @ https://x", "-r other"])
def test_a_requirement_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        bootstrap._parse_requirement(text)


@pytest.mark.parametrize(
    ("text", "is_for_us"),
    [
        ("a>=1", True),
        ('a>=1; python_version < "3.11"', False),
        ('a>=1; python_version < "4.0"', True),
        ('a>=1; python_version >= "3.9"', True),
        ('a>=1; python_version >= "4.0"', False),
    ],
)
def test_requirements_of_other_pythons_are_recognized(text: str, is_for_us: bool) -> None:
    assert bootstrap._parse_requirement(text) == ("a", ">=1", is_for_us)


@pytest.mark.parametrize(
    ("version", "bounds", "expected"),
    [
        ("17.4", ">=17.4,<18", True),
        ("17.4.0", ">=17.4,<18", True),
        ("17.10", ">=17.4,<18", True),
        ("17.3.9", ">=17.4,<18", False),
        ("10.4", ">=17.4,<18", False),
        ("18.0", ">=17.4,<18", False),
        ("v26.06.9", ">=25.12,<27", True),
        ("25.9", ">=25.12,<27", False),
        ("20.0.0", "==20.0.0", True),
        ("20.0.0.post1", "==20.0.0", True),
        ("20.0.1", "==20.0.0", False),
        ("", ">=1", False),
        ("unknown", ">=1", False),
    ],
)
def test_versions_are_compared_with_their_bounds(version: str, bounds: str, expected: bool) -> None:
    assert bootstrap._is_within(version, bounds) is expected


def test_missing_packages_and_wrong_versions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "segno":
            raise metadata.PackageNotFoundError(name)
        return {"websockets": "10.4"}.get(name, "3.0")

    monkeypatch.setattr(metadata, "version", version)
    assert bootstrap._unmet(["websockets>=17.4,<18", "", "segno>=1.6", "cryptography>=2"]) == (
        "Python packages are missing: segno; "
        "Python packages have the wrong version: websockets 10.4 (must be >=17.4,<18)"
    )


# In this process, so that the test can read the rest of stdin


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.TextIOWrapper:
    stdin = io.TextIOWrapper(io.BytesIO(f"{BOTH}to be left unread".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(bootstrap, "MINIMUM_PYTHON", (99, 0))
    return stdin


def test_a_disabled_plugin_reads_nothing_after_init(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stdin: io.TextIOWrapper,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setenv("LIGHTNINGD_PLUGIN", "1")
    with pytest.raises(SystemExit) as caught:
        bootstrap.require_packages(tmp_path / "plugin.py")
    assert caught.value.code == 0
    declared, _, disabled = answers(capfdbinary.readouterr().out.decode())
    assert declared["id"] == GETMANIFEST["id"]
    assert "Python 3.11 or newer is needed, this is 3." in disabled["result"]["disable"]
    assert stdin.buffer.read() == b"to be left unread"


def test_require_packages_returns_under_a_good_python(tmp_path: Path) -> None:
    bootstrap.require_packages(tmp_path / "plugin.py")
