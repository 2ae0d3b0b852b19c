"""The plugin as reckless installs it, on the test double."""

from pathlib import Path

from tests.support import reckless_layout
from tests.wire.fixtures import Connect
from tests.wire.node import MakeNode


def test_an_app_is_served_by_a_plugin_in_the_layout_of_reckless(
    make_node: MakeNode, connect: Connect, tmp_path: Path
) -> None:
    node = make_node(plugin=reckless_layout.install(tmp_path / "nwc"))
    made = connect(node=node).ask("make_invoice", {"amount": 21_000, "description": "coffee"})
    assert node.rpc.call("decode", [made.result["invoice"]])["amount_msat"] == 21_000
    assert node.rpc.call("nwc-status")["installation"] == "reckless"
