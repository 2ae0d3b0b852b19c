"""The cases about paying, on the double."""

from collections.abc import Iterator

import pytest

from tests.cases.spending import *  # noqa: F403
from tests.plugin.double_node import DoubleNode
from tests.plugin.payee import DoublePayee


@pytest.fixture
def payee(node: DoubleNode) -> Iterator[DoublePayee]:
    payee = DoublePayee(node)
    yield payee
    payee.release(fail=True)
