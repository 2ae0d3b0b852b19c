"""Paying through lightningd: `xpay` and `xkeysend` where the node has them, else `pay` and `keysend`.

What one of these commands answers is not the end of a payment: an error can come while a part of it is
still under way, and no answer at all when lightningd stops. The truth is in `listsendpays`.
"""

import re
from contextlib import suppress
from dataclasses import dataclass

from nwc.cln.errors import UNREADABLE, NodeUnavailable, RpcCode, RpcFailed, reads_answer
from nwc.cln.node import Json, Node

# The first that a node has is used.
_PAY_COMMANDS = ("xpay", "pay")
_KEYSEND_COMMANDS = ("xkeysend", "keysend")
_BOLT11_PARAMETER = {"xpay": "invstring", "pay": "bolt11"}


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
    """Pays. Methods raise NodeError, as those of Node do."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._usage: dict[str, str] = {}

    async def prepare(self) -> None:
        """Find out what this node pays with: then giving the command needs no other call."""
        with suppress(RpcFailed):  # it will be said where it is needed
            await self._first_of(_PAY_COMMANDS)

    async def pay_invoice(
        self, invoice: str, *, amount_msat: int | None, max_fee_msat: int, retry_for_s: int, label: str
    ) -> Json:
        """Pay a BOLT11 invoice and return lightningd's answer, which may take minutes.

        Args:
            invoice: BOLT11.
            amount_msat: only for an invoice without an amount.
            max_fee_msat: the most it may cost beside the amount.
            retry_for_s: seconds in which lightningd may begin new attempts.
            label: kept beside the payment where the command takes one.

        """
        command = await self._first_of(_PAY_COMMANDS)
        has_label = "label" in await self._parameters(command)
        answer: Json = await self._node.call(
            command,
            **{_BOLT11_PARAMETER[command]: invoice},
            amount_msat=amount_msat,
            maxfee=max_fee_msat,
            retry_for=retry_for_s,
            label=label if has_label else None,
        )
        return answer

    async def can_keysend(self) -> bool:
        """Tell whether the node has a keysend command that takes a limit on the fee."""
        try:
            command = await self._first_of(_KEYSEND_COMMANDS)
        except RpcFailed:
            return False
        return "maxfee" in await self._parameters(command)

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
            label: by which its parts are found again.
            tlvs: further records for the payee: type in decimal digits, value in hex digits.

        """
        answer: Json = await self._node.call(
            await self._first_of(_KEYSEND_COMMANDS),
            destination=destination,
            amount_msat=amount_msat,
            maxfee=max_fee_msat,
            retry_for=retry_for_s,
            label=label,
            extratlvs=tlvs or None,
        )
        return answer

    async def parts_by_hash(self, payment_hash: str) -> Parts:
        """Return where the payment with this hash stands."""
        listed = await self._node.call("listsendpays", payment_hash=payment_hash)
        return _parts(listed)

    async def parts_by_label(self, label: str, first_index: int) -> Parts:
        """Return where the payment with this label stands, whose parts have `created_index` of at least
        `first_index`.
        """
        listed = await self._node.call("listsendpays", index="created", start=first_index)
        return _parts(listed, label)

    @reads_answer
    async def next_sendpay_index(self) -> int:
        """Return the lowest `created_index` that a part of a payment can get from now on."""
        answer = await self._node.call("wait", subsystem="sendpays", indexname="created", nextvalue=0)
        return int(answer["created"]) + 1

    async def spendable_msat(self) -> int:
        """Return what the node can send over its open channels, in msat."""
        return await self._node.spendable_msat()

    async def decode(self, invoice: str) -> Json:
        """Return what `decode` says of an invoice."""
        decoded: Json = await self._node.call("decode", string=invoice)
        return decoded

    async def _first_of(self, commands: tuple[str, ...]) -> str:
        for command in commands:
            if await self._parameters(command):
                return command
        raise RpcFailed(commands[-1], RpcCode.METHOD_NOT_FOUND, "no such command")

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
        except RpcFailed:
            return ""
        usage: str = answer["help"][0]["command"]
        return usage


def _parts(listed: Json, label: str | None = None) -> Parts:
    """Merge what `listsendpays` shows of a payment.

    Raises:
        NodeUnavailable: it shows something that nobody expected, which may be a payment.

    """
    try:
        parts = [p for p in listed["payments"] if label is None or p.get("label") == label]
        return _merged(parts)
    except UNREADABLE as error:
        raise NodeUnavailable(f"listsendpays: {type(error).__name__}") from error


def _merged(payments: list[Json]) -> Parts:
    complete = [part for part in payments if part["status"] == "complete"]
    return Parts(
        sent=_sent(complete),
        is_pending=any(part["status"] == "pending" for part in payments),
        payment_hash=payments[0]["payment_hash"] if payments else None,
    )


def _sent(complete: list[Json]) -> Sent | None:
    if not complete:
        return None
    preimages: list[str] = [p["payment_preimage"] for p in complete if p.get("payment_preimage")]
    return Sent(
        payment_hash=complete[0]["payment_hash"],
        preimage=preimages[0],
        sent_msat=sum(int(part["amount_sent_msat"]) for part in complete),
    )
