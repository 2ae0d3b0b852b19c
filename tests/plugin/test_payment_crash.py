"""The cases of crashes in the middle of a payment, on the double."""

from collections.abc import Iterator

import pytest

from tests.cases.node import BASE_OPTIONS
from tests.cases.paying import *  # noqa: F403
from tests.cases.payment_crash import *  # noqa: F403
from tests.cases.payment_crash import Case, check_end, check_still_held, each_end, each_that_succeeds
from tests.cases.shared import shared
from tests.plugin.double_node import DoubleNode
from tests.plugin.payee import DoublePayee
from tests.support.faults import FAULTY_PLUGIN
from tests.support.restartable_relay import RestartableRelay


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, relay: RestartableRelay) -> Iterator[DoubleNode]:
    options = {**BASE_OPTIONS, "nwc-relay": relay.url}
    node = DoubleNode(tmp_path_factory.mktemp("node"), FAULTY_PLUGIN, options)
    with node.double, shared(node):
        yield node


@each_end
@each_that_succeeds
def test_a_held_payment_survives_a_kill_of_lightningd(
    node: DoubleNode, held: Case, payee: DoublePayee, failed: bool
) -> None:
    node.double.kill()
    node.double.start()
    check_still_held(held)
    payee.release(fail=failed)
    check_end(held, failed=failed)
