"""Paying through lightningd: which command pays, how it is called, and what its errors mean.

Only this module decides which command pays (`_INVOICE_COMMANDS`, `_KEYSEND_COMMANDS`). `pay` and
`keysend` come first: `xpay` and `xkeysend` have faults by which a payee, or an app, can stop the node.
They are used where the node has nothing else, or where the owner chose them (`nwc-pay-command`).

A command's answer is not always the end of a payment: an error can come while a part is pending, and no
answer comes when lightningd stops. `PayCommandError.is_over` says when an error is the end; otherwise
`listsendpays` tells.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from nwc.cln.channels import Sendable
from nwc.cln.errors import UNREADABLE, NodeUnavailableError, RpcCallError, RpcCode, reads_answer
from nwc.cln.node import Json, Node


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

# lightningd raises these before it begins with a payment.
_NOTHING_BEGUN = frozenset(
    {
        RpcCode.METHOD_NOT_FOUND,
        RpcCode.INVALID_PARAMS,
        RpcCode.PAY_INVOICE_EXPIRED,
        RpcCode.PAY_INVOICE_PREAPPROVAL_DECLINED,
        RpcCode.PAY_KEYSEND_PREAPPROVAL_DECLINED,
    }
)
# `xpay` passes on these codes of `getroutes` only while it has made no attempt at all.
_XPAY_NOTHING_BEGUN = _NOTHING_BEGUN | {RpcCode.PAY_ROUTE_NOT_FOUND, RpcCode.PAY_ROUTE_TOO_EXPENSIVE}
# The attempts that `pay` and `keysend` list in an error; any other state may still become a payment.
_ENDED_ATTEMPTS = ("failed", "success")

# The layers and the final CLTV that `xkeysend` itself gives to `getroutes`.
_LOCAL_LAYERS = ("auto.localchans", "auto.sourcefree")
_XKEYSEND_LAYERS = (*_LOCAL_LAYERS, "xpay")
_XKEYSEND_FINAL_CLTV = 22
# BOLT11, `c`: the default, and the least that is usual.
_LEAST_FINAL_CLTV = 18

# Parts that one `listsendpays` returns: about 1 MB.
PARTS_PER_PAGE = 1000


class PayCommandError(RpcCallError):
    """A paying command answered with an error.

    Attributes:
        is_over: True if lightningd is certain to send nothing more for this payment. False if it did not
            say so: then a part may be pending, or may still begin.
        attempts: how many attempts lightningd made, as far as it says so.

    """

    def __init__(self, error: RpcCallError, *, is_over: bool) -> None:
        super().__init__(error.method, error.code, error.message)
        self.is_over = is_over
        self.attempts = len(_attempts(error))


@dataclass(frozen=True, slots=True)
class Sent:
    """A complete payment.

    Attributes:
        payment_hash, preimage: 64 hex digits each.
        sent_msat: what left the node, fees included.

    """

    payment_hash: str
    preimage: str
    sent_msat: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Where a payment stands: all its parts and attempts together.

    Attributes:
        sent: what is complete, None when nothing is.
        is_pending: whether a part is still under way.
        payment_hash: 64 hex digits; None when there is no part at all.

    """

    sent: Sent | None
    is_pending: bool
    payment_hash: str | None


