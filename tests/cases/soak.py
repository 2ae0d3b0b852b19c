"""The soak of tests/bench, in about a minute: everything happens once, and nothing may come of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.bench.soak.misfortunes import Misfortune
from tests.support.processes import ROOT

# It judges no speed; this is against hanging.
TIMEOUT_S = 500


def short_soak(temporary: Path, path: str) -> str:
    """Run it with this PATH, see that all was as it must be, and return what it printed."""
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
