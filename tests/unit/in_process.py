"""nwc's Node over the test double of lightningd in the same process: no socket, no thread.

Everything above the transport is real: the double's state, its `sql`, its error codes.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.cln.hold import HoldPlugin
from nwc.cln.node import Bounds, Json, Node
from nwc.cln.payer import Payer
from nwc.cln.rpc import Params
from nwc.nip47.errors import Nip47Error
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.context import Call, ChainTip, Wallet
from nwc.wallet.hold_invoices import HoldInvoices
from nwc.wallet.hold_record import HoldRecord, HoldRecords
from nwc.wallet.invoice_record import InvoiceRecord
from nwc.wallet.labels import request_label
from nwc.wallet.methods.list_transactions import list_transactions
from nwc.wallet.methods.lookup_invoice import lookup_invoice
from nwc.wallet.spending.breaker import CircuitBreaker
from nwc.wallet.spending.ledgers import Ledgers
from nwc.wallet.spending.payment import PaymentRecord
from nwc.wallet.spending.payment_records import PaymentRecords
from nwc.wallet.spending.payments import Payments
from nwc.wallet.spending.refusals import Refusals
from tests.double.node import Node as Double
from tests.double.params import RpcError

RELAY = "wss://relay.example"
START = 1_700_000_000  # Unix seconds of the first invoices
NEVER = 10**9  # expiry in seconds of invoices that must not expire
ALICE, BOB = "a1" * 8, "b0" * 8


class InProcessNode(Node):
    """A Node that calls a double directly.

    Attributes:
        lightningd: the double.
        calls: the called methods with their parameters, in order.
        away: while True, each call raises NodeUnavailableError.
        before: awaited before each call, with its method and parameters.

    """

    def __init__(self, lightningd: Double) -> None:
        self.lightningd = lightningd
        self.calls: list[tuple[str, Any]] = []
        self.away = False
        self.before: Callable[[str, Any], Any] | None = None
        self._changed = asyncio.Condition()

    async def _call(self, method: str, params: Params, bounds: Bounds, name: str = "") -> Any:
        given = json.loads(json.dumps(params))
        self.calls.append((method, given))
        await self._notify()  # this also lets concurrent calls overlap
        if self.before is not None:
            await self.before(method, given)
        if self.away:
            raise NodeUnavailableError(f"{method}: away")
        try:
            answer = await self.lightningd.call(method, given)
        except RpcError as error:
            raise RpcCallError(method, error.code, str(error), error.as_json()) from None
        finally:
            await self._notify()
        return json.loads(json.dumps(answer))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait_paid_invoice(self, last_pay_index: int) -> Json:
        paid: Json = await self.call("waitanyinvoice", lastpay_index=last_pay_index)
        return paid

    async def called(self, is_reached: Callable[[], bool], timeout_s: float = 10) -> None:
        """Wait until a condition holds; check it whenever a call starts or ends."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(is_reached)


def connection(id_: str = ALICE, view: View = View.OWN, **fields: Any) -> Connection:
    """Return a connection with this id."""
    return Connection(
        name=f"app {id_}",
        client_pubkey=id_.ljust(64, "0"),
        relays=(RELAY,),
        created_at=START,
        view=view,
        **fields,
    )


def call(asking: Connection, params: Json) -> Call:
    """Return a call of a connection."""
    return Call("00" * 32, params, asking)


async def _nobody_is_told(_: str, __: PaymentRecord) -> None:
    pass


def make_wallet(
    node: Node,
    tip: ChainTip | None = None,
    connection_of: Callable[[str], Connection | None] = lambda _: None,
) -> Wallet:
    """Return a wallet on a node; its payments notify nobody."""
    payments = Payments(
        Payer(node),
        Ledgers(node),
        PaymentRecords(node),
        CircuitBreaker(node),
        Refusals(node),
        connection_of=connection_of,
        notify=_nobody_is_told,
        answer=_nobody_is_told,
    )
    return Wallet(
        node, 3600, tip or ChainTip(), payments, hold_invoices=make_hold_invoices(node, payments)
    )


def make_hold_invoices(node: Node, payments: Payments) -> HoldInvoices:
    """Return the hold invoices of a node where every connection exists; they notify nobody."""
    return HoldInvoices(
        node,
        HoldPlugin(node),
        HoldRecords(node),
        client_pubkey_of=lambda connection_id: connection_id.ljust(64, "0"),
        count=payments.receive_hold,
        notify=_no_notification,
    )


async def _no_notification(_: str, __: HoldRecord) -> None:
    pass


class World:
    """A node and a wallet on it, with functions that make and pay invoices."""

    def __init__(self, lightningd: Double) -> None:
        self.node = InProcessNode(lightningd)
        self.connections: dict[str, Connection] = {}
        self.wallet = make_wallet(self.node, connection_of=lambda key: self.connections.get(key))

    async def dev(self, method: str, /, **params: Any) -> Json:
        """Call a method of the double."""
        given = {name: value for name, value in params.items() if value is not None}
        answer: Json = await self.node.lightningd.call(method, given)
        return answer

    async def invoices(self, asking: Connection, count: int, **fields: Any) -> None:
        """Make invoices of a connection, one per second from START on."""
        prefix = f"nwc:{asking.id}:"
        fields = {"created_at": START, "label_prefix": prefix, **fields}
        await self.dev("dev-invoices", count=count, **fields)

    async def invoice(
        self,
        asking: Connection,
        number: int,
        *,
        amount_msat: int = 1000,
        description: str = "",
        record: InvoiceRecord | None = None,
        **fields: Any,
    ) -> Json:
        """Make one invoice of a connection now, and store its record."""
        request_id = f"{number:064x}"
        await self.wallet.records.keep(asking, request_id, record or InvoiceRecord())
        label = request_label(asking.id, request_id)
        made = await self.node.invoice(
            amount_msat=amount_msat, label=label, description=description, expiry=3600, **fields
        )
        return {**made, "label": label}

    async def pay(self, label: str, amount_msat: int | None = None) -> Json:
        """Pay an invoice from outside."""
        return await self.dev("dev-pay", label=label, amount_msat=amount_msat)

    async def payment(self, *parts: Json, **fields: Any) -> Json:
        """Add an outgoing payment to the node; return its first part."""
        made = await self.dev("dev-payment", parts=list(parts) or [{}], **fields)
        first: Json = made["payments"][0]
        return first

    async def list(self, asking: Connection, **params: Any) -> Json:
        """Call list_transactions."""
        return await list_transactions(self.wallet, call(asking, params))

    async def lookup(self, asking: Connection, **params: Any) -> Json:
        """Call lookup_invoice."""
        return await lookup_invoice(self.wallet, call(asking, params))

    async def not_found(self, asking: Connection, **params: Any) -> tuple[str, str]:
        """Call lookup_invoice, which must fail; return the code and message of its error."""
        try:
            found = await self.lookup(asking, **params)
        except Nip47Error as error:
            return error.code, error.message
        raise AssertionError(f"lookup_invoice found {found}")
