"""The double's offers: what their issuers do, the invoices fetched for them, and proofs of payment."""

import asyncio
from typing import Any

import pytest

from nwc.cln import bolt12 as plugins_bolt12
from tests.double import bolt12
from tests.double.node import Node
from tests.double.params import RpcError


async def make(node: Node, **given: Any) -> str:
    return str((await node.call("dev-offer", {"amount_msat": 5000, **given}))["bolt12"])


async def fetch(node: Node, offer: str, **given: Any) -> str:
    return str((await node.call("fetchinvoice", {"offer": offer, **given}))["invoice"])


async def decode(node: Node, string: str) -> dict[str, Any]:
    decoded: dict[str, Any] = await node.call("decode", {"string": string})
    return decoded


async def refused(node: Node, method: str, given: Any) -> tuple[int, str]:
    with pytest.raises(RpcError) as caught:
        await node.call(method, given)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"offer_issuer": "Café"},
        {"offer_quantity_max": 0},
        {"offer_absolute_expiry": 4_000_000_000},
        {"offer_description": "x" * 70_000},
        {"offer_chains": [bolt12.CHAINS["bitcoin"], bolt12.CHAINS["regtest"]]},
    ],
)
async def test_decode_shows_an_offer_as_it_was_made(lightningd: Node, fields: Any) -> None:
    shown = await decode(lightningd, await make(lightningd, description="tea", offer=fields))
    assert (shown["type"], shown["valid"], shown["offer_amount_msat"]) == ("bolt12 offer", True, 5000)
    assert {"offer_description": "tea", **fields}.items() <= shown.items()


async def test_another_currency_gives_the_amount_another_name(lightningd: Node) -> None:
    shown = await decode(lightningd, await make(lightningd, offer={"offer_currency": "USD"}))
    assert (shown["offer_currency"], shown["offer_amount"]) == ("USD", 5000)
    assert "offer_amount_msat" not in shown


async def test_capitals_and_continuations_are_read(lightningd: Node) -> None:
    offer = await make(lightningd)
    shown = await decode(lightningd, offer)
    assert await decode(lightningd, f"LIGHTNING:{offer.upper()}") == shown
    assert await decode(lightningd, f"{offer[:30]}+\n {offer[30:]}") == shown


async def test_an_invoice_repeats_the_offer_and_the_note(lightningd: Node) -> None:
    offer = await make(lightningd)
    shown = await decode(lightningd, offer)
    invoice = await fetch(lightningd, offer, payer_note="Grüße ⚡")
    fetched = await decode(lightningd, invoice)
    assert {name: fetched[name] for name in shown if name != "type"} == {
        name: value for name, value in shown.items() if name != "type"
    }
    assert fetched["invreq_payer_note"] == "Grüße ⚡"
    assert fetched["invoice_amount_msat"] == 5000
    assert fetched["invoice_paths"][0]["payinfo"]["fee_base_msat"] == 0
    assert plugins_bolt12.created_at(invoice) == fetched["invoice_created_at"]


async def test_escapes_stay_in_a_note(lightningd: Node) -> None:
    invoice = await fetch(lightningd, await make(lightningd), payer_note='a"b\\c\n')
    assert (await decode(lightningd, invoice))["invreq_payer_note"] == 'a\\"b\\\\c\\n'


@pytest.mark.parametrize(
    ("made", "given", "code"),
    [
        ({"amount_msat": None}, {}, -32602),
        ({}, {"quantity": 1}, -32602),
        ({"offer": {"offer_quantity_max": 2}}, {}, -32602),
        ({"offer": {"offer_quantity_max": 2}}, {"quantity": 3}, -32602),
        ({"offer": {"offer_recurrence": {"time_unit": 1, "period": 1}}}, {}, -32602),
        ({"offer": {"offer_chains": [bolt12.CHAINS["bitcoin"]]}}, {}, -32602),
        ({"offer": {"offer_issuer_id": None, "offer_paths": None}}, {}, -32602),
        ({"offer": {"offer_absolute_expiry": 1}}, {}, 1002),
        ({}, {"amount_msat": 4999}, 1004),
        ({"issuer": "refuses"}, {}, 1004),
        ({"issuer": "silent"}, {"timeout": 0}, 1005),
        ({"issuer": "gone"}, {}, -1),
    ],
)
async def test_an_invoice_is_refused(lightningd: Node, made: Any, given: Any, code: int) -> None:
    if made.get("offer", {}).get("offer_issuer_id", "") is None:
        offer = bolt12.encode("lno", {"offer_description": "nobody's"})
    else:
        offer = await make(lightningd, **made)
    assert (await refused(lightningd, "fetchinvoice", {"offer": offer, **given}))[0] == code


