"""A real NWC client: Alby's JavaScript SDK, where Node.js is installed."""

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.double.signing import signer_of
from tests.support.alby_app import CLIENTS, NPM_INSTALL, AlbyApp, AlbyError, PairingAlbyApp
from tests.support.channel import Json
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, fresh_name
from tests.wire.network import paid_node  # noqa: F401 - a fixture
from tests.wire.node import NodeUnderTest
from tests.wire.test_answers import METHODS
from tests.wire.test_receiving import UNKNOWN, check_settled, spendable

COFFEE = {"amount": 21_000, "description": "from JavaScript ☕", "metadata": {"order": 7, "by": ["ü"]}}
HASH = "5a" * 32
SECONDS_A_DAY = 86_400


@pytest.fixture(scope="module")
def node_js() -> str:
    """The path of Node.js, with Alby's SDK installed."""
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
def alby(node_js: str, app: ConnectedApp) -> Iterator[AlbyApp]:
    """Alby's client on a fresh connection."""
    with AlbyApp(node_js, app.uri) as alby:
        yield alby


@pytest.fixture
def observer(node_js: str, connect: Connect) -> Iterator[AlbyApp]:
    """Alby's client on a connection with view=node, which sees every payment of the node."""
    with AlbyApp(node_js, connect(view="node").uri) as alby:
        yield alby


def check_made(node: NodeUnderTest, made: Json) -> None:
    """Check that the SDK shows a new invoice as the node decodes it."""
    decoded = node.rpc.call("decode", {"string": made["invoice"]})
    assert made["payment_hash"] == decoded["payment_hash"]
    assert made["amount"] == decoded.get("amount_msat", 0)
    assert made["created_at"] == decoded["created_at"]
    assert (made["type"], made["state"]) == ("incoming", "pending")
    assert made.get("preimage") in (None, "")


def test_alby_reads_get_info(node: NodeUnderTest, node_js: str, connect: Connect) -> None:
    app = connect(lud16="alice@example.com")
    with AlbyApp(node_js, app.uri) as alby:
        service = alby.call("getWalletServiceInfo")
        assert service["encryptions"] == ["nip44_v2", "nip04"]
        assert service["capabilities"] == [*METHODS, "notifications"]
        assert service["notifications"] == ["payment_received"]
        info = alby.call("getInfo")
        assert info["pubkey"] == node.rpc.getinfo()["id"]
        assert info["methods"] == METHODS
        assert info["notifications"] == ["payment_received"]
        assert info["lud16"] == alby.get("lud16") == "alice@example.com"
        assert info["metadata"] == {"id": app.shown["client_pubkey"][:16], "name": app.name}
        assert alby.get("encryptionType") == "nip44_v2"


def test_alby_makes_invoices(
    node: NodeUnderTest, node_js: str, app: ConnectedApp, alby: AlbyApp
) -> None:
    described = alby.call("makeInvoice", COFFEE)
    assert described["description"] == COFFEE["description"]
    assert described["metadata"] == COFFEE["metadata"]
    bare = alby.call("makeInvoice", {"amount": 1_000, "description_hash": HASH})
    assert bare["description_hash"] == HASH
    with AlbyApp(node_js, app.uri, "nip04") as old:
        in_nip04 = old.call("makeInvoice", {"amount": 1_000, "description": "in NIP-04"})
    assert in_nip04["description"] == "in NIP-04"
    for made in (described, bare, in_nip04):
        check_made(node, made)


def test_alby_signs_a_message(node: NodeUnderTest, node_js: str, connect: Connect) -> None:
    with AlbyApp(node_js, connect(methods="get_info sign_message").uri) as alby:
        signed = alby.call("signMessage", {"message": "log in ☕"})
    assert signed["message"] == "log in ☕"
    assert signer_of("log in ☕".encode(), signed["signature"]) == node.rpc.getinfo()["id"]


def test_alby_raises_the_error_code_of_a_refusal(alby: AlbyApp) -> None:
    for method, params, code in [
        ("makeInvoice", {"amount": -1}, "OTHER"),
        ("payInvoice", {"invoice": "lnbc1"}, "RESTRICTED"),
        ("lookupInvoice", {"payment_hash": UNKNOWN}, "NOT_FOUND"),
        ("lookupInvoice", {}, "OTHER"),
        ("listTransactions", {"limit": -1}, "OTHER"),
    ]:
        with pytest.raises(AlbyError) as refused:
            alby.call(method, params)
        assert (refused.value.name, refused.value.code) == ("Nip47WalletError", code)


def test_alby_looks_up_an_invoice(node: NodeUnderTest, alby: AlbyApp) -> None:
    made = alby.call("makeInvoice", COFFEE)
    each_params = ({"payment_hash": made["payment_hash"]}, {"invoice": made["invoice"]})
    for params in each_params:
        assert alby.call("lookupInvoice", params) == made
    node.pay(made["invoice"])
    for params in each_params:
        check_settled(alby.call("lookupInvoice", params), made)


