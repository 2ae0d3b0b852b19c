"""A real node as the payee of the tests (tests/wire/payee.py)."""

from typing import Any

from tests.support.channel import Json
from tests.support.processes import ROOT
from tests.wire.fixtures import fresh_name
from tests.wire.real_node import RealNode

PAYEE_PLUGIN = ROOT / "tests" / "support" / "payee_plugin.py"

# lightningd's default fees for forwarding: 1 msat and 10 ppm.
_FEE_BASE_MSAT = 1
_FEE_PPM = 10


class RealPayee(RealNode):
    """A node that is paid. With payee_plugin.py it can hold, refuse or take each HTLC."""

    _runs_plugin = False

    def invoice(self, amount_msat: int, description: str = "", **fields: Any) -> Json:
        """Return a new invoice; 0 msat leaves the amount to the payer."""
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

    def offer(self, amount_msat: int, **fields: Any) -> str:
        """Return a new offer; 0 msat leaves the amount to the payer."""
        amount = f"{amount_msat}msat" if amount_msat else "any"
        given = {"amount": amount, "description": "tea", "label": fresh_name(), **fields}
        return str(self.rpc.call("offer", given)["bolt12"])

    def ended_offer(self) -> str:
        """Return an offer that is disabled."""
        offer = self.offer(1000)
        offer_id = self.rpc.call("decode", {"string": offer})["offer_id"]
        self.rpc.call("disableoffer", {"offer_id": offer_id})
        return offer

    def received_notes(self) -> list[str]:
        """Return the payer's note of each invoice that was fetched for an offer."""
        invoices = self.rpc.listinvoices()["invoices"]
        return [invoice.get("invreq_payer_note", "") for invoice in invoices]

    def fee_msat(self, amount_msat: int) -> int:
        """Return the fee of the node in between, in msat."""
        return _FEE_BASE_MSAT + amount_msat * _FEE_PPM // 1_000_000

    def received_msat(self) -> int:
        """Return what the node has received for invoices so far, in msat."""
        invoices = self.rpc.listinvoices()["invoices"]
        return sum(invoice.get("amount_received_msat", 0) for invoice in invoices)

    def forget(self, invoice: Json) -> None:
        """Delete an unpaid invoice, if it still exists."""
        for stored in self.rpc.call("listinvoices", {"payment_hash": invoice["payment_hash"]})[
            "invoices"
        ]:
            self.rpc.call("delinvoice", {"label": stored["label"], "status": "unpaid"})

    def hold(self) -> None:
        """Hold HTLCs from now on, so that payments stay in flight."""
        self._set_mode("hold")

    def refuse(self, failure: str = "") -> None:
        """Refuse HTLCs from now on, with a failure message in hex (BOLT4: code and data)."""
        self._set_mode("refuse", failure)

    def refuse_with_onion(self, failure: bytes) -> None:
        """Refuse HTLCs from now on, with an encrypted failure of another hop (BOLT4)."""
        self._set_mode("refuse-onion", failure.hex())

    def accept(self) -> None:
        """Let lightningd decide about HTLCs from now on, and about those that are held."""
        self._set_mode("accept")

    def held(self) -> int:
        """Return how many HTLCs are held."""
        return int(self.rpc.call("held-htlcs")["held"])

    def fail_one(self) -> None:
        """Refuse the HTLC that was held first; the others stay held."""
        self.rpc.call("answer-htlcs", {"action": "refuse", "count": 1})

    def take(self, preimage: str) -> None:
        """Take the HTLCs that are held, and later ones, even if others are still missing."""
        self.rpc.call("htlcs", {"mode": "take", "preimage": preimage})

    def take_one(self, preimage: str) -> None:
        """Take the HTLC that was held first, even if others are still missing."""
        self.rpc.call("answer-htlcs", {"action": "take", "count": 1, "preimage": preimage})

    def release(self, *, fail: bool = False, preimage: str = "") -> None:
        """Accept or fail the held payments; with a preimage, take the parts that are held so far."""
        if preimage:
            self.rpc.call("answer-htlcs", {"action": "take", "preimage": preimage})
        self.rpc.call("htlcs", {"mode": "refuse" if fail else "accept"})
        self.rpc.plugin_stop(str(PAYEE_PLUGIN))
        self._runs_plugin = False

    def stop_holding(self) -> None:
        """Fail whatever a test has left held."""
        if self._runs_plugin:
            self.release(fail=True)

    def _set_mode(self, mode: str, failure: str = "") -> None:
        if not self._runs_plugin:
            self.rpc.plugin_start(str(PAYEE_PLUGIN))
            self._runs_plugin = True
        self.rpc.call("htlcs", {"mode": mode, **({"failure": failure} if failure else {})})
