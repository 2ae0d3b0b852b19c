"""Parts that lightningd begins after its command has failed never exceed the budget.

The plugin runs with its real timeouts, so a test takes minutes.
"""

from typing import Any

import pytest

from tests.support.channel import Json
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect
from tests.wire.only_lightningd.hostile_line import *  # noqa: F403
from tests.wire.only_lightningd.hostile_line import (
    SLOW_PLUGIN,
    parts,
    patient_answer,
    sent_or_pending_msat,
    two_part_amount,
    wait_until_free,
)
from tests.wire.real_node import RealNode
from tests.wire.real_payee import RealPayee
from tests.wire.test_spending import books

# Longer than the plugin looks for parts after an error that it takes for final.
DELAY_S = 6


@pytest.fixture(scope="module", params=["pay", "xpay"])
def command(request: pytest.FixtureRequest) -> str:
    """The command with which lightningd pays."""
    return str(request.param)


@pytest.fixture(scope="module")  # type: ignore[no-redef]
def payer_options(command: str) -> dict[str, Any]:
    return {"allow-deprecated-apis": True, "nwc-pay-command": command}


def test_a_part_begun_after_the_error_is_charged_to_the_budget(
    node: RealNode, neighbour: RealPayee, connect: Connect, command: str
) -> None:
    """The payee refuses the first part, lightningd gives up, and a delayed part is sent after that.

    If the budget were free in between, it could be spent twice.
    """
    delayed = {"pay": "sendonion", "xpay": "askrene-reserve"}[command]
    node.rpc.plugin_start(str(SLOW_PLUGIN))
    node.rpc.call("delay-command", {"command": delayed, "seconds": DELAY_S, "passing": 1})
    amount_msat = two_part_amount(node)
    app = connect(budget=f"{amount_msat + amount_msat // 50}msat")
    preimage = "8d" * 32
    invoice = neighbour.invoice(amount_msat, preimage=preimage)
    neighbour.refuse()
    app.send(request := app.request("pay_invoice", {"invoice": invoice["bolt11"]}))
    wait_until(lambda: statuses(node, invoice) == {"failed"}, "the first part to fail")
    neighbour.hold()
    assert node.rpc.call("delayed-commands", {"command": delayed})["delayed"] > 0
    wait_until(lambda: "pending" in statuses(node, invoice), "a late part", 3 * DELAY_S)
    spent_msat, reserved_msat = books(node, app)
    assert spent_msat + reserved_msat >= amount_msat
    wait_until(lambda: neighbour.held() == count_pending(node, invoice), "all of it to be held")
    neighbour.release(preimage=preimage)
    assert patient_answer(node, app, request).result["preimage"] == preimage
    wait_until_free(node, app)
    assert books(node, app) == (sent_or_pending_msat(node, invoice["payment_hash"]), 0)
    node.rpc.plugin_stop(str(SLOW_PLUGIN))


def statuses(node: RealNode, invoice: Json) -> set[str]:
    """Return the statuses of the parts of a payment."""
    return {part["status"] for part in parts(node, invoice["payment_hash"])}


def count_pending(node: RealNode, invoice: Json) -> int:
    """Return how many parts of a payment are pending."""
    return sum(part["status"] == "pending" for part in parts(node, invoice["payment_hash"]))
