"""The records of one app, however many, stop no other app from paying and no owner from revoking it.

The test writes the records into the datastore, in the formats of this and of earlier versions.
"""

import hashlib
import json
import socket
from collections.abc import Iterable
from typing import Any

import pytest

from nwc.wallet.bolt11_payment import MAX_INVOICE_CHARACTERS
from nwc.wallet.invoice_record import MAX_KEPT
from nwc.wallet.spending.payment_records import (
    MAX_FAILED,
    MAX_FAILED_KEPT,
    MAX_SETTLED,
    MAX_SETTLED_KEPT,
)
from tests.support.channel import Json
from tests.support.restartable_relay import RestartableRelay
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.network import line
from tests.wire.node import SOCKET, NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.real_node import RealNode, plugin_options
from tests.wire.real_payee import RealPayee
from tests.wire.test_spending import pay

Entry = tuple[list[str], str]
# As long as they could be before they were bounded, and too many for one answer of lightningd.
OLD_INVOICE, OLD_METADATA = "lnbcrt1" + "q" * 16_000, {"a": "漢" * 4080}
OLD_RECORDS = 3500


@pytest.fixture(scope="module")
def nodes(node_factory: Any, bitcoind: Any, relay: RestartableRelay) -> list[RealNode]:
    """Two real nodes. The node under test has all of the channel's capacity."""
    return line(node_factory, bitcoind, [plugin_options(relay.url), {}])


@pytest.fixture(scope="module")
def lightningd_node(node_kind: str, nodes: list[RealNode]) -> RealNode:
    return nodes[0]


@pytest.fixture
def lightningd_payee(nodes: list[RealNode]) -> RealPayee:
    return RealPayee(nodes[1].pyln)


def test_more_payments_than_one_answer_can_hold_stop_only_their_app(
    node: NodeUnderTest, payee: Payee, connect: Connect
) -> None:
    """An earlier version let an app store so many. Its payments are refused, and only its."""
    app, other = connect(budget="unlimited"), connect(budget="unlimited")
    node.stop_plugin()
    write(node, (old_payment(app, number) for number in range(OLD_RECORDS)))
    since = node.mark()
    node.start_plugin()
    for one in (app, other):
        wait_until_announced(node, one.name)
    assert app.ask("make_invoice", {"amount": 1000}).result["invoice"]
    assert pay(other, payee.invoice(1000)).result["preimage"]
    refused = pay(app, payee.invoice(1000))
    assert (refused.code, refused.message) == ("INTERNAL", "the node could not do this now")
    node.wait_for_log(f"the payments of connection {app.pubkey[:16]} could not be listed", since=since)
    assert node.rpc.call("nwc-status")["connections"]
    assert node.rpc.call("nwc-revoke", {"name": app.name})["revoked"]
    delete(node, [old_payment(app, number)[0] for number in range(OLD_RECORDS)])


def test_a_connection_can_be_revoked_while_the_plugin_starts(
    node: NodeUnderTest, connect: Connect
) -> None:
    """nwc-revoke finds it right after the start, however many records there are to read."""
    app = connect(budget="unlimited")
    node.stop_plugin()
    write(node, (old_payment(app, number) for number in range(OLD_RECORDS)))
    node.start_plugin()
    assert node.rpc.call("nwc-revoke", {"name": app.name})["revoked"]
    names = [one["name"] for one in node.rpc.call("nwc-list")["connections"]]
    assert app.name not in names
    delete(node, [old_payment(app, number)[0] for number in range(OLD_RECORDS)])


def test_the_most_that_one_app_can_store_stops_only_this_app(
    node: NodeUnderTest, payee: Payee, connect: Connect
) -> None:
    """The plugin starts and refuses more payments of this app. Another app pays."""
    app, other = connect(budget="unlimited"), connect(budget="unlimited")
    node.stop_plugin()
    stored = list(most_records_of(app))
    write(node, stored)
    node.start_plugin()
    for one in (app, other):
        wait_until_announced(node, one.name)
    assert pay(other, payee.invoice(1000)).result["preimage"]
    refused = pay(app, payee.invoice(1000))
    assert (refused.code, "too many payments" in refused.message) == ("RATE_LIMITED", True)
    page = app.ask("list_transactions", {"type": "outgoing"}).result
    assert page["total_count"] == MAX_SETTLED_KEPT
    made = app.ask("make_invoice", {"amount": 1000, "metadata": {"order": 1}}).result
    assert made["metadata"] == {}
    delete(node, [key for key, _ in stored])


