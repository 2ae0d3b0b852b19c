"""Which command pays: `pay` and `keysend` where lightningd has them, `xpay` and `xkeysend` where the
owner wants it or nothing else is left.
"""

from typing import Any

import pytest

from tests.cases.fixtures import Connect
from tests.cases.spending import AMOUNT_MSAT, books, check_paid, pay
from tests.integration.hostile_line import *  # noqa: F403
from tests.integration.hostile_line import SLOW_PLUGIN, reservations
from tests.integration.payee import RealPayee
from tests.integration.real_node import RealNode
from tests.support.lightningd_version import runs_since
from tests.support.waiting import wait_until

ALL = ["pay", "keysend", "xpay", "xkeysend"]
# What is called, in the order of ALL. `help` still shows `pay` when lightningd refuses it as deprecated,
# but not `keysend`. Before 26.06 nothing is deprecated, and there is no `xkeysend`.
CALLED = {
    "auto": ["pay", "keysend"],
    "xpay": ["xpay", "xkeysend"] if runs_since("26.06") else ["keysend", "xpay"],
    "no deprecated commands": ["pay", "xpay", "xkeysend"] if runs_since("26.06") else ["pay", "keysend"],
}


@pytest.fixture(scope="module", params=["auto", "xpay", "no deprecated commands"])
def setting(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")  # type: ignore[no-redef]
def payer_options(setting: str) -> dict[str, Any]:
    options = {"allow-deprecated-apis": setting != "no deprecated commands"}
    return {**options, "nwc-pay-command": "xpay"} if setting == "xpay" else options


def test_command(node: RealNode, payee: RealPayee, connect: Connect, setting: str) -> None:
    """An invoice and a keysend are paid, each by the command that stands for this setting."""
    app = connect(budget="1000sat")
    node.rpc.plugin_start(str(SLOW_PLUGIN))
    for command in ALL:
        node.rpc.call("delay-command", {"command": command, "seconds": 0.01})
    fee_msat = payee.fee_msat(AMOUNT_MSAT)
    invoice = payee.invoice(AMOUNT_MSAT)
    check_paid(pay(app, invoice), invoice, fee_msat)
    sent = app.ask("pay_keysend", {"amount": AMOUNT_MSAT, "pubkey": payee.id})
    assert sent.result["fees_paid"] == fee_msat
    assert books(node, app) == (2 * (AMOUNT_MSAT + fee_msat), 0)
    assert called(node) == CALLED[setting]
    node.rpc.plugin_stop(str(SLOW_PLUGIN))


def test_reservations_have_the_name_of_their_payment(
    node: RealNode, payee: RealPayee, connect: Connect, setting: str
) -> None:
    """So those that `xpay` has forgotten can be told from those of others, and released."""
    app = connect(budget="1000sat")
    payee.hold()
    invoice = payee.invoice(AMOUNT_MSAT)
    app.send(request := app.request("pay_invoice", {"invoice": invoice["bolt11"]}))
    wait_until(lambda: payee.held() == 1, "the payment to be held")
    reserved = reservations(node)
    assert bool(reserved) == ("xpay" in CALLED[setting])
    label = f"nwc:{app.shown['client_pubkey'][:16]}:{request['id']}"
    assert all(label in one["command_id"] for one in reserved)
    payee.release()
    check_paid(app.answer_to(request), invoice, payee.fee_msat(AMOUNT_MSAT))
    wait_until(lambda: not reservations(node), "no reservation to be left")


def called(node: RealNode) -> list[str]:
    """Return the paying commands that were called."""
    return [
        command for command in ALL if node.rpc.call("delayed-commands", {"command": command})["delayed"]
    ]
