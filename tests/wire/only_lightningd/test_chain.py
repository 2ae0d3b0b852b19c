"""The block that get_info shows."""

from typing import Any

from tests.support.channel import Json
from tests.support.waiting import wait_until
from tests.wire.fixtures import ConnectedApp
from tests.wire.real_node import RealNode


def test_get_info_shows_the_newest_block(node: RealNode, bitcoind: Any, app: ConnectedApp) -> None:
    for _ in range(2):
        bitcoind.generate_block(1)
        height, tip = bitcoind.rpc.getblockcount(), bitcoind.rpc.getbestblockhash()

        def is_known(height: int = height) -> Json | None:
            info: Json = app.ask("get_info").result
            return info if info["block_height"] == height and "block_hash" in info else None

        info = wait_until(is_known, f"get_info to show block {height}")
        assert info is not None
        assert info["block_hash"] == tip


def test_get_info_shows_the_new_block_hash_after_a_reorg(
    node: RealNode, bitcoind: Any, app: ConnectedApp
) -> None:
    height = bitcoind.rpc.getblockcount()
    bitcoind.simple_reorg(height)
    tip = bitcoind.rpc.getbestblockhash()
    wait_until(lambda: app.ask("get_info").result.get("block_hash") == tip, "the tip after the reorg")
    assert app.ask("get_info").result["block_height"] == bitcoind.rpc.getblockcount() == height + 1
