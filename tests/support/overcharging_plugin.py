#!/usr/bin/env python3
"""A plugin for the issuer of offers in tests: its invoices ask for another amount than was requested, or
have another blinded path.

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
PATHS_TYPE, PATHS = bolt12.FIELDS["invoice_paths"]
PAYINFO_TYPE, PAYINFO = bolt12.FIELDS["invoice_blindedpay"]
plugin = Plugin()
# By the type of the field.
changes: dict[int, bytes] = {}


@plugin.hook("rpc_command")
def on_command(rpc_command: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Change a BOLT12 invoice before lightningd signs it."""
    params = rpc_command["params"]
    if rpc_command["method"] != "createinvoice" or not changes:
        return {"result": "continue"}
    changed = params["invstring"]
    for type_, value in changes.items():
        changed = bolt12.with_record(changed, type_, value)
    return {"replace": {**rpc_command, "params": {**params, "invstring": changed}}}


@plugin.method("overcharge")
def overcharge(amount_msat: int) -> dict[str, Any]:
    """Put this amount into each BOLT12 invoice from now on; 0 ends that."""
    changes.clear()
    if int(amount_msat):
        changes[AMOUNT_TYPE] = AMOUNT.write(int(amount_msat))
    return {}


@plugin.method("replace-path")
def replace_path(path: dict[str, Any]) -> dict[str, Any]:
    """Put this blinded path into each BOLT12 invoice from now on."""
    payinfo = {
        "fee_base_msat": 0,
        "fee_proportional_millionths": 0,
        "cltv_expiry_delta": 10,
        "htlc_minimum_msat": 0,
        "htlc_maximum_msat": 10**12,
        "features": "",
    }
    changes.update({PATHS_TYPE: PATHS.write([path]), PAYINFO_TYPE: PAYINFO.write([payinfo])})
    return {}


plugin.run()