def test_alby_lists_transactions(node: NodeUnderTest, alby: AlbyApp, observer: AlbyApp) -> None:
    assert alby.call("listTransactions", {}) == {"transactions": [], "total_count": 0}
    made = [alby.call("makeInvoice", {**COFFEE, "description": name}) for name in ("a", "b", "c")]
    node.pay(made[0]["invoice"])
    paid = alby.call("listTransactions", {})
    assert paid["total_count"] == 1
    check_settled(paid["transactions"][0], made[0])
    everything = alby.call("listTransactions", {"unpaid": True, "limit": 2})
    assert everything == {"transactions": made[:0:-1], "total_count": 3}
    rest = alby.call("listTransactions", {"unpaid": True, "limit": 2, "offset": 2})
    assert rest == {**paid, "total_count": 3}
    assert alby.call("listTransactions", {"type": "incoming"}) == paid
    assert alby.call("listTransactions", {"type": "outgoing"})["transactions"] == []
    newest = observer.call("listTransactions", {"type": "incoming", "unpaid": True, "limit": 3})
    assert newest["transactions"] == [*made[:0:-1], *paid["transactions"]]


def test_alby_can_send_empty_values(node: NodeUnderTest, alby: AlbyApp) -> None:
    nothing = {"description": "", "description_hash": "", "expiry": 0, "metadata": []}
    made = alby.call("makeInvoice", {"amount": 21_000, **nothing})
    check_made(node, made)
    assert made["expires_at"] - made["created_at"] == SECONDS_A_DAY
    assert made["metadata"] == {}
    by_hash = {"payment_hash": made["payment_hash"], "invoice": ""}
    by_invoice = {"payment_hash": "", "invoice": made["invoice"]}
    assert [alby.call("lookupInvoice", params) for params in (by_hash, by_invoice)] == [made] * 2
    with pytest.raises(AlbyError, match="this or invoice must be given"):
        alby.call("lookupInvoice", {"payment_hash": "", "invoice": ""})
    zeros = {"from": 0, "until": 0, "limit": 0, "offset": 0, "type": "", "unpaid": True}
    assert alby.call("listTransactions", zeros) == {"transactions": [made], "total_count": 1}


def test_alby_reads_the_balance(node: NodeUnderTest, alby: AlbyApp, observer: AlbyApp) -> None:
    assert alby.call("getBalance") == {"balance": 0}
    wait_until(lambda: observer.call("getBalance") == spendable(node), "the node's balance")


@pytest.mark.parametrize("encryption", ["nip44_v2", "nip04"])
def test_alby_is_notified_once_of_each_payment(
    node: NodeUnderTest, node_js: str, app: ConnectedApp, encryption: str
) -> None:
    with AlbyApp(node_js, app.uri, encryption) as alby:
        alby.subscribe("payment_received")
        made = [alby.call("makeInvoice", COFFEE) for _ in range(2)]
        for each in made:
            node.pay(each["invoice"])
            alby.wait_for_notification(each["payment_hash"])
        received = alby.notifications()
        assert [n["notification_type"] for n in received] == ["payment_received"] * 2
        for notification, each in zip(received, made, strict=True):
            check_settled(notification["notification"], each)


def test_an_app_of_alby_makes_its_own_key(
    node: NodeUnderTest, node_js: str, relay: RestartableRelay
) -> None:
    name = fresh_name()
    options = {
        "relayUrls": [relay.url],
        "name": name,
        "icon": "https://a.example/i.png",
        "requestMethods": ["get_info", "make_invoice", "pay_invoice", "get_budget"],
        "notificationTypes": ["payment_received"],
        "maxAmount": 1_000_000,
        "budgetRenewal": "monthly",
        "metadata": {"message": "it's ü"},
        "returnTo": "https://a.example/back",
    }
    with PairingAlbyApp(node_js, options) as alby:
        asked = {"uri": alby.auth_uri, "relays": relay.url, "lud16": "me@a.example"}
        shown = node.rpc.call("nwc-connect", asked)
        assert shown["budget"] == "1,000 sat a month, fees included"
        assert shown["return_to"] == "https://a.example/back"
        made = node.rpc.call("nwc-connect", {**asked, "confirm": True})
        info = alby.call("getInfo")
        assert info["methods"] == ["get_info", "get_budget", "make_invoice", "pay_invoice"]
        assert alby.get("walletPubkey") == made["wallet_pubkey"]
        assert alby.get("lud16") == "me@a.example"
        budget = alby.call("getBudget")
        assert (budget["total_budget"], budget["renewal_period"]) == (1_000_000, "monthly")
        alby.subscribe("payment_received")
        invoice = alby.call("makeInvoice", COFFEE)
        check_made(node, invoice)
        node.pay(invoice["invoice"])
        paid = alby.wait_for_notification(invoice["payment_hash"])
        assert paid["notification_type"] == "payment_received"
    node.rpc.call("nwc-revoke", [name])
