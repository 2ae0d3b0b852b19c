"""How the double pays. The expected values are those of lightningd v26.06.6 on a line of three nodes."""

import asyncio
import socket
from typing import Any

import pytest

from tests.double.jsonio import dumps
from tests.double.node import Node
from tests.double.params import RpcError
from tests.double.process import LightningdDouble
from tests.unit.double.conftest import refusal

PAYEE = "02" * 33
FAILURE = {"code": 209, "message": "Failed after 2 attempts."}
Json = Any


async def refused(node: Node, method: str, **params: Any) -> tuple[int, str]:
    with pytest.raises(RpcError) as caught:
        await node.call(method, params)
    return caught.value.code, str(caught.value)


async def foreign(node: Node, amount_msat: int = 100_000, **params: Any) -> Json:
    return await node.call("dev-foreign-invoice", {"amount_msat": amount_msat, **params})


async def parts(node: Node, invoice: Json) -> list[Json]:
    listed: list[Json] = (await node.call("listsendpays", {"payment_hash": invoice["payment_hash"]}))[
        "payments"
    ]
    return listed


async def statuses(node: Node, invoice: Json) -> list[str]:
    return [part["status"] for part in await parts(node, invoice)]


async def paid(node: Node, invoice: Json, **params: Any) -> Json:
    return await node.call("xpay", {"invstring": invoice["bolt11"], **params})


async def begin(node: Node, invoice: Json, method: str = "xpay") -> "asyncio.Task[Json]":
    name = "invstring" if method == "xpay" else "bolt11"
    task = asyncio.create_task(node.call(method, {name: invoice["bolt11"], "label": "begun"}))
    await asyncio.sleep(0)
    return task


async def spendable(node: Node) -> int:
    [channel] = (await node.call("listpeerchannels", {}))["channels"]
    amount: int = channel["spendable_msat"]
    return amount


async def fund(node: Node, spendable_msat: int = 200_000) -> None:
    channel = {"state": "CHANNELD_NORMAL", "spendable_msat": spendable_msat, "to_us_msat": 300_000}
    await node.call("dev-channels", {"channels": [channel]})


async def test_xpay_pays_an_invoice_only_once(lightningd: Node) -> None:
    invoice = await foreign(lightningd)
    answer = await paid(lightningd, invoice, label="bought")
    assert answer == {
        "payment_preimage": invoice["payment_preimage"],
        "amount_msat": 100_000,
        "amount_sent_msat": 100_002,
        "failed_parts": 0,
        "successful_parts": 1,
    }
    [part] = await parts(lightningd, invoice)
    assert (part["label"], part["destination"]) == ("bought", invoice["payee"])
    assert (part["bolt11"], part["partid"]) == (invoice["bolt11"], 1)
    assert await refused(lightningd, "xpay", invstring=invoice["bolt11"]) == (
        219,
        "Already paid this invoice successfully",
    )


async def test_pay_returns_an_earlier_payment(lightningd: Node) -> None:
    invoice = await foreign(lightningd)
    first = await lightningd.call("pay", {"bolt11": invoice["bolt11"], "nonsense": 1})
    again = await lightningd.call("pay", {"bolt11": invoice["bolt11"]})
    assert again == {**first, "created_at": int(first["created_at"])}
    assert len(await parts(lightningd, invoice)) == 1


async def test_a_plan_applies_to_one_payment(lightningd: Node) -> None:
    invoice = await foreign(lightningd)
    plan = {"payment_hash": invoice["payment_hash"], "fee_msat": 7, "fail": FAILURE}
    await lightningd.call("dev-payment-plan", plan)
    other = await foreign(lightningd)
    assert (await paid(lightningd, other))["amount_sent_msat"] == 100_002
    assert (await refused(lightningd, "xpay", invstring=invoice["bolt11"]))[0] == 209
    assert (await paid(lightningd, invoice))["amount_sent_msat"] == 100_002
    assert await statuses(lightningd, invoice) == ["failed", "complete"]


@pytest.mark.parametrize("rows", [True, False])
async def test_a_planned_failure_leaves_failed_parts_only_with_rows(
    lightningd: Node, rows: bool
) -> None:
    invoice = await foreign(lightningd)
    await lightningd.call("dev-payment-plan", {"fail": {**FAILURE, "rows": rows}, "parts": 2})
    assert await refused(lightningd, "xpay", invstring=invoice["bolt11"]) == (
        FAILURE["code"],
        FAILURE["message"],
    )
    assert await statuses(lightningd, invoice) == (["failed"] * 2 if rows else [])


