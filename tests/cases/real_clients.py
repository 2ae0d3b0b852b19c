"""Real NWC clients: rust-nostr's, and Alby's JavaScript SDK where Node.js is installed."""

import hashlib
import json
import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from nostr_sdk import (
    MakeInvoiceRequest,
    MakeInvoiceResponse,
    Method,
    NostrSdkError,
    NostrWalletConnect,
    NostrWalletConnectBuilder,
    NostrWalletConnectUri,
    PayInvoiceRequest,
)

from tests.cases.fixtures import Connect, ConnectedApp
from tests.cases.node import NodeUnderTest
from tests.support.channel import Json
from tests.support.restartable_relay import RestartableRelay

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
NPM_INSTALL = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
HASH = "5a" * 32
ALL_METHODS = [
    "get_info",
    "get_balance",
    "get_budget",
    "make_invoice",
    "lookup_invoice",
    "list_transactions",
]


# rust-nostr


@pytest.fixture
def nwc(app: ConnectedApp) -> NostrWalletConnect:
    """rust-nostr's client on a fresh connection."""
    uri = NostrWalletConnectUri.parse(app.uri)
    return NostrWalletConnectBuilder(uri).timeout(timedelta(seconds=20)).build()


async def make(
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
    """Return what the node reads in the invoice."""
    decoded: Json = node.rpc.call("decode", {"string": made.invoice})
    assert made.payment_hash == decoded["payment_hash"]
    assert made.created_at is not None
    assert made.created_at.as_secs() == decoded["created_at"]
    assert made.expires_at is not None
    assert abs(made.expires_at.as_secs() - decoded["created_at"] - decoded["expiry"]) <= 1
    assert made.preimage is None
    return decoded


async def test_rust_get_info(node: NodeUnderTest, nwc: NostrWalletConnect) -> None:
    info = await nwc.get_info()
    about = node.rpc.getinfo()
    assert (info.alias, info.color, info.pubkey) == (about["alias"], about["color"], about["id"])
    assert (info.network, info.block_height) == ("regtest", about["blockheight"])
    assert info.methods == [
        Method.GET_INFO(),
        Method.GET_BALANCE(),
        Method.UNKNOWN("get_budget"),
        Method.MAKE_INVOICE(),
        Method.LOOKUP_INVOICE(),
        Method.LIST_TRANSACTIONS(),
    ]
    assert info.notifications == ["payment_received"]


async def test_rust_description(node: NodeUnderTest, nwc: NostrWalletConnect) -> None:
    made = await make(nwc, 21_000, "coffee ☕")
    assert (made.amount, made.description) == (21_000, "coffee ☕")
    decoded = decode(node, made)
    assert (decoded["amount_msat"], decoded["description"]) == (21_000, "coffee ☕")
    assert decoded["expiry"] == 86_400


async def test_rust_bare_hash(node: NodeUnderTest, nwc: NostrWalletConnect) -> None:
    made = await make(nwc, description_hash=HASH)
    assert made.description_hash == HASH
    assert decode(node, made)["description_hash"] == HASH


async def test_rust_any_amount(node: NodeUnderTest, nwc: NostrWalletConnect) -> None:
    made = await make(nwc, 0, "tip jar")
    assert made.amount == 0
    assert "amount_msat" not in decode(node, made)


async def test_rust_long_description(node: NodeUnderTest, nwc: NostrWalletConnect) -> None:
    text = "a long story " * 100
    made = await make(nwc, description=text)
    assert made.description == text
    assert decode(node, made)["description_hash"] == hashlib.sha256(text.encode()).hexdigest()


async def test_rust_expiry(node: NodeUnderTest, nwc: NostrWalletConnect) -> None:
    assert decode(node, await make(nwc, expiry=600))["expiry"] == 600


async def test_rust_several_at_once(node: NodeUnderTest, connect: Connect) -> None:
    clients = [NostrWalletConnect(NostrWalletConnectUri.parse(connect().uri)) for _ in range(3)]
    hashes = {(await make(client)).payment_hash for client in clients for _ in range(3)}
    assert len(hashes) == 9


async def test_rust_refusal(nwc: NostrWalletConnect) -> None:
    with pytest.raises(NostrSdkError, match=r"amount: must be .*Other"):
        await make(nwc, 2**63)
    request = PayInvoiceRequest(id=None, invoice="lnbc1", amount=None)
    with pytest.raises(NostrSdkError, match=r"(?i)restricted"):
        await nwc.pay_invoice(request)


# Alby's SDK


@pytest.fixture(scope="module")
def node_js() -> str:
    """Node.js with Alby's SDK installed for it."""
    program = shutil.which("node")
    if program is None or shutil.which("npm") is None:
        pytest.skip("Alby's SDK is not tested: Node.js and npm are not installed")
    installed = CLIENTS / "node_modules" / "@getalby" / "sdk" / "package.json"
    if not installed.exists():
        done = subprocess.run(NPM_INSTALL, cwd=CLIENTS, capture_output=True, text=True, timeout=100)
        if done.returncode:
            pytest.skip(f"Alby's SDK is not tested: npm could not install it: {done.stderr[-300:]}")
    return program


@pytest.fixture
def alby(node_js: str, connect: Connect) -> Json:
    """What Alby's SDK saw on a fresh connection (tests/clients/alby.mjs)."""
    app = connect(lud16="alice@example.com")
    done = subprocess.run(
        [node_js, "alby.mjs", app.uri, HASH],
        cwd=CLIENTS,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen: Json = json.loads(done.stdout)
    return seen


def test_alby_sdk(node: NodeUnderTest, relay: RestartableRelay, alby: Json) -> None:
    about = node.rpc.getinfo()
    assert alby["service"]["encryptions"] == ["nip44_v2", "nip04"]
    assert alby["service"]["capabilities"] == [*ALL_METHODS, "notifications"]
    assert alby["service"]["notifications"] == ["payment_received"]
    assert alby["encryption"] == "nip44_v2"
    assert alby["lud16"] == "alice@example.com"
    assert alby["info"]["pubkey"] == about["id"]
    assert alby["info"]["methods"] == ALL_METHODS
    assert alby["info"]["notifications"] == ["payment_received"]
    assert alby["info"]["lud16"] == "alice@example.com"

    described, bare, in_nip04 = alby["invoices"]
    for made in alby["invoices"]:
        decoded = node.rpc.call("decode", {"string": made["invoice"]})
        assert made["payment_hash"] == decoded["payment_hash"]
        assert made["amount"] == decoded.get("amount_msat", 0)
        assert made["created_at"] == decoded["created_at"]
        assert (made["type"], made["state"]) == ("incoming", "pending")
        assert made.get("preimage") in (None, "")
    assert (described["amount"], described["description"]) == (21_000, "from JavaScript")
    assert described["metadata"] == {"order": 7}
    assert bare["description_hash"] == HASH
    assert in_nip04["description"] == "in NIP-04"

    assert alby["refused"] == {"name": "Nip47WalletError", "code": "OTHER"}
    assert alby["no_payments"] == {"name": "Nip47WalletError", "code": "RESTRICTED"}
