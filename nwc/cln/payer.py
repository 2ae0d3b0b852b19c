"""Paying through lightningd: which command pays, how it is called, and what its errors mean.

Only this module names the commands that pay (`_INVOICE_COMMANDS`, `_KEYSEND_COMMANDS`). `pay` and
`keysend` come first: `xpay` and `xkeysend` have faults by which a payee, or an app, can stop the node.
They are used if the node has no other command, or if the owner chose them (`nwc-pay-command`). Since
v26.06 a payee can stop the node through `keysend` too; only the circuit breaker limits that.

An invoice of the own node needs no other command: `pay` settles it in one database transaction, `xpay`
only after a hook of other plugins, and a kill before that leaves its part pending for ever.

A command's answer is not always the end of a payment: an error can come while a part is pending, and no
answer comes if lightningd stops. `PayCommandError.is_over` says whether an error is the end; otherwise
`listsendpays` shows how the payment ended.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from nwc.cln import bolt12, offers
from nwc.cln.channels import Sendable
from nwc.cln.errors import (
    UNREADABLE,
    NodeUnavailableError,
    RpcCallError,
    RpcCode,
    translates_malformed_answers,
)
from nwc.cln.node import Bounds, Json, Node


class PayCommand(StrEnum):
    """Values of the option `nwc-pay-command`."""

    AUTO = "auto"
    PAY = "pay"
    XPAY = "xpay"


_INVOICE_COMMANDS = {
    PayCommand.AUTO: ("pay", "xpay"),
    PayCommand.PAY: ("pay",),
    PayCommand.XPAY: ("xpay",),
}
_KEYSEND_COMMANDS = {
    PayCommand.AUTO: ("keysend", "xkeysend"),
    PayCommand.PAY: ("keysend",),
    PayCommand.XPAY: ("xkeysend", "keysend"),
}
# A command that pays returns when its payment has ended: after seconds, or days if the payee holds it.
# `listsendpays` shows the end as well, so no call is kept for longer than lightningd can make new
# attempts. There are as many slots as payments can be in flight
# (nwc/wallet/spending/pending_payments.py), so that no payment waits for another.
PAYMENT_BOUNDS = Bounds(slots=256, timeout_s=600.0)

# lightningd raises these before it begins a payment.
_NOTHING_BEGUN = frozenset(
    {
        RpcCode.METHOD_NOT_FOUND,
        RpcCode.INVALID_PARAMS,
        RpcCode.PAY_INVOICE_EXPIRED,
        RpcCode.PAY_INVOICE_PREAPPROVAL_DECLINED,
        RpcCode.PAY_KEYSEND_PREAPPROVAL_DECLINED,
    }
)
# `xpay` passes on these codes of `getroutes` only before its first attempt.
_XPAY_NOTHING_BEGUN = _NOTHING_BEGUN | {RpcCode.PAY_ROUTE_NOT_FOUND, RpcCode.PAY_ROUTE_TOO_EXPENSIVE}
# How the `failreason` of an attempt of `pay` or `keysend` begins that found a route, but sent nothing.
_TOO_COSTLY = "Fee exceeds our fee budget"
# States of ended attempts in an error of `pay` or `keysend`; any other may still become a payment.
_ENDED_ATTEMPTS = ("failed", "success")

# The layers and the final CLTV that `xkeysend` itself gives to `getroutes`.
_LOCAL_LAYERS = ("auto.localchans", "auto.sourcefree")
_XKEYSEND_LAYERS = (*_LOCAL_LAYERS, "xpay")
_XKEYSEND_FINAL_CLTV = 22
# BOLT11, `c`: the default, and the lowest usual value.
_LEAST_FINAL_CLTV = 18

# How many parts one call of `listsendpays` returns: about 1 MB.
PARTS_PER_PAGE = 1000


class PayCommandError(RpcCallError):
    """A command that pays answered with an error.

    Attributes:
        is_over: True if lightningd will certainly send nothing more for this payment. False if it did
            not say so: a part may be pending, or may still begin.
        attempts: how many attempts lightningd lists.
        exceeds_fee_limit: True if it found a route, but for more than the limit on the fee.

    """

    def __init__(self, error: RpcCallError, *, is_over: bool) -> None:
        super().__init__(error.method, error.code, error.message)
        self.is_over = is_over
        self.attempts = len(_attempts(error))
        self.exceeds_fee_limit = exceeds_fee_limit(error)


@dataclass(frozen=True, slots=True)
class Sent:
    """A complete payment.

    Attributes:
        payment_hash, preimage: 64 hex digits each.
        sent_msat: the amount that left the node, fees included.

    """

    payment_hash: str
    preimage: str
    sent_msat: int


@dataclass(frozen=True, slots=True)
class Parts:
    """The state of a payment: all its parts and attempts together.

    Attributes:
        sent: the complete parts, None if no part is complete.
        is_pending: True if a part is pending.
        payment_hash: 64 hex digits; None if there is no part.

    """

    sent: Sent | None
    is_pending: bool
    payment_hash: str | None


class Payer:
    """Pays through lightningd and follows payments. Methods raise NodeError, as Node's do.

    Args:
        node: lightningd.
        pay_command: the option `nwc-pay-command`.

    """

    def __init__(self, node: Node, pay_command: PayCommand = PayCommand.AUTO) -> None:
        self._node = node
        self._invoice_commands = _INVOICE_COMMANDS[pay_command]
        self._keysend_commands = _KEYSEND_COMMANDS[pay_command]
        self._usage: dict[str, str] = {}

    async def prepare(self) -> None:
        """Look up this node's payment commands, so that paying takes a single call."""
        with suppress(RpcCallError):  # the payment itself reports it
            await self._offered(self._invoice_commands)

    async def pay_invoice(
        self,
        invoice: str,
        *,
        amount_msat: int | None,
        max_fee_msat: int,
        retry_for_s: int,
        label: str,
        blinded_fee_msat: int = 0,
    ) -> Json:
        """Pay an invoice and return lightningd's answer, which may take minutes.

        Args:
            invoice: BOLT11 or BOLT12.
            amount_msat: only for an invoice without an amount.
            max_fee_msat: the limit on the fee.
            retry_for_s: seconds in which lightningd may begin new attempts.
            label: stored with the payment if the command takes one; names its reservations.
            blinded_fee_msat: the part of the fee that the payee of a BOLT12 invoice sets, at most
                `max_fee_msat`.

        Raises:
            PayCommandError: lightningd answered with an error.
            NodeUnavailableError: no answer; lightningd may be paying.

        """

        async def pay() -> Json:
            # lightningd redirects `pay` to `xpay` (xpay-handle-pay, the default from v26.06 on), but not
            # with more than two positional parameters. They are invoice, amount_msat, label, riskfactor,
            # maxfeepercent, retry_for, maxdelay, exemptfee, localinvreqid, exclude and maxfee.
            # `pay` counts the fee of a blinded path as a part of the amount, `xpay` does not.
            maxfee = max_fee_msat - blinded_fee_msat
            given = [invoice, amount_msat, label, None, None, retry_for_s, *[None] * 4, maxfee]
            return await self._node.call_within(PAYMENT_BOUNDS, "pay", given)

        async def xpay() -> Json:
            if invoice.startswith(bolt12.PREFIX):
                await self._check_blinded_paths(invoice)
            has_label = "label" in await self._parameters("xpay")
            given = {
                "invstring": invoice,
                "amount_msat": amount_msat,
                "maxfee": max_fee_msat,
                "retry_for": retry_for_s,
                "label": label if has_label else None,
            }
            return await self._node.call_within(PAYMENT_BOUNDS, "xpay", given, name=label)

        return await self._first_that_runs(self._invoice_commands, {"pay": pay, "xpay": xpay})

    @translates_malformed_answers
    async def _check_blinded_paths(self, invoice: str) -> None:
        """Raise RpcCallError if a blinded path of a BOLT12 invoice begins at the own node.

        The payee says there what this node shall forward. If that is less than what is to arrive, `xpay`
        stops lightningd.
        """
        paths: list[Json] = (await self.decode(invoice))["invoice_paths"]
        begins = {path.get("first_node_id") or path["first_scid"] for path in paths}
        own = {(await self._node.info())["id"], *await self._node.short_channel_ids()}
        if begins & own:
            raise RpcCallError("xpay", RpcCode.PAY_ROUTE_NOT_FOUND, "a blinded path begins at this node")

    async def can_keysend(self) -> bool:
        """Return True if the node has a keysend command that takes a limit on the fee."""
        return bool(await self._offered(self._keysend_commands))

    async def keysend(
        self,
        destination: str,
        *,
        amount_msat: int,
        max_fee_msat: int,
        retry_for_s: int,
        label: str,
        tlvs: dict[str, str],
    ) -> Json:
        """Send a spontaneous payment and return lightningd's answer, which may take minutes.

        Args:
            destination: node id, 66 hex digits.
            amount_msat: what the payee gets.
            max_fee_msat: the limit on the fee.
            retry_for_s: seconds in which lightningd may begin new attempts.
            label: finds its parts again; names its reservations.
            tlvs: further records for the payee: type in decimal digits, value in hex digits.

        Raises:
            PayCommandError: lightningd answered with an error.
            NodeUnavailableError: no answer; lightningd may be paying.

        """
        common = {
            "destination": destination,
            "amount_msat": amount_msat,
            "maxfee": max_fee_msat,
            "label": label,
            "extratlvs": tlvs or None,
        }

        async def keysend() -> Json:
            given = {**common, "retry_for": retry_for_s}
            return await self._node.call_within(PAYMENT_BOUNDS, "keysend", given, name=label)

        async def xkeysend() -> Json:
            # `xkeysend` crashes lightningd if it splits a payment, which it does if no single path
            # carries it. So there must be such a path, and retry_for=0 prevents a second attempt, which
            # might find none.
            await self._check_single_path(destination, amount_msat, max_fee_msat)
            given = {**common, "retry_for": 0}
            return await self._node.call_within(PAYMENT_BOUNDS, "xkeysend", given, name=label)

        runs = {"keysend": keysend, "xkeysend": xkeysend}
        return await self._first_that_runs(self._keysend_commands, runs)

    async def _check_single_path(self, destination: str, amount_msat: int, max_fee_msat: int) -> None:
        """Raise RpcCallError if `xkeysend` would find no single path."""
        await self._get_routes(
            destination,
            amount_msat,
            max_fee_msat,
            layers=list(_XKEYSEND_LAYERS),
            final_cltv=_XKEYSEND_FINAL_CLTV,
            maxparts=1,
        )

    async def lack_of_route(
        self, destination: str, amount_msat: int, max_fee_msat: int
    ) -> RpcCallError | None:
        """Return lightningd's error if it is certain that no set of paths can carry a payment.

        Return None if that is unknown: only a route hint leads to the payee, or askrene is not there.

        Args:
            destination: node id, 66 hex digits.
            amount_msat: what the payee gets.
            max_fee_msat: the limit on the fee.

        """
        if not (await self._node.call("listnodes", id=destination)).get("nodes"):
            return None
        try:
            await self._get_routes(
                destination,
                amount_msat,
                max_fee_msat,
                layers=list(_LOCAL_LAYERS),
                final_cltv=_LEAST_FINAL_CLTV,
            )
        except RpcCallError as error:
            no_route = (RpcCode.PAY_ROUTE_NOT_FOUND, RpcCode.PAY_ROUTE_TOO_EXPENSIVE)
            return error if error.code in no_route else None
        return None

    async def _get_routes(
        self, destination: str, amount_msat: int, max_fee_msat: int, **params: Any
    ) -> None:
        own = await self._node.info()
        await self._node.call(
            "getroutes",
            source=own["id"],
            destination=destination,
            amount_msat=amount_msat,
            maxfee_msat=max_fee_msat,
            **params,
        )

    async def _first_that_runs(
        self, commands: tuple[str, ...], runs: Mapping[str, Callable[[], Awaitable[Json]]]
    ) -> Json:
        """Run the first command that lightningd accepts, and return its answer.

        `help` also lists commands that lightningd rejects as deprecated (allow-deprecated-apis=false).
        """
        missing: RpcCallError = RpcCallError(commands[0], RpcCode.METHOD_NOT_FOUND, "no such command")
        for command in await self._offered(commands):
            try:
                return await runs[command]()
            except RpcCallError as error:
                if error.code != RpcCode.METHOD_NOT_FOUND:
                    raise PayCommandError(error, is_over=_is_over(command, error)) from None
                missing = error
        raise PayCommandError(missing, is_over=True)

    @translates_malformed_answers
    async def release_reservations(self, label: str) -> None:
        """Release what `xpay` or `xkeysend` left reserved in askrene for an ended payment.

        They leave it if a path does not fit into the onion. It stays reserved until lightningd restarts.
        For other commands this finds nothing.

        Args:
            label: of a payment that has no pending part and can begin none.

        """
        listed = (await self._node.call("askrene-listreservations"))["reservations"]
        path = [
            {"short_channel_id_dir": one["short_channel_id_dir"], "amount_msat": one["amount_msat"]}
            for one in listed
            if label in str(one.get("command_id"))
        ]
        if path:
            await self._node.call("askrene-unreserve", path=path)

    @translates_malformed_answers
    async def history_of(self, payment_hash: str) -> Parts:
        """Return the state of all attempts that the node ever made to pay this hash."""
        listed = await self._node.call("listsendpays", payment_hash=payment_hash)
        return _merged(_payments(listed))

    @translates_malformed_answers
    async def has_begun(self, first_index: int, *, payment_hash: str | None, label: str) -> bool:
        """Return True if lightningd has begun a part of a payment, whatever became of the part.

        Args:
            first_index: the lowest `created_index` that a part of it can have.
            payment_hash: 64 hex digits; None for a keysend, whose parts are found by the label.
            label: of the payment.

        """
        if payment_hash is None:
            return await self.hash_of(first_index, label) is not None
        listed = await self._node.call("listsendpays", payment_hash=payment_hash)
        return any(part["created_index"] >= first_index for part in _payments(listed))

    @translates_malformed_answers
    async def parts(self, first_index: int, *, payment_hash: str | None, label: str) -> Parts:
        """Return the state of a payment.

        Failed parts are left out: there can be thousands, and they change nothing.

        Args:
            first_index: the lowest `created_index` that a part of it can have.
            payment_hash: 64 hex digits; None for a keysend, whose parts are found by the label.
            label: of the payment.

        """
        own = partial(_is_own, payment_hash=payment_hash, label=label)
        # In this order: a part that completes in between counts as pending, and is looked up again.
        pending = [part async for part in self._listed("pending", first_index) if own(part)]
        complete = [part async for part in self._listed("complete", first_index) if own(part)]
        return _merged([*pending, *complete])

    async def hash_of(self, first_index: int, label: str) -> str | None:
        """Return the payment hash of the payment with this label; None if it has no part.

        Args:
            first_index: the lowest `created_index` that a part of it can have.
            label: of the payment.

        """
        for status in ("pending", "complete", "failed"):
            for part in await self._page(status, first_index):
                if part.get("label") == label:
                    return str(part["payment_hash"])
        return None

    async def completed(self, first_index: int) -> AsyncIterator[Json]:
        """Yield all complete parts on this node, as `listsendpays` shows them, by `created_index`.

        Args:
            first_index: the lowest `created_index` to begin with.

        """
        async for part in self._listed("complete", first_index):
            yield part

    async def oldest_pending_index(self) -> int | None:
        """Return the lowest `created_index` of the node's pending parts, None if none is pending."""
        pending = await self._page("pending", 0)
        return int(pending[0]["created_index"]) if pending else None

    async def _listed(self, status: str, first_index: int) -> AsyncIterator[Json]:
        while True:
            page = await self._page(status, first_index)
            for part in page:
                yield part
            if len(page) < PARTS_PER_PAGE:
                return
            first_index = int(page[-1]["created_index"]) + 1

    @translates_malformed_answers
    async def _page(self, status: str, first_index: int) -> list[Json]:
        listed = await self._node.call(
            "listsendpays", status=status, index="created", start=first_index, limit=PARTS_PER_PAGE
        )
        return _payments(listed)

    @translates_malformed_answers
    async def next_sendpay_index(self) -> int:
        """Return the lowest `created_index` that a part of a payment can get from now on."""
        answer = await self._node.call("wait", subsystem="sendpays", indexname="created", nextvalue=0)
        return int(answer["created"]) + 1

    async def sendable(self) -> Sendable:
        """Return how much the node can send now."""
        return await self._node.sendable()

    @translates_malformed_answers
    async def own_invoice_status(self, payment_hash: str) -> str | None:
        """Return the status of an invoice of this node: unpaid, paid or expired; None without one."""
        invoice = await self._node.invoice_by_payment_hash(payment_hash)
        return None if invoice is None else str(invoice["status"])

    async def fetch_invoice(self, offer: str, *, amount_msat: int | None, payer_note: str | None) -> str:
        """Return the invoice that the issuer of a BOLT12 offer makes; see `offers.fetch_invoice`."""
        return await offers.fetch_invoice(
            self._node, offer, amount_msat=amount_msat, payer_note=payer_note
        )

    async def proof_of(self, invoice: str) -> str | None:
        """Return the payer proof of a paid BOLT12 invoice, None without one. Never raises NodeError."""
        return await offers.payer_proof(self._node, invoice)

    async def decode(self, invoice: str) -> Json:
        """Return the answer of `decode` for an invoice or an offer."""
        decoded: Json = await self._node.call("decode", string=invoice)
        return decoded

    async def _offered(self, commands: tuple[str, ...]) -> list[str]:
        """Return the commands that this node has and that take a limit on the fee."""
        return [command for command in commands if "maxfee" in await self._parameters(command)]

    async def _parameters(self, command: str) -> frozenset[str]:
        """Return the parameters that `help` names for a command; none if there is no such command."""
        usage = self._usage.get(command) or await self._usage_of(command)
        if usage:  # a missing command may come later: lightningd starts plugins in no order
            self._usage[command] = usage
        return frozenset(re.findall(r"\w+", usage))

    @translates_malformed_answers
    async def _usage_of(self, command: str) -> str:
        try:
            answer = await self._node.call("help", command=command)
        except RpcCallError:
            return ""
        usage: str = answer["help"][0]["command"]
        return usage


