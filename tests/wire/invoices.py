"""Checks of make_invoice: an answer against what lightningd shows, and a refusal."""

import time
from typing import Any

from tests.support.channel import Json
from tests.wire.fixtures import ConnectedApp
from tests.wire.node import NodeUnderTest

ABSENT = object()


def params_of(**fields: Any) -> Json:
    """Return params with an amount, without the fields that are ABSENT."""
    return {name: value for name, value in {"amount": 1000, **fields}.items() if value is not ABSENT}


def make_and_check(node: NodeUnderTest, app: ConnectedApp, params: Json) -> Json:
    """Make an invoice; check the answer against what lightningd shows, and return both."""
    before = int(time.time())
    request = app.request("make_invoice", params)
    answer = app.ask_with(request)
    assert answer.body["result_type"] == "make_invoice"
    result = answer.result
    decoded = node.rpc.call("decode", {"string": result["invoice"]})
    [listed] = node.rpc.listinvoices(invstring=result["invoice"])["invoices"]
    assert decoded["valid"] is True
    assert decoded["payee"] == node.rpc.getinfo()["id"]
    assert listed["label"] == f"nwc:{app.pubkey[:16]}:{request['id']}"
    assert listed["status"] == "unpaid"
    assert result["payment_hash"] == decoded["payment_hash"] == listed["payment_hash"]
    assert result["amount"] == decoded.get("amount_msat", 0) == listed.get("amount_msat", 0)
    assert before <= result["created_at"] == decoded["created_at"] <= int(time.time())
    assert result["expires_at"] == listed["expires_at"]
    assert abs(result["expires_at"] - result["created_at"] - decoded["expiry"]) <= 1
    assert result.get("description_hash") == decoded.get("description_hash")
    assert (result["type"], result["state"], result["fees_paid"]) == ("incoming", "pending", 0)
    assert "preimage" not in result
    assert "settled_at" not in result
    return {**result, "decoded": decoded, "listed": listed}


def check_refused(node: NodeUnderTest, app: ConnectedApp, params: Any) -> str:
    """Check that a request is refused with OTHER and makes no invoice; return the message."""
    request = app.request("make_invoice", params)
    answer = app.ask_with(request)
    assert answer.body["result_type"] == "make_invoice"
    assert answer.code == "OTHER"
    label = f"nwc:{app.pubkey[:16]}:{request['id']}"
    assert node.rpc.listinvoices(label=label)["invoices"] == []
    return answer.message
