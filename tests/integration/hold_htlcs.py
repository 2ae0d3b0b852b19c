#!/usr/bin/env python3
"""A plugin that keeps HTLCs under way: all of them, or between `hold-htlcs` and `release-htlcs`."""

from typing import Any

from pyln.client import Plugin

plugin = Plugin()
held: list[Any] = []
state = {"holds": True}


@plugin.async_hook("htlc_accepted")
def hold(request: Any, **_: Any) -> None:
    """Leave it, if HTLCs are held now."""
    if state["holds"]:
        held.append(request)
    else:
        request.set_result({"result": "continue"})


@plugin.method("held-htlcs")
def count() -> dict[str, int]:
    """Tell how many are held."""
    return {"held": len(held)}


@plugin.method("release-htlcs")
def release(fail: bool = False) -> dict[str, int]:
    """Let go of all HTLCs, held ones and those still to come; or have those that are held fail."""
    state["holds"] = False
    released = len(held)
    for request in held:
        # BOLT4: incorrect_or_unknown_payment_details, with an amount and a height.
        failure = {"result": "fail", "failure_message": "400f" + "00" * 12}
        request.set_result(failure if fail else {"result": "continue"})
    held.clear()
    return {"released": released}


plugin.run()
