"""Templates: hidden invoices, from which the parts that only lightningd can make are copied.

No RPC makes an invoice for a bare description hash, but `createinvoice` signs an invoice made elsewhere.
Some parts of an invoice are known to lightningd alone: features, route hints over private channels,
final CLTV. They are copied from a template, an invoice that lightningd made. Payment hash, secret,
amount, time and expiry are each request's own. Route hints depend on the amount, so there is a template
for each power of two.

A template is used for TEMPLATE_LIFETIME_S and deleted hours later: after any `delinvoice` lightningd's
`sql` plugin rebuilds its whole mirror of the invoices. Templates are numbered from 0 without gaps, so
that those left by a crash are found by their labels. A sweep deletes from the highest number down, so
that it leaves no gap if it is interrupted.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from nwc.cln import bolt11
from nwc.cln.bolt11 import Bolt11
from nwc.cln.errors import NodeUnavailableError, RpcCallError, RpcCode
from nwc.cln.node import Node
from nwc.nostr import bech32
from nwc.wallet.labels import template_label

# Channels come and go: a route hint may be out of date for this long.
TEMPLATE_LIFETIME_S = 300.0
# An earlier version of the plugin used this many numbers, in any order.
_GAP = 16


@dataclass(frozen=True, slots=True)
class _Template:
    invoice: Bolt11
    made_at: float


class Templates:
    """Makes templates when they are needed, and deletes them in `sweep`.

    Args:
        node: lightningd.
        clock: returns seconds of a monotonic clock.

    """

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock
        self._templates: dict[int, _Template] = {}
        self._next_number = 0
        self._lock = asyncio.Lock()

    async def get(self, amount_msat: int) -> Bolt11:
        """Return a template for an amount in msat; 0 is for invoices of any amount.

        Raises:
            NodeError: lightningd refuses or is unavailable.

        """
        for_msat = _rounded_up(amount_msat)
        async with self._lock:
            template = self._templates.get(for_msat)
            if template is None or self._clock() - template.made_at > TEMPLATE_LIFETIME_S:
                template = _Template(await self._make(for_msat), self._clock())
                self._templates[for_msat] = template
            return template.invoice

    async def _make(self, amount_msat: int) -> Bolt11:
        preimage = secrets.token_bytes(32)
        while True:
            label = template_label(self._next_number)
            try:
                made = await self._node.invoice(
                    amount_msat=amount_msat,
                    label=label,
                    description="",
                    expiry=int(TEMPLATE_LIFETIME_S),
                    preimage=preimage.hex(),
                )
            except RpcCallError as error:
                if error.code != RpcCode.INVOICE_LABEL_ALREADY_EXISTS:
                    raise
                self._next_number += 1
            else:
                self._next_number += 1
                return _checked(bolt11.parse(made["bolt11"]), preimage)

    async def sweep(self, *, is_start: bool = False) -> None:
        """Delete all templates. New ones are made when they are needed.

        Args:
            is_start: True to look for templates of earlier processes too. Otherwise nothing is done
                unless this process has made one.

        Raises:
            NodeError: lightningd refuses or is unavailable.

        """
        async with self._lock:
            if self._next_number == 0 and not is_start:
                return
            self._templates.clear()
            for number in reversed(await self._list_numbers()):
                await self._delete(template_label(number))
            self._next_number = 0

    async def _list_numbers(self) -> list[int]:
        found: list[int] = []
        number = 0
        while number <= (found[-1] if found else -1) + _GAP or number < self._next_number:
            if await self._node.invoice_by_label(template_label(number)) is not None:
                found.append(number)
            number += 1
        return found

    async def _delete(self, label: str) -> None:
        for status in ("unpaid", "expired"):
            try:
                await self._node.delete_invoice(label, status)
            except RpcCallError as error:
                gone_or_other = (RpcCode.INVOICE_NOT_FOUND, RpcCode.INVOICE_STATUS_UNEXPECTED)
                if error.code not in gone_or_other:
                    raise


def _rounded_up(amount_msat: int) -> int:
    if amount_msat == 0:
        return 0
    return min(1 << (amount_msat - 1).bit_length(), bolt11.MAX_AMOUNT_MSAT)


def _checked(template: Bolt11, preimage: bytes) -> Bolt11:
    """Return the template if lightningd will accept the payment secrets of our invoices.

    Raises:
        NodeUnavailableError: lightningd derives payment secrets in another way.

    """
    if template.find("s") != bech32.words_from_bytes(bolt11.payment_secret(preimage)):
        raise NodeUnavailableError(
            "this version of lightningd derives payment secrets in an unknown way"
        )
    return template
