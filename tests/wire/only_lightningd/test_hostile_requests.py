"""Requests that no honest app makes: too large onions, hints that lead nowhere, impossible amounts.

lightningd stays alive, keeps its liquidity, and does not become busy.
"""

import secrets
from collections.abc import Callable
from urllib.parse import quote

import pytest

from nwc.wallet.spending.large import MAX_LARGE_IN_ALL
from tests.double import bolt12
from tests.support.channel import Json
from tests.support.forged import BOLT12_IN_DISGUISE, forged_invoice, invented_nodes, public_key
from tests.support.lightningd_version import since
from tests.support.processes import family
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect
from tests.wire.only_lightningd.hostile_line import *  # noqa: F403
from tests.wire.only_lightningd.hostile_line import (
    ask_patiently,
    is_alive,
    parts,
    patient_answer,
    reservations,
    sent_or_pending_msat,
    spendable_by_channel,
    spendable_msat,
    wait_until_free,
)
from tests.wire.real_node import RealNode
from tests.wire.real_payee import RealPayee
from tests.wire.test_spending import books

AMOUNT_MSAT = 10_000_000
AT_ONCE = 30
REFUSED = ("PAYMENT_FAILED", "OTHER", "BAD_REQUEST")
# For an amount that does not fit, `pay` would make some 150 parts and take 500 MB.
MAX_GROWTH_BYTES = 100_000_000


def many_records(payee: RealPayee) -> tuple[str, Json]:
    """A keysend with 50 records of 30 bytes (type, length and value), too many for one onion."""
    records = [{"type": 2**63 + number * 2 + 1, "value": "00" * 20} for number in range(50)]
    return "pay_keysend", {"amount": AMOUNT_MSAT, "pubkey": payee.id, "tlv_records": records}


def large_metadata(payee: RealPayee) -> tuple[str, Json]:
    """An invoice with 639 bytes of payment metadata and a hint of 12 hops, which begins at the payee."""
    hint = [bytes.fromhex(payee.id), *invented_nodes(11)]
    return "pay_invoice", {"invoice": forged_invoice(AMOUNT_MSAT, [hint], metadata=b"\1" * 639)}


def node_twice_in_a_row(payee: RealPayee) -> tuple[str, Json]:
    """An invoice with a hint that names the same node twice in a row."""
    hint = [bytes.fromhex(payee.id)] * 2
    return "pay_invoice", {"invoice": forged_invoice(AMOUNT_MSAT, [hint])}


def node_twice(payee: RealPayee) -> tuple[str, Json]:
    """An invoice with a hint that names the same node twice, with another one in between."""
    hint = [bytes.fromhex(payee.id), *invented_nodes(1), bytes.fromhex(payee.id)]
    return "pay_invoice", {"invoice": forged_invoice(AMOUNT_MSAT, [hint])}


def payee_as_its_own_neighbour(payee: RealPayee) -> tuple[str, Json]:
    """An invoice with a hint that ends at the payee, which would be its own neighbour."""
    key = secrets.token_bytes(32)
    hint = [bytes.fromhex(payee.id), public_key(key)]
    return "pay_invoice", {"invoice": forged_invoice(AMOUNT_MSAT, [hint], key=key)}


def many_hints(payee: RealPayee) -> tuple[str, Json]:
    """An invoice with 60 hints."""
    hints = [[bytes.fromhex(payee.id)] for _ in range(60)]
    return "pay_invoice", {"invoice": forged_invoice(AMOUNT_MSAT, hints)}


def offer_without_paths(payee: RealPayee) -> tuple[str, Json]:
    """An offer with an empty list of paths, on which `fetchinvoice` aborts."""
    fields: Json = {
        "offer_chains": [bolt12.CHAINS["regtest"]],
        "offer_amount_msat": AMOUNT_MSAT,
        "offer_description": "forged",
        "offer_paths": [],
        "offer_issuer_id": payee.id,
    }
    return "pay", {"payment": bolt12.encode("lno", fields)}


def bolt12_in_disguise(payee: RealPayee) -> tuple[str, Json]:
    """A BOLT12 invoice that looks like BOLT11, and on which `decode` ends lightningd."""
    return "pay_invoice", {"invoice": BOLT12_IN_DISGUISE}


def disguise_in_a_uri(payee: RealPayee) -> tuple[str, Json]:
    """The same in a payment URI."""
    return "pay", {"payment": "bitcoin:?lightning=" + quote(BOLT12_IN_DISGUISE, safe="")}


Forge = Callable[[RealPayee], tuple[str, Json]]
each_forgery = pytest.mark.parametrize(
    "forge",
    [
        many_records,
        large_metadata,
        node_twice_in_a_row,
        node_twice,
        payee_as_its_own_neighbour,
        many_hints,
        # v25.09.3 and v25.12.1 take an empty list for none, so there this is a usual offer.
        *since("26.04", offer_without_paths),
        bolt12_in_disguise,
        disguise_in_a_uri,
    ],
)


@each_forgery
def test_a_forged_request_is_refused_before_anything_is_sent(
    node: RealNode, payee: RealPayee, connect: Connect, forge: Forge
) -> None:
    """The error names the parameter, and thirty requests at once leave no trace in lightningd."""
    app = connect(budget="unlimited")
    before_msat, parts_before = spendable_msat(node), len(parts(node))
    requests = [app.request(*forge(payee)) for _ in range(AT_ONCE)]
    for request in requests:
        app.send(request)
    answers = [patient_answer(node, app, request) for request in requests]
    assert is_alive(node)
    assert reservations(node) == []
    assert len(parts(node)) == parts_before
    assert spendable_msat(node) == before_msat
    assert books(node, app) == (0, 0)
    assert {answer.code for answer in answers} <= set(REFUSED)
    names = ("invoice:", "payment:", "tlv_records:", "offer:")
    assert all(answer.message.startswith(names) for answer in answers), answers[0].message


