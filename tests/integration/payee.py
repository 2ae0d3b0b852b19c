"""The last node of a line as who is paid (tests/cases/payee.py)."""

from typing import Any

from tests.cases.fixtures import fresh_name
from tests.integration.real_node import RealNode
from tests.support.channel import Json
from tests.support.processes import ROOT

PAYEE_PLUGIN = ROOT / "tests" / "support" / "payee_plugin.py"

# What lightningd takes for forwarding: 1 msat and 10 ppm.
_FEE_BASE_MSAT = 1
_FEE_PPM = 10


class RealPayee(RealNode):
    """A node that is paid; with payee_plugin.py it can hold, refuse or take each HTLC."""

    _runs_plugin = False

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
        """Delete an invoice, if it is still there."""
        for stored in self.rpc.call("listinvoices", {"payment_hash": invoice["payment_hash"]})[
            "invoices"
        ]:
            self.rpc.call("delinvoice", {"label": stored["label"], "status": "unpaid"})

    def hold(self) -> None:
        """Keep payments under way from now on."""
        self._set_mode("hold")

    def refuse(self, failure: str = "") -> None:
        """Refuse HTLCs from now on, with a failure message (BOLT4: code and data) in hex digits."""
        self._set_mode("refuse", failure)

    def accept(self) -> None:
        """Leave HTLCs to lightningd from now on, those that are held as well."""
        self._set_mode("accept")

    def held(self) -> int:
        """Return how many HTLCs are held."""
        return int(self.rpc.call("held-htlcs")["held"])

    def fail_one(self) -> None:
        """Refuse the HTLC that is held for the longest time; the others stay."""
        self.rpc.call("answer-htlcs", {"action": "refuse", "count": 1})

    def take(self, preimage: str) -> None:
        """Take the HTLCs that are held, whatever is still missing, and those to come."""
        self.rpc.call("htlcs", {"mode": "take", "preimage": preimage})

    def take_one(self, preimage: str) -> None:
        """Take the HTLC that is held for the longest time, whatever is still missing."""
        self.rpc.call("answer-htlcs", {"action": "take", "count": 1, "preimage": preimage})

    def release(self, *, fail: bool = False, preimage: str = "") -> None:
        """Let the payments that are held end; with a preimage: take the parts, however few."""
        if preimage:
            self.rpc.call("answer-htlcs", {"action": "take", "preimage": preimage})
        self.rpc.call("htlcs", {"mode": "refuse" if fail else "accept"})
        self.rpc.plugin_stop(str(PAYEE_PLUGIN))
        self._runs_plugin = False

    def let_go(self) -> None:
        """Leave nothing behind that a test has held."""
        if self._runs_plugin:
            self.release(fail=True)

    def _set_mode(self, mode: str, failure: str = "") -> None:
        if not self._runs_plugin:
            self.rpc.plugin_start(str(PAYEE_PLUGIN))
            self._runs_plugin = True
        self.rpc.call("htlcs", {"mode": mode, **({"failure": failure} if failure else {})})
