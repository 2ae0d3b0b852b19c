#!/usr/bin/env python3
"""A plugin for a payee of the tests: HTLCs are let in, held, or refused."""

from typing import Any

from pyln.client import Plugin

plugin = Plugin()
LET_IN = {"result": "continue"}
REFUSE = {"result": "fail", "failure_message": "400f" + "00" * 12}
state: dict[str, Any] = {"mode": "let in", "held": []}


@plugin.async_hook("htlc_accepted")
def on_htlc(request: Any, **_others: Any) -> None:
    """Decide about one HTLC, now or later."""
    if state["mode"] == "hold":
        state["held"].append(request)
    else:
        request.set_result(LET_IN if state["mode"] == "let in" else REFUSE)


@plugin.method("htlcs")
def htlcs(mode: str) -> dict[str, int]:
    """Let in, hold or refuse HTLCs from now on; those that are held are no more."""
    state["mode"], held, state["held"] = mode, state["held"], []
    for request in held:
        request.set_result(REFUSE if mode == "refuse" else LET_IN)
    return {"released": len(held)}


if __name__ == "__main__":
    plugin.run()
