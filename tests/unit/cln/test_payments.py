"""Which commands pay, with which parameters, and what their parts add up to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.cln.errors import NodeUnavailable, RpcCode, RpcFailed
from nwc.cln.node import Json, Node
from nwc.cln.payments import Parts, Payer, Sent, _parts

# As `help` shows them.
XPAY = "xpay invstring [amount_msat] [maxfee] [layers] [retry_for] [partial_msat] [maxdelay]"
PAY = "pay bolt11 [amount_msat] [label] [riskfactor] [maxfeepercent] [retry_for] [maxdelay] [maxfee]"
XKEYSEND = "xkeysend destination amount_msat [label] [maxfee] [layers] [retry_for] [extratlvs]"
KEYSEND = "keysend destination amount_msat [label] [maxfeepercent] [retry_for] [extratlvs] [maxfee]"
OLD_KEYSEND = (
    "keysend destination amount_msat [label] [maxfeepercent] [retry_for] [maxdelay] [exemptfee]"
)
HASH, OTHER_HASH, PREIMAGE = "ab" * 32, "cd" * 32, "11" * 32


class HelpfulNode(Node):
    """A node with some commands.

    Attributes:
        commands: usage by name.
        asked: method and parameters of each call but `help`.
        helped: what help was asked for.

    """

    def __init__(self, *commands: str, answer: Any = None) -> None:
        self.commands = {usage.split()[0]: usage for usage in commands}
        self.answer = answer
        self.asked: list[tuple[str, Json]] = []
        self.helped: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        if method != "help":
            self.asked.append((method, {k: v for k, v in params.items() if v is not None}))
            return self.answer
        self.helped.append(params["command"])
        if params["command"] not in self.commands:
            raise RpcFailed("help", RpcCode.METHOD_NOT_FOUND, "Unknown command")
        return {"help": [{"command": self.commands[params["command"]]}]}


async def pay(payer: Payer, amount_msat: int | None = None) -> Json:
    return await payer.pay_invoice(
        "lnbc1", amount_msat=amount_msat, max_fee_msat=7, retry_for_s=50, label="nwc:a:b"
    )


async def keysend(payer: Payer, tlvs: dict[str, str] | None = None) -> Json:
    return await payer.keysend(
        "02", amount_msat=9, max_fee_msat=7, retry_for_s=50, label="nwc:a:b", tlvs=tlvs or {}
    )


COMMON = {"maxfee": 7, "retry_for": 50}


@pytest.mark.parametrize(
    ("commands", "method", "params"),
    [
        ((XPAY, PAY), "xpay", {"invstring": "lnbc1"}),
        ((XPAY + " [label]", PAY), "xpay", {"invstring": "lnbc1", "label": "nwc:a:b"}),
        ((PAY,), "pay", {"bolt11": "lnbc1", "label": "nwc:a:b"}),
        (("pay bolt11 [maxfee] [labels]",), "pay", {"bolt11": "lnbc1"}),
    ],
)
async def test_pay(commands: tuple[str, ...], method: str, params: Json) -> None:
    node = HelpfulNode(*commands, answer={"x": 1})
    assert await pay(Payer(node)) == {"x": 1}
    assert node.asked == [(method, {**params, **COMMON})]


async def test_an_amount_where_the_invoice_has_none() -> None:
    node = HelpfulNode(XPAY)
    await pay(Payer(node), amount_msat=5)
    assert node.asked == [("xpay", {"invstring": "lnbc1", "amount_msat": 5, **COMMON})]


@pytest.mark.parametrize(
    ("commands", "method"),
    [((XKEYSEND, KEYSEND), "xkeysend"), ((KEYSEND,), "keysend")],
)
async def test_keysend(commands: tuple[str, ...], method: str) -> None:
    node = HelpfulNode(*commands)
    payer = Payer(node)
    assert await payer.can_keysend()
    await keysend(payer)
    await keysend(payer, {"65536": "00"})
    params = {"destination": "02", "amount_msat": 9, "label": "nwc:a:b", **COMMON}
    assert node.asked == [(method, params), (method, {**params, "extratlvs": {"65536": "00"}})]


@pytest.mark.parametrize("commands", [(), (OLD_KEYSEND,), (PAY, XPAY)])
async def test_no_keysend_with_a_limit_on_the_fee(commands: tuple[str, ...]) -> None:
    assert not await Payer(HelpfulNode(*commands)).can_keysend()


async def test_a_command_may_come_later_and_is_known_from_then_on() -> None:
    node = HelpfulNode()
    payer = Payer(node)
    with pytest.raises(RpcFailed) as error:
        await pay(payer)
    assert error.value.code == RpcCode.METHOD_NOT_FOUND
    assert node.asked == []
    node.commands["pay"] = PAY
    await pay(payer)
    await pay(payer)
    assert [method for method, _ in node.asked] == ["pay", "pay"]
    assert node.helped.count("pay") == 2, "once in vain, once for good"
    node.commands["xpay"] = XPAY
    await pay(payer)
    assert node.asked[-1][0] == "xpay"


async def test_help_that_is_not_answered() -> None:
    class Away(HelpfulNode):
        async def call(self, method: str, **params: Any) -> Any:
            raise NodeUnavailable("help")

    payer = Payer(Away())
    for work in (pay(payer), keysend(payer), payer.can_keysend()):
        with pytest.raises(NodeUnavailable):
            await work


# Parts


def part(status: str, sent_msat: int = 10, **fields: Any) -> Json:
    complete = {"payment_preimage": PREIMAGE} if status == "complete" else {}
    common = {"payment_hash": HASH, "status": status, "amount_sent_msat": sent_msat}
    return {**common, **complete, **fields}


@pytest.mark.parametrize(
    ("listed", "sent_msat", "is_pending", "payment_hash"),
    [
        ([], None, False, None),
        ([part("failed")], None, False, HASH),
        ([part("pending")], None, True, HASH),
        ([part("complete")], 10, False, HASH),
        ([part("failed", 99), part("complete", 3), part("complete", 4)], 7, False, HASH),
        ([part("complete", 3), part("pending", 4)], 3, True, HASH),
        ([part("complete", 3, payment_preimage=None), part("complete", 4)], 7, False, HASH),
        ([part("complete", amount_sent_msat="12")], 12, False, HASH),
    ],
)
async def test_parts(
    listed: list[Json], sent_msat: int | None, is_pending: bool, payment_hash: str | None
) -> None:
    node = HelpfulNode(answer={"payments": listed})
    sent = None if sent_msat is None else Sent(HASH, PREIMAGE, sent_msat)
    assert await Payer(node).parts_by_hash(HASH) == Parts(sent, is_pending, payment_hash)
    assert node.asked == [("listsendpays", {"payment_hash": HASH})]


async def test_parts_with_a_label() -> None:
    others = [
        part("complete", 5, label="nwc:a:c", payment_hash=OTHER_HASH),
        part("pending", payment_hash=OTHER_HASH),
        part("pending", label=None, payment_hash=OTHER_HASH),
    ]
    own = [part("failed", label="nwc:a:b"), part("complete", 4, label="nwc:a:b")]
    node = HelpfulNode(answer={"payments": [*others, *own]})
    parts = await Payer(node).parts_by_label("nwc:a:b", 17)
    assert parts == Parts(Sent(HASH, PREIMAGE, 4), False, HASH)
    assert node.asked == [("listsendpays", {"index": "created", "start": 17})]


@pytest.mark.parametrize(
    "listed",
    [
        None,
        {},
        [],
        {"payments": None},
        {"payments": [None]},
        {"payments": [{}]},
        {"payments": [part("complete", payment_preimage=None)]},
        {"payments": [{"status": "complete", "payment_hash": HASH, "payment_preimage": PREIMAGE}]},
        {"payments": [part("complete", amount_sent_msat="many")]},
        {"payments": [part("complete", amount_sent_msat=None)]},
    ],
)
async def test_a_list_nobody_understands_is_no_answer(listed: Any) -> None:
    with pytest.raises(NodeUnavailable):
        await Payer(HelpfulNode(answer=listed)).parts_by_hash(HASH)


STATUSES = st.lists(st.tuples(st.sampled_from(["pending", "complete", "failed"]), st.integers(0, 10**9)))


@given(STATUSES)
def test_parts_add_up(statuses: list[tuple[str, int]]) -> None:
    parts = _parts({"payments": [part(status, msat) for status, msat in statuses]})
    complete = [msat for status, msat in statuses if status == "complete"]
    assert (parts.sent.sent_msat if parts.sent else None) == (sum(complete) if complete else None)
    assert parts.is_pending == any(status == "pending" for status, _ in statuses)


async def test_next_sendpay_index() -> None:
    node = HelpfulNode(answer={"subsystem": "sendpays", "created": 41})
    assert await Payer(node).next_sendpay_index() == 42
    assert node.asked == [("wait", {"subsystem": "sendpays", "indexname": "created", "nextvalue": 0})]


async def test_decode() -> None:
    node = HelpfulNode(answer={"valid": True})
    assert await Payer(node).decode("lnbc1") == {"valid": True}
    assert node.asked == [("decode", {"string": "lnbc1"})]


async def test_spendable() -> None:
    channels = [
        {"state": "CHANNELD_NORMAL", "spendable_msat": 5},
        {"state": "CHANNELD_NORMAL"},
        {"state": "ONCHAIN", "spendable_msat": 7},
        {"state": "CHANNELD_NORMAL", "spendable_msat": 4},
    ]
    assert await Payer(HelpfulNode(answer={"channels": channels})).spendable_msat() == 9
