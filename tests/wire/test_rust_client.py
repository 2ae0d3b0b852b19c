"""A real NWC client: that of rust-nostr."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from nostr_sdk import (
    ListTransactionsRequest,
    LookupInvoiceRequest,
    MakeInvoiceRequest,
    MakeInvoiceResponse,
    Method,
    NostrSdkError,
    NostrWalletConnect,
    NostrWalletConnectBuilder,
    NostrWalletConnectUri,
    PayInvoiceRequest,
    Timestamp,
    TransactionType,
)

from tests.support.channel import Json
from tests.support.rust_app import Notifications, transaction_of
from tests.support.waiting import PATIENCE_S
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.network import paid_node  # noqa: F401 - a fixture
from tests.wire.node import NodeUnderTest
from tests.wire.test_receiving import UNKNOWN, check_settled, make, spendable

HASH = "5a" * 32


@pytest.fixture
async def nwc(app: ConnectedApp) -> AsyncIterator[NostrWalletConnect]:
    """rust-nostr's client on the connection of `app`."""
    nwc = client_of(app)
    yield nwc
    await nwc.client().shutdown()


def client_of(app: ConnectedApp) -> NostrWalletConnect:
    uri = NostrWalletConnectUri.parse(app.uri)
    return NostrWalletConnectBuilder(uri).timeout(timedelta(seconds=20)).build()


async def make_invoice(
    nwc: NostrWalletConnect,
    amount: int = 1000,
    description: str | None = None,
    description_hash: str | None = None,
    expiry: int | None = None,
) -> MakeInvoiceResponse:
    """Ask for an invoice."""
    request = MakeInvoiceRequest(
        amount=amount, description=description, description_hash=description_hash, expiry=expiry
    )
    return await nwc.make_invoice(request)


def decode(node: NodeUnderTest, made: MakeInvoiceResponse) -> Json:
    """Decode an invoice with the node, and check that the client shows the same."""
    decoded: Json = node.rpc.call("decode", {"string": made.invoice})
    assert made.payment_hash == decoded["payment_hash"]
    assert made.created_at is not None
    assert made.created_at.as_secs() == decoded["created_at"]
    assert made.expires_at is not None
    assert abs(made.expires_at.as_secs() - decoded["created_at"] - decoded["expiry"]) <= 1
    assert made.preimage is None
    return decoded


async def test_rust_reads_get_info(node: NodeUnderTest, nwc: NostrWalletConnect) -> None:
    info = await nwc.get_info()
    about = node.rpc.getinfo()
    assert (info.alias, info.color, info.pubkey) == (about["alias"], about["color"], about["id"])
    assert (info.network, info.block_height) == ("regtest", about["blockheight"])
    assert info.methods == [
        Method.GET_INFO(),
        Method.GET_BALANCE(),
        Method.UNKNOWN("get_budget"),
        Method.MAKE_INVOICE(),
        Method.UNKNOWN("receive"),
        Method.LOOKUP_INVOICE(),
        Method.LIST_TRANSACTIONS(),
    ]
    assert info.notifications == ["payment_received"]


async def test_rust_makes_an_invoice_with_a_description(
    node: NodeUnderTest, nwc: NostrWalletConnect
) -> None:
    made = await make_invoice(nwc, 21_000, "coffee ☕")
    assert (made.amount, made.description) == (21_000, "coffee ☕")
    decoded = decode(node, made)
    assert (decoded["amount_msat"], decoded["description"]) == (21_000, "coffee ☕")
    assert decoded["expiry"] == 86_400


async def test_rust_makes_an_invoice_with_a_bare_hash(
    node: NodeUnderTest, nwc: NostrWalletConnect
) -> None:
    made = await make_invoice(nwc, description_hash=HASH)
    assert made.description_hash == HASH
    assert decode(node, made)["description_hash"] == HASH


async def test_rust_makes_an_invoice_for_any_amount(
    node: NodeUnderTest, nwc: NostrWalletConnect
) -> None:
    made = await make_invoice(nwc, 0, "tip jar")
    assert made.amount == 0
    assert "amount_msat" not in decode(node, made)


async def test_rust_makes_an_invoice_with_a_long_description(
    node: NodeUnderTest, nwc: NostrWalletConnect
) -> None:
    text = "a long story " * 100
    made = await make_invoice(nwc, description=text)
    assert made.description == text
    assert decode(node, made)["description_hash"] == hashlib.sha256(text.encode()).hexdigest()


async def test_rust_makes_an_invoice_with_an_expiry(
    node: NodeUnderTest, nwc: NostrWalletConnect
) -> None:
    assert decode(node, await make_invoice(nwc, expiry=600))["expiry"] == 600


async def test_several_rust_clients_get_invoices_of_their_own(
    node: NodeUnderTest, connect: Connect
) -> None:
    clients = [NostrWalletConnect(NostrWalletConnectUri.parse(connect().uri)) for _ in range(3)]
    hashes = {(await make_invoice(client)).payment_hash for client in clients for _ in range(3)}
    assert len(hashes) == 9


async def test_rust_raises_the_error_of_a_refusal(nwc: NostrWalletConnect) -> None:
    with pytest.raises(NostrSdkError, match=r"amount: must be .*Other"):
        await make_invoice(nwc, 2**63)
    request = PayInvoiceRequest(id=None, invoice="lnbc1", amount=None)
    with pytest.raises(NostrSdkError, match=r"(?i)restricted"):
        await nwc.pay_invoice(request)


