"""Makes messages of lightningd readable for pyln.

Without this, a number of thousands of digits in a command's parameters would end the plugin.
"""

import json
import re

# Python raises an error for more digits than sys.get_int_max_str_digits().
_MAX_DIGITS = 400
_MAX_DEPTH = 100
_NUMBER = rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]|' + _NUMBER + rb'|[^"\[\]{}0-9-]+', re.DOTALL)


def readable(message: bytes) -> bytes:
    """Return a message of lightningd, changed only if Python cannot parse it.

    lightningd passes on any parameters. Numbers of thousands of digits become infinite, and values that
    are nested too deep become empty; no command accepts either.
    """
    try:
        json.loads(message)
    except (ValueError, RecursionError):
        return _tamed(message)
    return message


def _tamed(message: bytes) -> bytes:
    pieces, depth = [], 0
    for token in _TOKEN.findall(message):
        depth -= token in b"]}"
        if depth < _MAX_DEPTH:
            is_huge = len(token) > _MAX_DIGITS and token[:1] in b"-0123456789"
            pieces.append(b"1e999" if is_huge else token)
        depth += token in b"[{"
    return b"".join(pieces)
