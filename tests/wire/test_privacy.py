"""A node behind Tor: all relay connections use the proxy, and no name is resolved on this machine.

Python's audit events show which names and addresses the plugin looks up and connects to: see
watched_plugin.py.
"""

import json
from collections.abc import Iterator

import pytest
from pyln.client import RpcError

from tests.support.network_watch import WATCHED_PLUGIN, connects, lookups
from tests.support.scripted_relay import ScriptedRelay
from tests.support.socks_proxy import AddressType, Asked, SocksProxy
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect
from tests.wire.node import MakeNode, NodeUnderTest
from tests.wire.test_relays import COFFEE, relay_state

NAME = "relay.example"
ONION = "nwcrelayaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaad.onion"
NAMED, HIDDEN = f"ws://{NAME}:7777", f"ws://{ONION}"
VARIABLES = ("all_proxy", "http_proxy", "https_proxy", "socks_proxy", "ws_proxy", "wss_proxy")


@pytest.fixture
def proxy(scripted_relay: ScriptedRelay) -> Iterator[SocksProxy]:
    """A SOCKS proxy that connects to `scripted_relay`, under any of its names."""
    hosts = (NAME, ONION, f"{ONION}.", "127.0.0.1", "::1", "localhost")
    with SocksProxy(dict.fromkeys(hosts, scripted_relay.port)) as proxy:
        yield proxy


@pytest.fixture
def behind_proxy(make_node: MakeNode, proxy: SocksProxy) -> NodeUnderTest:
    """A node that uses the proxy for all connections."""
    options = {"proxy": proxy.address, "always-use-proxy": "true", "nwc-relay": NAMED}
    return make_node(options, WATCHED_PLUGIN)


def check_used_only(proxy: SocksProxy, node: NodeUnderTest) -> None:
    """Check that the plugin has resolved no name and has connected to nothing but the proxy."""
    assert lookups(node.directory) == set()
    assert connects(node.directory) == {("127.0.0.1", proxy.port)}


def wait_until_down(node: NodeUnderTest, url: str) -> str:
    """Wait until a relay is disconnected; return its last error."""
    wait_until(lambda: relay_state(node, url)["state"] == "disconnected", "the relay to be lost")
    return str(relay_state(node, url)["last_error"])


@pytest.mark.parametrize(
    ("host", "address_type", "asked"),
    [
        (NAME, AddressType.NAME, NAME),
        (ONION, AddressType.NAME, ONION),
        ("localhost", AddressType.NAME, "localhost"),
        ("127.0.0.1", AddressType.IPV4, "127.0.0.1"),
        ("[::1]", AddressType.IPV6, "::1"),
    ],
)
def test_always_use_proxy_sends_every_connection_through_the_proxy(
    behind_proxy: NodeUnderTest,
    proxy: SocksProxy,
    scripted_relay: ScriptedRelay,
    connect: Connect,
    host: str,
    address_type: AddressType,
    asked: str,
) -> None:
    """The proxy gets names unresolved. Addresses of this machine use it too."""
    url = f"ws://{host}:7777"
    app = connect(node=behind_proxy, relays=url, channels=[scripted_relay])
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    assert proxy.asked_for(asked) == {Asked(address_type, asked, 7777)}
    check_used_only(proxy, behind_proxy)


