"""Paying from a budget: pay_invoice, pay_keysend, get_budget, the ledger, and notifications."""

import hashlib
from typing import Any

import pytest
from pyln.client import RpcError

from tests.support.app import NIP04, NIP44, Answer
from tests.support.channel import Json
from tests.support.pairing_app import PairingApp
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import PATIENCE_S, wait_until
from tests.wire.fixtures import Connect, ConnectedApp, budget_of, fresh_name, wait_until_announced
from tests.wire.node import NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.test_receiving import check_not_notified, listed, make
from tests.wire.three_nodes import *  # noqa: F403

AMOUNT_MSAT = 100_000
SECONDS_A_DAY = 86_400
METADATA = {"recipient_data": {"identifier": "me@a.example"}, "note": "ü"}


def books(node: NodeUnderTest, app: ConnectedApp) -> tuple[int, int]:
    """Return the sums that a connection has spent and reserved, in msat."""
    budget = budget_of(node, app.name)
    return budget["spent_msat"], budget["reserved_msat"]


def really_sent(node: NodeUnderTest, *payment_hashes: str) -> int:
    """Return the sum that these payments have cost according to lightningd, in msat."""
    parts = [
        part
        for payment_hash in payment_hashes
        for part in node.rpc.call("listsendpays", {"payment_hash": payment_hash})["payments"]
    ]
    return sum(part["amount_sent_msat"] for part in parts if part["status"] == "complete")


def pay(app: ConnectedApp, invoice: Json, **params: Any) -> Answer:
    """Send pay_invoice and return the answer."""
    return app.ask("pay_invoice", {"invoice": invoice["bolt11"], **params})


def check_paid(answer: Answer, invoice: Json, fee_msat: int) -> None:
    """Check the answer to a request that has paid an invoice."""
    assert answer.result.keys() == {"preimage", "fees_paid"}
    assert answer.result["fees_paid"] == fee_msat
    check_preimage(answer.result["preimage"], invoice)


def check_preimage(preimage: str, invoice: Json) -> None:
    """Check that a preimage proves that an invoice is paid."""
    assert hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == invoice["payment_hash"]


def wait_until_booked(node: NodeUnderTest, app: ConnectedApp) -> None:
    """Wait until no payment of a connection is pending."""
    wait_until(lambda: not budget_of(node, app.name)["pending_payments"], "no payment to be pending")


# pay_invoice


@pytest.mark.parametrize("encryption", [NIP44, NIP04])
def test_pay_invoice_pays_and_spends_amount_and_fee(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp, encryption: str
) -> None:
    invoice = payee.invoice(AMOUNT_MSAT, "coffee")
    fee_msat = payee.fee_msat(AMOUNT_MSAT)
    request = {"invoice": invoice["bolt11"], "metadata": METADATA}
    answer = spender.ask("pay_invoice", request, encryption=encryption)
    assert answer.body["result_type"] == "pay_invoice"
    check_paid(answer, invoice, fee_msat)
    spent_msat = AMOUNT_MSAT + fee_msat
    assert books(node, spender) == (spent_msat, 0)
    assert really_sent(node, invoice["payment_hash"]) == spent_msat
    check_agrees(node, spender)
    check_history(spender, invoice, answer, fee_msat)


def check_agrees(node: NodeUnderTest, app: ConnectedApp) -> None:
    """Check that get_budget and get_balance agree with nwc-list."""
    budget = budget_of(node, app.name)
    asked = app.ask("get_budget").result
    assert asked == {
        "used_budget": budget["spent_msat"] + budget["reserved_msat"],
        "total_budget": budget["granted_msat"],
        "renewal_period": "daily",
        "renews_at": budget["renews_at"],
    }
    left_msat = asked["total_budget"] - asked["used_budget"]
    assert app.ask("get_balance").result == {"balance": left_msat}
    assert budget["left_msat"] == left_msat
    assert 0 <= budget["renews_at"] - app.shown["created_at"] - SECONDS_A_DAY < PATIENCE_S