class Payer:
    """Pays. Methods raise NodeError, as those of Node do.

    Args:
        node: lightningd.
        pay_command: which command pays.

    """

    def __init__(self, node: Node, pay_command: PayCommand = PayCommand.AUTO) -> None:
        self._node = node
        self._invoice_commands = _INVOICE_COMMANDS[pay_command]
        self._keysend_commands = _KEYSEND_COMMANDS[pay_command]
        self._usage: dict[str, str] = {}

    async def prepare(self) -> None:
        """Find out what this node pays with: then giving the command needs no other call."""
        with suppress(RpcCallError):  # it will be said where it is needed
            await self._offered(self._invoice_commands)

    async def pay_invoice(
        self, invoice: str, *, amount_msat: int | None, max_fee_msat: int, retry_for_s: int, label: str
    ) -> Json:
        """Pay a BOLT11 invoice and return lightningd's answer, which may take minutes.

        Args:
            invoice: BOLT11.
            amount_msat: only for an invoice without an amount.
            max_fee_msat: the most it may cost beside the amount.
            retry_for_s: seconds in which lightningd may begin new attempts.
            label: kept beside the payment where the command takes one; names its reservations.

        Raises:
            PayCommandError: lightningd answered with an error.
            NodeUnavailableError: no answer; lightningd may be paying.

        """

        async def pay() -> Json:
            # lightningd redirects `pay` to `xpay` (xpay-handle-pay, the default from 26.06 on), but not
            # with more than two positional parameters. They are invoice, amount_msat, label, riskfactor,
            # maxfeepercent, retry_for, maxdelay, exemptfee, localinvreqid, exclude and maxfee.
            given = [invoice, amount_msat, label, None, None, retry_for_s, *[None] * 4, max_fee_msat]
            return await self._node.call_positional("pay", given)

        async def xpay() -> Json:
            has_label = "label" in await self._parameters("xpay")
            return await self._node.call_named(
                "xpay",
                label,
                invstring=invoice,
                amount_msat=amount_msat,
                maxfee=max_fee_msat,
                retry_for=retry_for_s,
                label=label if has_label else None,
            )

        return await self._first_that_runs(self._invoice_commands, {"pay": pay, "xpay": xpay})

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
            max_fee_msat: the most it may cost beside that.
            retry_for_s: seconds in which lightningd may begin new attempts.
            label: by which its parts are found again; names its reservations.
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
            return await self._node.call_named("keysend", label, **common, retry_for=retry_for_s)

        async def xkeysend() -> Json:
            # It stops lightningd when it splits a payment, which it does where no single path fits. So
            # one must fit, and retry_for=0 prevents a second attempt, which could find none.
            await self._check_single_path(destination, amount_msat, max_fee_msat)
            return await self._node.call_named("xkeysend", label, **common, retry_for=0)

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

    async def may_have_route(self, destination: str, amount_msat: int, max_fee_msat: int) -> bool:
        """Return False if it is certain that no set of paths carries a payment.

        Also True where nobody can tell: of a payee that only a route hint leads to, or without askrene.

        Args:
            destination: node id, 66 hex digits.
            amount_msat: what the payee gets.
            max_fee_msat: the most it may cost beside that.

        """
        if not (await self._node.call("listnodes", id=destination)).get("nodes"):
            return True
        try:
            await self._get_routes(
                destination,
                amount_msat,
                max_fee_msat,
                layers=list(_LOCAL_LAYERS),
                final_cltv=_LEAST_FINAL_CLTV,
            )
        except RpcCallError as error:
            return error.code not in (RpcCode.PAY_ROUTE_NOT_FOUND, RpcCode.PAY_ROUTE_TOO_EXPENSIVE)
        return True

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
        """Run the first command that lightningd has, and return its answer.

        `help` also shows commands that lightningd refuses as deprecated (allow-deprecated-apis=false).
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

    @reads_answer
    async def release_reservations(self, label: str) -> None:
        """Take back what `xpay` or `xkeysend` has left reserved in askrene for an ended payment.

        They forget it where a path does not fit into the onion, and then it is locked until lightningd
        restarts. Other commands reserve nothing, so this finds nothing.

        Args:
            label: of a payment of which nothing is pending and nothing can begin any more.

        """
        listed = (await self._node.call("askrene-listreservations"))["reservations"]
        path = [
            {"short_channel_id_dir": one["short_channel_id_dir"], "amount_msat": one["amount_msat"]}
            for one in listed
            if label in str(one.get("command_id"))
        ]
        if path:
            await self._node.call("askrene-unreserve", path=path)

    @reads_answer
    async def history_of(self, payment_hash: str) -> Parts:
        """Return what came of all attempts that anybody ever made to pay this hash."""
        listed = await self._node.call("listsendpays", payment_hash=payment_hash)
        return _merged(_payments(listed))

    @reads_answer
    async def parts(self, first_index: int, *, payment_hash: str | None, label: str) -> Parts:
        """Return where a payment stands.

        Failed parts are left out: there can be thousands, and they change nothing.

        Args:
            first_index: the lowest `created_index` that a part of it can have.
            payment_hash: 64 hex digits; None for a keysend, whose parts are found by the label.
            label: of the payment.

        """
        own = partial(_is_own, payment_hash=payment_hash, label=label)
        # In this order: a part that completes in between is seen as pending, and asked for again.
        pending = [part async for part in self._listed("pending", first_index) if own(part)]
        complete = [part async for part in self._listed("complete", first_index) if own(part)]
        return _merged([*pending, *complete])

    async def hash_of(self, first_index: int, label: str) -> str | None:
        """Return the payment hash of the payment with this label; None if nothing of it was sent.

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

    @reads_answer
    async def _page(self, status: str, first_index: int) -> list[Json]:
        listed = await self._node.call(
            "listsendpays", status=status, index="created", start=first_index, limit=PARTS_PER_PAGE
        )
        return _payments(listed)

    @reads_answer
    async def next_sendpay_index(self) -> int:
        """Return the lowest `created_index` that a part of a payment can get from now on."""
        answer = await self._node.call("wait", subsystem="sendpays", indexname="created", nextvalue=0)
        return int(answer["created"]) + 1

    async def sendable(self) -> Sendable:
        """Return what the node can send at this moment."""
        return await self._node.sendable()

    async def decode(self, invoice: str) -> Json:
        """Return what `decode` says of an invoice."""
        decoded: Json = await self._node.call("decode", string=invoice)
        return decoded

    async def _offered(self, commands: tuple[str, ...]) -> list[str]:
        """Return those commands that the node has, and that take a limit on the fee."""
        return [command for command in commands if "maxfee" in await self._parameters(command)]

    async def _parameters(self, command: str) -> frozenset[str]:
        """Return the parameters that `help` names for a command; none when there is no such command."""
        usage = self._usage.get(command) or await self._usage_of(command)
        if usage:  # a command that is not there may still come: plugins start in no order
            self._usage[command] = usage
        return frozenset(re.findall(r"\w+", usage))

    @reads_answer
    async def _usage_of(self, command: str) -> str:
        try:
            answer = await self._node.call("help", command=command)
        except RpcCallError:
            return ""
        usage: str = answer["help"][0]["command"]
        return usage


