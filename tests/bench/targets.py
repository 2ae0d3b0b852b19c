"""What the figures of one run ought to be, beside what they are. It judges nothing: machines differ."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """One figure.

    Attributes:
        figure: what it is.
        wanted: "at most" or "at least" and the number.
        seen: in this run.

    """

    figure: str
    wanted: str
    seen: float


def print_targets(targets: list[Target]) -> None:
    """Print a line for each."""
    print(f"\n{'target':74}{'wanted':>16}{'seen':>10}")
    for target in targets:
        print(f"{target.figure:74}{target.wanted:>16}{target.seen:10.2f}")
