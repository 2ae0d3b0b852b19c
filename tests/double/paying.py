"""The life of a payment: the route search, pending parts, their end, the answer.

After plugins/xpay/xpay.c and check_progress in lightningd/pay.c. A payment continues when its caller
has gone. Its parts are in the database, so they survive a restart. A payment that is still in the
route search is then lost, as in lightningd.
"""

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tests.double import channels, invoices, plans, sendpays
from tests.double.jsonio import Json, dumps
from tests.double.params import PLUGIN_ERROR, RpcError
from tests.double.plans import Plan

if TYPE_CHECKING:
    from tests.double.node import Node

IN_PROGRESS = 200
RHASH_ALREADY_USED = 201
DESTINATION_PERM_FAIL = 203
ROUTE_NOT_FOUND = 205
ROUTE_TOO_EXPENSIVE = 206
UNSPECIFIED_ERROR = 209
ALREADY_PAID = 219
ALREADY_PAID_BEFORE_26_06 = 218

UNKNOWN_DESTINATION = "Unknown destination"
UNKNOWN_TO_PAYEE = "Destination said it doesn't know invoice: incorrect_or_unknown_payment_details"


class Style(Protocol):
    """How one of the commands answers.

    Attributes:
        numbers_single_part: True if a single part has the partid 1, not 0.
        looks_for_complete_first: True if a complete part of any partid means that the payment is made.
        settles_own_at_once: True if an own invoice is paid in one transaction, whatever the plan.

    """

    numbers_single_part: bool
    looks_for_complete_first: bool
    settles_own_at_once: bool

    def success(self, payment: "Payment", rows: Sequence[sqlite3.Row]) -> Json:
        """Return the answer for a payment with these parts."""

    def already_paid(self, payment: "Payment", rows: Sequence[sqlite3.Row]) -> Json:
        """Return the answer, or raise RpcError, if these parts have paid it before."""

    def failure(self, payment: "Payment", error: RpcError, *, is_pending: bool) -> RpcError:
        """Return the error as this command shows it; `is_pending` if a part is or may become pending."""


@dataclass(frozen=True)
class Payment:
    """One call of a command that pays."""

    style: Style
    payment_hash: bytes
    destination: bytes
    amount_msat: int
    maxfee_msat: int
    label: str | None
    bolt11: str | None = None
    bolt12: str | None = None
    # The part of the fee that the payee of a BOLT12 invoice sets.
    blinded_fee_msat: int = 0
    groupid: int = field(default_factory=lambda: secrets.randbits(62))
    started_at: float = field(default_factory=time.time)
    # The payee's error, whatever the plan.
    refusal: RpcError | None = None


@dataclass(frozen=True)
class Held:
    """A payment that waits for dev-payment-release."""

    payment: Payment
    plan: Plan
    answer: asyncio.Future[Json]


