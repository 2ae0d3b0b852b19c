"""Targets for the figures of a run. They are no verdict, since machines differ."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """The target of one figure.

    Attributes:
        figure: its name.
        bound: "at most" or "at least" and a number.
        measured: its value in this run.

    """

    figure: str
    bound: str
    measured: float


def print_targets(targets: list[Target]) -> None:
    """Print one line per target."""
    print(f"\n{'figure':74}{'target':>16}{'measured':>10}")
    for target in targets:
        print(f"{target.figure:74}{target.bound:>16}{target.measured:10.2f}")
