"""The double's lists of invoices and payments. The expected values are those of lightningd v26.06.6."""

import asyncio
import hashlib
from typing import Any

import pytest

from nwc.cln import bolt11 as nwc_bolt11
from tests.double import bolt11
from tests.double.node import Node
from tests.double.params import RpcError
from tests.double.process import LightningdDouble

PREIMAGE = "11" * 32
HASH = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()


async def refused(node: Node, method: str, **params: Any) -> tuple[int, str]:
    with pytest.raises(RpcError) as caught:
        await node.call(method, params)
    return caught.value.code, str(caught.value)


async def rows(node: Node, query: str) -> Any:
    return (await node.call("sql", {"query": query}))["rows"]


async def make(node: Node, label: str, description: str = "d") -> Any:
    params = {"amount_msat": 1000, "label": label, "description": description, "preimage": PREIMAGE}
    return await node.call("invoice", params)


async def test_listsqlschemas_shows_the_tables(lightningd: Node) -> None:
    shown = await lightningd.call("listsqlschemas", {"table": "invoices"})
    [schema] = shown["schemas"]
    assert schema["indices"] == [["payment_hash"]]
    names = [column["name"] for column in schema["columns"]]
    assert names[:3] == ["label", "description", "payment_hash"]
    assert names[-1] == "payment_preimage"
    assert (await refused(lightningd, "listsqlschemas", table="x"))[0] == -32602
    assert len((await lightningd.call("listsqlschemas", {}))["schemas"]) == 2


async def test_sql_returns_rows(lightningd: Node) -> None:
    made = await make(lightningd, 'z\nü"\\\x01q', "d\nü\t\x7f")
    assert await rows(lightningd, "SELECT label, description, length(label) FROM invoices") == [
        ['z\\nü\\"\\\\\\u0001q', "d\\nü\\t\\u007F", 15]
    ]
    assert await rows(
        lightningd, f"SELECT payment_hash FROM invoices WHERE payment_hash = X'{HASH}'"
    ) == [[HASH]]
    assert await rows(lightningd, "SELECT amount_msat, pay_index, bolt12, bolt11 FROM invoices") == [
        [1000, None, None, made["bolt11"]]
    ]
    assert await rows(lightningd, "SELECT 1.5, NULL, X'00ff', 'é', -3, avg(1)") == [
        [1.5, None, "00ff", "é", -3, 1.0]
    ]
    assert await rows(lightningd, "SELECT 1; DROP TABLE invoices") == [[1]]
    assert await rows(lightningd, "SELECT ';' ; SELECT 2") == [[";"]]
    assert await rows(lightningd, "SELECT rowid FROM invoices WHERE label LIKE 'Z%'") == [[1]]
    assert await rows(lightningd, "SELECT count(*), max(pay_index) FROM invoices, sendpays") == [
        [0, None]
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT", "query failed with incomplete input"),
        ("", "Executing statement: not an error"),
        ("SELECT nosuch FROM invoices", "query failed with no such column: nosuch"),
        ("SELECT * FROM nosuch", "query failed with no such table: nosuch"),
        (5, 'query failed with near "5": syntax error'),
        (
            "DELETE FROM invoices",
            "query failed with not authorized"
            " (Unauthorized: 9 arg1=invoices arg2=(none) dbname=main caller=(none))",
        ),
        (
            "SELECT replace(label,'a','b') FROM invoices",
            "query failed with not authorized to use function: replace"
            " (Unauthorized: 31 arg1=(none) arg2=replace dbname=(none) caller=(none))",
        ),
        (
            "PRAGMA user_version",
            "query failed with not authorized"
            " (Unauthorized: 19 arg1=user_version arg2=(none) dbname=(none) caller=(none))",
        ),
        (
            "SELECT * FROM sqlite_master",
            "query failed with access to sqlite_master.type is prohibited (Unknown table sqlite_master)",
        ),
        ("SELECT 1" + " UNION SELECT 1" * 11, "query failed with too many terms in compound SELECT"),
        (
            "SELECT 1 WHERE " + "1 AND " * 110 + "1",
            "query failed with Expression tree is too large (maximum depth 100)",
        ),
    ],
)
async def test_a_malformed_or_writing_query_is_refused(
    lightningd: Node, query: Any, message: str
) -> None:
    assert await refused(lightningd, "sql", query=query) == (-1, message)


