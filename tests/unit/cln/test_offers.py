"""Offers and fetched invoices: what is refused before anything is paid, and the calls for them."""

import asyncio
from typing import Any

import pytest

from nwc.cln import offers
from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.cln.node import Json, Node
from nwc.cln.offers import Fault, Offer, OfferError, parse_invoice, parse_offer
from tests.unit.virtual_loop import VirtualLoop

NOW = 1_795_932_994
REGTEST = "06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f"
BITCOIN = "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"
OFFER_ID, HASH, NODE_ID = "ea" * 32, "85" * 32, "02" + "5f" * 32
# Answers of lightningd v26.06.6.
DECODED_OFFER: Json = {
    "type": "bolt12 offer",
    "offer_id": OFFER_ID,
    "offer_chains": [REGTEST],
    "offer_amount_msat": 1000,
    "offer_description": "coffee",
    "offer_issuer_id": NODE_ID,
    "valid": True,
}


def path(hops: int = 1, data_bytes: int = 50, **payinfo: Any) -> Json:
    given = {
        "fee_base_msat": 0,
        "fee_proportional_millionths": 0,
        "cltv_expiry_delta": 10,
        "htlc_minimum_msat": 0,
        "htlc_maximum_msat": 2_100_000_000_000_000_000,
        "features": "",
    }
    hop = {"blinded_node_id": "03" + "70" * 32, "encrypted_recipient_data": "07" * data_bytes}
    return {
        "first_node_id": NODE_ID,
        "first_path_key": "02" + "52" * 32,
        "payinfo": {**given, **payinfo},
        "path": [hop] * hops,
    }


XPAY_PATH = {**path(), "first_node_id": "02" + "00" * 31 + "01"}
DECODED_INVOICE: Json = {
    "type": "bolt12 invoice",
    "offer_id": OFFER_ID,
    "offer_chains": [REGTEST],
    "offer_amount_msat": 1000,
    "offer_description": "coffee",
    "offer_issuer_id": NODE_ID,
    "invreq_metadata": "6a" * 16,
    "invreq_payer_id": "03" + "6b" * 32,
    "invreq_chain": REGTEST,
    "invreq_features": "",
    "invreq_payer_note": "hi ☕",
    "invoice_paths": [path()],
    "invoice_created_at": NOW,
    "invoice_relative_expiry": 7200,
    "invoice_payment_hash": HASH,
    "invoice_amount_msat": 1000,
    "invoice_features": "020000",
    "invoice_node_id": NODE_ID,
    "signature": "3c" * 64,
    "valid": True,
}


def changed(fields: Json, changes: Json) -> Json:
    """Return the fields with these changes; None removes a field."""
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def fault_of_offer(network: str = "regtest", **changes: Any) -> Fault:
    with pytest.raises(OfferError) as refused:
        parse_offer(changed(DECODED_OFFER, changes), network, NOW)
    return refused.value.fault


def parse(amount_msat: int = 1000, **changes: Any) -> offers.FetchedInvoice:
    return parse_invoice(
        changed(DECODED_INVOICE, changes),
        Offer(OFFER_ID, 1000),
        amount_msat=amount_msat,
        payer_note="hi ☕",
        network="regtest",
        now=NOW,
    )


def test_an_offer_is_read() -> None:
    assert parse_offer(DECODED_OFFER, "regtest", NOW) == Offer(OFFER_ID, 1000)
    any_amount = changed(DECODED_OFFER, {"offer_amount_msat": None})
    assert parse_offer(any_amount, "regtest", NOW) == Offer(OFFER_ID, None)


def test_an_offer_without_chains_is_for_bitcoin_only() -> None:
    assert fault_of_offer(offer_chains=None) is Fault.NETWORK
    on_bitcoin = changed(DECODED_OFFER, {"offer_chains": None})
    assert parse_offer(on_bitcoin, "bitcoin", NOW) == Offer(OFFER_ID, 1000)


@pytest.mark.parametrize("network", ["bitcoin", "testnet", "testnet4", "signet", "liquid"])
def test_an_offer_of_another_network_is_refused(network: str) -> None:
    assert fault_of_offer(network) is Fault.NETWORK


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"type": "bolt12 invoice"}, Fault.INVALID),
        ({"valid": False}, Fault.INVALID),
        ({"valid": None}, Fault.INVALID),
        ({"offer_absolute_expiry": NOW}, Fault.INVALID),
        ({"offer_currency": "USD", "offer_amount": 5, "offer_amount_msat": None}, Fault.UNSUPPORTED),
        ({"offer_recurrence": {"period": 1}}, Fault.UNSUPPORTED),
        ({"offer_recurrence_optional": {"period": 1}}, Fault.UNSUPPORTED),
        ({"offer_quantity_max": 0}, Fault.UNSUPPORTED),
        # lightningd's `fetchinvoice` does not survive it.
        ({"offer_paths": []}, Fault.INVALID),
        ({"offer_paths": [], "offer_issuer_id": None}, Fault.INVALID),
    ],
    ids=str,
)
def test_an_offer_that_cannot_be_paid_is_refused(changes: Json, fault: Fault) -> None:
    assert fault_of_offer(**changes) is fault


def test_an_offer_that_expires_later_is_read() -> None:
    parse_offer({**DECODED_OFFER, "offer_absolute_expiry": NOW + 1}, "regtest", NOW)


def test_an_offer_with_a_path_is_read() -> None:
    parse_offer({**DECODED_OFFER, "offer_paths": [path()]}, "regtest", NOW)