# Amounts


def more_than_all(node: RealNode) -> int:
    return spendable_msat(node) * 101 // 100


def one_bitcoin(_: RealNode) -> int:
    return 100_000_000_000


def more_than_there_is(_: RealNode) -> int:
    return 2_000_000_000_000_000_000


each_amount = pytest.mark.parametrize(
    "choose", [more_than_all, one_bitcoin, more_than_there_is], ids=lambda choose: choose.__name__
)


@pytest.mark.parametrize("method", ["pay_invoice", "pay_keysend"])
@each_amount
def test_an_amount_larger_than_the_channels_is_refused_at_once(
    node: RealNode,
    neighbour: RealPayee,
    connect: Connect,
    choose: Callable[[RealNode], int],
    method: str,
) -> None:
    """lightningd is not asked to try."""
    app = connect(budget="unlimited")
    amount_msat, parts_before = choose(node), len(parts(node))
    params: Json = {"amount": amount_msat, "pubkey": neighbour.id}
    if method == "pay_invoice":
        hint = [bytes.fromhex(neighbour.id)]
        params = {"invoice": forged_invoice(min(amount_msat, 10**18), [hint])}
    answer = app.ask(method, params)
    assert answer.code in ("INSUFFICIENT_BALANCE", "OTHER")
    assert len(parts(node)) == parts_before
    assert books(node, app) == (0, 0)
    assert is_alive(node)


@pytest.mark.parametrize("is_neighbour", [True, False], ids=["neighbour", "payee"])
def test_an_amount_at_the_limit_takes_little_memory_and_is_booked(
    node: RealNode, neighbour: RealPayee, payee: RealPayee, connect: Connect, is_neighbour: bool
) -> None:
    """With its fee the amount just does not fit.

    The payee can hold the parts that arrive for a minute (BOLT4, mpp_timeout).
    """
    app, other = connect(budget="unlimited"), connect(budget="1000sat")
    paid = neighbour if is_neighbour else payee
    amount_msat = spendable_msat(node) if is_neighbour else max(spendable_by_channel(node))
    invoice = paid.invoice(amount_msat)
    before_bytes = memory(node)
    request = app.request("pay_invoice", {"invoice": invoice["bolt11"]})
    app.send(request)
    assert other.ask("get_budget").result["total_budget"] == 1_000_000
    answer = patient_answer(node, app, request)
    if answer.body["error"] is not None:
        assert answer.code in ("INSUFFICIENT_BALANCE", "PAYMENT_FAILED")
    wait_until_free(node, app)
    assert books(node, app) == (sent_or_pending_msat(node, invoice["payment_hash"]), 0)
    assert is_alive(node)
    assert memory(node) - before_bytes < MAX_GROWTH_BYTES


def test_only_a_few_large_payments_without_a_route_are_tried(
    node: RealNode, payee: RealPayee, connect: Connect
) -> None:
    """Ten apps ask to pay an amount that fits the node's channels, but not those behind them.

    lightningd would make thousands of attempts for each. All but a few are refused, because of the limit
    or because the few leave nothing in the channels.
    """
    apps = [connect(budget="unlimited") for _ in range(10)]
    amount_msat = spendable_msat(node) * 92 // 100
    invoices = [payee.invoice(amount_msat) for _ in apps]
    requests = []
    for app, invoice in zip(apps, invoices, strict=True):
        requests.append(app.request("pay_invoice", {"invoice": invoice["bolt11"]}))
        app.send(requests[-1])
    answers = [patient_answer(node, app, r) for app, r in zip(apps, requests, strict=True)]
    codes = [answer.code for answer in answers]
    assert set(codes) <= {"INSUFFICIENT_BALANCE", "PAYMENT_FAILED", "RATE_LIMITED"}
    tried = [invoice for invoice in invoices if parts(node, invoice["payment_hash"])]
    assert len(tried) <= MAX_LARGE_IN_ALL
    assert is_alive(node)
    assert all(books(node, app) == (0, 0) for app in apps)
    wait_until(lambda: not reservations(node), "no reservation to be left")


def memory(node: RealNode) -> int:
    """Return the memory of lightningd and its plugins (RSS), in bytes."""
    return sum(process.memory_info().rss for process in family(node.pid))


# Invoices that the plugin does not pay


def test_bolt12_is_refused(node: RealNode, payee: RealPayee, connect: Connect) -> None:
    app = connect(budget="10sat")
    offer = payee.rpc.call("offer", {"amount": 1000, "description": "tea"})["bolt12"]
    fetched = node.rpc.call("fetchinvoice", {"offer": offer})["invoice"]
    for string in (offer, fetched):
        refused = app.ask("pay_invoice", {"invoice": string})
        assert (refused.code, "the method pay takes BOLT12 offers" in refused.message) == ("OTHER", True)


def test_an_honest_payment_still_succeeds(
    node: RealNode, neighbour: RealPayee, payee: RealPayee, connect: Connect
) -> None:
    """It comes after all the hostile requests above."""
    app = connect(budget="1000sat")
    for paid in (neighbour, payee):
        invoice = paid.invoice(1000)
        answer = ask_patiently(node, app, "pay_invoice", {"invoice": invoice["bolt11"]})
        assert answer.result["fees_paid"] <= 1
    assert app.ask("pay_keysend", {"amount": 1000, "pubkey": payee.id}).result["fees_paid"] == 1
