"""The payee of the tests (tests/wire/payee.py) on the double, which plans its payments' ends."""

from typing import Any

from tests.support.channel import Json
from tests.wire.double_node import DoubleNode

SPENDABLE_MSAT = 500_000_000
# lightningd's error for incorrect_or_unknown_payment_details (BOLT4).
REFUSED = {"code": 203, "message": "Destination said it doesn't know invoice"}


class DoublePayee:
    """A payee that the double can pay."""

    def __init__(self, node: DoubleNode) -> None:
        self.node = node
        channel = {"state": "CHANNELD_NORMAL", "spendable_msat": SPENDABLE_MSAT}
        node.rpc.call("dev-channels", {"channels": [channel]})

    @property
    def id(self) -> str:
        """A public key that is not the node's."""
        return "02" + "ab" * 32

    def invoice(self, amount_msat: int, description: str = "", **fields: Any) -> Json:
        """Return a new invoice; 0 msat leaves the amount to the payer."""
        given = {"amount_msat": amount_msat, "description": description, **fields}
        made: Json = self.node.rpc.call("dev-foreign-invoice", given)
        return made

    def offer(self, amount_msat: int, **fields: Any) -> str:
        """Return a new offer; 0 msat leaves the amount to the payer."""
        named = {f"offer_{name}": value for name, value in fields.items()}
        given = {"amount_msat": amount_msat or None, "description": "tea", "offer": named}
        made = self.node.rpc.call("dev-offer", {n: v for n, v in given.items() if v is not None})
        return str(made["bolt12"])

    def ended_offer(self) -> str:
        """Return an offer whose issuer refuses to make an invoice."""
        return str(self.node.rpc.call("dev-offer", {"amount_msat": 1000, "issuer": "refuses"})["bolt12"])

    def received_notes(self) -> list[str]:
        """Return the payer's note of each paid invoice that was fetched for an offer."""
        paid = self.node.rpc.call("listsendpays")["payments"]
        decoded = [
            self.node.rpc.call("decode", {"string": one["bolt12"]}) for one in paid if "bolt12" in one
        ]
        return [invoice.get("invreq_payer_note", "") for invoice in decoded]

    def fee_msat(self, amount_msat: int) -> int:
        """Return the double's fee in msat: 1 msat and 10 ppm."""
        return 1 + amount_msat * 10 // 1_000_000

    def received_msat(self) -> int:
        """Return the sum of all complete parts in msat, without fees."""
        parts = self.node.rpc.call("listsendpays")["payments"]
        return sum(part["amount_msat"] for part in parts if part["status"] == "complete")

    def forget(self, invoice: Json) -> None:
        """Make the payment of an invoice fail at the payee."""
        plan = {"payment_hash": invoice["payment_hash"], "fail": REFUSED}
        self.node.rpc.call("dev-payment-plan", plan)

    def hold(self) -> None:
        """Hold the next payment."""
        self.node.rpc.call("dev-payment-plan", {"hold": True})

    def held(self) -> int:
        """Return how many payments are held."""
        return len(self.node.rpc.call("dev-payments-held")["held"])

    def release(self, *, fail: bool = False) -> None:
        """Complete the held payments, or fail them."""
        for held in self.node.rpc.call("dev-payments-held")["held"]:
            given = {"payment_hash": held["payment_hash"], "outcome": "failed" if fail else "complete"}
            self.node.rpc.call("dev-payment-release", given)
