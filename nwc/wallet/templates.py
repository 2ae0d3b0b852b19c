"""Templates: invoices of the node that nobody is shown, for the parts only lightningd can make.

No RPC makes an invoice for a bare description hash, but `createinvoice` signs a string made elsewhere.
What of it only lightningd knows (features, route hints over private channels, final CLTV) is taken from
an invoice it made, the template; payment hash, secret, amount, time and expiry are each request's own.

A template serves for TEMPLATE_LIFETIME_S, and stays for hours: after any `delinvoice` lightningd's `sql`
plugin makes its whole mirror of invoices anew. They are numbered from 0, without gaps, so that those
that a crash has left are found by their labels; a sweep deletes from the highest down, and leaves no gap
when it is cut off. Route hints depend on the amount: there is a template for each power of two.
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
from nwc.wallet.labels import template_label

# Channels come and go; so long a route hint may be out of date.
TEMPLATE_LIFETIME_S = 300.0
# An earlier version of the plugin used this many labels, in any order.
_GAP = 16


@dataclass(frozen=True, slots=True)
class _Template:
    invoice: Bolt11
    made_at: float


class Templates:
    """Makes templates when they are needed, and deletes them when asked to.

    Args:
        node: lightningd.
        clock: seconds, of a clock that is never set.

    """

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock
        self._templates: dict[int, _Template] = {}
        self._next_number = 0
        self._lock = asyncio.Lock()

    async def get(self, amount_msat: int) -> Bolt11:
        """Return a template good for an amount in msat, 0 for any.

        Raises:
            NodeError: lightningd refused or is away.

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
        """Delete all templates: new ones are made when they are needed.

        Does nothing where this process has made none, but at a start: then those of earlier ones.

        Raises:
            NodeError: lightningd is away.

        """
        async with self._lock:
            if self._next_number == 0 and not is_start:
                return
            self._templates.clear()
            for number in reversed(await self._numbers_there()):
                await self._delete(template_label(number))
            self._next_number = 0

    async def _numbers_there(self) -> list[int]:
        there: list[int] = []
        number = 0
        while number <= (there[-1] if there else -1) + _GAP or number < self._next_number:
            if await self._node.invoice_by_label(template_label(number)) is not None:
                there.append(number)
            number += 1
        return there

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
    """Make sure that lightningd will know the payment secrets of our invoices as its own."""
    if template.find("s") != bolt11.words_of(bolt11.payment_secret(preimage)):
        raise NodeUnavailableError("this lightningd derives payment secrets in a way not known here")
    return template