async def test_a_payment_without_a_route_leaves_no_part(lightningd: Node) -> None:
    invoice = await foreign(lightningd, 400_000)
    xpay = {"invstring": invoice["bolt11"]}
    assert (await refused(lightningd, "xpay", **xpay, maxfee=4))[0] == 206
    await fund(lightningd)
    assert (await refused(lightningd, "xpay", **xpay))[0] == 205
    assert await parts(lightningd, invoice) == []
    stranger = await foreign(lightningd)
    lightningd.state.db.execute("DELETE FROM preimages")
    code, message = await refused(lightningd, "xpay", invstring=stranger["bolt11"])
    assert (code, message) == (205, f"Failed: Unknown destination node {stranger['payee']}")


async def test_the_default_fee_limit_is_1_percent_and_at_least_5_sat(lightningd: Node) -> None:
    small, large = await foreign(lightningd, 1000), await foreign(lightningd, 10_000_000)
    for invoice, limit in ((small, 5000), (large, 100_000)):
        plan = {"payment_hash": invoice["payment_hash"], "fee_msat": limit + 1}
        await lightningd.call("dev-payment-plan", plan)
        assert (await refused(lightningd, "xpay", invstring=invoice["bolt11"]))[0] == 206
        await lightningd.call("dev-payment-plan", {**plan, "fee_msat": limit})
        answer = await paid(lightningd, invoice)
        assert answer["amount_sent_msat"] - answer["amount_msat"] == limit


async def test_a_payment_reduces_the_channel_unless_it_fails(lightningd: Node) -> None:
    await fund(lightningd)
    invoice = await foreign(lightningd)
    await lightningd.call("dev-payment-plan", {"hold": True, "fee_msat": 10})
    task = await begin(lightningd, invoice)
    assert await spendable(lightningd) == 99_990
    await lightningd.call("dev-payment-release", {"outcome": "failed"})
    assert await spendable(lightningd) == 200_000
    with pytest.raises(RpcError):
        await task
    await paid(lightningd, invoice)
    assert await spendable(lightningd) == 99_998


async def test_a_payment_can_be_held_in_the_route_search_and_pending(lightningd: Node) -> None:
    invoice = await foreign(lightningd)
    await lightningd.call("dev-payment-plan", {"hold_route": True, "hold": True, "parts": 3})
    task = await begin(lightningd, invoice)
    held = {"payment_hash": invoice["payment_hash"], "at": "route"}
    assert await lightningd.call("dev-payments-held", {}) == {"held": [held]}
    assert await parts(lightningd, invoice) == []
    assert (await lightningd.call("dev-payment-release", {}))["was"] == "route"
    assert await statuses(lightningd, invoice) == ["pending"] * 3
    code, message = await refused(lightningd, "xpay", invstring=invoice["bolt11"])
    assert code == -3
    assert message.startswith('Unexpected injectpaymentonion error 200: {"code":200,"message":"Payment')
    assert not task.done()
    await lightningd.call("dev-payment-release", {})
    assert (await task)["successful_parts"] == 3
    [pay] = (await lightningd.call("listpays", {"payment_hash": invoice["payment_hash"]}))["pays"]
    assert (pay["status"], pay["number_of_parts"], pay["amount_msat"]) == ("complete", 3, 100_000)
    assert pay["amount_sent_msat"] == (await task)["amount_sent_msat"]


async def test_only_one_of_two_concurrent_payments_pays(lightningd: Node) -> None:
    invoice = await foreign(lightningd)
    await lightningd.call("dev-payment-plan", {"hold_route": True})
    first = await begin(lightningd, invoice)
    await paid(lightningd, invoice)
    await lightningd.call("dev-payment-release", {})
    with pytest.raises(RpcError, match="Already paid"):
        await first
    assert await statuses(lightningd, invoice) == ["complete"]


@pytest.mark.parametrize(("outcome", "status"), [("complete", "complete"), ("failed", "failed")])
async def test_xpay_can_fail_while_a_part_is_pending(
    lightningd: Node, outcome: str, status: str
) -> None:
    invoice = await foreign(lightningd)
    await lightningd.call("dev-payment-plan", {"error_while_pending": FAILURE, "parts": 2})
    assert (await refused(lightningd, "xpay", invstring=invoice["bolt11"]))[0] == 209
    assert await statuses(lightningd, invoice) == ["pending", "failed"]
    [pay] = (await lightningd.call("listpays", {"payment_hash": invoice["payment_hash"]}))["pays"]
    assert pay["status"] == "pending"
    await lightningd.call("dev-payment-release", {"outcome": outcome})
    assert await statuses(lightningd, invoice) == [status, "failed"]
    assert await lightningd.call("dev-payments-held", {}) == {"held": []}


