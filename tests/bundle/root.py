"""A root file system without Python, for the bundle to run in."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

# The bundle's path inside the root.
INSIDE = Path("/opt/my node/nwc")

_C_LIBRARY = re.compile(r"ld-linux.*|lib(c|m|dl|rt|util|pthread|resolv|nss_files|nss_dns)\.so\.\d")


def make_root(directory: Path) -> Path:
    """Make a root file system with the C library of this machine and without any program."""
    linked = subprocess.run(["ldd", sys.executable], capture_output=True, text=True, check=True)
    folders = {Path(path).parent for path in re.findall(r"(/\S+) \(0x", linked.stdout)}
    for folder in folders:
        for library in folder.iterdir():
            if _C_LIBRARY.fullmatch(library.name):
                copy = directory / library.relative_to("/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library.resolve(), copy)
    return directory


def write_starter(path: Path, root: Path, bundle: Path, visible: Path) -> Path:
    """Write a program that lightningd can start as a plugin: it runs the bundle in `root`.

    In there, everything is read-only and there is no locale.

    Args:
        path: where to write the program.
        root: the root file system.
        bundle: the unpacked folder; mounted as INSIDE.
        visible: the folder of the node; mounted under its own path.

    """
    for folder in (INSIDE, visible, Path("/proc"), Path("/dev")):
        (root / folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
    inside = {"root": root, "bundle": bundle, "visible": visible, "executable": INSIDE / "nwc"}
    words = {name: shlex.quote(str(value)) for name, value in inside.items()}
    # Each step replaces its process (exec), so the process that lightningd started is the plugin.
    path.write_text(
        _STARTER.format(
            **words,
            bundle_inside=shlex.quote(f"{root}{INSIDE}"),
            visible_inside=shlex.quote(f"{root}{visible}"),
        )
    )
    path.chmod(0o755)
    return path


_STARTER = """\
#!/bin/sh
if [ -z "$IN_NAMESPACE" ]; then
  IN_NAMESPACE=1 exec unshare --mount "$0"
fi
set -e
mount --bind {root} {root}
mount -o bind,ro {bundle} {bundle_inside}
mount -o bind,ro {visible} {visible_inside}
mount -t proc proc {root}/proc
mount --rbind /dev {root}/dev
mount -o remount,bind,ro {root}
unset LANG LC_ALL LC_CTYPE PYTHONUTF8
exec unshare --root={root} --wd="$PWD" {executable}
"""


def cannot() -> list[str]:
    """Return the reasons why such a root cannot be used here."""
    if os.geteuid() != 0:
        return ["must be root"]
    programs = [name for name in ("ldd", "mount", "unshare") if shutil.which(name) is None]
    if programs:
        return [f"{' and '.join(programs)} not on PATH"]
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return ["must be allowed to mount (unshare --mount)"]
    return []
