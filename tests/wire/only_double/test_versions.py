"""The tests of payments, on the double as other versions of lightningd.

These are the oldest supported version, and one without `pay` and `keysend`. The other modules use the
newest.
"""

from collections.abc import Iterator

import pytest

from nwc.cln.versions import warning_of
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.double_node import DoubleNode
from tests.wire.double_payee import DoublePayee
from tests.wire.fixtures import Connect
from tests.wire.node import BASE_OPTIONS, PLUGIN, MakeNode, Options
from tests.wire.only_double.paying_commands import check_paying_commands
from tests.wire.shared import shared
from tests.wire.test_own_invoices import (  # noqa: F401
    child,
    test_a_connection_that_pays_itself_gains_nothing,
    test_an_invoice_that_is_paid_or_deleted_is_refused_at_once,
    test_one_connection_pays_another,
)
from tests.wire.test_spending import (  # noqa: F401
    AMOUNT_MSAT,
    check_paid,
    pay,
    test_a_held_keysend_is_answered_after_a_kill_of_the_plugin,
    test_a_held_payment_is_answered_after_a_kill_of_the_plugin,
    test_a_payment_is_visible_to_its_own_connection_only,
    test_a_payment_over_the_nodes_balance_is_refused,
    test_a_replayed_keysend_is_not_paid_twice,
    test_an_expired_invoice_is_refused,
    test_keysend_pays_and_spends_amount_and_fee,
    test_max_fee_limits_the_fee,
    test_pay_invoice_pays_and_spends_amount_and_fee,
    test_the_app_chooses_the_amount_of_an_invoice_without_one,
    test_the_same_invoice_is_not_paid_twice,
)

OLDEST, WITHOUT_PAY = "v25.02.2", "v27.03"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({"dev-version": OLDEST}, id="oldest"),
        pytest.param({"dev-version": OLDEST, "nwc-pay-command": "xpay"}, id="oldest, xpay"),
        pytest.param({"dev-version": WITHOUT_PAY}, id="27.03"),
    ],
)
def node(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    relay: RestartableRelay,
) -> Iterator[DoubleNode]:
    options = {**BASE_OPTIONS, "nwc-relay": relay.url, **request.param}
    node = DoubleNode(tmp_path_factory.mktemp("node"), PLUGIN, options)
    with node.double, shared(node):
        yield node


@pytest.mark.parametrize(
    ("options", "invoice_command", "keysend_command"),
    [
        ({"dev-version": OLDEST}, "pay", "keysend"),
        ({"dev-version": OLDEST, "allow-deprecated-apis": "false"}, "pay", "keysend"),
        ({"dev-version": OLDEST, "nwc-pay-command": "xpay"}, "xpay", "keysend"),
        ({"dev-version": WITHOUT_PAY}, "xpay", "xkeysend"),
    ],
)
def test_version_and_options_decide_which_command_pays(
    make_node: MakeNode,
    connect: Connect,
    options: Options,
    invoice_command: str,
    keysend_command: str,
) -> None:
    check_paying_commands(make_node, connect, options, invoice_command, keysend_command)


def test_a_chosen_pay_command_that_lightningd_lacks_is_an_error(
    make_node: MakeNode, connect: Connect
) -> None:
    """Nothing is reserved."""
    node = make_node({"dev-version": WITHOUT_PAY, "nwc-pay-command": "pay"})
    assert isinstance(node, DoubleNode)
    app = connect(node=node, budget="1000sat")
    refused = pay(app, DoublePayee(node).invoice(AMOUNT_MSAT))
    assert (refused.code, refused.message) == ("INTERNAL", "the node has no command to pay with now")
    refused = app.ask("pay_keysend", {"amount": AMOUNT_MSAT, "pubkey": "02" + "ab" * 32})
    assert refused.code == "NOT_IMPLEMENTED"
    assert app.ask("get_budget").result["used_budget"] == 0


@pytest.mark.parametrize("version", ["v25.09", "v25.09.1-modded"])
def test_the_owner_is_warned_of_a_lightningd_that_leaves_parts_pending(
    make_node: MakeNode, version: str
) -> None:
    node = make_node({"dev-version": version})
    warning = warning_of(version)
    assert warning is not None
    wait_until(lambda: warning in node.log_text(), "a warning in the log")
    assert node.rpc.call("nwc-status")["warning"].endswith(warning)


@pytest.mark.parametrize("version", ["v25.09.2-modded", "v26.06.6"])
def test_the_owner_is_not_warned_of_other_versions_of_lightningd(
    make_node: MakeNode, version: str
) -> None:
    node = make_node({"dev-version": version})
    wait_until(lambda: "warning" not in node.rpc.call("nwc-status"), "no warning in nwc-status")
    assert "parts of a failed" not in node.log_text()