def exceeds_fee_limit(error: RpcCallError) -> bool:
    """Return True if lightningd found a route, but for more than the limit on the fee."""
    if error.code == RpcCode.PAY_ROUTE_TOO_EXPENSIVE:
        return "excessive delays" not in error.message
    if error.code == RpcCode.PAY_ROUTE_NOT_FOUND:  # before v26.06 also if it is the fee
        return "excessive cost" in error.message
    return any(str(one.get("failreason")).startswith(_TOO_COSTLY) for one in _attempts(error))


def _is_over(command: str, error: RpcCallError) -> bool:
    """Return True if this error is certainly the end of the payment."""
    if command in ("xpay", "xkeysend"):
        return error.code in _XPAY_NOTHING_BEGUN
    # `pay` and `keysend` end when all their attempts have ended, or at once if the payee rejects one:
    # then the others may be pending. Either `status` or `attempts` beside the code shows which it is.
    return (
        error.code in _NOTHING_BEGUN
        or error.details.get("status") == "failed"
        or _have_all_ended(_attempts(error))
    )


def _attempts(error: RpcCallError) -> list[Json]:
    """Return the attempts that an error of `pay` or `keysend` lists."""
    attempts = error.details.get("attempts")
    if not isinstance(attempts, list) or not all(isinstance(one, dict) for one in attempts):
        return []
    return attempts


