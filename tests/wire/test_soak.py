"""The soak of tests/bench in about a minute: every misfortune happens, and none has consequences."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.soak.misfortunes import Misfortune
from tests.support.processes import ROOT

# Against a hang; the speed is not tested.
TIMEOUT_S = 500


@pytest.mark.timeout(TIMEOUT_S + 20)
def test_a_short_soak_passes(node_kind: str, tmp_path: Path) -> None:
    path, named = {
        "double": (str(Path(sys.executable).parent), "TEST DOUBLE"),
        "lightningd": (os.environ["PATH"], "real lightningd"),
    }[node_kind]
    assert named in short_soak(tmp_path, path)


def short_soak(temporary: Path, path: str) -> str:
    """Run the soak with this PATH, check its result, and return its output."""
    command = [sys.executable, "-m", "tests.bench.soak", "--minutes", "0.5", "--seed", "5"]
    environment = {**os.environ, "PATH": path, "TMPDIR": str(temporary)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    for misfortune in Misfortune:
        assert re.search(rf"^{misfortune} +[1-9]", done.stdout, re.MULTILINE), shown
    for many in ("requests", "invoices", "  paid"):
        assert re.search(rf"^{many} +[1-9]", done.stdout, re.MULTILINE), shown
    assert list(temporary.iterdir()) == []
    return done.stdout