async def lookup(
    nwc: NostrWalletConnect, payment_hash: str | None = None, invoice: str | None = None
) -> Json:
    """Look up an invoice; return it as `transaction_of` does."""
    request = LookupInvoiceRequest(payment_hash=payment_hash, invoice=invoice)
    return transaction_of(await nwc.lookup_invoice(request))


async def listed(
    nwc: NostrWalletConnect,
    *,
    limit: int | None = None,
    offset: int | None = None,
    unpaid: bool | None = None,
    type_: TransactionType | None = None,
    from_: int | None = None,
    until: int | None = None,
) -> list[Json]:
    """List transactions; return them as `transaction_of` does."""
    request = ListTransactionsRequest(
        _from=None if from_ is None else Timestamp.from_secs(from_),
        until=None if until is None else Timestamp.from_secs(until),
        limit=limit,
        offset=offset,
        unpaid=unpaid,
        transaction_type=type_,
    )
    return [transaction_of(shown) for shown in await nwc.list_transactions(request)]


async def test_rust_looks_up_an_invoice(
    node: NodeUnderTest, app: ConnectedApp, nwc: NostrWalletConnect
) -> None:
    """`app` makes the invoice, since rust-nostr reads metadata but cannot send it."""
    made = make(app)
    assert await lookup(nwc, made["payment_hash"]) == made
    assert await lookup(nwc, invoice=made["invoice"]) == made
    node.pay(made["invoice"])
    check_settled(await lookup(nwc, made["payment_hash"]), made)
    check_settled(await lookup(nwc, invoice=made["invoice"]), made)


async def test_rust_looks_up_the_amount_received(node: NodeUnderTest, nwc: NostrWalletConnect) -> None:
    made = await make_invoice(nwc, 0, "tip jar")
    assert made.payment_hash is not None
    node.pay(made.invoice, 12_345)
    shown = await lookup(nwc, made.payment_hash)
    assert (shown["state"], shown["amount"], shown["description"]) == ("settled", 12_345, "tip jar")


async def test_rust_finds_no_unknown_or_hidden_invoice(
    connect: Connect, nwc: NostrWalletConnect
) -> None:
    hidden = make(connect())
    for payment_hash in (UNKNOWN, hidden["payment_hash"]):
        with pytest.raises(NostrSdkError, match=r"(?i)not.?found"):
            await lookup(nwc, payment_hash)


async def test_rust_lists_transactions(
    node: NodeUnderTest, app: ConnectedApp, nwc: NostrWalletConnect
) -> None:
    assert await listed(nwc) == []
    made = [make(app, description=name) for name in ("a", "b", "c")]
    node.pay(made[0]["invoice"])
    [paid] = await listed(nwc)
    check_settled(paid, made[0])
    assert await listed(nwc, unpaid=True) == [made[2], made[1], paid]
    assert await listed(nwc, unpaid=True, limit=2) == [made[2], made[1]]
    assert await listed(nwc, unpaid=True, limit=2, offset=2) == [paid]
    assert await listed(nwc, unpaid=True, type_=TransactionType.INCOMING) == [made[2], made[1], paid]
    assert await listed(nwc, unpaid=True, type_=TransactionType.OUTGOING) == []
    assert await listed(nwc, until=paid["created_at"] - 1) == []
    assert await listed(nwc, unpaid=True, from_=0, until=0, limit=0, offset=0) == [
        made[2],
        made[1],
        paid,
    ]


async def test_rust_can_send_empty_values(node: NodeUnderTest, nwc: NostrWalletConnect) -> None:
    made = await make_invoice(nwc, description="", description_hash="", expiry=0)
    decoded = decode(node, made)
    assert (made.description_hash, decoded["expiry"]) == (None, 86_400)
    by_hash = await lookup(nwc, made.payment_hash, "")
    assert by_hash["payment_hash"] == made.payment_hash
    assert await lookup(nwc, "", made.invoice) == by_hash
    with pytest.raises(NostrSdkError, match="this or invoice must be given"):
        await lookup(nwc, "", "")


async def test_rust_reads_the_balance(
    node: NodeUnderTest, connect: Connect, nwc: NostrWalletConnect
) -> None:
    assert (await nwc.get_balance()).balance == 0
    observer = client_of(connect(view="node"))
    await wait_for_balance(node, observer)
    await observer.client().shutdown()


async def wait_for_balance(node: NodeUnderTest, nwc: NostrWalletConnect) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while {"balance": (await nwc.get_balance()).balance} != spendable(node):
            pass


async def test_rust_is_notified_once_of_each_payment(
    node: NodeUnderTest, app: ConnectedApp, nwc: NostrWalletConnect
) -> None:
    """In each kind, and in the order of the payments."""
    notifications = await Notifications.of(nwc, app.uri)
    made = [make(app) for _ in range(2)]
    for each in made:
        node.pay(each["invoice"])
    received = [await notifications.next() for _ in range(4)]
    for kind in (23197, 23196):
        of_kind = [notification for its_kind, notification in received if its_kind == kind]
        assert [n["notification_type"] for n in of_kind] == ["payment_received"] * 2
        for notification, each in zip(of_kind, made, strict=True):
            check_settled(notification["notification"], each)
