"""Options and the plugin's start: an error is explained, and lightningd keeps running."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyln.client import RpcError

from tests.wire.fixtures import Connect, wait_until_announced
from tests.wire.node import PLUGIN, MakeNode, NodeUnderTest

WHOLE_NUMBER = "must be a whole number from"
WRONG = [
    ("nwc-relay", "https://relay.example.com", "nwc-relay: a relay URL is wss://host"),
    ("nwc-relay", "relay.example.com", "nwc-relay: a relay URL is wss://host"),
    ("nwc-relay", ",".join(f"wss://r{i}" for i in range(21)), "nwc-relay: at most 20 relays; got"),
    ("nwc-invoice-expiry", 0, f"nwc-invoice-expiry: {WHOLE_NUMBER} 1 to 31536000; got 0"),
    ("nwc-invoice-expiry", -1, f"nwc-invoice-expiry: {WHOLE_NUMBER} 1 to 31536000; got -1"),
    (
        "nwc-invoice-expiry",
        31_536_001,
        f"nwc-invoice-expiry: {WHOLE_NUMBER} 1 to 31536000; got 31536001",
    ),
    ("nwc-max-request-age", 0, f"nwc-max-request-age: {WHOLE_NUMBER} 1 to 86400; got 0"),
    ("nwc-max-request-age", 86_401, f"nwc-max-request-age: {WHOLE_NUMBER} 1 to 86400; got 86401"),
    ("nwc-rate-limit", 0, f"nwc-rate-limit: {WHOLE_NUMBER} 1 to 100000; got 0"),
    ("nwc-rate-limit", 100_001, f"nwc-rate-limit: {WHOLE_NUMBER} 1 to 100000; got 100001"),
]


@pytest.mark.parametrize(("option", "value", "reason"), WRONG, ids=lambda x: str(x)[:30])
def test_a_wrong_option_at_plugin_start_is_explained(
    node: NodeUnderTest, option: str, value: Any, reason: str
) -> None:
    node.stop_plugin()
    try:
        with pytest.raises(RpcError) as raised:
            node.start_plugin({option: value})
        error: Any = raised.value.error
        assert reason in error["message"]
    finally:
        node.start_plugin()
    assert node.rpc.call("nwc-status")["version"]


SHOWN_AT_INFO = r"UNUSUAL plugin-plugin\.py: .*"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        (*WRONG[0][:2], "nwc-relay: a relay URL is wss://host.*got 'https://relay.example.com'"),
        (*WRONG[3][:2], "nwc-invoice-expiry: must be a whole number from 1 to 31536000; got 0"),
        # The log of v25.02 has a backslash before each quote.
        (
            "nwc-relay",
            '"wss://relay.example.com"',
            r"""got '\\?"wss://relay.*the value without quotes""",
        ),
        ("nwc-relay", "wss://relay.example.com # my own", "a comment cannot follow a value"),
        (
            "nwc-relay",
            "wss://a.example wss://b.example",
            "holds more than one URL: separate them by commas",
        ),
    ],
    ids=lambda x: str(x)[:30],
)
def test_a_wrong_option_in_the_configuration_is_explained(
    make_node: MakeNode, option: str, value: Any, words: str
) -> None:
    """Lightningd logs the reason at debug only, so the plugin logs it at a level that is shown."""
    node = make_node({option: value})
    line = node.wait_for_log(SHOWN_AT_INFO + words)
    assert "Correct the option in lightningd's configuration" in line
    node.wait_for_log("disabled itself at init")
    assert node.rpc.getinfo()["id"]
    with pytest.raises(RpcError, match="Unknown command"):
        node.rpc.call("nwc-status")


def test_the_option_sets_the_default_expiry(node: NodeUnderTest, connect: Connect) -> None:
    app = connect()
    node.stop_plugin()
    node.start_plugin({"nwc-invoice-expiry": 777})
    try:
        wait_until_announced(node, app.name)
        result = app.ask("make_invoice", {"amount": 1}).result
        assert node.rpc.call("decode", [result["invoice"]])["expiry"] == 777
        result = app.ask("make_invoice", {"amount": 1, "expiry": 60}).result
        assert node.rpc.call("decode", [result["invoice"]])["expiry"] == 60
    finally:
        node.stop_plugin()
        node.start_plugin()


