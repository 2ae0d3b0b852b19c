"""A node behind Tor: no relay connection goes around the proxy, and no name is resolved on this machine.

What the plugin's process has looked up and connected to, Python itself tells: see watched_plugin.py.
"""

import json
from collections.abc import Iterator

import pytest
from pyln.client import RpcError

from tests.cases.fixtures import Connect
from tests.cases.node import MakeNode, NodeUnderTest
from tests.cases.relays import COFFEE, relay_state
from tests.support.network_watch import WATCHED_PLUGIN, connects, lookups
from tests.support.scripted_relay import ScriptedRelay
from tests.support.socks_proxy import AddressType, Asked, SocksProxy
from tests.support.waiting import wait_until

NAME = "relay.example"
ONION = "nwcrelayaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaad.onion"
NAMED, HIDDEN = f"ws://{NAME}:7777", f"ws://{ONION}"
VARIABLES = ("all_proxy", "http_proxy", "https_proxy", "socks_proxy", "ws_proxy", "wss_proxy")


@pytest.fixture
def proxy(scripted_relay: ScriptedRelay) -> Iterator[SocksProxy]:
    """A proxy that takes everyone to `scripted_relay`, whatever they call it."""
    hosts = (NAME, ONION, f"{ONION}.", "127.0.0.1", "::1", "localhost")
    with SocksProxy(dict.fromkeys(hosts, scripted_relay.port)) as proxy:
        yield proxy


@pytest.fixture
def behind_proxy(make_node: MakeNode, proxy: SocksProxy) -> NodeUnderTest:
    """A node that uses its proxy for everything."""
    options = {"proxy": proxy.address, "always-use-proxy": "true", "nwc-relay": NAMED}
    return make_node(options, WATCHED_PLUGIN)


def went_only_through(proxy: SocksProxy, node: NodeUnderTest) -> bool:
    """Tell whether the plugin has resolved nothing and has been nowhere but at the proxy."""
    assert lookups(node.directory) == set()
    assert connects(node.directory) == {("127.0.0.1", proxy.port)}
    return True


def wait_until_down(node: NodeUnderTest, url: str) -> str:
    """Wait until a relay is away, and return why."""
    wait_until(lambda: relay_state(node, url)["state"] == "disconnected", "the relay is away")
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
def test_everything_through_the_proxy(
    behind_proxy: NodeUnderTest,
    proxy: SocksProxy,
    scripted_relay: ScriptedRelay,
    connect: Connect,
    host: str,
    address_type: AddressType,
    asked: str,
) -> None:
    """Names go to the proxy as they are, and so do addresses of this very machine."""
    url = f"ws://{host}:7777"
    app = connect(node=behind_proxy, relays=url, channels=[scripted_relay])
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    assert proxy.asked_for(asked) == {Asked(address_type, asked, 7777)}
    assert went_only_through(proxy, behind_proxy)


def test_only_onions_through_the_proxy(
    make_node: MakeNode, proxy: SocksProxy, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """Without always-use-proxy other relays are contacted directly: also what the watch is worth."""
    direct = f"ws://localhost:{scripted_relay.port}"
    node = make_node({"proxy": proxy.address, "nwc-relay": direct}, WATCHED_PLUGIN)
    relays = [direct, HIDDEN, f"ws://{ONION.upper()}.:7777"]
    connect(node=node, relays=relays, channels=[scripted_relay])
    assert proxy.asked_for(ONION) == {Asked(AddressType.NAME, ONION, 80)}
    assert proxy.asked_for(f"{ONION}.") == {Asked(AddressType.NAME, f"{ONION}.", 7777)}
    assert proxy.asked_for("localhost") == set()
    assert lookups(node.directory) == {"localhost"}
    assert ("127.0.0.1", scripted_relay.port) in connects(node.directory)


def test_no_onion_without_a_proxy(
    make_node: MakeNode, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """It is refused; one that is there from better times is not looked for."""
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


def test_proxy_down_and_back(
    behind_proxy: NodeUnderTest, proxy: SocksProxy, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    app = connect(node=behind_proxy, channels=[scripted_relay])
    proxy.stop()
    wait_until(
        lambda: "proxy" in str(relay_state(behind_proxy, NAMED)["last_error"]), "the proxy is missed"
    )
    assert wait_until_down(behind_proxy, NAMED).startswith("lightningd's proxy cannot be reached")
    assert went_only_through(proxy, behind_proxy)
    proxy.start()
    wait_until(lambda: relay_state(behind_proxy, NAMED)["state"] == "connected", "back", 30)
    scripted_relay.wait_for_subscription(app.wallet_pubkey)
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    assert went_only_through(proxy, behind_proxy)


def test_out_of_reach_for_the_proxy(
    behind_proxy: NodeUnderTest, proxy: SocksProxy, connect: Connect
) -> None:
    url = "wss://elsewhere.example"
    behind_proxy.rpc.call("nwc-connect", {"name": "far", "relays": url})
    assert wait_until_down(behind_proxy, url).startswith("lightningd's proxy cannot reach")
    assert proxy.asked_for("elsewhere.example") == {Asked(AddressType.NAME, "elsewhere.example", 443)}
    assert went_only_through(proxy, behind_proxy)


def test_no_redirect_is_followed(
    behind_proxy: NodeUnderTest, proxy: SocksProxy, scripted_relay: ScriptedRelay
) -> None:
    scripted_relay.redirect_to = "ws://elsewhere.example"
    behind_proxy.rpc.call("nwc-connect", {"name": "moved", "relays": HIDDEN})
    assert wait_until_down(behind_proxy, HIDDEN).startswith("HTTP status 301: the relay has moved")
    assert proxy.asked_for("elsewhere.example") == set()
    assert went_only_through(proxy, behind_proxy)


def test_environment_cannot_lead_around_the_proxy(
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
    assert went_only_through(proxy, node)


def test_environment_names_no_proxy(
    make_node: MakeNode,
    proxy: SocksProxy,
    scripted_relay: ScriptedRelay,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lightningd's option counts, and nothing else."""
    for name in VARIABLES:
        for spelled in (name, name.upper()):
            monkeypatch.setenv(spelled, f"socks5h://{proxy.address}")
    node = make_node({"nwc-relay": f"ws://localhost:{scripted_relay.port}"}, WATCHED_PLUGIN)
    app = connect(node=node, channels=[scripted_relay])
    assert app.ask("make_invoice", COFFEE).result["invoice"]
    assert proxy.asked_for("localhost") == set()
    assert lookups(node.directory) == {"localhost"}


def test_what_the_handshake_tells(
    behind_proxy: NodeUnderTest, scripted_relay: ScriptedRelay, connect: Connect
) -> None:
    """Where the relay is, and nothing about who comes: neither a program nor a version."""
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
