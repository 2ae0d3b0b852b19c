#!/usr/bin/env python3
"""A plugin for the issuer of offers in tests: its invoices ask for another amount than was requested.

lightningd signs them, as it would for any issuer that has changed its own node.
"""

# ruff: noqa: E402 - sys.path first

import sys
from pathlib import Path
from typing import Any

# The folder of this file would hide modules of the standard library.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from pyln.client import Plugin

from tests.double import bolt12

AMOUNT_TYPE, AMOUNT = bolt12.FIELDS["invoice_amount_msat"]

plugin = Plugin()
state = {"amount_msat": 0}


@plugin.hook("rpc_command")
def on_command(rpc_command: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Change the amount of a BOLT12 invoice before lightningd signs it."""
    params = rpc_command["params"]
    if rpc_command["method"] != "createinvoice" or not state["amount_msat"]:
        return {"result": "continue"}
    changed = bolt12.with_record(params["invstring"], AMOUNT_TYPE, AMOUNT.write(state["amount_msat"]))
    return {"replace": {**rpc_command, "params": {**params, "invstring": changed}}}


@plugin.method("overcharge")
def overcharge(amount_msat: int) -> dict[str, Any]:
    """Put this amount into each BOLT12 invoice from now on; 0 ends that."""
    state["amount_msat"] = int(amount_msat)
    return {}


plugin.run()
