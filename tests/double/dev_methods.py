"""Commands that lightningd does not have: they simulate payers, blocks and faults."""

import secrets
from typing import TYPE_CHECKING

from tests.double import bulk, invoices, params, payments
from tests.double.jsonio import Json, token
from tests.double.params import BadParam, Param, RpcError, opt

if TYPE_CHECKING:
    from tests.double.node import Node


def pay(node: "Node", bolt11: str | None, label: str | None, amount_msat: int | None) -> Json:
    """Simulate the payment of one of our invoices, given by its string or its label."""
    return invoices.as_json(invoices.pay(node, bolt11, label, amount_msat))


def block(node: "Node") -> Json:
    """Simulate a new block."""
    node.state.next("blocks")
    height = 101 + int(node.state.get("blocks") or 0)
    event = {"hash": secrets.token_hex(32), "height": height}
    node.plugins.notify("block_added", event)
    return event


def delay(node: "Node", method: str, seconds: float) -> Json:
    """Delay the answers of a method by `seconds`, though not its effect. 0 ends this."""
    node.fault_of(method).delay = seconds
    return {}


def fail(node: "Node", method: str, code: int, message: str, times: int) -> Json:
    """Make the next `times` calls of a method fail without any effect."""
    fault = node.fault_of(method)
    fault.error, fault.times = RpcError(code, message), times
    return {}


def answer(node: "Node", method: str, text: str | None, times: int) -> Json:
    """Answer the next `times` calls of a method with this text, and close the connection.

    ID in the text becomes the id of the call. Without a text, only close the connection. The method
    has its effect in any case.
    """
    fault = node.fault_of(method)
    fault.answer, fault.answers = text, times
    return {}


def commits(node: "Node") -> Json:
    """Return, by method, the number of transactions that have written something since the start."""
    counts = dict(node.state.commits)
    return {"commits": counts, "total": sum(counts.values())}


def _seconds(name: str, value: Json) -> float:
    try:
        return float(token(value))
    except ValueError:
        raise BadParam(name, "should be a number", value) from None


COMMANDS = {
    "dev-pay": (
        pay,
        opt("bolt11", params.invstring),
        opt("label", params.label),
        opt("amount_msat", params.msat_or_any),
    ),
    "dev-payment": (
        payments.dev_payment,
        opt("bolt11", params.invstring),
        opt("bolt12", params.invstring),
        opt("payment_hash", params.hash32),
        opt("preimage", params.preimage),
        opt("description", params.text),
        opt("label", params.label),
        opt("parts", params.array, [{}]),
    ),
    "dev-invoices": (
        bulk.dev_invoices,
        Param("count", params.u64),
        opt("label_prefix", params.string, "bulk:"),
        opt("paid_every", params.u64, 0),
        opt("created_at", params.u64),
        opt("step", params.u64, 1),
        opt("amount_msat", params.u64, 21_000),
        opt("expiry", params.u64, invoices.WEEK),
        opt("description", params.text, "made in bulk"),
        opt("digits", params.u64, 0),
    ),
    "dev-payments": (
        bulk.dev_payments,
        Param("count", params.u64),
        Param("created_at", params.u64),
        opt("step", params.u64, 60),
    ),
    "dev-bolt12": (
        bulk.dev_bolt12,
        opt("label", params.label),
        opt("amount_msat", params.u64, 1000),
        opt("description", params.text),
        opt("created_at", params.u64),
        opt("expiry", params.u64, 7200),
        opt("preimage", params.preimage),
    ),
    "dev-block": (block,),
    "dev-delay": (delay, Param("method", params.string), Param("seconds", _seconds)),
    "dev-fail": (
        fail,
        Param("method", params.string),
        Param("code", params.signed),
        Param("message", params.string),
        opt("times", params.u64, 1),
    ),
    "dev-answer": (
        answer,
        Param("method", params.string),
        opt("text", params.string),
        opt("times", params.u64, 1),
    ),
    "dev-commits": (commits,),
}