def test_options_have_their_default_values(node: NodeUnderTest) -> None:
    configs = node.rpc.call("listconfigs")["configs"]
    assert configs["nwc-invoice-expiry"]["value_int"] == 86_400
    assert configs["nwc-max-request-age"]["value_int"] == 120


# Missing packages


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without any package."""
    directory = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    return directory / "bin" / "python"


def copy_of_plugin(directory: Path, python: Path) -> Path:
    """Copy the plugin to a new directory without `.venv`; this Python runs it. Return its path."""
    directory.mkdir()
    # Not a link, since the plugin looks for `.venv` beside the real files.
    shutil.copytree(
        PLUGIN.parent / "nwc", directory / "nwc", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(PLUGIN.parent / "Makefile", directory)
    copy = directory / "plugin.py"
    first, _, rest = PLUGIN.read_text().partition("\n")
    assert first == "#!/usr/bin/env python3"
    copy.write_text(f"#!{python}\n{rest}")
    copy.chmod(0o755)
    return copy


MISSING = "Python packages are missing: pyln-client, websockets, cryptography"


def test_missing_packages_are_named(node: NodeUnderTest, bare_python: Path, tmp_path: Path) -> None:
    plugin = copy_of_plugin(tmp_path / "elsewhere", bare_python)
    position = node.mark()
    node.stop_plugin()  # two copies cannot have the same options
    try:
        with pytest.raises(RpcError) as raised:
            node.rpc.call("plugin", {"subcommand": "start", "plugin": str(plugin)})
    finally:
        node.start_plugin()
    error: Any = raised.value.error
    reason = f"nwc: the plugin cannot run: {MISSING}"
    assert reason in error["message"]
    assert f"Run: make -C {plugin.parent} install" in error["message"]
    node.wait_for_log(SHOWN_AT_INFO + reason, since=position)
    assert reason in node.wait_for_log("disabled itself at init", since=position)
    assert "Traceback" not in node.log_text()
    assert node.rpc.getinfo()["id"]


def test_lightningd_starts_with_missing_packages_and_options_in_the_configuration(
    make_node: MakeNode, bare_python: Path, tmp_path: Path
) -> None:
    """Lightningd starts, since the plugin declares its options: an unknown option would end it."""
    plugin = copy_of_plugin(tmp_path / "elsewhere", bare_python)
    node = make_node({"nwc-invoice-expiry": 777, "nwc-notifications": "false"}, plugin)
    node.wait_for_log(SHOWN_AT_INFO + MISSING)
    assert node.rpc.getinfo()["id"]
    with pytest.raises(RpcError, match="Unknown command"):
        node.rpc.call("nwc-status")


def test_a_venv_beside_the_plugin_supplies_missing_packages(
    node: NodeUnderTest, bare_python: Path, tmp_path: Path, connect: Connect
) -> None:
    """The `.venv` of `make install` is used, whatever Python lightningd starts the plugin with."""
    plugin = copy_of_plugin(tmp_path / "elsewhere", bare_python)
    (plugin.parent / ".venv").symlink_to(sys.prefix)
    node.stop_plugin()
    try:
        node.rpc.call("plugin", {"subcommand": "start", "plugin": str(plugin)})
        assert connect().ask("get_info").result["pubkey"]
        node.rpc.call("plugin", {"subcommand": "stop", "plugin": str(plugin)})
    finally:
        node.start_plugin()


def test_missing_packages_are_named_in_a_shell(bare_python: Path, tmp_path: Path) -> None:
    plugin = copy_of_plugin(tmp_path / "elsewhere", bare_python)
    done = subprocess.run(
        [plugin],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "LIGHTNINGD_PLUGIN"},
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith(f"nwc: the plugin cannot run: {MISSING}")
    assert "Traceback" not in done.stderr
