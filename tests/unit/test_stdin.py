"""No parameters that lightningd passes on to a command may end the plugin."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given

from nwc.runner import NwcPlugin
from nwc.stdin import readable
from tests.unit.fuzz.strategies import JSON_TEXTS

DEEP = "[" * 50_000 + "]" * 50_000
DIGITS = "9" * 5000


def message(params: str) -> bytes:
    return f'{{"jsonrpc":"2.0","method":"nwc-list","params":{params},"id":"cli:nwc-list#1"}}\n'.encode()


@pytest.mark.parametrize(
    ("params", "read"),
    [
        ('["a"]', ["a"]),
        (f"[{DIGITS}]", [float("inf")]),
        (f"[-{DIGITS}.5e-7,{DIGITS}]", [float("inf"), float("inf")]),
        (f'{{"name":"{DIGITS}[[[","b":{DIGITS}}}', {"name": f"{DIGITS}[[[", "b": float("inf")}),
        (f'["\\"{DIGITS}\\\\",{DIGITS}]', [f'"{DIGITS}\\', float("inf")]),
    ],
)
def test_huge_numbers_become_infinite(params: str, read: object) -> None:
    assert json.loads(readable(message(params)))["params"] == read


@pytest.mark.parametrize("deep", [DEEP, '{"a":' * 50_000 + "1" + "}" * 50_000])
def test_deep_nesting_is_cut(deep: str) -> None:
    read: Any = json.loads(readable(message(f'["before",{deep},"after"]')))
    before, inner, after = read["params"]
    assert (before, after, read["id"]) == ("before", "after", "cli:nwc-list#1")
    assert inner  # still nested


@given(JSON_TEXTS.filter(lambda text: text.count("[") == text.count("]")))
def test_all_json_can_be_read(params: str) -> None:
    sent = message(params)
    try:
        expected = json.loads(sent)
    except RecursionError:
        with suppress(ValueError):  # it may be no JSON after what was too deep
            json.loads(readable(sent))
    except ValueError:
        return  # not JSON, or a number of thousands of digits
    else:
        assert readable(sent) == sent
        assert expected["id"] == "cli:nwc-list#1"


@pytest.mark.parametrize("params", [f"[{DEEP}]", f"[{DIGITS}]"])
def test_the_plugin_dispatches_such_messages(params: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    plugin = NwcPlugin(autopatch=False)
    monkeypatch.setattr(plugin, "_dispatch_request", lambda request: asked.append(request.id))
    assert plugin._multi_dispatch([message(params), b'{"']) == b'{"'
    assert asked == ["cli:nwc-list#1"]
