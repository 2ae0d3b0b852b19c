"""lightningd's messages if the bundle is unpacked wrongly. nwc/INSTALL.md quotes them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# The field of an ELF file that names the processor, and a processor that no test machine has.
MACHINE = slice(18, 20)
VAX = (75).to_bytes(2, "little")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that stands in for the bundle's."""
    path = tmp_path / "nwc" / "nwc"
    path.parent.mkdir()
    shutil.copy(Path(sys.executable).resolve(), path)
    return path


def lightningd_output(tmp_path: Path, program: Path) -> str:
    """Return everything that lightningd writes until it ends, which it does for lack of a bitcoind."""
    command = ["lightningd", f"--lightning-dir={tmp_path}", "--network=regtest", f"--plugin={program}"]
    command += ["--disable-plugin=bcli"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_lightningd_names_a_missing_run_bit(tmp_path: Path, program: Path) -> None:
    program.chmod(0o644)
    output = lightningd_output(tmp_path, program)
    assert f"error starting plugin '{program}': opening pipe: Permission denied\n" in output


def test_lightningd_names_a_program_for_another_processor(tmp_path: Path, program: Path) -> None:
    content = bytearray(program.read_bytes())
    content[MACHINE] = VAX
    program.write_bytes(content)
    output = lightningd_output(tmp_path, program)
    assert f"{program}: " in output  # an error of a shell, which takes the file for a script
    assert "plugin-nwc: Killing plugin: exited before replying to getmanifest" in output
