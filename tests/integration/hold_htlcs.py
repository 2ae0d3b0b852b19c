#!/usr/bin/env python3
"""A plugin that keeps HTLCs under way: all of them, or between `hold-htlcs` and `release-htlcs`."""

from typing import Any

from pyln.client import Plugin

# BOLT4: incorrect_or_unknown_payment_details, with an amount and a height.
FAILURE = {"result": "fail", "failure_message": "400f" + "00" * 12}

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


@plugin.method("fail-one-htlc")
def fail_one() -> dict[str, int]:
    """Have the HTLC fail that is held for the longest time; the others stay."""
    held.pop(0).set_result(FAILURE)
    return {"held": len(held)}


@plugin.method("release-htlcs")
def release(fail: bool = False, preimage: str = "") -> dict[str, int]:
    """Let go of all HTLCs, held ones and those still to come; or have those that are held fail, or
    take them with this preimage, whatever is still missing.
    """
    state["holds"] = False
    released = len(held)
    answer: dict[str, Any] = FAILURE if fail else {"result": "continue"}
    if preimage:
        answer = {"result": "resolve", "payment_key": preimage}
    for request in held:
        request.set_result(answer)
    held.clear()
    return {"released": released}


plugin.run()
