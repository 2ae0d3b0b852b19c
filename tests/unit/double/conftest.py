"""Fixtures: a small plugin, and a double that runs it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyln.client import RpcError

from tests.double.process import LightningdDouble, OptionValue

# `env` finds the interpreter of this run first on PATH. Its path may contain spaces.
SAMPLE = """#!/usr/bin/env python3
import json, os, sys, threading
from pyln.client import Plugin, RpcException

plugin = Plugin()
plugin.add_option("sample-text", "a default", "text")
plugin.add_option("sample-number", 7, "number", opt_type="int")
plugin.add_option("sample-switch", True, "switch", opt_type="bool")
plugin.add_option("sample-many", None, "many", multi=True)
plugin.add_option("sample-disable", None, "disable")
plugin.add_flag_option("sample-flag", "flag")
seen = {}

@plugin.init()
def init(options, configuration, plugin):
    seen.update(options=options, configuration=configuration)
    plugin.log("hello from init", level="warn")
    if options.get("sample-disable"):
        return {"disable": options["sample-disable"]}

@plugin.method("sample-seen")
def sample_seen():
    "What init got."
    return {**seen, "env": os.environ["LIGHTNINGD_PLUGIN"], "cwd": os.getcwd()}

@plugin.method("sample-echo")
def sample_echo(plugin, request, text="nothing"):
    request.notify("working on it")
    return {"text": text, "id": request.id}

@plugin.method("sample-fail")
def sample_fail():
    raise RpcException("no luck", code=-42)

@plugin.method("sample-crash")
def sample_crash():
    raise ValueError("a bug")

@plugin.async_method("sample-hang")
def sample_hang(request):
    plugin.log("hanging")

@plugin.method("sample-print")
def sample_print():
    os.write(1, b"debug output\\n\\n")

@plugin.subscribe("invoice_payment")
def on_payment(plugin, invoice_payment, **kwargs):
    plugin.log("paid " + json.dumps(invoice_payment))

@plugin.subscribe("block_added")
def on_block(plugin, block_added, **kwargs):
    plugin.log("block " + json.dumps(block_added))

@plugin.subscribe("shutdown")
def on_shutdown(plugin, **kwargs):
    plugin.log("goodbye")
    sys.exit(0)

plugin.run()
"""


def refusal(double: LightningdDouble, method: str, params: Any = None) -> Any:
    """Call a method that must fail, and return the error of the reply."""
    with pytest.raises(RpcError) as caught:
        double.rpc.call(method, params)
    return caught.value.error


Make = Callable[..., LightningdDouble]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.py"
    path.write_text(SAMPLE)
    path.chmod(0o755)
    return path


@pytest.fixture
def make(tmp_path: Path, sample: Path) -> Iterator[Make]:
    """Return a function that starts doubles; they are stopped after the test."""
    made: list[LightningdDouble] = []

    def start(
        options: Mapping[str, OptionValue] | None = None, plugin: Path = sample
    ) -> LightningdDouble:
        double = LightningdDouble(tmp_path / f"l{len(made)}", plugin, options)
        double.start()
        made.append(double)
        return double

    yield start
    for double in made:
        double.stop()


@pytest.fixture
def double(make: Make) -> LightningdDouble:
    return make()
