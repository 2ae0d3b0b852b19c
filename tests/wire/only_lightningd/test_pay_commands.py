"""The commands that pay.

These are `pay` and `keysend` if lightningd has them, and `xpay` and `xkeysend` if the owner chooses them
or lightningd has no others.
"""

from typing import Any

import pytest

from tests.support.blinded_path import payment_path
from tests.support.lightningd_version import runs_since
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect
from tests.wire.only_lightningd.hostile_line import *  # noqa: F403
from tests.wire.only_lightningd.hostile_line import (
    OVERCHARGING_PLUGIN,
    SLOW_PLUGIN,
    ask_patiently,
    is_alive,
    parts,
    reservations,
    wait_until_free,
)
from tests.wire.real_node import RealNode
from tests.wire.real_payee import RealPayee
from tests.wire.test_spending import AMOUNT_MSAT, books, check_paid, pay

NOTHING = {"amount_sent_msat": 0}
# The largest payment here, with its fee.
MOST_SENT_MSAT = 2 * AMOUNT_MSAT
ALL = ["pay", "keysend", "xpay", "xkeysend"]
# The commands called, in the order of ALL. If lightningd refuses `pay` and `keysend` as deprecated,
# `help` still shows `pay`, so it is tried. Before 26.06 none is deprecated and there is no `xkeysend`.
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


def test_each_setting_pays_with_its_commands(
    node: RealNode, payee: RealPayee, connect: Connect, setting: str
) -> None:
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


def test_each_setting_pays_an_offer(node: RealNode, payee: RealPayee, connect: Connect) -> None:
    app = connect(budget="1000sat")
    fee_msat = payee.fee_msat(AMOUNT_MSAT)
    result = app.ask("pay", {"payment": payee.offer(AMOUNT_MSAT), "max_fee": fee_msat}).result
    assert (result["state"], result["fees_paid"]) == ("settled", fee_msat)
    assert ("payer_proof" in result) == runs_since("26.06")
    refused = app.ask("pay", {"payment": payee.offer(AMOUNT_MSAT), "max_fee": fee_msat - 1})
    assert refused.code == "FEE_LIMIT_EXCEEDED"
    assert books(node, app) == (AMOUNT_MSAT + fee_msat, 0)


def test_each_command_says_that_no_route_fits_the_limit_on_the_fee(
    node: RealNode, payee: RealPayee, connect: Connect
) -> None:
    app = connect(budget="1000sat")
    invoice, max_fee = payee.invoice(AMOUNT_MSAT), payee.fee_msat(AMOUNT_MSAT) - 1
    keysend = {"amount": AMOUNT_MSAT, "pubkey": payee.id, "max_fee": max_fee}
    for refused in (pay(app, invoice, max_fee=max_fee), app.ask("pay_keysend", keysend)):
        assert refused.code == "FEE_LIMIT_EXCEEDED"
        assert f"{max_fee} msat" in refused.message
    assert node.rpc.listsendpays(payment_hash=invoice["payment_hash"])["payments"] == []
    assert books(node, app) == (0, 0)


def test_a_reservation_carries_the_label_of_its_payment(
    node: RealNode, payee: RealPayee, connect: Connect, setting: str
) -> None:
    """So the plugin can find and release the reservations that `xpay` has left behind."""
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


# lightningd adds 1,000,000 in 32 bits and divides by the sum. The first forwards a hundred times what
# arrives, the second less than what it should deliver.
@pytest.mark.parametrize("fee_ppm", [2**32 - 990_000, 4_000_000_000])
def test_an_issuer_cannot_tell_this_node_how_much_to_send(
    node: RealNode, payee: RealPayee, neighbour: RealPayee, connect: Connect, fee_ppm: int
) -> None:
    """`xpay` would send that, or stop lightningd (v26.06.6)."""
    app = connect(budget="1000sat")
    payee.rpc.plugin_start(str(OVERCHARGING_PLUGIN))
    path = payment_path([node.id, neighbour.id], fee_ppm)
    payee.rpc.call("replace-path", {"path": path})
    answer = ask_patiently(node, app, "pay", {"payment": payee.offer(AMOUNT_MSAT)})
    payee.rpc.plugin_stop(str(OVERCHARGING_PLUGIN))
    assert answer.code == "PAYMENT_FAILED"
    assert is_alive(node)
    wait_until_free(node, app)
    assert max(part["amount_sent_msat"] for part in [NOTHING, *parts(node)]) <= MOST_SENT_MSAT
    assert books(node, app) == (0, 0)


def called(node: RealNode) -> list[str]:
    """Return the paying commands that were called."""
    return [
        command for command in ALL if node.rpc.call("delayed-commands", {"command": command})["delayed"]
    ]
