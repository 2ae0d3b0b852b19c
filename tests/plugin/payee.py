"""Who is paid (tests/cases/payee.py) by the double: invoices of others, and what it plans for them."""

from typing import Any

from tests.plugin.double_node import DoubleNode
from tests.support.channel import Json

SPENDABLE_MSAT = 500_000_000
# lightningd's code and words for "incorrect or unknown payment details".
REFUSED = {"code": 203, "message": "Destination said it doesn't know invoice"}


class DoublePayee:
    """Somebody the double can pay."""

    def __init__(self, node: DoubleNode) -> None:
        self.node = node
        channel = {"state": "CHANNELD_NORMAL", "spendable_msat": SPENDABLE_MSAT}
        node.rpc.call("dev-channels", {"channels": [channel]})

    @property
    def id(self) -> str:
        """A public key that is not the node's."""
        return "02" + "ab" * 32

    def invoice(self, amount_msat: int, description: str = "", **fields: Any) -> Json:
        """Make an invoice; 0 msat for any amount."""
        given = {"amount_msat": amount_msat, "description": description, **fields}
        made: Json = self.node.rpc.call("dev-foreign-invoice", given)
        return made

    def fee_msat(self, amount_msat: int) -> int:
        """Return what the double takes: 1 msat and 10 ppm."""
        return 1 + amount_msat * 10 // 1_000_000

    def received_msat(self) -> int:
        """Return what all payments that are complete were for."""
        parts = self.node.rpc.call("listsendpays")["payments"]
        return sum(part["amount_msat"] for part in parts if part["status"] == "complete")

    def forget(self, invoice: Json) -> None:
        """Have its payment fail at the payee."""
        plan = {"payment_hash": invoice["payment_hash"], "fail": REFUSED}
        self.node.rpc.call("dev-payment-plan", plan)

    def hold(self) -> None:
        """Keep the next payment under way."""
        self.node.rpc.call("dev-payment-plan", {"hold": True})

    def held(self) -> int:
        """Return how many payments are kept under way."""
        return len(self.node.rpc.call("dev-payments-held")["held"])

    def release(self, *, fail: bool = False) -> None:
        """Let the payments that are held end."""
        for held in self.node.rpc.call("dev-payments-held")["held"]:
            given = {"payment_hash": held["payment_hash"], "outcome": "failed" if fail else "complete"}
            self.node.rpc.call("dev-payment-release", given)
