#!/usr/bin/env python3
"""A plugin for the payee of tests, which accepts, holds, refuses or takes HTLCs.

The command `htlcs` decides what happens to HTLCs; `answer-htlcs` answers those that are held.
"""

from typing import Any

from pyln.client import Plugin

# BOLT4: incorrect_or_unknown_payment_details, with an amount and a height.
UNKNOWN_DETAILS = "400f" + "00" * 12

plugin = Plugin()
held: list[Any] = []
state = {"mode": "accept", "failure": UNKNOWN_DETAILS, "preimage": ""}


def answer_of(action: str, failure: str, preimage: str) -> dict[str, str]:
    """Return the hook's answer for an action; `accept` leaves the decision to lightningd."""
    match action:
        case "refuse":
            return {"result": "fail", "failure_message": failure}
        case "refuse-onion":
            return {"result": "fail", "failure_onion": failure}
        case "take":
            return {"result": "resolve", "payment_key": preimage}
        case _:
            return {"result": "continue"}


@plugin.async_hook("htlc_accepted")
def on_htlc(request: Any, **_: Any) -> None:
    """Answer an HTLC, or hold it."""
    if state["mode"] == "hold":
        held.append(request)
    else:
        request.set_result(answer_of(state["mode"], state["failure"], state["preimage"]))


@plugin.method("htlcs")
def set_mode(mode: str, failure: str = UNKNOWN_DETAILS, preimage: str = "") -> dict[str, int]:
    """Accept, hold, refuse or take HTLCs from now on; all but `hold` also answer the held ones.

    `refuse-onion` refuses with an encrypted failure, for the payer to decrypt.
    """
    state.update(mode=mode, failure=failure, preimage=preimage)
    return {"answered": 0 if mode == "hold" else _answer_held(mode, 0, failure, preimage)}


@plugin.method("answer-htlcs")
def answer(
    action: str, count: int = 0, failure: str = UNKNOWN_DETAILS, preimage: str = ""
) -> dict[str, int]:
    """Accept, refuse or take held HTLCs, the oldest first; all if no count is given."""
    return {"answered": _answer_held(action, count, failure, preimage)}


def _answer_held(action: str, count: int = 0, failure: str = "", preimage: str = "") -> int:
    answered = held[: count or len(held)]
    del held[: len(answered)]
    for request in answered:
        request.set_result(answer_of(action, failure, preimage))
    return len(answered)


@plugin.method("held-htlcs")
def count_held() -> dict[str, int]:
    """Return how many HTLCs are held."""
    return {"held": len(held)}


plugin.run()