def most_records_of(app: ConnectedApp) -> Iterable[Entry]:
    """Yield key and text of the most records that an app can store."""
    for number in range(MAX_SETTLED_KEPT):
        yield new_payment(app, number, is_settled=True, is_long=number < MAX_SETTLED)
    for number in range(MAX_FAILED_KEPT):
        later = MAX_SETTLED_KEPT + number
        yield new_payment(app, later, is_settled=False, is_long=number < MAX_FAILED)
    text = json.dumps({"version": 1, "metadata": {"a": "x" * 8184}, "description": "x" * 4096})
    for number in range(MAX_KEPT):
        yield ["nwc", "invoices", app.pubkey[:16], id_of(number), "record"], text


def old_payment(app: ConnectedApp, number: int) -> Entry:
    """Return key and text of a settled payment, as a version without bounds stored it."""
    stored = payment(number, invoice=OLD_INVOICE, metadata=OLD_METADATA)
    return ["nwc", "payments", app.pubkey[:16], id_of(number)], json.dumps(stored, ensure_ascii=False)


def new_payment(app: ConnectedApp, number: int, *, is_settled: bool, is_long: bool) -> Entry:
    """Return key and text of a payment: the longest there can be, or one without its details."""
    stored = payment(
        number,
        is_settled=is_settled,
        invoice="l" * MAX_INVOICE_CHARACTERS if is_long else None,
        metadata={"a": "x" * 8184} if is_long else None,
    )
    state, sent = stored["state"], stored["sent_msat"]
    created_at, payment_hash = stored["payment"]["created_at"], stored["payment"]["payment_hash"]
    order = created_at * 1_000_000
    name = f"{created_at}-{order}-{state}-{sent}msat-{payment_hash}-{id_of(number)}"
    return ["nwc", "payments", app.pubkey[:16], name, "record"], json.dumps(stored)


def payment(number: int, *, is_settled: bool = True, **fields: object) -> Json:
    """Return a stored payment record."""
    return {
        "version": 1,
        "payment": {
            "request_id": id_of(number),
            "request_created_at": 2**31 + number,  # so that no sweep finds it old
            "method": "pay_invoice",
            "encryption": "nip44_v2",
            "created_at": 2**31 + number,
            "amount_msat": 1000,
            "max_fee_msat": 5000,
            "payment_hash": id_of(-number - 1),
            "destination": "02" * 33,
            "first_sendpay_index": 0,
            **fields,
        },
        "state": "settled" if is_settled else "failed",
        "ended_at": 2**31 + number,
        "sent_msat": 1001 if is_settled else 0,
        "preimage": "11" * 32 if is_settled else None,
        "error_code": None if is_settled else "PAYMENT_FAILED",
        "error_message": None if is_settled else "no route to the payee was found",
    }


def id_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def write(node: NodeUnderTest, entries: Iterable[Entry]) -> None:
    """Write records into the datastore."""
    call_all(
        node,
        "datastore",
        ({"key": key, "string": text, "mode": "create-or-replace"} for key, text in entries),
    )


def delete(node: NodeUnderTest, keys: Iterable[list[str]]) -> None:
    """Delete records; skip those that do not exist."""
    call_all(node, "deldatastore", ({"key": key} for key in keys), codes=(1200,))


def call_all(
    node: NodeUnderTest, method: str, calls: Iterable[Json], codes: tuple[int, ...] = ()
) -> None:
    """Call a method many times over one socket, which takes seconds for thousands of calls."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(node.directory / SOCKET))
        with line.makefile("rb") as answers:
            for number, params in enumerate(calls):
                request = {"jsonrpc": "2.0", "id": f"test#{number}", "method": method, "params": params}
                line.sendall(json.dumps(request, ensure_ascii=False).encode() + b"\n\n")
                answer = json.loads(read_answer(answers))
                assert answer.get("error", {}).get("code", 0) in (0, *codes), answer


def read_answer(answers: Iterable[bytes]) -> bytes:
    """Read up to the empty line that ends an answer."""
    said = b""
    for read in answers:
        said += read
        if said.endswith(b"\n\n"):
            break
    return said
