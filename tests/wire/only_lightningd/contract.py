"""Runs the same calls on a real node and on the double, and compares the answers (contract tests)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyln.client import LightningRpc, RpcError

from tests.support.channel import Json
from tests.wire.only_lightningd.shapes import differences

Answers = dict[str, Json]
# Parameters, or a function that makes them from the earlier answers.
Params = Any
# A step that is no RPC method and that each node does in its own way. It gets the parameters.
Action = Callable[[Any, Json], Any]


@dataclass(frozen=True, slots=True)
class Step:
    """A call, and the error code that lightningd must answer; None for success.

    Attributes:
        name: the key of the answer in `Answers`.
        method: an RPC method, or the name of an action.
        params: its parameters, which may depend on earlier answers.
        code: the error code.
        compared: True if the double's answer must have the same shape.

    """

    name: str
    method: str
    params: Params
    code: int | None = None
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a call, or its error object."""

    result: Any = None
    error: Any = None


def call(name: str, method: str, code: int | None = None, /, **params: Any) -> Step:
    """Return a step that calls a method with these parameters."""
    return Step(name, method, params, code)


def run(socket: str, steps: Iterable[Step], actions: Mapping[str, Action]) -> dict[str, Outcome]:
    """Run all steps on a node; return their outcomes by name."""
    outcomes: dict[str, Outcome] = {}
    answers: Answers = {}
    for step in steps:
        rpc: Any = LightningRpc(socket)  # type: ignore[no-untyped-call]
        try:
            params = step.params(answers) if callable(step.params) else step.params
            if step.method in actions:
                answers[step.name] = actions[step.method](rpc, params)
            else:
                answers[step.name] = rpc.call(step.method, params)
            outcomes[step.name] = Outcome(result=answers[step.name])
        except RpcError as error:
            outcomes[step.name] = Outcome(error=error.error)
    return outcomes


def check(step: Step, real: Mapping[str, Outcome], double: Mapping[str, Outcome]) -> None:
    """Assert that both outcomes of a step have the same shape and the step's error code."""
    expected, got = real[step.name], double[step.name]
    assert (expected.error or {}).get("code") == step.code, expected
    assert (got.error or {}).get("code") == step.code, got
    if step.compared:
        found = differences(expected.result, got.result, "result")
        found += differences(expected.error, got.error, "error")
        assert found == []