def test_only_onions_use_the_proxy_without_always_use_proxy(
    make_node: MakeNode, proxy: SocksProxy, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """Without always-use-proxy other relays are contacted directly. The watch must see that."""
    direct = f"ws://localhost:{scripted_relay.port}"
    node = make_node({"proxy": proxy.address, "nwc-relay": direct}, WATCHED_PLUGIN)
    relays = [direct, HIDDEN, f"ws://{ONION.upper()}.:7777"]
    connect(node=node, relays=relays, channels=[scripted_relay])
    assert proxy.asked_for(ONION) == {Asked(AddressType.NAME, ONION, 80)}
    assert proxy.asked_for(f"{ONION}.") == {Asked(AddressType.NAME, f"{ONION}.", 7777)}
    assert proxy.asked_for("localhost") == set()
    assert lookups(node.directory) == {"localhost"}
    assert ("127.0.0.1", scripted_relay.port) in connects(node.directory)


def test_an_onion_relay_needs_a_proxy(
    make_node: MakeNode, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """A new one is refused, and one from an older record is not contacted."""
    direct = f"ws://127.0.0.1:{scripted_relay.port}"
    node = make_node({"nwc-relay": direct}, WATCHED_PLUGIN)
    for url in (HIDDEN, f"{HIDDEN}."):
        with pytest.raises(RpcError, match="onion relay needs lightningd's option proxy"):
            node.rpc.call("nwc-connect", {"name": "hidden", "relays": url})
    app = connect(node=node, channels=[scripted_relay])
    key = ["nwc", "connections", app.pubkey]
    [stored] = node.rpc.call("listdatastore", {"key": key})["datastore"]
    record = json.loads(stored["string"])
    record["relays"] = [HIDDEN]
    changed = {"key": key, "string": json.dumps(record), "mode": "must-replace"}
    node.rpc.call("datastore", changed)
    node.kill_plugin()
    node.rpc.call("plugin", {"subcommand": "start", "plugin": str(WATCHED_PLUGIN), "nwc-relay": direct})
    assert wait_until_down(node, HIDDEN) == "a .onion relay needs lightningd's option proxy"
    assert lookups(node.directory) == set()
    assert connects(node.directory) == {("127.0.0.1", scripted_relay.port)}


def test_the_plugin_reconnects_when_the_proxy_is_back(
    behind_proxy: NodeUnderTest, proxy: SocksProxy, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    app = connect(node=behind_proxy, channels=[scripted_relay])
    proxy.stop()
    wait_until(
        lambda: "proxy" in str(relay_state(behind_proxy, NAMED)["last_error"]), "the proxy to be missed"
    )
    assert wait_until_down(behind_proxy, NAMED).startswith("lightningd's proxy cannot be reached")
    check_used_only(proxy, behind_proxy)
    proxy.start()
    wait_until(
        lambda: relay_state(behind_proxy, NAMED)["state"] == "connected", "the relay to be back", 30
    )
    scripted_relay.wait_for_subscription(app.wallet_pubkey)
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    check_used_only(proxy, behind_proxy)


def test_a_relay_that_the_proxy_cannot_reach_is_shown(
    behind_proxy: NodeUnderTest, proxy: SocksProxy, connect: Connect
) -> None:
    url = "wss://elsewhere.example"
    behind_proxy.rpc.call("nwc-connect", {"name": "far", "relays": url})
    assert wait_until_down(behind_proxy, url).startswith("lightningd's proxy cannot reach")
    assert proxy.asked_for("elsewhere.example") == {Asked(AddressType.NAME, "elsewhere.example", 443)}
    check_used_only(proxy, behind_proxy)


def test_no_redirect_is_followed(
    behind_proxy: NodeUnderTest, proxy: SocksProxy, scripted_relay: ScriptedRelay
) -> None:
    scripted_relay.redirect_to = "ws://elsewhere.example"
    behind_proxy.rpc.call("nwc-connect", {"name": "moved", "relays": HIDDEN})
    assert wait_until_down(behind_proxy, HIDDEN).startswith("HTTP status 301: the relay has moved")
    assert proxy.asked_for("elsewhere.example") == set()
    check_used_only(proxy, behind_proxy)


def test_the_environment_cannot_bypass_the_proxy(
    make_node: MakeNode,
    proxy: SocksProxy,
    scripted_relay: ScriptedRelay,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    options = {"proxy": proxy.address, "always-use-proxy": "true", "nwc-relay": NAMED}
    node = make_node(options, WATCHED_PLUGIN)
    app = connect(node=node, channels=[scripted_relay])
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    check_used_only(proxy, node)


def test_the_environment_cannot_set_a_proxy(
    make_node: MakeNode,
    proxy: SocksProxy,
    scripted_relay: ScriptedRelay,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only lightningd's option does."""
    for name in VARIABLES:
        for spelled in (name, name.upper()):
            monkeypatch.setenv(spelled, f"socks5h://{proxy.address}")
    node = make_node({"nwc-relay": f"ws://localhost:{scripted_relay.port}"}, WATCHED_PLUGIN)
    app = connect(node=node, channels=[scripted_relay])
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    assert proxy.asked_for("localhost") == set()
    assert lookups(node.directory) == {"localhost"}


def test_the_handshake_does_not_identify_the_plugin(
    behind_proxy: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """It names the host, and neither a program nor a version."""
    connect(node=behind_proxy, channels=[scripted_relay])
    [headers] = scripted_relay.handshakes
    assert {name.lower() for name, _ in headers} == {
        "host",
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
    }
    assert ("Host", f"{NAME}:7777") in headers