def _have_all_ended(attempts: list[Json]) -> bool:
    # An attempt that was split stays "pending" for ever; its parts show its state.
    split = {one.get("parent_partid") for one in attempts}
    ends = [one.get("status") for one in attempts if one.get("partid") not in split - {None}]
    return bool(ends) and all(status in _ENDED_ATTEMPTS for status in ends)


def _is_own(part: Json, *, payment_hash: str | None, label: str) -> bool:
    return bool(
        part.get("label") == label if payment_hash is None else part["payment_hash"] == payment_hash
    )


def _payments(listed: Json) -> list[Json]:
    """Return the parts in an answer of `listsendpays`.

    Raises:
        NodeUnavailableError: the answer is unreadable; it may hide a payment.

    """
    payments = listed.get("payments")
    if not isinstance(payments, list) or not all(isinstance(part, dict) for part in payments):
        raise NodeUnavailableError("listsendpays: unreadable answer")
    return payments


def _merged(parts: list[Json]) -> Parts:
    """Return the state of a payment from its parts.

    Raises:
        NodeUnavailableError: a part is unreadable; it may hide a payment.

    """
    try:
        complete = [part for part in parts if part["status"] == "complete"]
        return Parts(
            sent=_sent(complete),
            is_pending=any(part["status"] == "pending" for part in parts),
            payment_hash=parts[0]["payment_hash"] if parts else None,
        )
    except UNREADABLE as error:
        raise NodeUnavailableError(f"listsendpays: {type(error).__name__}") from error


def _sent(complete: list[Json]) -> Sent | None:
    if not complete:
        return None
    preimages: list[str] = [p["payment_preimage"] for p in complete if p.get("payment_preimage")]
    return Sent(
        payment_hash=complete[0]["payment_hash"],
        preimage=preimages[0],
        sent_msat=sum(int(part["amount_sent_msat"]) for part in complete),
    )
