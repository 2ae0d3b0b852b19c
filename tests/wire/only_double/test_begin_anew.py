"""A failed test can leave a shared node broken: the next test must find it whole."""

from collections.abc import Callable

import pytest

from tests.wire.double_node import DoubleNode
from tests.wire.fixtures import Connect

LEFT_BEHIND: dict[str, Callable[[DoubleNode], None]] = {
    "no node": lambda node: node.double.kill(),
    "no plugin": lambda node: node.stop_plugin(),
    "a hidden socket": lambda node: node.hide_rpc_socket(),
    "delays": lambda node: node.delay("invoice", 600),
    "failures": lambda node: node.fail("invoice", -1, "no", times=1000),
    "odd answers": lambda node: node.answer("invoice", "odd", times=1000),
}


@pytest.mark.parametrize("leave", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_begin_anew_repairs_what_a_test_left_broken(
    node: DoubleNode, connect: Connect, leave: Callable[[DoubleNode], None]
) -> None:
    leave(node)
    node.begin_anew()
    assert node.delayed == set()
    assert connect().ask("make_invoice", {"amount": 1}).result["invoice"]
