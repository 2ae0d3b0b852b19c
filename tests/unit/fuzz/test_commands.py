"""Any JSON as parameters of the nwc-* commands: it is refused, or bounded before it is stored.

HYPOTHESIS_PROFILE=long tries more examples.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nwc import commands
from nwc.commands import ArgumentError
from nwc.wallet.connections.manager import ManagementError
from tests.unit.fuzz.strategies import HASHES, NASTY_NUMBERS
from tests.unit.fuzz.way import Way
from tests.unit.helpers import ANY_TEXT, JSON_VALUES

COMMANDS: tuple[Callable[..., Any], ...] = (
    commands.connect,
    commands.list_,
    commands.update,
    commands.revoke,
    commands.status,
    commands.export,
    commands.import_,
)
# Special values of each parameter, tried beside any JSON.
WORDS: dict[str, list[Any]] = {
    "name": [
        "receives",
        "spends",
        "a",
        "é" * 64,
        "a" * 65,
        "\ud800",
        "\0",
        " ",
        7,
        "e\u0301",
        "👨\u200d👩",
        "\u202ea",
        "A",
        "\u0410",
    ],
    "new_name": ["b", "receives", "a" * 10_000],
    "budget": [
        "1sat",
        "received",
        "unlimited",
        "nothing",
        "9" * 40,
        "1e9",
        "0.00000000001btc",
        "21000001btc",
    ],
    "renewal": ["daily", "weekly", "monthly", "yearly", "never", "hourly"],
    "max_payment": ["1sat", "none", "", "0", "-1", 5],
    "resume": [True, "true", False],
    "view": ["own", "node", "all"],
    "limit": [1, 100, 0, -1, "20", "9" * 400, 1.5, "٣", " 7 "],
    "offset": [0, 10_000, 10_001, "5", 2**70],
    "methods": ["all", "get_info", ["get_info", "pay_invoice"], "x" * 10_000, ["\ud800"], []],
    "expires": [
        "never",
        "1h",
        "999999y",
        "9999-12-31T23:59:59+23:59",
        "0001-01-01",
        "9" * 40,
        2**33,
        "٣d",
    ],
    "relays": [
        "ws://127.0.0.1:9",
        "wss://a" * 50,
        ["ws://127.0.0.1:9"] * 11,
        "ws://[::1",
        "ws://a:99999",
        ",,",
    ],
    "pubkey": ["npub1", "0" * 64, "f" * 64, "02" + "ab" * 32],
    "lud16": ["me@a.example", "a@" + "b" * 300, "@", "\ud800@b"],
    "qr": [True, "true", 1],
    "notifications": [False, "false", None],
    "uri": [
        f"nostr+walletauth://{'ab' * 32}?relay=wss://a.example&name=paired&request_methods=get_info",
        f"nostr+walletauth://{'cd' * 32}?relay=ws://127.0.0.1:9&max_amount=1000&request_methods=pay_invoice",
        "nostr+walletauth://",
        f"nostr+walletauth:{'ab' * 32}?name=%E2%80%AE",
        f"nostr+walletauth:{'ab' * 32}?metadata={'x' * 100_000}",
        "nostr+walletconnect://x",
    ],
    "confirm": [True, "true", False],
}
VALUES = {
    name: st.sampled_from(words)
    | st.sampled_from(words)
    | JSON_VALUES
    | ANY_TEXT
    | st.sampled_from(NASTY_NUMBERS)
    for name, words in WORDS.items()
}
VALUES["pubkey"] |= HASHES
_ENTRIES = st.lists(
    JSON_VALUES
    | st.fixed_dictionaries(
        {"name": VALUES["name"], "pubkey": HASHES},
        optional={
            name: VALUES[name] for name in ("budget", "max_payment", "methods", "relays", "expires")
        },
    ),
    max_size=3,
)
VALUES["connections"] = (
    _ENTRIES
    | _ENTRIES.map(json.dumps)
    | _ENTRIES.map(lambda entries: {"version": 1, "connections": entries})
    | JSON_VALUES
)
# Otherwise this warning would hide the failure.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(Path.cwd())
        way = Way(tmp_path_factory.mktemp("commands"))
        yield way
        way.check_honest_request()
        way.close()


@st.composite
def calls(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """Return a command and values for its required and some of its optional parameters."""
    command = draw(st.sampled_from(COMMANDS))
    parameters = list(inspect.signature(command).parameters.values())[1:]
    needed = {p.name: VALUES[p.name] for p in parameters if p.default is p.empty}
    optional = {p.name: VALUES[p.name] for p in parameters if p.default is not p.empty}
    return command, draw(st.fixed_dictionaries(needed, optional=optional))


@settings(
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(calls())
def test_any_parameters_are_refused_or_handled(way: Way, call: tuple[Any, dict[str, Any]]) -> None:
    command, given_ = call
    if given_.get("name") == "receives" and command is not commands.list_:
        given_["name"] = "spends"  # its connection must stay for the honest requests
    with suppress(ArgumentError, ManagementError):
        shown = way.run(command(way.app, **given_))
        json.dumps(shown, ensure_ascii=False, allow_nan=False).encode()
    way.check_no_errors()
    for live in way.app.connections.all():
        if live.record.name not in ("receives", "spends"):
            way.run(way.app.manager.revoke(live.record.name))
    way.check_honest_request()