async def test_xpay_can_succeed_while_a_part_is_pending(lightningd: Node) -> None:
    invoice = await foreign(lightningd)
    await lightningd.call("dev-payment-plan", {"answer_early": True, "parts": 2})
    answer = await paid(lightningd, invoice)
    assert answer["successful_parts"] == 2
    assert sum(p["amount_sent_msat"] for p in await parts(lightningd, invoice)) == 100_002
    assert await statuses(lightningd, invoice) == ["complete", "pending"]
    await lightningd.call("dev-payment-release", {})
    assert await statuses(lightningd, invoice) == ["complete", "complete"]


async def test_xpay_of_a_paid_invoice_can_also_fail_with_other_errors(lightningd: Node) -> None:
    """It looks for a route first, and compares only the amount of the first part."""
    invoice = await foreign(lightningd, 0)
    xpay = {"invstring": invoice["bolt11"], "amount_msat": 1000}
    await lightningd.call("xpay", xpay)
    assert (await refused(lightningd, "xpay", **xpay))[0] == 219
    assert (await refused(lightningd, "xpay", **{**xpay, "amount_msat": 2000}))[0] == -3
    assert (await refused(lightningd, "xpay", **xpay, maxfee=0))[0] == 206
    await fund(lightningd, 0)
    assert (await refused(lightningd, "xpay", **xpay))[0] == 205


async def test_a_node_can_pay_its_own_unpaid_invoice(lightningd: Node) -> None:
    given = {"amount_msat": 1000, "label": "own", "description": ""}
    invoice = await lightningd.call("invoice", given)
    await fund(lightningd, 0)
    assert (await paid(lightningd, invoice))["amount_sent_msat"] == 1000
    [own] = (await lightningd.call("listinvoices", {"label": "own"}))["invoices"]
    assert own["status"] == "paid"
    assert (await refused(lightningd, "xpay", invstring=invoice["bolt11"]))[0] == 219
    other = await lightningd.call("invoice", {**given, "label": "other"})
    await lightningd.call("dev-pay", {"label": "other"})
    assert (await refused(lightningd, "xpay", invstring=other["bolt11"]))[0] == 203
    assert await statuses(lightningd, other) == ["failed"]


@pytest.mark.parametrize("method", ["xkeysend", "keysend"])
async def test_a_keysend_is_stored_without_an_invoice(lightningd: Node, method: str) -> None:
    given = {"destination": PAYEE, "amount_msat": 1000, "label": "gift"}
    answer = await lightningd.call(method, {**given, "extratlvs": {"7629169": "7b7d"}})
    [sent] = (await lightningd.call("dev-keysends", {}))["keysends"]
    assert (sent["command"], sent["extratlvs"]) == (method, {"7629169": "7b7d"})
    [part] = await parts(lightningd, sent)
    assert (part["label"], part["destination"]) == ("gift", PAYEE)
    assert "bolt11" not in part
    assert ("partid" in part) is (method == "xkeysend")
    assert part["payment_preimage"] == answer["payment_preimage"]
    assert (await refused(lightningd, method, **{**given, "destination": lightningd.id}))[0] == -32602


@pytest.mark.parametrize(("method", "code"), [("xkeysend", 205), ("keysend", 210)])
async def test_a_keysend_to_an_unreachable_node_fails(lightningd: Node, method: str, code: int) -> None:
    await lightningd.call("dev-unreachable", {"destinations": [PAYEE]})
    assert (await refused(lightningd, method, destination=PAYEE, amount_msat=1000))[0] == code
    assert (await lightningd.call("listsendpays", {})) == {"payments": []}


@pytest.mark.parametrize(
    ("lightningd", "already_paid", "too_expensive", "missing"),
    [
        ({"version": "v25.02.2"}, 218, 205, ["xkeysend"]),
        ({"version": "v26.04.2"}, 218, 205, ["xkeysend"]),
        ({"version": "v26.06"}, 219, 206, []),
        ({"version": "v27.03"}, 219, 206, ["pay", "keysend"]),
    ],
    indirect=["lightningd"],
)
async def test_commands_and_error_codes_follow_the_version(
    lightningd: Node, already_paid: int, too_expensive: int, missing: list[str]
) -> None:
    invoice = await foreign(lightningd)
    code, message = await refused(lightningd, "xpay", invstring=invoice["bolt11"], maxfee=0)
    assert (code, "excessive cost" in message) == (too_expensive, True)
    await paid(lightningd, invoice)
    assert (await refused(lightningd, "xpay", invstring=invoice["bolt11"]))[0] == already_paid
    for command in missing:
        unknown = (-32601, f"Unknown command '{command}'")
        assert await refused(lightningd, command, bolt11="x") == unknown
        unknown = (-32601, f"Unknown command {command}")
        assert await refused(lightningd, "help", command=command) == unknown
    for command in {"pay", "keysend", "xpay", "xkeysend"} - set(missing):
        assert (await lightningd.call("help", {"command": command}))["help"]


