"""The last node of a line as who is paid (tests/cases/payee.py)."""

from pathlib import Path
from typing import Any

from tests.cases.fixtures import fresh_name
from tests.integration.real_node import RealNode
from tests.support.channel import Json

HOLD_HTLCS = Path(__file__).with_name("hold_htlcs.py")

# What lightningd takes for forwarding: 1 msat and 10 ppm.
_FEE_BASE_MSAT = 1
_FEE_PPM = 10


class RealPayee(RealNode):
    """A node two channels away."""

    is_holding = False

    def invoice(self, amount_msat: int, description: str = "", **fields: Any) -> Json:
        """Make an invoice; 0 msat for any amount."""
        made: Json = self.rpc.call(
            "invoice",
            {
                "amount_msat": amount_msat or "any",
                "label": f"payee {fresh_name()}",
                "description": description,
                **fields,
            },
        )
        return made

    def fee_msat(self, amount_msat: int) -> int:
        """Return what the node in between takes."""
        return _FEE_BASE_MSAT + amount_msat * _FEE_PPM // 1_000_000

    def received_msat(self) -> int:
        """Return what it has ever received."""
        invoices = self.rpc.listinvoices()["invoices"]
        return sum(invoice.get("amount_received_msat", 0) for invoice in invoices)

    def forget(self, invoice: Json) -> None:
        """Delete an invoice."""
        [stored] = self.rpc.call("listinvoices", {"payment_hash": invoice["payment_hash"]})["invoices"]
        self.rpc.call("delinvoice", {"label": stored["label"], "status": "unpaid"})

    def hold(self) -> None:
        """Keep payments under way from now on."""
        if not self.is_holding:
            self.is_holding = True
            self.rpc.plugin_start(str(HOLD_HTLCS))

    def held(self) -> int:
        """Return how many payments are kept under way."""
        return int(self.rpc.call("held-htlcs")["held"])

    def fail_one(self) -> None:
        """Have one part of what is held fail; the rest stays."""
        self.rpc.call("fail-one-htlc")

    def release(self, *, fail: bool = False, preimage: str = "") -> None:
        """Let the payments that are held end; with a preimage: take the parts, however few."""
        self.rpc.call("release-htlcs", {"fail": fail, "preimage": preimage})
        self.rpc.plugin_stop(str(HOLD_HTLCS))
        self.is_holding = False

    def let_go(self) -> None:
        """Leave nothing behind that a test has held."""
        if self.is_holding:
            self.release(fail=True)