def _is_over(command: str, error: RpcCallError) -> bool:
    """Return True if this error is certainly the end of a payment."""
    if command in ("xpay", "xkeysend"):
        return error.code in _XPAY_NOTHING_BEGUN
    # `pay` and `keysend` end when all their attempts have ended, or at once when the payee refuses one:
    # then the others may be pending. Either `status` or `attempts` stands beside the code and tells.
    return (
        error.code in _NOTHING_BEGUN
        or error.details.get("status") == "failed"
        or _have_all_ended(_attempts(error))
    )


def _attempts(error: RpcCallError) -> list[Json]:
    """Return the attempts that an error of `pay` or `keysend` lists; none where it lists none."""
    attempts = error.details.get("attempts")
    if not isinstance(attempts, list) or not all(isinstance(one, dict) for one in attempts):
        return []
    return attempts


def _have_all_ended(attempts: list[Json]) -> bool:
    # One that was split shows as pending for ever; its parts tell.
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
        NodeUnavailableError: the answer cannot be read; it may hide a payment.

    """
    payments = listed.get("payments")
    if not isinstance(payments, list) or not all(isinstance(part, dict) for part in payments):
        raise NodeUnavailableError("listsendpays: cannot be read")
    return payments


def _merged(parts: list[Json]) -> Parts:
    """Merge the parts of a payment.

    Raises:
        NodeUnavailableError: a part cannot be read; it may be a payment.

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
