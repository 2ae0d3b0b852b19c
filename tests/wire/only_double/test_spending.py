"""A payment whose route lightningd still searches, which only the double can prolong."""

from tests.support.waiting import wait_until
from tests.wire.double_node import DoubleNode
from tests.wire.double_payee import DoublePayee
from tests.wire.fixtures import ConnectedApp, wait_until_announced
from tests.wire.test_spending import AMOUNT_MSAT, books, check_paid


def test_a_payment_still_without_a_route_survives_a_kill_of_the_plugin(
    node: DoubleNode, payee: DoublePayee, spender: ConnectedApp
) -> None:
    """lightningd lists no part of it then, but still searches for a route."""
    invoice = payee.invoice(AMOUNT_MSAT)
    plan = {"payment_hash": invoice["payment_hash"], "hold_route": True}
    node.rpc.call("dev-payment-plan", plan)
    request = spender.request("pay_invoice", {"invoice": invoice["bolt11"]})
    spender.send(request)
    wait_until(lambda: payee.held() == 1, "the search for a route")
    node.kill_plugin()
    node.start_plugin()
    wait_until_announced(node, spender.name)
    spender.ask("get_info")
    assert books(node, spender) == (0, AMOUNT_MSAT + 5000)
    assert node.rpc.call("listsendpays", {"payment_hash": invoice["payment_hash"]})["payments"] == []
    payee.release()
    check_paid(spender.answer_to(request), invoice, payee.fee_msat(AMOUNT_MSAT))
    assert books(node, spender) == (AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT), 0)