@pytest.mark.parametrize("function", ["substr('a', 1)", "ifnull(1, 2)", "typeof(1)", "printf('a')"])
async def test_functions_that_lightningd_does_not_allow_are_refused(
    lightningd: Node, function: str
) -> None:
    code, message = await refused(lightningd, "sql", query=f"SELECT {function}")
    assert code == -1
    assert "not authorized to use function" in message


async def test_waitanyinvoice_returns_the_next_paid_invoice(lightningd: Node) -> None:
    timed_out = (904, "Timed out while waiting for invoice to be paid")
    assert await refused(lightningd, "waitanyinvoice", timeout=0) == timed_out
    assert (await refused(lightningd, "waitanyinvoice", lastpay_index="x"))[0] == -32602
    await make(lightningd, "one")
    waiting = [
        asyncio.create_task(lightningd.call("waitanyinvoice", {"lastpay_index": index}))
        for index in (0, 0, 7)
    ]
    # The waiting calls do not delay others.
    assert await refused(lightningd, "waitanyinvoice", timeout=0) == timed_out
    paid = await lightningd.call("dev-pay", {"label": "one"})
    # Each waiting call gets the next paid invoice, whatever its pay_index.
    assert await asyncio.gather(*waiting) == [paid] * 3
    for index in (0, -1):
        given = {"lastpay_index": index, "timeout": 0}
        assert await lightningd.call("waitanyinvoice", given) == paid
    assert await refused(lightningd, "waitanyinvoice", lastpay_index=1, timeout=0) == timed_out
    await lightningd.call("delinvoice", {"label": "one", "status": "paid"})
    assert await refused(lightningd, "waitanyinvoice", lastpay_index=0, timeout=0) == timed_out
    assert lightningd.invoice_waiters == set()


def test_the_last_paid_invoice_survives_a_restart(double: LightningdDouble) -> None:
    double.rpc.invoice(1, "one", "d")
    paid = double.rpc.call("dev-pay", {"label": "one"})
    assert double.rpc.waitanyinvoice(0) == paid
    assert double.rpc.call("sql", {"query": "SELECT pay_index FROM invoices"}) == {"rows": [[1]]}
    double.restart()
    assert double.rpc.waitanyinvoice(0) == paid
    assert double.rpc.call("sql", {"query": "SELECT pay_index FROM invoices"}) == {"rows": [[1]]}


async def test_listpays_merges_the_parts_of_an_attempt(lightningd: Node) -> None:
    invoice = (await make(lightningd, "x"))["bolt11"]
    parts = [
        {"groupid": 1, "status": "failed", "created_at": 5},
        {"groupid": 2, "partid": 1, "amount_msat": 600, "amount_sent_msat": 601, "completed_at": 9},
        {"groupid": 2, "partid": 2, "amount_msat": 400, "amount_sent_msat": 402, "completed_at": 8},
    ]
    given = {"bolt11": invoice, "preimage": PREIMAGE, "parts": parts}
    made = (await lightningd.call("dev-payment", given))["payments"]
    assert [part["status"] for part in made] == ["failed", "complete", "complete"]
    assert [("bolt11" in part, "payment_preimage" in part) for part in made] == [
        (True, False),
        (True, True),
        (False, True),
    ]
    failed, paid = (await lightningd.call("listpays", {"payment_hash": HASH}))["pays"]
    assert "amount_msat" not in failed
    assert (failed["status"], failed["amount_sent_msat"], failed["created_at"]) == ("failed", 0, 5)
    assert paid["preimage"] == PREIMAGE
    assert (paid["amount_msat"], paid["amount_sent_msat"]) == (1000, 1003)
    assert (paid["completed_at"], paid["number_of_parts"]) == (8, 2)
    # As in lightningd, the status is ignored beside an invoice or hash.
    by_invoice = {"bolt11": invoice, "status": "complete"}
    assert (await lightningd.call("listpays", by_invoice))["pays"] == [failed, paid]
    assert (await lightningd.call("listpays", {"status": "complete"}))["pays"] == [paid]
    assert (await lightningd.call("listpays", {"payment_hash": "00" * 32}))["pays"] == []
    both = {"bolt11": invoice, "payment_hash": HASH}
    assert (await refused(lightningd, "listpays", **both))[0] == -32602
    assert (await refused(lightningd, "listpays", status="x"))[0] == -32602


