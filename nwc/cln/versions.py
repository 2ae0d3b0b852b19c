"""Versions of lightningd, and the warnings for the owner about some of them."""

import os
import re

Version = tuple[int, int, int]

# lightningd PR 8635: an HTLC that could not be handed to channeld was left pending.
_LEAVES_PARTS_PENDING = ((25, 9, 0), (25, 9, 1))
# `unwrap_onionreply`: no version that mends it is known.
_STOPPED_BY_PAYEES_SINCE = (26, 6, 0)


def parse_version(text: str) -> Version:
    """Return the numbers of a version: v25.09.1-modded is (25, 9, 1), and v25.09 is (25, 9, 0).

    Raises:
        ValueError: the text has no version number, as in a build without git tags.

    """
    found = re.search(r"(?<![\w.])v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?![.\d])", text)
    if found is None:
        raise ValueError("no version number")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def running_version() -> str:
    """Return the version of the lightningd that started the plugin; "" if lightningd did not."""
    return os.environ.get("LIGHTNINGD_VERSION", "")


def keysend_can_stop(text: str) -> bool:
    """Return True if a payee can stop this version of lightningd by its answer to a keysend.

    Args:
        text: the version as lightningd writes it.

    """
    try:
        return parse_version(text) >= _STOPPED_BY_PAYEES_SINCE
    except ValueError:
        return False


def warning_of(text: str) -> str | None:
    """Return the warning for owners of this version of lightningd; None if there is none.

    Args:
        text: the version as lightningd writes it.

    """
    try:
        version = parse_version(text)
    except ValueError:
        return None
    if version not in _LEAVES_PARTS_PENDING:
        return None
    return (
        f"lightningd {text} can leave parts of a failed xpay payment pending for ever, and then the"
        " payment keeps its reservation of the budget. Upgrade lightningd to v25.09.2 or newer, and"
        " until then do not set nwc-pay-command=xpay"
    )
