#!/usr/bin/env python3
"""Nostr Wallet Connect (NIP-47) for Core Lightning: the entry point for `lightningd --plugin`."""

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

# Python does it itself, but not with PYTHONSAFEPATH.
if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))


def _say_that_files_are_missing() -> NoReturn:
    reason = (
        "nwc: the folder nwc is missing beside plugin.py: copy all files, or make a link to plugin.py"
    )
    if os.environ.get("LIGHTNINGD_PLUGIN") == "1":
        getmanifest = json.loads("".join(iter(lambda: sys.stdin.readline().strip(), "")) or "{}")
        answer = {"jsonrpc": "2.0", "id": getmanifest.get("id"), "result": {"disable": reason}}
        print(json.dumps(answer) + "\n", flush=True)
    sys.exit(reason)


if __name__ == "__main__":
    try:
        from nwc import bootstrap
    except ImportError:
        _say_that_files_are_missing()
    bootstrap.require_packages(Path(__file__))
    with bootstrap.import_errors_disable():
        from nwc.main import main
    main()