@pytest.mark.parametrize("lightningd", [{"version": "v26.04.2"}], indirect=True)
async def test_before_26_06_xpay_has_no_label_and_does_not_handle_pay(lightningd: Node) -> None:
    invoice = await foreign(lightningd)
    assert (await refused(lightningd, "xpay", invstring=invoice["bolt11"], label="x"))[0] == -32602
    assert (await refused(lightningd, "pay", bolt11=invoice["bolt11"], maxfee=0))[0] == 210
    await lightningd.call("pay", {"bolt11": invoice["bolt11"], "label": "x"})
    assert (await lightningd.call("dev-pay-commands", {}))["commands"] == ["pay", "pay"]


async def test_wait_answers_when_a_payment_is_created_or_updated(lightningd: Node) -> None:
    now = {"subsystem": "sendpays", "indexname": "created", "nextvalue": 0}
    assert await lightningd.call("wait", now) == {"subsystem": "sendpays", "created": 0}
    waits = [
        asyncio.create_task(lightningd.call("wait", {**now, "indexname": name, "nextvalue": 1}))
        for name in ("created", "updated")
    ]
    await asyncio.sleep(0)
    invoice = await foreign(lightningd)
    await paid(lightningd, invoice)
    created, updated = await asyncio.gather(*waits)
    assert (created["created"], created["sendpays"]["status"]) == (1, "pending")
    assert (updated["updated"], updated["sendpays"]["status"]) == (1, "complete")
    assert updated["sendpays"]["payment_hash"] == invoice["payment_hash"]
    assert len(lightningd.waiters) == 0
    assert (await refused(lightningd, "wait", subsystem="sendpays", indexname="x", nextvalue=0))[0] == (
        -32602
    )


async def test_wait_answers_when_an_invoice_is_created_updated_or_deleted(lightningd: Node) -> None:
    waits = [
        asyncio.create_task(
            lightningd.call("wait", {"subsystem": "invoices", "indexname": name, "nextvalue": 1})
        )
        for name in ("created", "updated", "deleted")
    ]
    await asyncio.sleep(0)
    await lightningd.call("invoice", {"amount_msat": 1, "label": "one", "description": ""})
    await lightningd.call("dev-pay", {"label": "one"})
    await lightningd.call("delinvoice", {"label": "one", "status": "paid"})
    seen = [(await wait)["invoices"] for wait in waits]
    assert [(entry["label"], entry["status"]) for entry in seen] == [
        ("one", "unpaid"),
        ("one", "paid"),
        ("one", "paid"),
    ]


def test_a_payment_continues_when_its_caller_has_gone(double: LightningdDouble) -> None:
    invoice = double.rpc.call("dev-foreign-invoice", {"amount_msat": 1000})
    double.rpc.call("dev-payment-plan", {"hold_route": True, "hold": True})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(double.socket))
        request = {"jsonrpc": "2.0", "id": 1, "method": "xpay"}
        connection.sendall(dumps({**request, "params": {"invstring": invoice["bolt11"]}}))
    double.wait_for_log("held in the route search")
    double.rpc.call("dev-payment-release")
    double.wait_for_log("held pending")
    double.rpc.call("dev-payment-release")
    [part] = double.rpc.listsendpays(payment_hash=invoice["payment_hash"])["payments"]
    assert part["status"] == "complete"


@pytest.mark.parametrize("end", ["restart", "kill"])
def test_pending_parts_survive_a_restart_but_a_route_search_does_not(
    double: LightningdDouble, end: str
) -> None:
    pending, routing = (double.rpc.call("dev-foreign-invoice", {"amount_msat": 1000}) for _ in "12")
    for invoice, plan in ((pending, {"hold": True}), (routing, {"hold_route": True})):
        double.rpc.call("dev-payment-plan", {"payment_hash": invoice["payment_hash"], **plan})
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(double.socket))
        request = {"jsonrpc": "2.0", "id": 1, "method": "xpay"}
        connection.sendall(dumps({**request, "params": {"invstring": invoice["bolt11"]}}))
        double.wait_for_log(f"payment {invoice['payment_hash']}: held")
        connection.close()
    if end == "kill":
        double.kill()
        double.start()
    else:
        double.restart()
    held = [{"payment_hash": pending["payment_hash"], "at": "pending"}]
    assert double.rpc.call("dev-payments-held") == {"held": held}
    assert refusal(double, "xpay", {"invstring": pending["bolt11"]})["code"] == -3
    double.rpc.call("dev-payment-release")
    [part] = double.rpc.listsendpays(payment_hash=pending["payment_hash"])["payments"]
    assert part["payment_preimage"] == pending["payment_preimage"]
    assert double.rpc.call("xpay", {"invstring": routing["bolt11"]})["successful_parts"] == 1
