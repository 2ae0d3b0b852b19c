"""`make demo` on the double, as on a machine without lightningd."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_demo_works_without_lightningd(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": str(Path(sys.executable).parent),
        "TMPDIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "tests.demo"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TEST DOUBLE" in done.stdout
    assert done.stdout.count("make_invoice") >= 3
    assert "WRONG" not in done.stdout
    assert list(tmp_path.iterdir()) == []
