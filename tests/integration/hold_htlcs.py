#!/usr/bin/env python3
"""A plugin that answers no HTLC: what is sent to the node stays under way until it ends."""

from typing import Any

from pyln.client import Plugin

plugin = Plugin()


@plugin.async_hook("htlc_accepted")
def hold(request: Any, **_: Any) -> None:
    """Leave it."""


plugin.run()
