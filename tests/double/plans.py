"""Plans for the course of payments (dev-payment-plan), and payable invoices of other nodes."""

import hashlib
import json
import secrets
import time
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from tests.double import bolt11, params
from tests.double.bolt11 import Bolt11
from tests.double.invoices import FEATURES
from tests.double.jsonio import Json, token
from tests.double.params import BadParam, RpcError, opt
from tests.double.state import State

if TYPE_CHECKING:
    from tests.double.node import Node

NEXT = "next"
_FAILURES = ("fail", "error_while_pending", "error_in_route")
PLANS = "payment_plans"


@dataclass(frozen=True)
class Failure:
    """The error of a failed payment.

    Attributes:
        code: of the error.
        message: of the error.
        rows: True if the payment leaves failed parts in sendpays.

    """

    code: int
    message: str
    rows: bool = True

    def as_error(self) -> RpcError:
        """Return the error that the caller gets."""
        return RpcError(self.code, self.message)


@dataclass(frozen=True)
class Plan:
    """The planned course of one payment.

    Attributes:
        fee_msat: its fee; None for that of a channel with base 1 msat and 10 ppm.
        parts: its number of parts.
        hold_route: it stays in the route search, without a row in sendpays, until it is released.
        hold: its parts stay pending until it is released.
        answer_early: the command succeeds with the first part, and the others stay pending.
        fail: it fails with this error.
        error_while_pending: the command fails; of several parts, all but the last stay pending.
        error_in_route: the command fails during the route search; the payment continues when released.

    """

    fee_msat: int | None = None
    parts: int = 1
    hold_route: bool = False
    hold: bool = False
    answer_early: bool = False
    fail: Failure | None = None
    error_while_pending: Failure | None = None
    error_in_route: Failure | None = None


def take(state: State, payment_hash: bytes) -> Plan:
    """Remove and return the plan for a payment: that for its hash, else that for the next payment."""
    plans = _plans(state)
    plan = plans.pop(payment_hash.hex(), None) or plans.pop(NEXT, None)
    state.put(PLANS, json.dumps(plans))
    if plan is None:
        return Plan()
    failures = {n: plan[n] and Failure(**plan[n]) for n in _FAILURES}
    return Plan(**{**plan, **failures})


def dev_payment_plan(node: "Node", payment_hash: bytes | None, **plan: Json) -> Json:
    """Set the plan for the payment of a hash, or for the next payment."""
    given = {name: value for name, value in plan.items() if value is not None}
    name = payment_hash.hex() if payment_hash else NEXT
    plans = {**_plans(node.state), name: asdict(Plan(**given))}
    node.state.put(PLANS, json.dumps(plans))
    return {"plans": plans}


def _plans(state: State) -> dict[str, Any]:
    plans: dict[str, Any] = json.loads(str(state.get(PLANS) or "{}"))
    return plans


def dev_foreign_invoice(
    node: "Node",
    amount_msat: int,
    description: str,
    description_hash: bytes | None,
    expiry: int,
    created_at: int | None,
    network: str | None,
    preimage: bytes | None,
) -> Json:
    """Make an invoice of another node that we can pay."""
    preimage = preimage or secrets.token_bytes(32)
    content = Bolt11(
        currency=bolt11.CURRENCIES[network or node.settings.network],
        created_at=int(time.time()) if created_at is None else created_at,
        payment_hash=hashlib.sha256(preimage).digest(),
        payment_secret=bolt11.invoice_secret(preimage),
        amount_msat=amount_msat or None,
        description=description,
        description_hash=description_hash,
        expiry=expiry,
        features=FEATURES,
    )
    invoice = bolt11.encode(content, secrets.token_bytes(32))
    keep_preimage(node.state, preimage)
    return {
        "bolt11": invoice,
        "payment_hash": content.payment_hash.hex(),
        "payment_preimage": preimage.hex(),
        "payee": bolt11.decode(invoice).payee.hex(),
    }


def keep_preimage(state: State, preimage: bytes) -> None:
    """Store a preimage, which makes its payment possible."""
    row = (hashlib.sha256(preimage).digest(), preimage)
    state.db.execute("INSERT OR REPLACE INTO preimages VALUES (?, ?)", row)


def preimage_of(state: State, payment_hash: bytes) -> bytes | None:
    """Return a stored preimage; None if it is unknown."""
    query = "SELECT preimage FROM preimages WHERE payment_hash = ?"
    row = state.db.execute(query, (payment_hash,)).fetchone()
    preimage: bytes | None = row and row["preimage"]
    return preimage


def _failure(name: str, value: Json) -> Failure:
    try:
        return Failure(**value)
    except TypeError:
        listed = ", ".join(field.name for field in fields(Failure))
        raise BadParam(name, f"should be an object with {listed}", value) from None


def _network(name: str, value: Json) -> str:
    network = bolt11.NETWORKS.get(value, value)
    if network not in bolt11.CURRENCIES:
        raise BadParam(name, "should be a network or its prefix", value)
    return token(network)


COMMANDS = {
    "dev-payment-plan": (
        dev_payment_plan,
        opt("payment_hash", params.hash32),
        opt("fee_msat", params.msat),
        opt("parts", params.u32),
        opt("hold_route", params.boolean),
        opt("hold", params.boolean),
        opt("answer_early", params.boolean),
        opt("fail", _failure),
        opt("error_while_pending", _failure),
        opt("error_in_route", _failure),
    ),
    "dev-foreign-invoice": (
        dev_foreign_invoice,
        opt("amount_msat", params.msat, 0),
        opt("description", params.text, "of another"),
        opt("description_hash", params.hash32),
        opt("expiry", params.u64, 3600),
        opt("created_at", params.u64),
        opt("network", _network),
        opt("preimage", params.preimage),
    ),
}
