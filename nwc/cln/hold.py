"""Hold invoices, through the plain RPC commands of Boltz's plugin `hold` (BoltzExchange/hold).

`hold` keeps the HTLCs of its invoices until it is told to settle or cancel them. It gives no
notification over RPC, so its invoices have to be polled. Every answer is checked before it is used.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nwc.cln.bolt11 import MAX_AMOUNT_MSAT
from nwc.cln.errors import RpcCallError, RpcCode, translates_malformed_answers
from nwc.cln.node import Json, Node

# `hold` accepts up to twice the amount of an invoice.
MAX_RECEIVED_MSAT = 2 * MAX_AMOUNT_MSAT
# BOLT11 and lightningd have a block height in 32 bits.
_MAX_HEIGHT = 2**32 - 1
# `hold` stores the ids of HTLCs in 64 bits.
_MAX_ID = 2**63 - 1


class HoldState(StrEnum):
    """The states of an invoice, and of an HTLC, in `listholdinvoices`."""

    UNPAID = "unpaid"
    ACCEPTED = "accepted"
    PAID = "paid"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class HoldInvoice:
    """An invoice of `listholdinvoices`.

    Attributes:
        state: of the invoice. It is UNPAID while only a part of the amount has arrived.
        preimage: 64 hex digits, None unless it is PAID.
        paid_msat: the sum of its HTLCs that are PAID, in msat.
        htlc_ids: lightningd's ids of its HTLCs that are in the same state, each unique in its channel.
        lowest_cltv_expiry: the block height at which the first of its ACCEPTED HTLCs expires; None
            without any.

    """

    state: HoldState
    preimage: str | None
    paid_msat: int
    htlc_ids: frozenset[int]
    lowest_cltv_expiry: int | None


class HoldPlugin:
    """The commands of `hold`. They raise NodeError, as Node's methods do.

    Attributes:
        is_available: True if `hold` was there when it was last looked for.

    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.is_available = False

    async def look_for(self) -> bool:
        """Return True if lightningd has the commands of `hold` now; `is_available` is set to it."""
        try:
            await self._node.call("help", command="listholdinvoices")
        except RpcCallError as error:
            if error.code != RpcCode.METHOD_NOT_FOUND:
                raise
            self.is_available = False
        else:
            self.is_available = True
        return self.is_available

    @translates_malformed_answers
    async def find(self, payment_hash: str) -> HoldInvoice | None:
        """Return the hold invoice with this payment hash, or None."""
        answer = await self._node.call("listholdinvoices", payment_hash=payment_hash)
        listed: list[Json] = answer["holdinvoices"]
        return _checked(listed[0], payment_hash) if listed else None

    async def inject(self, invoice: str, min_cltv: int) -> None:
        """Have `hold` accept payments of a signed BOLT11 invoice of this node.

        Args:
            invoice: with a payment hash that `hold` does not know.
            min_cltv: how many blocks before its expiry an HTLC must arrive at least.

        """
        await self._node.call("injectholdinvoice", invoice=invoice, min_cltv=min_cltv)

    async def settle(self, preimage: str) -> None:
        """Settle the HTLCs of the invoice of this preimage.

        The invoice must be ACCEPTED: `hold` gives the preimage away for a part of the amount too.
        """
        await self._node.call("settleholdinvoice", preimage=preimage)

    async def cancel(self, payment_hash: str) -> None:
        """Cancel an invoice that is not PAID, and fail its HTLCs."""
        await self._node.call("cancelholdinvoice", payment_hash=payment_hash)


def _checked(listed: Json, payment_hash: str) -> HoldInvoice:
    """Return an invoice of `listholdinvoices`; raise ValueError if it cannot be one."""
    if listed["payment_hash"] != payment_hash:
        raise ValueError("another payment hash")
    state = HoldState(listed["state"])
    htlcs: list[Json] = listed["htlcs"]
    amounts = [_number(htlc["msat"], MAX_RECEIVED_MSAT) for htlc in _in_state(htlcs, HoldState.PAID)]
    expiries = [_number(h["cltv_expiry"], _MAX_HEIGHT) for h in _in_state(htlcs, HoldState.ACCEPTED)]
    return HoldInvoice(
        state=state,
        preimage=_preimage(listed, payment_hash) if state is HoldState.PAID else None,
        paid_msat=_number(sum(amounts), MAX_RECEIVED_MSAT),
        htlc_ids=frozenset(_number(htlc["channel_id"], _MAX_ID) for htlc in _in_state(htlcs, state)),
        lowest_cltv_expiry=min(expiries, default=None),
    )


def _in_state(htlcs: list[Json], state: HoldState) -> list[Json]:
    return [htlc for htlc in htlcs if htlc["state"] == state]


def _preimage(listed: Json, payment_hash: str) -> str:
    preimage = bytes.fromhex(listed["preimage"])
    if hashlib.sha256(preimage).hexdigest() != payment_hash:
        raise ValueError("a preimage of another payment hash")
    return preimage.hex()


def _number(value: Any, maximum: int) -> int:
    if type(value) is not int or not 0 <= value <= maximum:
        raise ValueError("not a number in its bounds")
    return value
