"""Payments by the real clients of rust-nostr and Alby."""

import pytest
from nostr_sdk import KeysendTlvRecord, NostrSdkError, PayInvoiceRequest, PayKeysendRequest

from tests.support.alby_app import AlbyApp, AlbyError
from tests.wire.fixtures import ConnectedApp
from tests.wire.node import NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.test_alby_client import node_js  # noqa: F401 - a fixture
from tests.wire.test_rust_client import client_of
from tests.wire.test_spending import AMOUNT_MSAT, books, check_preimage
from tests.wire.three_nodes import *  # noqa: F403

TOO_MUCH_MSAT = 1_000_001
TLV_TYPE = 7_629_169


async def test_rust_pays_invoices_and_keysends(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    fee_msat = payee.fee_msat(AMOUNT_MSAT)
    nwc = client_of(spender)
    try:
        invoice = payee.invoice(AMOUNT_MSAT)
        paid = await nwc.pay_invoice(PayInvoiceRequest(id=None, invoice=invoice["bolt11"], amount=None))
        check_preimage(paid.preimage, invoice)
        assert paid.fees_paid == fee_msat
        record = KeysendTlvRecord(tlv_type=TLV_TYPE, value="00ff")
        sent = await nwc.pay_keysend(
            PayKeysendRequest(
                id=None, amount=AMOUNT_MSAT, pubkey=payee.id, preimage=None, tlv_records=[record]
            )
        )
        assert sent.fees_paid == fee_msat
        second = payee.invoice(AMOUNT_MSAT)
        paid = await nwc.pay_invoice(PayInvoiceRequest(id=None, invoice=second["bolt11"], amount=0))
        check_preimage(paid.preimage, second)
        sent = await nwc.pay_keysend(
            PayKeysendRequest(id=None, amount=AMOUNT_MSAT, pubkey=payee.id, preimage="", tlv_records=[])
        )
        assert sent.fees_paid == fee_msat
        too_much = payee.invoice(TOO_MUCH_MSAT)["bolt11"]
        with pytest.raises(NostrSdkError, match="exceeds the remaining budget"):
            await nwc.pay_invoice(PayInvoiceRequest(id=None, invoice=too_much, amount=None))
    finally:
        await nwc.client().shutdown()
    assert books(node, spender) == (4 * (AMOUNT_MSAT + fee_msat), 0)


def test_alby_pays_invoices_and_keysends(
    node: NodeUnderTest,
    payee: Payee,
    spender: ConnectedApp,
    node_js: str,  # noqa: F811
) -> None:
    fee_msat = payee.fee_msat(AMOUNT_MSAT)
    invoice = payee.invoice(AMOUNT_MSAT, "coffee")
    with AlbyApp(node_js, spender.uri) as alby:
        alby.subscribe("payment_sent")
        paid = alby.call("payInvoice", {"invoice": invoice["bolt11"], "metadata": {"order": 7}})
        check_preimage(paid["preimage"], invoice)
        assert paid["fees_paid"] == fee_msat
        notification = alby.wait_for_notification(invoice["payment_hash"])
        assert notification["notification"]["metadata"] == {"order": 7}
        records = [{"type": TLV_TYPE, "value": "00ff"}]
        keysend = {"amount": AMOUNT_MSAT, "pubkey": payee.id, "tlv_records": records}
        assert alby.call("payKeysend", keysend)["fees_paid"] == fee_msat
        second = payee.invoice(AMOUNT_MSAT)
        paid = alby.call("payInvoice", {"invoice": second["bolt11"], "amount": 0, "metadata": []})
        check_preimage(paid["preimage"], second)
        keysend = {"amount": AMOUNT_MSAT, "pubkey": payee.id, "preimage": "", "tlv_records": []}
        assert alby.call("payKeysend", keysend)["fees_paid"] == fee_msat
        budget = alby.call("getBudget")
        assert (budget["used_budget"], budget["total_budget"]) == (4 * (AMOUNT_MSAT + fee_msat), 10**6)
        assert budget["renewal_period"] == "daily"
        assert alby.call("getBalance")["balance"] == 10**6 - budget["used_budget"]
        with pytest.raises(AlbyError) as refused:
            alby.call("payInvoice", {"invoice": payee.invoice(TOO_MUCH_MSAT)["bolt11"]})
        assert refused.value.code == "QUOTA_EXCEEDED"
    assert books(node, spender) == (4 * (AMOUNT_MSAT + fee_msat), 0)