async def test_dev_payment_changes_an_existing_part(lightningd: Node) -> None:
    query = "SELECT status, updated_index, completed_at IS NULL FROM sendpays"
    given = {"payment_hash": HASH, "parts": [{"status": "pending"}]}
    await lightningd.call("dev-payment", given)
    assert await rows(lightningd, query) == [["pending", None, 1]]
    await lightningd.call("dev-payment", {"payment_hash": HASH})
    assert await rows(lightningd, query) == [["complete", 1, 0]]


async def test_listpeerchannels_shows_the_channels_of_dev_channels(lightningd: Node) -> None:
    [unlimited] = (await lightningd.call("listpeerchannels", {}))["channels"]
    assert unlimited["spendable_msat"] == 10**16
    await lightningd.call("dev-channels", {"channels": []})
    assert await lightningd.call("listpeerchannels", {}) == {"channels": []}
    channels = [{"peer_id": "02" * 33, "state": "CHANNELD_NORMAL", "spendable_msat": 7}]
    await lightningd.call("dev-channels", {"channels": channels})
    assert await lightningd.call("listpeerchannels", {"id": "02" * 33}) == {"channels": channels}
    assert await lightningd.call("listpeerchannels", {"id": "03" * 33}) == {"channels": []}
    assert (await refused(lightningd, "listpeerchannels", id="x"))[0] == -32602


async def test_invoices_made_in_bulk_are_consistent(lightningd: Node) -> None:
    await make(lightningd, "one")
    await lightningd.call("dev-pay", {"label": "one"})
    given = {"count": 30, "label_prefix": "many:", "paid_every": 3, "created_at": 1_600_000_000}
    await lightningd.call("dev-invoices", {**given, "step": 5})
    listed = (await lightningd.call("listinvoices", {}))["invoices"][1:]
    assert [entry["status"] for entry in listed[:3]] == ["expired", "expired", "paid"]
    assert [entry["pay_index"] for entry in listed[2::3]] == list(range(2, 12))
    for n, entry in enumerate(listed):
        content = bolt11.decode(entry["bolt11"], check_signature=False)
        assert content.created_at == nwc_bolt11.timestamp(entry["bolt11"]) == 1_600_000_000 + 5 * n
        assert content.payment_hash.hex() == nwc_bolt11.payment_hash(entry["bolt11"])
        assert content.payment_hash.hex() == entry["payment_hash"]
        assert entry["label"] == f"many:{n + 1}"
        assert entry["expires_at"] == content.created_at + content.expiry
    by_hash = {"payment_hash": listed[7]["payment_hash"]}
    assert (await lightningd.call("listinvoices", by_hash))["invoices"] == [listed[7]]
    assert await rows(lightningd, "SELECT count(*), max(pay_index) FROM invoices") == [[31, 11]]
    await make_and_pay_another(lightningd)
    assert await rows(lightningd, "SELECT count(*), max(pay_index) FROM invoices") == [[32, 12]]


async def make_and_pay_another(node: Node) -> None:
    await node.call("invoice", {"amount_msat": 1, "label": "another", "description": ""})
    assert (await node.call("dev-pay", {"label": "another"}))["pay_index"] == 12


async def test_a_bolt12_invoice_can_be_paid(lightningd: Node) -> None:
    made = await lightningd.call("dev-bolt12", {"amount_msat": 7, "description": "tea"})
    assert made["bolt12"].startswith("lni1")
    assert "bolt11" not in made
    assert made["label"].startswith(made["local_offer_id"])
    paid = await lightningd.call("dev-pay", {"label": made["label"]})
    assert (paid["status"], paid["amount_received_msat"]) == ("paid", 7)
    shown = await rows(lightningd, "SELECT bolt11, bolt12, local_offer_id FROM invoices")
    assert shown == [[None, made["bolt12"], made["local_offer_id"]]]
