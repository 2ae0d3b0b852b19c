"""The double's `hold` answers as Boltz's does: same fields, same JSON types, same error codes.

A payer sends the HTLCs: a neighbour to the real node, dev-hold-pay to the double.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nwc.cln import bolt11
from tests.double.process import LightningdDouble
from tests.support.channel import Json
from tests.support.hold import needs_hold
from tests.support.waiting import wait_until
from tests.wire.network import PaidNode
from tests.wire.node import PLUGIN
from tests.wire.only_lightningd.contract import Answers, Outcome, Step, call, check, run
from tests.wire.only_lightningd.test_hold_invoices import holding_node  # noqa: F401 - a fixture

pytestmark = needs_hold

AMOUNT_MSAT = 30_000
CANCELLED, SETTLED, PARTIAL, UNKNOWN = ("0c" * 32, "05" * 32, "0b" * 32, "00" * 32)
# What `hold` answers whatever is wrong.
HOLD_ERROR = -32700


def hash_of(preimage: str) -> str:
    return hashlib.sha256(bytes.fromhex(preimage)).hexdigest()


def unsigned(answers: Answers, preimage: str, *, is_hashed: bool = False) -> bolt11.Bolt11:
    """Return an invoice as make_hold_invoice writes it."""
    invoice = bolt11.with_terms(
        bolt11.parse(answers["template"]["bolt11"]),
        payment_hash=bytes.fromhex(hash_of(preimage)),
        payment_secret=b"\x01" * 32,
        amount_msat=AMOUNT_MSAT,
        created_at=1_790_000_000,
        expiry=31_536_000,
    )
    invoice = bolt11.with_final_cltv(invoice, 144)
    if is_hashed:
        return bolt11.with_description_hash(invoice, b"\x02" * 32, "")
    return bolt11.with_description(invoice, "x")


def signed(name: str, preimage: str, **how: bool) -> Step:
    return Step(
        name, "signinvoice", lambda made: {"invstring": unsigned(made, preimage, **how).encode()}
    )


def injected(name: str, source: str, code: int | None = None) -> Step:
    def given(answers: Answers) -> Json:
        return {"invoice": answers[source]["bolt11"], "min_cltv": 144}

    return Step(name, "injectholdinvoice", given, code)


def listed(name: str, preimage: str) -> Step:
    return call(name, "listholdinvoices", payment_hash=hash_of(preimage))


def paid(name: str, source: str, amount_msat: int = AMOUNT_MSAT) -> Step:
    def given(answers: Answers) -> Json:
        return {"invoice": answers[source]["bolt11"], "amount_msat": amount_msat}

    return Step(name, "send", given, compared=False)


template = {"amount_msat": AMOUNT_MSAT, "label": "contract hold", "description": "", "expiry": 300}
STEPS = [
    call("help", "help", command="listholdinvoices"),
    Step("template", "invoice", template, compared=False),
    call("garbage signed", "signinvoice", -32602, invstring="lnbcrt1"),
    signed("to cancel", CANCELLED),
    signed("to settle", SETTLED, is_hashed=True),
    signed("for a part", PARTIAL),
    listed("unknown", UNKNOWN),
    call("cancel unknown", "cancelholdinvoice", HOLD_ERROR, payment_hash=hash_of(UNKNOWN)),
    call("settle unknown", "settleholdinvoice", HOLD_ERROR, preimage=UNKNOWN),
    call("inject garbage", "injectholdinvoice", HOLD_ERROR, invoice="lnbcrt1", min_cltv=144),
    injected("inject", "to cancel"),
    injected("inject twice", "to cancel", HOLD_ERROR),
    listed("unpaid", CANCELLED),
    call("settle unpaid", "settleholdinvoice", HOLD_ERROR, preimage=CANCELLED),
    call("cancel", "cancelholdinvoice", payment_hash=hash_of(CANCELLED)),
    call("cancel twice", "cancelholdinvoice", payment_hash=hash_of(CANCELLED)),
    listed("cancelled", CANCELLED),
    injected("inject again", "to cancel", HOLD_ERROR),
    injected("inject another", "to settle"),
    paid("pay", "to settle"),
    listed("accepted", SETTLED),
    call("settle", "settleholdinvoice", preimage=SETTLED),
    call("settle twice", "settleholdinvoice", preimage=SETTLED),
    listed("paid", SETTLED),
    call("cancel paid", "cancelholdinvoice", HOLD_ERROR, payment_hash=hash_of(SETTLED)),
    listed("still paid", SETTLED),
    injected("inject for a part", "for a part"),
    paid("pay a part", "for a part", 1000),
    listed("partial", PARTIAL),
    call("cancel partial", "cancelholdinvoice", payment_hash=hash_of(PARTIAL)),
    listed("cancelled partial", PARTIAL),
]
STATES = {
    "unpaid": "unpaid",
    "cancelled": "cancelled",
    "accepted": "accepted",
    "paid": "paid",
    "still paid": "paid",
    "partial": "unpaid",
    "cancelled partial": "cancelled",
}


def _send(node: PaidNode) -> Callable[[Any, Json], Any]:
    def send(rpc: Any, given: Json) -> Any:
        node.wait_for_channel()
        decoded = node.payer.rpc.decode(given["invoice"])
        channel = node.channel["short_channel_id"]
        amounts = {"amount_msat": given["amount_msat"], "delay": 150}
        node.payer.rpc.call(
            "sendpay",
            {
                "route": [{"id": node.id, "channel": channel, **amounts}],
                "payment_hash": decoded["payment_hash"],
                "payment_secret": decoded["payment_secret"],
                "amount_msat": AMOUNT_MSAT,
                "partid": 1,
                "groupid": 1,
            },
        )
        wait_until(lambda: _htlcs(rpc, decoded["payment_hash"]), "the HTLC")

    return send


def _send_to_double(rpc: Any, given: Json) -> Any:
    payment_hash = bolt11.payment_hash(given["invoice"])
    rpc.call("dev-hold-pay", {"payment_hash": payment_hash, "amount_msat": given["amount_msat"]})


def _htlcs(rpc: Any, payment_hash: str) -> list[Json]:
    htlcs: list[Json] = rpc.listholdinvoices(payment_hash=payment_hash)["holdinvoices"][0]["htlcs"]
    return htlcs


@pytest.fixture(scope="module")
def real(lightningd_node: PaidNode) -> dict[str, Outcome]:
    socket = str(lightningd_node.directory / "lightning-rpc")
    return run(socket, STEPS, {"send": _send(lightningd_node)})


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    directory: Path = tmp_path_factory.mktemp("double")
    with LightningdDouble(directory, PLUGIN, {"nwc-relay": "ws://127.0.0.1:1"}) as node:
        run(str(node.socket), [call("there", "dev-hold", there=True)], {})
        yield run(str(node.socket), STEPS, {"send": _send_to_double})


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_both_answer_alike(step: Step, real: dict[str, Outcome], double: dict[str, Outcome]) -> None:
    check(step, real, double)
    if step.name in STATES:
        states = {one[step.name].result["holdinvoices"][0]["state"] for one in (real, double)}
        assert states == {STATES[step.name]}
