"""What lightningd writes to the plugin, made fit for Python where that could not read it.

pyln reads it; without this a number of thousands of digits among a command's parameters would end the
plugin.
"""

import json
import re

# More digits than sys.get_int_max_str_digits() is an error in Python.
_MAX_DIGITS = 400
_MAX_DEPTH = 100
_NUMBER = rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]|' + _NUMBER + rb'|[^"\[\]{}0-9-]+', re.DOTALL)


def readable(message: bytes) -> bytes:
    """Return a message of lightningd as it is, unless Python cannot read it: that would end the plugin.

    lightningd passes on whatever parameters it is given. Numbers of thousands of digits become infinite
    then, and what is nested too deep becomes empty; no command takes either.
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