def check_history(app: ConnectedApp, invoice: Json, answer: Answer, fee_msat: int) -> None:
    """Check that lookup_invoice, list_transactions and notifications show the same payment."""
    shown = app.ask("lookup_invoice", {"invoice": invoice["bolt11"]}).result
    expected = {
        "type": "outgoing",
        "state": "settled",
        "invoice": invoice["bolt11"],
        "description": "coffee",
        "payment_hash": invoice["payment_hash"],
        "amount": AMOUNT_MSAT,
        "fees_paid": fee_msat,
        "preimage": answer.result["preimage"],
        "metadata": METADATA,
    }
    assert expected.items() <= shown.items()
    assert shown["created_at"] <= shown["settled_at"]
    assert listed(app) == {"transactions": [shown], "total_count": 1}
    received = app.wait_for_notifications(invoice["payment_hash"])
    assert [(n.type, n.transaction) for n in received] == [("payment_sent", shown)] * 2


def check_replay(node: NodeUnderTest, app: ConnectedApp, request: Json, first: Answer) -> None:
    """Check that a replay of the request gets the same answer from the next run of the plugin."""
    node.kill_plugin()
    node.start_plugin()
    wait_until_announced(node, app.name)
    app.ask("get_info")
    app.send(request)
    received = app.channels[0].received
    answers = received.wait_for(lambda e: ["e", request["id"]] in e["tags"], "a second", count=2)
    assert [app.open(event, request).result for event in answers] == [first.result] * 2


def test_an_app_that_made_its_own_key_pays_what_it_asked_for(
    node: NodeUnderTest, payee: Payee, relay: RestartableRelay
) -> None:
    name = fresh_name()
    with PairingApp(
        relay.url, name=name, request_methods="pay_invoice", max_amount=2 * AMOUNT_MSAT
    ) as asking:
        asked = {"uri": asking.uri, "relays": relay.url, "confirm": True}
        node.rpc.call("nwc-connect", asked)
        app = asking.connected()
        invoice = payee.invoice(AMOUNT_MSAT)
        fee_msat = payee.fee_msat(AMOUNT_MSAT)
        check_paid(app.ask("pay_invoice", {"invoice": invoice["bolt11"]}), invoice, fee_msat)
        more = payee.invoice(AMOUNT_MSAT)
        assert app.ask("pay_invoice", {"invoice": more["bolt11"]}).code == "QUOTA_EXCEEDED"
        assert budget_of(node, name)["spent_msat"] == AMOUNT_MSAT + fee_msat
    node.rpc.call("nwc-revoke", [name])


def test_the_same_invoice_is_not_paid_twice(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    """Neither a new request for the same invoice nor a replay pays again. Both get the preimage."""
    invoice = payee.invoice(AMOUNT_MSAT)
    request = spender.request("pay_invoice", {"invoice": invoice["bolt11"]})
    first = spender.ask_with(request)
    assert pay(spender, invoice).result == first.result
    check_replay(node, spender, request, first)
    assert books(node, spender) == (AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT), 0)