class Payer:
    """All payments in flight."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._in_route: dict[bytes, Held] = {}
        self._pending: dict[bytes, Held] = {}

    def pay(self, payment: Payment) -> asyncio.Future[Json]:
        """Begin a payment and return its answer; the payment continues if nobody awaits that."""
        answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda a: a.cancelled() or a.exception())
        plan = plans.take(self._node.state, payment.payment_hash)
        self._node.state.commit("sendpay")  # before a log line lets a test kill us
        held = Held(payment, plan, answer)
        if plan.hold_route or plan.error_in_route:
            self._in_route[payment.payment_hash] = held
            if plan.error_in_route:
                _refuse(held, plan.error_in_route.as_error(), is_pending=True)
            self._log(payment, "held in the route search")
        else:
            self._continue(held)
        return answer

    def is_paying(self, payment_hash: bytes) -> bool:
        """Return True if a payment of this hash is in the route search or held pending."""
        return payment_hash in self._in_route or payment_hash in self._pending

    def held(self) -> list[tuple[bytes, str]]:
        """Return the payment hashes of all held payments, each with `route` or `pending`."""
        query = "SELECT DISTINCT payment_hash FROM sendpays WHERE status = 'pending'"
        pending = [row["payment_hash"] for row in self._node.state.db.execute(query)]
        return [*((h, "route") for h in self._in_route), *((h, "pending") for h in pending)]

    def release(self, payment_hash: bytes, preimage: bytes | None, error: RpcError) -> str:
        """Release a held payment, from the route search or from pending to its end.

        Args:
            payment_hash: the payment's.
            preimage: completes its pending parts; None makes them fail.
            error: the answer of the command if they fail.

        Returns:
            The state the payment was in: `route`, `pending` or `nowhere`.

        """
        if held := self._in_route.pop(payment_hash, None):
            self._continue(held)
            return "route"
        rows = sendpays.of_hash(self._node.state, payment_hash)
        pending = [row for row in rows if row["status"] == "pending"]
        self._resolve(pending, preimage)
        if held := self._pending.pop(payment_hash, None):
            self._answer(held, error if preimage is None else None)
        return "pending" if pending else "nowhere"

    def _continue(self, held: Held) -> None:
        payment, plan = held.payment, held.plan
        try:
            fee_msat = self._find_route(payment, plan)
            if (paid := self._check_progress(payment, plan)) is not None:
                _set(held.answer, payment.style.already_paid(payment, paid))
                return
        except RpcError as error:
            _refuse(held, error)
            return
        if self._is_own(payment) and payment.style.settles_own_at_once:
            self._settle_own(held)
            return
        if plan.fail and not plan.fail.rows:
            _refuse(held, plan.fail.as_error())
            return
        self._send(held, fee_msat)

    def _is_own(self, payment: Payment) -> bool:
        return payment.destination.hex() == self._node.id

    def _settle_own(self, held: Held) -> None:
        """Pay an own invoice, as lightningd's `sendpay` without a route does."""
        payment = held.payment
        self._add_parts(payment, Plan(), 0)
        [row] = self._own_rows(payment)
        refusal = self._own_refusal(payment)
        if refusal is None:
            self._resolve([row], self._preimage(payment))
            self._answer(held, None)
        else:
            sendpays.resolve(self._node.state, row["id"], None, has_onion=False)
            if not held.answer.done():
                held.answer.set_exception(_unknown_own_invoice(row))
        self._node.state.commit("sendpay")

    def _find_route(self, payment: Payment, plan: Plan) -> int:
        """Return the fee in msat.

        Raises:
            RpcError: the payee is unknown, the channels have too little, or the fee is over maxfee.

        """
        if self._is_own(payment):
            return 0
        if plans.preimage_of(self._node.state, payment.payment_hash) is None:
            message = f"Failed: {UNKNOWN_DESTINATION} node {payment.destination.hex()}"
            if payment.bolt12 is not None:  # behind a blinded path
                message = "Failed: We could not find a usable set of paths."
            raise RpcError(ROUTE_NOT_FOUND, message)
        default = 1 + payment.amount_msat * 10 // 1_000_000
        fee_msat = default if plan.fee_msat is None else plan.fee_msat
        fee_msat += payment.blinded_fee_msat
        spendable = channels.spendable_msat(self._node)
        if spendable is not None and spendable < payment.amount_msat + fee_msat:
            message = (
                "Failed: We could not find a usable set of paths. Total source capacity is only"
                f" {spendable}msat (in 1 channels)."
            )
            raise RpcError(ROUTE_NOT_FOUND, message)
        if fee_msat > payment.maxfee_msat:
            message = "Failed: Could not find route without excessive cost"
            raise RpcError(ROUTE_TOO_EXPENSIVE, message)
        return fee_msat

    def _check_progress(self, payment: Payment, plan: Plan) -> list[sqlite3.Row] | None:
        """Return the complete parts if it is paid already, None if it can be paid.

        Raises:
            RpcError: another payment of this hash is in flight, or has paid in another way.

        """
        rows = sendpays.of_hash(self._node.state, payment.payment_hash)
        complete = [row for row in rows if row["status"] == "complete"]
        if complete and payment.style.looks_for_complete_first:
            return complete
        for row in rows:
            if row["status"] == "complete" and row["partid"] == _first_partid(payment, plan):
                paid, asked = row["amount_msat"], _amounts(payment, plan.parts)[0]
                if paid == asked:
                    return complete
                message = f"Already succeeded with amount {paid}msat (not {asked}msat)"
                raise _inject_error(RHASH_ALREADY_USED, message)
            if row["status"] == "pending":
                message = (
                    f"Payment with groupid={row['groupid']} still in progress, cannot retry before"
                    " that completes."
                )
                raise _inject_error(IN_PROGRESS, message)
        if complete:
            raise _inject_error(RHASH_ALREADY_USED, "Already succeeded other parts")
        return None

    def _send(self, held: Held, fee_msat: int) -> None:
        payment, plan = held.payment, held.plan
        self._add_parts(payment, plan, fee_msat)
        self._node.state.commit("sendpay")
        rows = self._own_rows(payment)
        if plan.hold:
            self._pending[payment.payment_hash] = held
            self._log(payment, "held pending")
        elif plan.error_while_pending:
            self._resolve(rows[1:][-1:], None)
            _refuse(held, plan.error_while_pending.as_error(), is_pending=True)
            self._log(payment, "held pending after the answer")
        elif plan.fail:
            self._resolve(rows, None)
            _refuse(held, plan.fail.as_error())
        else:
            self._deliver(held, rows)

    def _deliver(self, held: Held, rows: list[sqlite3.Row]) -> None:
        payment = held.payment
        refusal = payment.refusal or self._own_refusal(payment)
        preimage = None if refusal else self._preimage(payment)
        self._resolve(rows[:1] if held.plan.answer_early and preimage else rows, preimage)
        self._answer(held, refusal)

    def _answer(self, held: Held, error: RpcError | None) -> None:
        if error:
            _refuse(held, error)
        else:
            _set(held.answer, held.payment.style.success(held.payment, self._own_rows(held.payment)))

    def _own_refusal(self, payment: Payment) -> RpcError | None:
        """Return our error as the payee if we have no unpaid invoice for the payment, else None."""
        if not self._is_own(payment):
            return None
        query = "SELECT 1 FROM invoices WHERE payment_hash = ? AND status = 'unpaid'"
        is_unpaid = self._node.state.db.execute(query, (payment.payment_hash,)).fetchone()
        return None if is_unpaid else RpcError(DESTINATION_PERM_FAIL, UNKNOWN_TO_PAYEE)

    def _preimage(self, payment: Payment) -> bytes:
        """Return the preimage. If the invoice is our own, mark it as paid first."""
        if self._is_own(payment):
            label = None if payment.bolt12 is None else self._label_of(payment.payment_hash)
            paid = invoices.pay(self._node, payment.bolt11, label, payment.amount_msat)
            plans.keep_preimage(self._node.state, paid["preimage"])
        preimage = plans.preimage_of(self._node.state, payment.payment_hash)
        assert preimage
        return preimage

    def _label_of(self, payment_hash: bytes) -> str:
        query = "SELECT label FROM invoices WHERE payment_hash = ?"
        return str(self._node.state.db.execute(query, (payment_hash,)).fetchone()["label"])

    def _add_parts(self, payment: Payment, plan: Plan, fee_msat: int) -> None:
        """Store the parts as pending; the first carries the whole fee."""
        for number, amount in enumerate(_amounts(payment, plan.parts)):
            sent = amount + fee_msat if number == 0 else amount
            row = {
                "payment_hash": payment.payment_hash,
                "groupid": payment.groupid,
                "partid": _first_partid(payment, plan) + number,
                "amount_msat": amount,
                "amount_sent_msat": sent,
                "destination": payment.destination,
                "label": payment.label,
                "bolt11": payment.bolt11,
                "bolt12": payment.bolt12,
            }
            sendpays.add(self._node.state, row)
            if not self._is_own(payment):
                channels.take(self._node, sent)

    def _resolve(self, rows: Sequence[sqlite3.Row], preimage: bytes | None) -> None:
        for row in rows:
            sendpays.resolve(self._node.state, row["id"], preimage)
            if preimage is None and row["destination"] != bytes.fromhex(self._node.id):
                channels.give_back(self._node, row["amount_sent_msat"])

    def _own_rows(self, payment: Payment) -> list[sqlite3.Row]:
        rows = sendpays.of_hash(self._node.state, payment.payment_hash)
        return [row for row in rows if row["groupid"] == payment.groupid]

    def _log(self, payment: Payment, event: str) -> None:
        self._node.log.add("info", "payments", f"payment {payment.payment_hash.hex()}: {event}")