def test_an_invoice_is_read() -> None:
    assert parse() == offers.FetchedInvoice(HASH, NODE_ID, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "bolt12 offer"},
        {"valid": False},
        {"invreq_chain": BITCOIN},
        {"invreq_chain": None},
        {"offer_id": "00" * 32},
        {"offer_id": None},
        {"invoice_amount_msat": 1001},
        {"invoice_amount_msat": 999},
        {"invreq_payer_note": "hi"},
        {"invreq_payer_note": None},
        {"invoice_created_at": NOW - 7200},
        {"invoice_relative_expiry": None, "invoice_created_at": NOW - 7200},
        {"invoice_relative_expiry": 0},
        {"invoice_paths": []},
        {"invoice_paths": [path()] * 21},
        {"invoice_paths": [path(), path(hops=12)]},
        {"invoice_paths": [path(data_bytes=700)]},
        {"invoice_paths": [path(cltv_expiry_delta=2017)]},
        # lightningd's `xpay` does not survive them.
        {"invoice_paths": [path(features="01")]},
        {"invoice_paths": [path(), path(features="400000")]},
        # Nor this path, before v26.06: it begins where `xpay` lets all blinded paths end.
        {"invoice_paths": [XPAY_PATH]},
        {"invoice_paths": [path(), XPAY_PATH]},
    ],
    ids=lambda changes: ",".join(f"{name}={str(value)[:20]}" for name, value in changes.items()),
)
def test_another_invoice_than_the_wanted_one_is_refused(changes: Json) -> None:
    with pytest.raises(OfferError):
        parse(**changes)


def test_usual_blinded_paths_fit() -> None:
    assert parse(invoice_paths=[path(hops=3, data_bytes=90)] * 20)
    assert parse(invoice_paths=[path(cltv_expiry_delta=2016)])


def test_a_blinded_path_may_begin_at_a_channel() -> None:
    begins_at_channel = {**path(), "first_scid": "103x1x0", "first_scid_dir": 0}
    del begins_at_channel["first_node_id"]
    assert parse(invoice_paths=[begins_at_channel])


@pytest.mark.parametrize("features", ["", "00", "02", "aaaa"])
def test_features_that_a_payer_may_ignore_are_accepted(features: str) -> None:
    assert parse(invoice_paths=[path(features=features)])


@pytest.mark.parametrize(
    ("base_msat", "millionths", "fee_msat"),
    [(5, 0, 5), (0, 1_000, 1), (0, 1_001, 2), (7, 2_000_000, 2007), (2**32 - 1, 2**32 - 1, 4299262263)],
)
def test_the_fee_of_the_first_path_is_rounded_up(base_msat: int, millionths: int, fee_msat: int) -> None:
    paths = [path(fee_base_msat=base_msat, fee_proportional_millionths=millionths), path()]
    assert parse(invoice_paths=paths).blinded_fee_msat == fee_msat


@pytest.mark.parametrize(
    ("note", "is_unchanged"),
    [
        ("Danke ☕, it's great / 100 %\x7f", True),
        ('a "b"', False),
        ("a\\b", False),
        ("a\nb", False),
        ("a\tb", False),
        ("", True),
    ],
)
def test_notes_that_json_escapes_would_be_changed(note: str, is_unchanged: bool) -> None:
    assert offers.is_sent_unchanged(note) is is_unchanged


# The calls


class Answering(Node):
    """A node whose calls get these answers, one after another; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, Json]] = []

    async def call(self, method: str, **params: Any) -> Any:
        self.calls.append((method, params))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return await answer if asyncio.iscoroutine(answer) else answer


async def test_an_invoice_is_fetched_in_time_for_the_app() -> None:
    node = Answering({"invoice": "lni1", "changes": {}})
    assert await offers.fetch_invoice(node, "lno1", amount_msat=7, payer_note="x") == "lni1"
    wanted = {"offer": "lno1", "amount_msat": 7, "timeout": 25, "payer_note": "x"}
    assert node.calls == [("fetchinvoice", wanted)]


async def test_an_unreadable_answer_is_no_invoice() -> None:
    with pytest.raises(NodeUnavailableError):
        await offers.fetch_invoice(Answering({}), "lno1", amount_msat=7, payer_note=None)


async def test_the_first_proof_is_returned() -> None:
    node = Answering({"proofs": [{"bolt12": "lnp1first"}, {"bolt12": "lnp1second"}]})
    assert await offers.payer_proof(node, "lni1") == "lnp1first"
    [(method, params)] = node.calls
    assert (method, params["invstring"]) == ("createproof", "lni1")
    assert "invreq_payer_note" in params["include"]


@pytest.mark.parametrize(
    "answer",
    [
        RpcCallError("createproof", -32601, "Unknown command"),
        RpcCallError("createproof", 1700, "No successful payment"),
        NodeUnavailableError("away"),
        {"proofs": []},
        {},
        {"proofs": [{"bolt12": 7}]},
        {"proofs": [{"bolt12": "lni1"}]},
        {"proofs": [{"bolt12": "lnp1" + "q" * offers.MAX_PROOF_LENGTH}]},
    ],
    ids=str,
)
async def test_without_a_usable_proof_there_is_none(answer: Any) -> None:
    assert await offers.payer_proof(Answering(answer), "lni1") is None


def test_a_proof_that_takes_long_is_not_awaited() -> None:
    loop = VirtualLoop()

    async def ask() -> None:
        assert await offers.payer_proof(Answering(asyncio.sleep(3600)), "lni1") is None

    loop.run_until_complete(ask())
    assert loop.time() == offers.PROOF_TIMEOUT_S
    loop.end()
