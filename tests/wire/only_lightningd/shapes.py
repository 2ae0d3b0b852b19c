"""Compares two JSON values by their field names and types."""

from typing import Any


def differences(real: Any, double: Any, where: str) -> list[str]:
    """Return a line for each place, at any depth, where the double's value differs in shape.

    Arrays of the same length are compared entry by entry, others by their first entries.
    """
    if type(real) is not type(double):
        return [f"{where}: {type(real).__name__} is {type(double).__name__} in the double"]
    found: list[str] = []
    if isinstance(real, dict):
        found += [f"{where}.{name}: not in the double" for name in sorted(real.keys() - double.keys())]
        found += [f"{where}.{name}: only in the double" for name in sorted(double.keys() - real.keys())]
        for name in sorted(real.keys() & double.keys()):
            found += differences(real[name], double[name], f"{where}.{name}")
    elif isinstance(real, list):
        length = len(real) if len(real) == len(double) else 1
        for index, pair in enumerate(zip(real[:length], double[:length], strict=False)):
            found += differences(*pair, f"{where}[{index}]")
    return found