async def test_the_issuer_can_change_any_field_of_the_invoice(lightningd: Node) -> None:
    changed = {"invoice_amount_msat": 6000, "invreq_payer_note": "other", "padding": "00" * 5000}
    fetched = await fetch(lightningd, await make(lightningd, invoice=changed), payer_note="mine")
    assert changed.items() <= (await decode(lightningd, fetched)).items()
    assert len(fetched) > 8000


async def test_another_value_leaves_the_other_fields(lightningd: Node) -> None:
    offer = await make(lightningd, description="tea", offer={"padding": "ab"})
    type_, kind = bolt12.FIELDS["offer_amount_msat"]
    changed = await decode(lightningd, bolt12.with_record(offer, type_, kind.write(1)))
    before = await decode(lightningd, offer)
    assert changed.pop("offer_id") != before.pop("offer_id")
    assert changed == {**before, "offer_amount_msat": 1}


@pytest.mark.parametrize("command", ["pay", "xpay"])
async def test_a_fetched_invoice_is_paid_once_and_proven(lightningd: Node, command: str) -> None:
    invoice = await fetch(lightningd, await make(lightningd, description="tea"), payer_note="hi")
    proof = {
        "invstring": invoice,
        "include": ["offer_description", "invreq_payer_note", "invoice_amount"],
    }
    assert (await refused(lightningd, "createproof", proof))[0] == 1700
    paid = await lightningd.call(command, [invoice])
    assert (paid["amount_msat"], paid["amount_sent_msat"]) == (5000, 5001)
    [part] = (await lightningd.call("listsendpays", {"bolt11": invoice}))["payments"]
    assert (part["bolt12"], part["payment_preimage"]) == (invoice, paid["payment_preimage"])
    assert "bolt11" not in part
    [made] = (await lightningd.call("createproof", proof))["proofs"]
    assert made["invoice_fields_included"][0] == "invoice_payment_hash"
    shown = await decode(lightningd, made["bolt12"])
    assert (shown["type"], shown["offer_description"]) == ("bolt12 payer_proof", "tea")
    assert (shown["invreq_payer_note"], shown["invoice_amount_msat"]) == ("hi", 5000)
    assert shown["proof_preimage"] == paid["payment_preimage"]
    assert "invoice_created_at" not in shown


async def test_a_proof_needs_known_fields_and_an_invoice_of_bolt12(lightningd: Node) -> None:
    invoice = await fetch(lightningd, await make(lightningd))
    unknown = {"invstring": invoice, "include": ["nonsense"]}
    assert (await refused(lightningd, "createproof", unknown))[0] == -32602
    foreign = (await lightningd.call("dev-foreign-invoice", {}))["bolt11"]
    assert (await refused(lightningd, "createproof", {"invstring": foreign}))[0] == -32602


async def test_an_own_offer_is_paid_without_a_fee(lightningd: Node) -> None:
    invoice = await fetch(lightningd, await make(lightningd, own=True))
    paid = await lightningd.call("pay", [invoice])
    assert paid["amount_sent_msat"] == 5000
    [row] = (await lightningd.call("listinvoices", {}))["invoices"]
    assert (row["status"], row["bolt12"]) == ("paid", invoice)


async def test_a_payee_that_dies_after_the_invoice_cannot_be_paid(lightningd: Node) -> None:
    invoice = await fetch(lightningd, await make(lightningd, issuer="dies"))
    by_position = [invoice, None, "a label"]
    assert (await refused(lightningd, "pay", by_position))[0] == 210
    assert (await refused(lightningd, "xpay", [invoice]))[0] == 205


async def test_an_expired_invoice_is_not_paid(lightningd: Node) -> None:
    offer = await make(lightningd, invoice={"invoice_created_at": 1_600_000_000})
    assert (await refused(lightningd, "pay", [await fetch(lightningd, offer)]))[0] == 207


async def test_the_fee_of_the_payees_path_is_a_fee_only_for_xpay(lightningd: Node) -> None:
    payinfo = {
        "fee_base_msat": 7000,
        "fee_proportional_millionths": 0,
        "cltv_expiry_delta": 5,
        "htlc_minimum_msat": 0,
        "htlc_maximum_msat": 10**9,
        "features": "",
    }
    path = {"first_node_id": lightningd.id, "first_path_key": lightningd.id, "path": []}
    offer = await make(lightningd, invoice={"invoice_paths": [{**path, "payinfo": payinfo}]})
    given = {"invstring": await fetch(lightningd, offer), "maxfee": 5000}
    assert (await refused(lightningd, "xpay", given))[0] == 206
    maxfee_by_position = [given["invstring"], *[None] * 9, 5000]
    assert (await lightningd.call("pay", maxfee_by_position))["amount_sent_msat"] == 12_001


async def test_a_silent_issuer_is_waited_for(lightningd: Node) -> None:
    offer = await make(lightningd, issuer="silent")
    fetching = asyncio.create_task(lightningd.call("fetchinvoice", {"offer": offer}))
    await lightningd.call("getinfo", {})
    assert not fetching.done()
    fetching.cancel()
