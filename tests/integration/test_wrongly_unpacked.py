"""What lightningd shows when the bundle is unpacked wrongly. nwc/INSTALL.md has these words."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Where an ELF file names its kind of processor, and a kind that nothing here is.
MACHINE = slice(18, 20)
VAX = (75).to_bytes(2, "little")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program in the place of the bundle's."""
    path = tmp_path / "nwc" / "nwc"
    path.parent.mkdir()
    shutil.copy(Path(sys.executable).resolve(), path)
    return path


def lightningd_says(tmp_path: Path, program: Path) -> str:
    """Return all that lightningd writes until it ends, for it has no bitcoind."""
    command = ["lightningd", f"--lightning-dir={tmp_path}", "--network=regtest", f"--plugin={program}"]
    command += ["--disable-plugin=bcli"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_no_run_bit(tmp_path: Path, program: Path) -> None:
    program.chmod(0o644)
    said = lightningd_says(tmp_path, program)
    assert f"error starting plugin '{program}': opening pipe: Permission denied\n" in said


def test_another_kind_of_processor(tmp_path: Path, program: Path) -> None:
    content = bytearray(program.read_bytes())
    content[MACHINE] = VAX
    program.write_bytes(content)
    said = lightningd_says(tmp_path, program)
    assert f"{program}: " in said  # the shell that takes it for a script
    assert "plugin-nwc: Killing plugin: exited before replying to getmanifest" in said