def test_the_app_chooses_the_amount_of_an_invoice_without_one(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    invoice = payee.invoice(0)
    refused = pay(spender, invoice)
    assert (refused.code, refused.message[:7]) == ("OTHER", "amount:")
    check_paid(pay(spender, invoice, amount=54_321), invoice, payee.fee_msat(54_321))
    assert books(node, spender)[0] == 54_321 + payee.fee_msat(54_321)
    [row] = listed(spender)["transactions"]
    assert row["amount"] == 54_321


def test_another_amount_than_that_of_the_invoice_is_refused(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    invoice = payee.invoice(AMOUNT_MSAT)
    for other in (AMOUNT_MSAT - 1, AMOUNT_MSAT + 1, 1):
        refused = pay(spender, invoice, amount=other)
        assert (refused.code, refused.message[:7]) == ("OTHER", "amount:")
    assert books(node, spender) == (0, 0)
    check_paid(pay(spender, invoice, amount=AMOUNT_MSAT), invoice, payee.fee_msat(AMOUNT_MSAT))


BOLT12 = "lno1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrcgqyqs5pr5v4ehg93pqfnwgkvdr57"
# BOLT11, "Examples": "Please make a donation of any amount …".
OTHER_NETWORK = (
    "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqf"
    "qqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh"
    "7ck6q93dj32dlqnls087fxdwk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql"
)


@pytest.mark.parametrize(
    ("invoice", "words"),
    [
        (None, "invoice: must be a BOLT11 invoice"),
        ("", "invoice: must be a BOLT11 invoice"),
        ("lnbcrt1", "invoice: must be a BOLT11 invoice"),
        (7, "invoice: must be a string"),
        (BOLT12, "the method pay takes BOLT12 offers"),
        (BOLT12.upper(), "the method pay takes BOLT12 offers"),
        (OTHER_NETWORK, "invoice: must be of the network regtest"),
    ],
    ids=["none", "empty", "garbage", "number", "offer", "offer in capitals", "mainnet"],
)
def test_a_bad_invoice_is_refused(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp, invoice: Any, words: str
) -> None:
    refused = spender.ask("pay_invoice", {"invoice": invoice})
    assert refused.code == "OTHER"
    assert words in refused.message
    assert books(node, spender) == (0, 0)
    assert listed(spender, unpaid=True)["total_count"] == 0


def test_an_expired_invoice_is_refused(node: NodeUnderTest, payee: Payee, spender: ConnectedApp) -> None:
    invoice = payee.invoice(AMOUNT_MSAT, expiry=1)

    def is_refused() -> bool:
        answer = pay(spender, invoice, max_fee=0)
        return answer.code == "OTHER" and "expired" in answer.message

    # max_fee=0 keeps it from being paid before it expires.
    wait_until(is_refused, "the invoice to expire")
    assert books(node, spender) == (0, 0)


def test_a_payment_that_the_payee_refuses_has_failed(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    invoice = payee.invoice(AMOUNT_MSAT)
    payee.forget(invoice)
    refused = pay(spender, invoice, metadata=METADATA)
    assert refused.code == "PAYMENT_FAILED"
    assert "refused" in refused.message
    assert books(node, spender) == (0, 0)
    shown = spender.ask("lookup_invoice", {"payment_hash": invoice["payment_hash"]}).result
    assert (shown["state"], shown["amount"]) == ("failed", AMOUNT_MSAT)
    assert "preimage" not in shown
    assert listed(spender)["total_count"] == 0
    assert listed(spender, unpaid_outgoing=True)["transactions"] == [shown]


def test_max_fee_limits_the_fee(node: NodeUnderTest, payee: Payee, spender: ConnectedApp) -> None:
    invoice = payee.invoice(AMOUNT_MSAT)
    fee_msat = payee.fee_msat(AMOUNT_MSAT)
    refused = pay(spender, invoice, max_fee=fee_msat - 1)
    assert refused.code == "FEE_LIMIT_EXCEEDED"
    assert f"{fee_msat - 1} msat" in refused.message
    assert books(node, spender) == (0, 0)
    check_paid(pay(spender, invoice, max_fee=fee_msat), invoice, fee_msat)


def test_a_payment_over_the_nodes_balance_is_refused(
    node: NodeUnderTest, payee: Payee, connect: Connect
) -> None:
    app = connect(budget="unlimited")
    refused = pay(app, payee.invoice(10**12))
    assert refused.code == "INSUFFICIENT_BALANCE"
    assert app.ask("get_budget").result == {}
    assert 0 < app.ask("get_balance").result["balance"] < 10**12


# Budgets


def test_a_payment_over_the_budget_is_refused(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    refused = pay(spender, payee.invoice(1_000_001))
    assert refused.code == "QUOTA_EXCEEDED"
    assert "1000000 msat" in refused.message
    assert books(node, spender) == (0, 0)
    assert listed(spender, unpaid=True)["total_count"] == 0


def test_the_whole_budget_can_be_spent(node: NodeUnderTest, payee: Payee, connect: Connect) -> None:
    """The fee may take the last msat of the budget."""
    fee_msat = payee.fee_msat(AMOUNT_MSAT)
    app = connect(budget=AMOUNT_MSAT + fee_msat)
    check_paid(pay(app, invoice := payee.invoice(AMOUNT_MSAT)), invoice, fee_msat)
    assert books(node, app) == (AMOUNT_MSAT + fee_msat, 0)
    assert pay(app, payee.invoice(1)).code == "QUOTA_EXCEEDED"


def test_payments_at_once_stay_within_the_budget(
    node: NodeUnderTest, payee: Payee, connect: Connect
) -> None:
    """Of twenty requests at once with a budget for seven, seven are paid."""
    fee_msat = payee.fee_msat(AMOUNT_MSAT)
    app = connect(budget=7 * (AMOUNT_MSAT + fee_msat))
    invoices = [payee.invoice(AMOUNT_MSAT) for _ in range(20)]
    asked = [app.request("pay_invoice", {"invoice": i["bolt11"], "max_fee": fee_msat}) for i in invoices]
    for request in asked:
        app.send(request)
    answers = [app.answer_to(request).body for request in asked]
    assert [a["error"]["code"] for a in answers if a["error"]] == ["QUOTA_EXCEEDED"] * 13
    spent_msat = really_sent(node, *(invoice["payment_hash"] for invoice in invoices))
    assert spent_msat == 7 * (AMOUNT_MSAT + fee_msat)
    assert books(node, app) == (spent_msat, 0)


def test_max_payment_limits_the_amount(node: NodeUnderTest, payee: Payee, connect: Connect) -> None:
    app = connect(budget="unlimited", max_payment=f"{AMOUNT_MSAT}msat")
    refused = pay(app, payee.invoice(AMOUNT_MSAT + 1))
    assert refused.code == "QUOTA_EXCEEDED"
    assert f"at most {AMOUNT_MSAT} msat" in refused.message
    check_paid(pay(app, invoice := payee.invoice(AMOUNT_MSAT)), invoice, payee.fee_msat(AMOUNT_MSAT))


def test_max_payment_limits_the_fee(node: NodeUnderTest, payee: Payee, connect: Connect) -> None:
    """An app can lower the default limit but not raise it: a route hint can demand any fee."""
    app = connect(budget="unlimited", max_payment="10sat")
    free = connect(budget="unlimited")
    for asking, reserved_msat in ((app, 6000), (free, 1000 + 2_032_128)):
        payee.hold()
        invoice = payee.invoice(1000)
        params = {"invoice": invoice["bolt11"], "max_fee": 2_032_128}
        asking.send(asking.request("pay_invoice", params))
        wait_until(lambda by=asking: books(node, by)[1], "its reservation")  # type: ignore[misc]
        assert books(node, asking) == (0, reserved_msat)
    payee.release()
    for asking in (app, free):
        wait_until_booked(node, asking)
        assert books(node, asking) == (1000 + payee.fee_msat(1000), 0)


def second_answer(app: ConnectedApp, request: Json) -> Answer:
    received = app.channels[0].received
    answers = received.wait_for(lambda e: ["e", request["id"]] in e["tags"], "a second", count=2)
    return app.open(answers[1], request)


def test_a_replay_of_a_refused_request_is_refused_after_a_restart(
    node: NodeUnderTest, payee: Payee, connect: Connect
) -> None:
    """It is not paid, even if the budget was raised meanwhile."""
    app = connect(budget="1sat")
    invoice = payee.invoice(AMOUNT_MSAT)
    requests = [
        app.request("pay_invoice", {"invoice": invoice["bolt11"]}),
        app.request("pay_keysend", {"amount": AMOUNT_MSAT, "pubkey": payee.id}),
    ]
    for request in requests:
        assert app.ask_with(request).code == "QUOTA_EXCEEDED"
    node.rpc.call("nwc-update", {"name": app.name, "budget": "1000sat"})
    node.kill_plugin()
    node.start_plugin()
    wait_until_announced(node, app.name)
    for request in requests:
        app.send(request)
        again = second_answer(app, request)
        assert again.code == "OTHER"
        assert "nothing was paid; send a new request" in again.message
    assert books(node, app) == (0, 0)
    assert really_sent(node, invoice["payment_hash"]) == 0


def test_an_invoice_that_has_failed_ten_times_is_refused(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    """With each attempt lightningd lists more parts for the same payment hash."""
    invoice = payee.invoice(1000)
    codes = []
    for _ in range(11):
        payee.forget(invoice)
        codes.append(pay(spender, invoice).code)
    assert codes == ["PAYMENT_FAILED"] * 10 + ["RATE_LIMITED"]
    assert books(node, spender) == (0, 0)


def test_a_budget_can_be_changed(node: NodeUnderTest, payee: Payee, spender: ConnectedApp) -> None:
    """It can be lowered, even below the spent sum, raised, and removed."""
    pay(spender, payee.invoice(AMOUNT_MSAT)).result  # noqa: B018
    spent_msat = AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT)
    node.rpc.call("nwc-update", {"name": spender.name, "budget": "1sat"})
    assert pay(spender, payee.invoice(1)).code == "QUOTA_EXCEEDED"
    assert spender.ask("get_balance").result == {"balance": 0}
    node.rpc.call("nwc-update", {"name": spender.name, "budget": "2000sat"})
    assert budget_of(node, spender.name)["left_msat"] == 2_000_000 - spent_msat
    node.rpc.call("nwc-update", {"name": spender.name, "budget": "nothing"})
    assert pay(spender, payee.invoice(1)).code == "RESTRICTED"
    assert "pay_invoice" not in spender.ask("get_info").result["methods"]
    node.rpc.call("nwc-update", {"name": spender.name, "budget": "unlimited"})
    pay(spender, payee.invoice(1)).result  # noqa: B018


def test_a_received_budget_allows_what_was_received(
    node: NodeUnderTest, payee: Payee, connect: Connect
) -> None:
    """It can spend the sum it has received, and no more."""
    app = connect(budget="received")
    assert pay(app, payee.invoice(1)).code == "INSUFFICIENT_BALANCE"
    made = make(app, amount=2 * AMOUNT_MSAT)
    node.pay(made["invoice"])
    app.wait_for_notifications(made["payment_hash"])
    assert app.ask("get_balance").result == {"balance": 2 * AMOUNT_MSAT}
    pay(app, payee.invoice(AMOUNT_MSAT)).result  # noqa: B018
    left_msat = AMOUNT_MSAT - payee.fee_msat(AMOUNT_MSAT)
    assert app.ask("get_balance").result == {"balance": left_msat}
    refused = pay(app, payee.invoice(left_msat + 1))
    assert refused.code == "INSUFFICIENT_BALANCE"
    node.restart_node()
    wait_until_announced(node, app.name)
    assert app.ask("get_balance").result == {"balance": left_msat}


def test_a_connection_without_a_budget_cannot_pay(
    node: NodeUnderTest, payee: Payee, app: ConnectedApp
) -> None:
    invoice = payee.invoice(AMOUNT_MSAT)
    for method, params in {
        "pay_invoice": {"invoice": invoice["bolt11"]},
        "pay_keysend": {"amount": 1, "pubkey": payee.id},
    }.items():
        assert app.ask(method, params).code == "RESTRICTED"
    assert app.ask("get_budget").result["total_budget"] == 0
    assert really_sent(node, invoice["payment_hash"]) == 0


# Payments that stay in flight


def held_payment(payee: Payee, spender: ConnectedApp) -> tuple[Json, Json]:
    """Request a payment that its payee holds; return the invoice and the request."""
    invoice = payee.invoice(AMOUNT_MSAT)
    payee.hold()
    request = spender.request("pay_invoice", {"invoice": invoice["bolt11"]})
    spender.send(request)
    wait_until(lambda: payee.held() == 1, "the payment to be held")
    return invoice, request


def test_a_held_payment_is_pending_until_it_ends(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp, connect: Connect
) -> None:
    """It delays no other request, is reserved with its largest fee, and is answered when it ends."""
    other = connect(budget="unlimited")
    invoice, request = held_payment(payee, spender)
    shown = spender.ask("lookup_invoice", {"payment_hash": invoice["payment_hash"]}).result
    assert (shown["state"], shown["amount"], shown["fees_paid"]) == ("pending", AMOUNT_MSAT, 0)
    assert "preimage" not in shown
    assert listed(spender)["transactions"] == []
    assert listed(spender, unpaid=True)["transactions"] == [shown]
    assert books(node, spender) == (0, AMOUNT_MSAT + 5000)
    check_agrees(node, spender)
    make(spender)
    refused = pay(other, invoice)
    assert (refused.code, "paid already" in refused.message) == ("PAYMENT_FAILED", True)
    assert spender.answers_to(request["id"]) == []
    payee.release()
    check_paid(spender.answer_to(request), invoice, payee.fee_msat(AMOUNT_MSAT))
    assert books(node, spender) == (AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT), 0)


def test_nothing_is_forgotten_while_a_payment_is_held(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    """Its end could not be recorded. When it has ended, nwc-forget deletes everything."""
    invoice, request = held_payment(payee, spender)
    assert node.rpc.call("nwc-forget")["pending_payments"] == 1
    with pytest.raises(RpcError, match="payments are pending"):
        node.rpc.call("nwc-forget", {"confirm": True})
    assert books(node, spender)[1] > AMOUNT_MSAT
    payee.release()
    check_paid(spender.answer_to(request), invoice, payee.fee_msat(AMOUNT_MSAT))
    wait_until_booked(node, spender)
    assert node.rpc.call("nwc-forget", {"confirm": True})["forgotten"]


def test_a_held_payment_that_fails_is_not_spent(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    _, request = held_payment(payee, spender)
    payee.release(fail=True)
    assert spender.answer_to(request).code == "PAYMENT_FAILED"
    assert books(node, spender) == (0, 0)


def test_a_held_payment_is_answered_after_a_kill_of_the_plugin(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    """The next run of the plugin records and answers its end."""
    invoice, request = held_payment(payee, spender)
    node.kill_plugin()
    node.start_plugin()
    wait_until_announced(node, spender.name)
    assert books(node, spender) == (0, AMOUNT_MSAT + 5000)
    assert spender.answers_to(request["id"]) == []
    payee.release()
    check_paid(spender.answer_to(request), invoice, payee.fee_msat(AMOUNT_MSAT))
    assert books(node, spender) == (AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT), 0)
    assert len(spender.wait_for_notifications(invoice["payment_hash"])) == 2


def test_a_payment_ends_after_its_connection_is_revoked(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp, connect: Connect
) -> None:
    """The payment still ends. A connection with view=node is notified, and the ledger is deleted."""
    witness = connect(view="node")
    invoice, _ = held_payment(payee, spender)
    node.rpc.call("nwc-revoke", {"name": spender.name})
    key = {"key": ["nwc", "ledgers", spender.pubkey]}
    assert node.rpc.call("listdatastore", key)["datastore"]
    payee.release()
    notifications = witness.wait_for_notifications(invoice["payment_hash"])
    assert [n.type for n in notifications] == ["payment_sent"] * 2
    wait_until(lambda: not node.rpc.call("listdatastore", key)["datastore"], "the ledger to be deleted")


def test_a_payment_ends_after_its_budget_is_lowered(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    invoice, request = held_payment(payee, spender)
    node.rpc.call("nwc-update", {"name": spender.name, "budget": "1sat"})
    assert budget_of(node, spender.name)["left_msat"] == 0
    payee.release()
    check_paid(spender.answer_to(request), invoice, payee.fee_msat(AMOUNT_MSAT))
    assert books(node, spender) == (AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT), 0)


# pay_keysend


def test_keysend_pays_and_spends_amount_and_fee(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    records = [{"type": 7_629_169, "value": "00ff"}]
    params = {"amount": AMOUNT_MSAT, "pubkey": payee.id, "tlv_records": records}
    request = spender.request("pay_keysend", params)
    answer = spender.ask_with(request)
    fee_msat = payee.fee_msat(AMOUNT_MSAT)
    payment_hash = hashlib.sha256(bytes.fromhex(answer.result["preimage"])).hexdigest()
    assert answer.result["fees_paid"] == fee_msat
    assert books(node, spender) == (AMOUNT_MSAT + fee_msat, 0)
    assert really_sent(node, payment_hash) == AMOUNT_MSAT + fee_msat
    shown = spender.ask("lookup_invoice", {"payment_hash": payment_hash}).result
    assert (shown["type"], shown["state"], shown["amount"]) == ("outgoing", "settled", AMOUNT_MSAT)
    assert shown["metadata"] == {"tlv_records": records}
    assert listed(spender)["transactions"] == [shown]
    assert [n.transaction for n in spender.wait_for_notifications(payment_hash)] == [shown] * 2


def test_a_replayed_keysend_is_not_paid_twice(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    """A replay after a crash does not pay twice."""
    request = spender.request("pay_keysend", {"amount": AMOUNT_MSAT, "pubkey": payee.id})
    first = spender.ask_with(request)
    check_replay(node, spender, request, first)
    assert books(node, spender) == (AMOUNT_MSAT + payee.fee_msat(AMOUNT_MSAT), 0)
    assert listed(spender)["total_count"] == 1


def test_a_held_keysend_is_answered_after_a_kill_of_the_plugin(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp
) -> None:
    """The plugin learns its payment hash only at its end, and finds it by its label."""
    payee.hold()
    request = spender.request("pay_keysend", {"amount": AMOUNT_MSAT, "pubkey": payee.id})
    spender.send(request)
    wait_until(lambda: payee.held() == 1, "the payment to be held")
    node.kill_plugin()
    node.start_plugin()
    wait_until_announced(node, spender.name)
    assert books(node, spender) == (0, AMOUNT_MSAT + 5000)
    payee.release()
    fee_msat = payee.fee_msat(AMOUNT_MSAT)
    assert spender.answer_to(request).result["fees_paid"] == fee_msat
    assert books(node, spender) == (AMOUNT_MSAT + fee_msat, 0)


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ({"preimage": "00" * 32}, "NOT_IMPLEMENTED", "preimage:"),
        ({"amount": 0}, "OTHER", "amount:"),
        ({"pubkey": "02" * 32}, "OTHER", "pubkey:"),
        ({"tlv_records": [{"type": 8, "value": "00"}]}, "OTHER", "type:"),
        ({"tlv_records": [{"type": 5482373484, "value": "00" * 32}]}, "OTHER", "tlv_records:"),
        ({"tlv_records": [{"type": 65537, "value": "00" * 1001}]}, "OTHER", "tlv_records:"),
    ],
)
def test_a_bad_keysend_is_refused(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp, params: Json, code: str, words: str
) -> None:
    refused = spender.ask("pay_keysend", {"amount": 1000, "pubkey": payee.id, **params})
    assert refused.code == code
    assert words in refused.message
    assert books(node, spender) == (0, 0)


# Views


def test_a_payment_is_visible_to_its_own_connection_only(
    node: NodeUnderTest, payee: Payee, spender: ConnectedApp, connect: Connect
) -> None:
    other, observer = connect(budget="unlimited"), connect(view="node")
    invoice = payee.invoice(AMOUNT_MSAT, "coffee")
    pay(spender, invoice, metadata=METADATA).result  # noqa: B018
    own = spender.ask("lookup_invoice", {"payment_hash": invoice["payment_hash"]}).result
    notifications = observer.wait_for_notifications(invoice["payment_hash"])
    assert [n.transaction for n in notifications] == [own] * 2
    seen = observer.ask("lookup_invoice", {"payment_hash": invoice["payment_hash"]}).result
    for shown in (seen, listed(observer, type="outgoing", limit=1)["transactions"][0]):
        times = {"created_at", "settled_at"}
        assert {k: v for k, v in shown.items() if k not in times} == {
            k: v for k, v in own.items() if k not in times
        }
    assert other.ask("lookup_invoice", {"payment_hash": invoice["payment_hash"]}).code == "NOT_FOUND"
    assert listed(other, unpaid=True)["total_count"] == 0
    refused = pay(other, invoice)
    assert (refused.code, "paid already" in refused.message) == ("PAYMENT_FAILED", True)
    check_not_notified(node, spender, other)