def _first_partid(payment: Payment, plan: Plan) -> int:
    return 1 if payment.style.numbers_single_part or plan.parts > 1 else 0


def _amounts(payment: Payment, parts: int) -> list[int]:
    """Return the amounts of the parts in msat; the first also has the remainder."""
    each = payment.amount_msat // parts
    return [payment.amount_msat - each * (parts - 1), *[each] * (parts - 1)]


def _unknown_own_invoice(row: sqlite3.Row) -> RpcError:
    """Return the error of `pay` for an own invoice that takes no payment; it says "pending"."""
    node = row["destination"].hex()
    failure = {
        "erring_index": 0,
        "failcode": 0x400F,
        "failcodename": "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS",
        "erring_node": node,
    }
    message = f"Unknown invoice {row['payment_hash'].hex()}"
    return RpcError(DESTINATION_PERM_FAIL, message, {**sendpays.as_json(row), **failure})


def _inject_error(code: int, message: str) -> RpcError:
    """Return an error of injectpaymentonion in the form xpay gives to unexpected ones."""
    shown = dumps({"code": code, "message": message}).decode().strip()
    return RpcError(PLUGIN_ERROR, f"Unexpected injectpaymentonion error {code}: {shown}")


def _set(answer: asyncio.Future[Json], result: Json) -> None:
    if not answer.done():
        answer.set_result(result)


def _refuse(held: Held, error: RpcError, *, is_pending: bool = False) -> None:
    if not held.answer.done():
        failure = held.payment.style.failure(held.payment, error, is_pending=is_pending)
        held.answer.set_exception(failure)
