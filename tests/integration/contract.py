"""The machinery of the contract tests: the same calls on a real node and on the double, compared."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyln.client import LightningRpc, RpcError

from tests.integration.shapes import differences
from tests.support.channel import Json

Answers = dict[str, Json]
# Parameters, or how to make them of the earlier answers.
Params = Any
# What no RPC method does, and each node has its own way for. It gets the parameters.
Action = Callable[[Any, Json], Any]


@dataclass(frozen=True, slots=True)
class Step:
    """A call, and the error code that lightningd must answer; None for success.

    Attributes:
        name: what `answers` has the answer under.
        method: an RPC method, or the name of an action.
        params: its parameters, which may depend on earlier answers.
        code: the error code.
        compared: whether the double's answer must have the same shape.

    """

    name: str
    method: str
    params: Params
    code: int | None = None
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call returned, or the error object."""

    result: Any = None
    error: Any = None


def call(name: str, method: str, code: int | None = None, /, **params: Any) -> Step:
    """Make a step of a call with these parameters."""
    return Step(name, method, params, code)


def run(socket: str, steps: Iterable[Step], actions: Mapping[str, Action]) -> dict[str, Outcome]:
    """Run all steps on a node."""
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
    """Check that both answered a step alike, and as the step says."""
    expected, got = real[step.name], double[step.name]
    assert (expected.error or {}).get("code") == step.code, expected
    assert (got.error or {}).get("code") == step.code, got
    if step.compared:
        found = differences(expected.result, got.result, "result")
        found += differences(expected.error, got.error, "error")
        assert found == []
