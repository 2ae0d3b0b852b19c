"""Checks with which of lightningd's commands the plugin pays."""

from tests.wire.double_node import DoubleNode
from tests.wire.double_payee import DoublePayee
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.node import MakeNode, Options
from tests.wire.test_spending import AMOUNT_MSAT, check_paid, pay


def check_paying_commands(
    make_node: MakeNode, connect: Connect, options: Options, invoice_command: str, keysend_command: str
) -> tuple[DoubleNode, ConnectedApp]:
    """Assert that a new node pays an invoice and a keysend by these commands; return it and its app."""
    node = make_node(options)
    assert isinstance(node, DoubleNode)
    payee = DoublePayee(node)
    app = connect(node=node, budget="1000sat")
    invoice = payee.invoice(AMOUNT_MSAT)
    check_paid(pay(app, invoice), invoice, payee.fee_msat(AMOUNT_MSAT))
    answer = app.ask("pay_keysend", {"amount": AMOUNT_MSAT, "pubkey": payee.id})
    assert answer.result["fees_paid"] == payee.fee_msat(AMOUNT_MSAT)
    assert node.rpc.call("dev-pay-commands")["commands"] == [invoice_command]
    [keysend] = node.rpc.call("dev-keysends")["keysends"]
    assert keysend["command"] == keysend_command
    return node, app
