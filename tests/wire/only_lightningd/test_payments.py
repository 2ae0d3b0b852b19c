"""Invoices made over Nostr, which another node pays over announced and unannounced channels."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.double.process import LightningdDouble
from tests.double.settings import NEWEST
from tests.support.channel import Json
from tests.support.lightningd_version import running_version
from tests.support.restartable_relay import RestartableRelay
from tests.support.rust_app import Asked, SdkApp
from tests.support.waiting import wait_until
from tests.wire.fixtures import fresh_name, wait_until_announced
from tests.wire.node import PLUGIN
from tests.wire.only_lightningd.shapes import differences
from tests.wire.real_node import RealNode, plugin_options

# The hash of a text that the node never sees, as LNURL servers use it.
BARE_HASH = hashlib.sha256(b'[["text/plain","Sats for satoshi"]]').hexdigest()
TEXT = "Ein Kaffee ☕ für Jürgen"
LONG_TEXT = "Lang ist die Liste. " * 60
PAID_MSAT = 123_456

REQUESTS: dict[str, Json] = {
    "description": {"amount": 21_000, "description": TEXT},
    "no description": {"amount": 21_000},
    "any amount": {"amount": 0, "description": TEXT},
    "long description": {"amount": 21_000, "description": LONG_TEXT},
    "bare hash": {"amount": 21_000, "description_hash": BARE_HASH},
    "bare hash, any amount": {"amount": 0, "description_hash": BARE_HASH},
    "bare hash and description": {
        "amount": 21_000,
        "description": TEXT,
        "description_hash": BARE_HASH,
    },
    "bare hash and long description": {
        "amount": 21_000,
        "description": LONG_TEXT,
        "description_hash": BARE_HASH,
    },
}


@dataclass(frozen=True, slots=True)
class Receiver:
    """A node with the plugin, an app of it, and the hint by which the payer finds the node."""

    node: RealNode
    app: SdkApp
    connection: str
    hint: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Network:
    """payer —announced→ announced —unannounced→ unannounced."""

    payer: RealNode
    announced: RealNode
    unannounced: RealNode


@pytest.fixture(scope="module")
def network(node_factory: Any, relay: RestartableRelay) -> Network:
    ours = plugin_options(relay.url)
    payer, announced, unannounced = node_factory.get_nodes(3, opts=[{}, ours, ours])
    node_factory.join_nodes([payer, announced], wait_for_announce=True)
    announced.fundchannel(unannounced, announce_channel=False)
    # A node puts only those peers into its hints that it knows to be reachable.
    wait_until(lambda: unannounced.rpc.listchannels()["channels"], "gossip of the announced channel")
    return Network(RealNode(payer), RealNode(announced), RealNode(unannounced))


@pytest.fixture(params=["announced", "unannounced"])
def receiver(request: pytest.FixtureRequest, network: Network) -> Iterator[Receiver]:
    node: RealNode = getattr(network, request.param)
    hint = hint_of(node) if node is network.unannounced else None
    name = fresh_name()
    uri = node.rpc.call("nwc-connect", {"name": name})["uri"]
    wait_until_announced(node, name)
    with SdkApp(uri) as app:
        yield Receiver(node, app, name, hint)


def test_the_double_shows_a_paid_invoice_as_lightningd_does(
    network: Network, receiver: Receiver, tmp_path: Path
) -> None:
    asked = receiver.app.make_invoice(21_000, TEXT)
    pay(network.payer, asked.response.invoice, 21_000)
    [real] = invoices_of(receiver)
    with LightningdDouble(tmp_path, PLUGIN, {"dev-version": running_version() or NEWEST}) as double:
        double.rpc.invoice(21_000, "label", TEXT)
        double.rpc.call("dev-pay", {"label": "label"})
        [paid] = double.rpc.listinvoices("label")["invoices"]
    assert real["status"] == paid["status"] == "paid"
    assert differences(real, paid, "invoice") == []


def hint_of(node: RealNode) -> tuple[str, str]:
    """Return the peer and the channel in the route hint of an unannounced node (BOLT11 `r`)."""
    [channel] = node.rpc.listpeerchannels()["channels"]
    return channel["peer_id"], channel["alias"]["remote"]


@pytest.mark.parametrize("wanted", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_repeated_request_shows_that_its_invoice_was_paid(
    network: Network, receiver: Receiver, wanted: Json
) -> None:
    asked = receiver.app.make_invoice(**wanted)
    check_pending(asked, wanted)
    check_decoded(network.payer.rpc.decode(asked.response.invoice), wanted, receiver.hint)

    preimage = pay(network.payer, asked.response.invoice, wanted["amount"])

    check_stored(receiver, asked, wanted)
    restart_plugin(receiver)
    check_settled(receiver.app.replay(asked.event).result, asked, wanted, preimage)
    assert len(invoices_of(receiver)) == 1


def check_pending(asked: Asked, wanted: Json) -> None:
    result = asked.answer.result
    assert result["state"] == "pending"
    assert "preimage" not in result
    assert "settled_at" not in result
    assert result["amount"] == wanted["amount"]
    assert result["invoice"] == asked.response.invoice
    assert result.get("description", "") == wanted.get("description", "")
    assert result.get("description_hash") == committed_hash(wanted)


def committed_hash(wanted: Json) -> str | None:
    """Return the hash that the invoice must have instead of a description; None if it has none."""
    text = wanted.get("description", "").encode()
    too_long = hashlib.sha256(text).hexdigest() if len(text) > 639 else None
    return wanted.get("description_hash", too_long)


def check_decoded(decoded: Json, wanted: Json, hint: tuple[str, str] | None) -> None:
    assert decoded["valid"] is True
    assert decoded.get("amount_msat", 0) == wanted["amount"]
    assert decoded.get("description_hash") == committed_hash(wanted)
    if committed_hash(wanted) is None:
        assert decoded["description"] == wanted.get("description", "")
    else:
        assert "description" not in decoded
    hops = [(h["pubkey"], h["short_channel_id"]) for route in decoded.get("routes", []) for h in route]
    assert hops == ([] if hint is None else [hint])


def pay(payer: RealNode, invoice: str, amount_msat: int) -> str:
    amount = {} if amount_msat else {"amount_msat": PAID_MSAT}
    paid = payer.rpc.call("xpay", {"invstring": invoice, **amount})
    return str(paid["payment_preimage"])


def check_stored(receiver: Receiver, asked: Asked, wanted: Json) -> None:
    label = f"nwc:{receiver.app.connection_id}:{asked.event['id']}"
    [stored] = invoices_of(receiver)
    assert stored["label"] == label
    assert stored["status"] == "paid"
    assert stored["amount_received_msat"] == (wanted["amount"] or PAID_MSAT)
    text = wanted.get("description", "")
    if "description_hash" in wanted:
        text = text.encode()[:639].decode()
    assert stored.get("description", "") == text


def invoices_of(receiver: Receiver) -> list[Json]:
    """Return the invoices of the receiver's connection."""
    prefix = f"nwc:{receiver.app.connection_id}:"
    invoices: list[Json] = receiver.node.rpc.listinvoices()["invoices"]
    return [i for i in invoices if i["label"].startswith(prefix)]


def restart_plugin(receiver: Receiver) -> None:
    """Restart the plugin, which would ignore an event that it has already seen."""
    receiver.node.stop_plugin()
    receiver.node.start_plugin()
    wait_until_announced(receiver.node, receiver.connection)


def check_settled(result: Json, asked: Asked, wanted: Json, preimage: str) -> None:
    first = asked.answer.result
    changed = {"state", "preimage", "settled_at", "amount"}
    assert {k: v for k, v in result.items() if k not in changed} == {
        k: v for k, v in first.items() if k not in changed
    }
    assert result["state"] == "settled"
    assert result["preimage"] == preimage
    assert hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == first["payment_hash"]
    assert first["created_at"] <= result["settled_at"] <= first["expires_at"]
    assert result["amount"] == (wanted["amount"] or PAID_MSAT)
