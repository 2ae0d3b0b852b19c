"""The manifest that a disabled plugin declares is that of the running plugin."""

import inspect
from typing import Any

from nwc import main, manifest
from nwc.runner import Runner


def manifest_of_pyln() -> dict[str, Any]:
    built = main.build_plugin(Runner())
    answer: Any = built._getmanifest()
    return dict(answer)


def test_the_manifest_is_that_of_the_running_plugin() -> None:
    declared, running = manifest.manifest(), manifest_of_pyln()
    assert list(declared["options"]) == [
        {name: value for name, value in option.items() if name not in ("deprecated", "dynamic")}
        for option in running["options"]
    ]
    assert declared["rpcmethods"] == running["rpcmethods"]
    for field in ("subscriptions", "hooks", "dynamic", "nonnumericids"):
        assert declared[field] == running[field], field


def test_the_declared_parameters_are_those_of_the_functions() -> None:
    assert [command.name for command in manifest.COMMANDS] == list(main.FUNCTIONS)
    for command in manifest.COMMANDS:
        _, *parameters = inspect.signature(main.FUNCTIONS[command.name]).parameters.values()
        words = [p.name if p.default is p.empty else f"[{p.name}]" for p in parameters]
        assert command.parameters.split() == words
