"""An hour of a hostile app against a real node (tests/integration/hostile_hour.py).

Usage: python -m tests.bench.hostile [--minutes 60] [--seed 1], with lightningd and bitcoind on PATH.
"""

import argparse
import os
import subprocess
import sys

from tests.support.processes import ROOT


def main() -> int:
    """Run it and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hostile")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    environment = {
        **os.environ,
        "NWC_HOSTILE_MINUTES": str(given.minutes),
        "NWC_HOSTILE_SEED": str(given.seed),
    }
    command = [sys.executable, "-m", "pytest", "-q", "tests/integration/test_hostile_app.py"]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
