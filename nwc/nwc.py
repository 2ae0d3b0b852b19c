#!/usr/bin/env python3
"""The entry point for reckless, which installs only this folder and runs <folder>/<folder>.py."""

import os
import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent

# With this folder on the path, `import nwc` would find this file instead of the package.
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != str(_FOLDER)]
sys.path.insert(0, str(_FOLDER.parent))

if __name__ == "__main__":
    from nwc import bootstrap

    bootstrap.require_packages(Path(__file__))
    with bootstrap.import_errors_disable():
        from nwc.main import main
    main()
