#!/usr/bin/env python3
"""Nostr Wallet Connect (NIP-47) for Core Lightning: the entry point for `lightningd --plugin`."""

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

DIRECTORY = Path(__file__).resolve().parent

# Python does this itself, except with PYTHONSAFEPATH.
if str(DIRECTORY) not in sys.path:
    sys.path.insert(0, str(DIRECTORY))


def _why_not_loaded(error: Exception) -> str:
    package, user = DIRECTORY / "nwc", os.geteuid()
    is_closed = package.is_dir() and not os.access(str(package), os.R_OK | os.X_OK)
    if is_closed or isinstance(error, OSError):
        return f"nwc: user {user} cannot read all of {package}. Run as root: chown -R {user} {DIRECTORY}"
    return "nwc: the folder nwc is missing beside plugin.py. Copy it too, or use a link to plugin.py"


def _disable(reason: str) -> NoReturn:
    if os.environ.get("LIGHTNINGD_PLUGIN") == "1":
        getmanifest = json.loads("".join(iter(lambda: sys.stdin.readline().strip(), "")) or "{}")
        answer = {"jsonrpc": "2.0", "id": getmanifest.get("id"), "result": {"disable": reason}}
        print(json.dumps(answer) + "\n", flush=True)
    sys.exit(reason)


if __name__ == "__main__":
    try:
        from nwc import bootstrap
    except (ImportError, OSError) as error:
        _disable(_why_not_loaded(error))
    bootstrap.require_packages(Path(__file__))
    with bootstrap.import_errors_disable():
        from nwc.main import main
    main()
