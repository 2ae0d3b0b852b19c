"""Which commands pay, with which parameters, and how parts add up."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.cln.errors import NodeUnavailableError, RpcCallError, RpcCode
from nwc.cln.node import Bounds, Json, Node
from nwc.cln.payer import PARTS_PER_PAGE, Parts, PayCommand, PayCommandError, Payer, Sent, _merged
from nwc.cln.rpc import Params

# As `help` shows them.
XPAY = "xpay invstring [amount_msat] [maxfee] [layers] [retry_for] [partial_msat] [maxdelay]"
PAY = "pay bolt11 [amount_msat] [label] [riskfactor] [maxfeepercent] [retry_for] [maxdelay] [maxfee]"
XKEYSEND = "xkeysend destination amount_msat [label] [maxfee] [layers] [retry_for] [extratlvs]"
KEYSEND = "keysend destination amount_msat [label] [maxfeepercent] [retry_for] [extratlvs] [maxfee]"
OLD_KEYSEND = (
    "keysend destination amount_msat [label] [maxfeepercent] [retry_for] [maxdelay] [exemptfee]"
)
HASH, OTHER_HASH, PREIMAGE = "ab" * 32, "cd" * 32, "11" * 32


LABEL = "nwc:a:b"


def refuse(code: int, **details: Any) -> RpcCallError:
    return RpcCallError("pay", code, "no", {"code": code, "message": "no", **details})


class HelpfulNode(Node):
    """A node with some commands.

    Attributes:
        commands: usage by name.
        answers: what a method answers, or raises; `{}` where none is set.
        asked: method and parameters of each call but `help`.
        named: name of the call by method, where it has one.
        helped: what help was asked for.

    """

    def __init__(self, *commands: str, **answers: Any) -> None:
        self.commands = {usage.split()[0]: usage for usage in commands}
        self.answers = {"getinfo": {"id": "03"}, **answers}
        self.asked: list[tuple[str, Any]] = []
        self.named: dict[str, str] = {}
        self.helped: list[str] = []

    async def _call(self, method: str, params: Params, bounds: Bounds, name: str = "") -> Any:
        if method == "help":
            assert isinstance(params, dict)
            self.helped.append(params["command"])
            if params["command"] not in self.commands:
                raise RpcCallError("help", RpcCode.METHOD_NOT_FOUND, "Unknown command")
            return {"help": [{"command": self.commands[params["command"]]}]}
        self.asked.append((method, params))
        if name:
            self.named[method] = name
        answer = self.answers.get(method, {})
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tried(self) -> list[str]:
        return [method for method, _ in self.asked]


async def pay(payer: Payer, amount_msat: int | None = None) -> Json:
    return await payer.pay_invoice(
        "lnbc1", amount_msat=amount_msat, max_fee_msat=7, retry_for_s=50, label=LABEL
    )


CHANNELS = [
    {"short_channel_id": "103x1x0", "alias": {"local": "1x2x3", "remote": "4x5x6"}},
    {"alias": {"local": "7x8x9"}},
    {"state": "OPENINGD"},
]


def bolt12_answers(*begins: Json) -> Json:
    return {
        "decode": {"invoice_paths": [*begins, {"first_node_id": "05"}]},
        "listpeerchannels": {"channels": CHANNELS},
    }


async def pay_bolt12(payer: Payer) -> Json:
    return await payer.pay_invoice(
        "lni1q", amount_msat=None, max_fee_msat=7, retry_for_s=50, label=LABEL
    )


async def keysend(payer: Payer, tlvs: dict[str, str] | None = None) -> Json:
    return await payer.keysend(
        "02", amount_msat=9, max_fee_msat=7, retry_for_s=50, label=LABEL, tlvs=tlvs or {}
    )


PAY_GIVEN = ["lnbc1", None, LABEL, None, None, 50, None, None, None, None, 7]
XPAY_GIVEN = {"invstring": "lnbc1", "maxfee": 7, "retry_for": 50}


@pytest.mark.parametrize("commands", [(XPAY, PAY), (PAY,)])
async def test_pay_comes_first_with_so_many_positional_parameters_that_it_is_not_redirected(
    commands: tuple[str, ...],
) -> None:
    node = HelpfulNode(*commands, pay={"x": 1})
    assert await pay(Payer(node)) == {"x": 1}
    assert node.asked == [("pay", PAY_GIVEN)]
    assert len(PAY_GIVEN) > 2, "lightningd redirects no more than two positional parameters"


@pytest.mark.parametrize(
    ("usage", "given"), [(XPAY, XPAY_GIVEN), (XPAY + " [label]", {**XPAY_GIVEN, "label": LABEL})]
)
async def test_xpay_pays_if_there_is_no_other_command(usage: str, given: Json) -> None:
    node = HelpfulNode(usage)
    await pay(Payer(node))
    assert node.asked == [("xpay", given)]
    assert node.named == {"xpay": LABEL}


@pytest.mark.parametrize(("usage", "command", "maxfee"), [(PAY, "pay", 4), (XPAY, "xpay", 7)])
async def test_the_fee_of_a_blinded_path_counts_against_the_limit(
    usage: str, command: str, maxfee: int
) -> None:
    """`pay` takes it for a part of the amount."""
    node = HelpfulNode(usage, **bolt12_answers())
    await Payer(node).pay_invoice(
        "lni1", amount_msat=None, max_fee_msat=7, retry_for_s=50, label=LABEL, blinded_fee_msat=3
    )
    given_command, given = node.asked[-1]
    assert given_command == command
    assert (given["maxfee"] if isinstance(given, dict) else given[-1]) == maxfee


async def test_xpay_pays_if_pay_is_rejected_as_deprecated() -> None:
    """With allow-deprecated-apis=false `help` shows both, but lightningd rejects one."""
    node = HelpfulNode(PAY, XPAY, pay=refuse(-32601), xpay={"x": 1})
    assert await pay(Payer(node)) == {"x": 1}
    assert node.tried() == ["pay", "xpay"]


@pytest.mark.parametrize(
    ("pay_command", "tried"),
    [
        (PayCommand.AUTO, ["pay", "xpay"]),
        (PayCommand.PAY, ["pay"]),
        (PayCommand.XPAY, ["xpay"]),
    ],
)
async def test_the_owner_chooses_the_command(pay_command: PayCommand, tried: list[str]) -> None:
    node = HelpfulNode(PAY, XPAY, pay=refuse(-32601), xpay=refuse(-32601))
    payer = Payer(node, pay_command)
    with pytest.raises(PayCommandError) as error:
        await pay(payer)
    assert (error.value.code, error.value.is_over) == (RpcCode.METHOD_NOT_FOUND, True)
    assert node.tried() == tried


async def test_the_amount_is_passed_on_for_an_invoice_without_one() -> None:
    node = HelpfulNode(PAY)
    await pay(Payer(node), amount_msat=5)
    assert node.asked == [("pay", ["lnbc1", 5, *PAY_GIVEN[2:]])]


@pytest.mark.parametrize("code", [203, 205, 206, 209, 210, -1])
async def test_an_error_of_pay_is_not_followed_by_another_command(code: int) -> None:
    node = HelpfulNode(PAY, XPAY, pay=refuse(code))
    with pytest.raises(PayCommandError):
        await pay(Payer(node))
    assert node.tried() == ["pay"]


FAILED, SUCCESS, PENDING = ({"status": status} for status in ("failed", "success", "pending"))
# As v26.06.6 shows a payment that was split: its first attempt stays pending.
SPLIT = [
    {"status": "pending", "partid": 0, "failreason": "No path found"},
    {"status": "failed", "partid": 1, "parent_partid": 0},
    {"status": "failed", "partid": 2, "parent_partid": 0},
]


@pytest.mark.parametrize(
    ("error", "is_over"),
    [
        (refuse(-32601), True),
        (refuse(-32602), True),
        (refuse(207), True),
        (refuse(213), True),
        (refuse(203), False),
        (refuse(205), False),
        (refuse(210), False),
        (refuse(203, status="failed"), True),
        (refuse(203, status="pending"), False),
        (refuse(203, status="complete"), False),
        (refuse(210, attempts=[FAILED, FAILED]), True),
        (refuse(210, attempts=[FAILED, SUCCESS]), True),
        (refuse(203, attempts=[FAILED, PENDING]), False),
        (refuse(210, attempts=SPLIT), True),
        (refuse(210, attempts=[*SPLIT, {"status": "pending", "partid": 3}]), False),
        (refuse(210, attempts=[SPLIT[0]]), False),
        (refuse(210, attempts=[]), False),
        (refuse(210, attempts=[FAILED, {}]), False),
        (refuse(210, attempts=[FAILED, "failed"]), False),
        (refuse(210, attempts="failed"), False),
    ],
)
async def test_which_errors_of_pay_are_the_end(error: RpcCallError, is_over: bool) -> None:
    with pytest.raises(PayCommandError) as raised:
        await pay(Payer(HelpfulNode(PAY, pay=error)))
    assert (raised.value.code, raised.value.is_over) == (error.code, is_over)
    assert raised.value.details == {}, "it can be megabytes"


@pytest.mark.parametrize(
    ("details", "attempts"), [({}, 0), ({"attempts": SPLIT}, 3), ({"attempts": "many"}, 0)]
)
async def test_the_attempts_of_lightningd_are_counted(details: Json, attempts: int) -> None:
    with pytest.raises(PayCommandError) as raised:
        await pay(Payer(HelpfulNode(PAY, pay=refuse(210, **details))))
    assert raised.value.attempts == attempts


COSTLY = {
    "status": "failed",
    "failreason": "Fee exceeds our fee budget: 101msat > 1msat, discarding route",
}


@pytest.mark.parametrize(
    ("error", "exceeds"),
    [
        (RpcCallError("xpay", 206, "Failed: Could not find route without excessive cost"), True),
        (RpcCallError("xpay", 206, "Failed: after reducing the flows we had a fee of 7"), True),
        (RpcCallError("xpay", 206, "Failed: Could not find route without excessive delays"), False),
        (RpcCallError("xpay", 205, "Failed: Could not find route without excessive cost"), True),
        (RpcCallError("xpay", 205, "Failed: Could not find route without excessive delays"), False),
        (RpcCallError("xpay", 205, "Failed: Unknown destination node"), False),
        (refuse(210, attempts=[COSTLY]), True),
        (refuse(210, attempts=[SPLIT[0], COSTLY, FAILED]), True),
        (refuse(210, attempts=SPLIT), False),
        (refuse(210, attempts=[{"status": "failed", "failreason": 7}]), False),
        (refuse(210), False),
        (refuse(203, status="failed"), False),
    ],
)
async def test_which_errors_say_that_every_route_costs_too_much(
    error: RpcCallError, exceeds: bool
) -> None:
    with pytest.raises(PayCommandError) as raised:
        await pay(Payer(HelpfulNode(PAY, pay=error)))
    assert raised.value.exceeds_fee_limit == exceeds


@pytest.mark.parametrize(
    ("code", "is_over"),
    [(-32601, True), (-32602, True), (205, True), (206, True), (207, True), (203, False), (209, False)],
)
async def test_which_errors_of_xpay_are_the_end(code: int, is_over: bool) -> None:
    error = refuse(code, status="failed", attempts=[FAILED])
    with pytest.raises(PayCommandError) as raised:
        await pay(Payer(HelpfulNode(XPAY, xpay=error)))
    assert raised.value.is_over == is_over


@pytest.mark.parametrize(
    "begin",
    [{"first_node_id": "03"}, *({"first_scid": s} for s in ("103x1x0", "1x2x3", "4x5x6", "7x8x9"))],
    ids=str,
)
async def test_xpay_gets_no_blinded_path_that_begins_at_the_own_node(begin: Json) -> None:
    """lightningd v26.06.6 aborts on what the payee may write there."""
    node = HelpfulNode(XPAY, **bolt12_answers(begin))
    with pytest.raises(PayCommandError) as error:
        await pay_bolt12(Payer(node))
    assert (error.value.code, error.value.is_over) == (205, True)
    assert not error.value.exceeds_fee_limit
    assert "xpay" not in node.tried()


async def test_xpay_gets_blinded_paths_that_begin_elsewhere() -> None:
    node = HelpfulNode(XPAY, **bolt12_answers({"first_node_id": "04"}, {"first_scid": "103x1x1"}))
    await pay_bolt12(Payer(node))
    assert node.tried()[-1] == "xpay"


async def test_pay_gets_any_blinded_path() -> None:
    node = HelpfulNode(PAY, XPAY, **bolt12_answers({"first_node_id": "03"}))
    await pay_bolt12(Payer(node))
    assert node.tried() == ["pay"]


@pytest.mark.parametrize("decoded", [{}, {"invoice_paths": [{}]}, {"invoice_paths": 7}], ids=str)
async def test_xpay_gets_no_invoice_that_cannot_be_decoded(decoded: Json) -> None:
    node = HelpfulNode(XPAY, **{**bolt12_answers(), "decode": decoded})
    with pytest.raises(NodeUnavailableError):
        await pay_bolt12(Payer(node))
    assert "xpay" not in node.tried()


KEYSEND_GIVEN = {"destination": "02", "amount_msat": 9, "maxfee": 7, "label": LABEL, "retry_for": 50}


@pytest.mark.parametrize("commands", [(XKEYSEND, KEYSEND), (KEYSEND,)])
async def test_keysend_comes_first(commands: tuple[str, ...]) -> None:
    node = HelpfulNode(*commands)
    payer = Payer(node)
    assert await payer.can_keysend()
    await keysend(payer)
    await keysend(payer, {"65536": "00"})
    assert node.asked == [
        ("keysend", KEYSEND_GIVEN),
        ("keysend", {**KEYSEND_GIVEN, "extratlvs": {"65536": "00"}}),
    ]


@pytest.mark.parametrize("commands", [(XKEYSEND,), (XKEYSEND, KEYSEND)])
async def test_xkeysend_is_called_once_and_only_if_a_single_path_fits(commands: tuple[str, ...]) -> None:
    node = HelpfulNode(*commands, keysend=refuse(-32601), xkeysend={"x": 1})
    assert await keysend(Payer(node)) == {"x": 1}
    [(_, route), (_, given)] = [one for one in node.asked if one[0] in ("getroutes", "xkeysend")]
    assert (route["source"], route["destination"], route["maxparts"]) == ("03", "02", 1)
    assert (route["amount_msat"], route["maxfee_msat"]) == (9, 7)
    assert given == {**KEYSEND_GIVEN, "retry_for": 0}


@pytest.mark.parametrize("code", [205, 206])
async def test_xkeysend_is_not_called_if_no_single_path_fits(code: int) -> None:
    node = HelpfulNode(XKEYSEND, getroutes=refuse(code))
    with pytest.raises(PayCommandError) as error:
        await keysend(Payer(node))
    assert (error.value.code, error.value.is_over) == (code, True)
    assert "xkeysend" not in node.tried()


@pytest.mark.parametrize(
    ("pay_command", "tried"),
    [
        (PayCommand.AUTO, ["keysend"]),
        (PayCommand.PAY, ["keysend"]),
        (PayCommand.XPAY, ["getinfo", "getroutes", "xkeysend"]),
    ],
)
async def test_the_owner_chooses_the_command_for_keysends(
    pay_command: PayCommand, tried: list[str]
) -> None:
    node = HelpfulNode(KEYSEND, XKEYSEND)
    await keysend(Payer(node, pay_command))
    assert node.tried() == tried


@pytest.mark.parametrize("commands", [(), (OLD_KEYSEND,), (PAY, XPAY)])
async def test_a_keysend_without_a_limit_on_the_fee_is_not_used(commands: tuple[str, ...]) -> None:
    assert not await Payer(HelpfulNode(*commands)).can_keysend()


async def test_a_command_that_comes_later_is_found_and_cached() -> None:
    node = HelpfulNode()
    payer = Payer(node)
    with pytest.raises(PayCommandError) as error:
        await pay(payer)
    assert (error.value.code, error.value.is_over) == (RpcCode.METHOD_NOT_FOUND, True)
    assert node.asked == []
    node.commands["xpay"] = XPAY
    await pay(payer)
    await pay(payer)
    assert node.tried() == ["xpay", "xpay"]
    assert node.helped.count("xpay") == 2, "once in vain, once for good"
    node.commands["pay"] = PAY
    await pay(payer)
    assert node.tried()[-1] == "pay"


async def test_an_unanswered_help_is_no_answer() -> None:
    class Away(HelpfulNode):
        async def _call(self, method: str, params: Params, bounds: Bounds, name: str = "") -> Any:
            raise NodeUnavailableError("help")

    payer = Payer(Away())
    for work in (pay(payer), keysend(payer), payer.can_keysend()):
        with pytest.raises(NodeUnavailableError):
            await work


# Reservations


async def test_reservations_that_xpay_left_are_released() -> None:
    def reserved(scid: str, msat: int, command_id: str) -> Json:
        return {
            "short_channel_id_dir": scid,
            "amount_msat": msat,
            "age_in_seconds": 1,
            "command_id": command_id,
        }

    node = HelpfulNode(
        **{
            "askrene-listreservations": {
                "reservations": [
                    reserved("1x1x1/0", 5, f"nwc:xpay#{LABEL}/cln:askrene-reserve#7"),
                    reserved("1x1x1/0", 6, "nwc:xpay#nwc:a:c/cln:askrene-reserve#8"),
                    reserved("2x1x1/1", 5, f"nwc:xpay#{LABEL}/cln:askrene-reserve#9"),
                    reserved("2x1x1/1", 5, "-c:xpay#9/cln:askrene-reserve#9"),
                ]
            }
        }
    )
    await Payer(node).release_reservations(LABEL)
    path = [
        {"short_channel_id_dir": "1x1x1/0", "amount_msat": 5},
        {"short_channel_id_dir": "2x1x1/1", "amount_msat": 5},
    ]
    assert node.asked[1:] == [("askrene-unreserve", {"path": path})]


async def test_without_reservations_nothing_is_released() -> None:
    node = HelpfulNode(**{"askrene-listreservations": {"reservations": []}})
    await Payer(node).release_reservations(LABEL)
    assert node.tried() == ["askrene-listreservations"]


@pytest.mark.parametrize("listed", [{}, {"reservations": None}, {"reservations": [{}]}, []])
async def test_unreadable_reservations_are_no_answer(listed: Any) -> None:
    with pytest.raises(NodeUnavailableError):
        await Payer(HelpfulNode(**{"askrene-listreservations": listed})).release_reservations("")


# Parts


def part(status: str, sent_msat: int = 10, **fields: Any) -> Json:
    complete = {"payment_preimage": PREIMAGE} if status == "complete" else {}
    common = {"payment_hash": HASH, "status": status, "amount_sent_msat": sent_msat}
    return {**common, **complete, **fields}


class Lister(HelpfulNode):
    """A node with parts of payments, which get their `created_index` by position."""

    def __init__(self, parts: list[Json]) -> None:
        super().__init__()
        self.parts = [{"created_index": at, **part} for at, part in enumerate(parts, 1)]

    async def _call(self, method: str, params: Params, bounds: Bounds, name: str = "") -> Any:
        assert isinstance(params, dict)
        self.asked.append((method, params))
        chosen = [
            part
            for part in self.parts
            if part["created_index"] >= params.get("start", 0)
            and params.get("status") in (None, part["status"])
            and params.get("payment_hash") in (None, part["payment_hash"])
        ]
        return {"payments": chosen[: params.get("limit")]}


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
async def test_the_history_of_a_hash_adds_up_its_parts(
    listed: list[Json], sent_msat: int | None, is_pending: bool, payment_hash: str | None
) -> None:
    node = HelpfulNode(listsendpays={"payments": listed})
    sent = None if sent_msat is None else Sent(HASH, PREIMAGE, sent_msat)
    assert await Payer(node).history_of(HASH) == Parts(sent, is_pending, payment_hash)
    assert node.asked == [("listsendpays", {"payment_hash": HASH})]


async def test_parts_of_a_hash_begin_at_an_index() -> None:
    before, after = part("complete", 5), part("complete", 4)
    other = part("pending", payment_hash=OTHER_HASH)
    node = Lister([before, after, other, part("failed", 3), part("complete", 2)])
    parts = await Payer(node).parts(2, payment_hash=HASH, label=LABEL)
    assert parts == Parts(Sent(HASH, PREIMAGE, 6), False, HASH)
    assert all(given["index"] == "created" for _, given in node.asked)


async def test_parts_of_a_keysend_are_found_by_label() -> None:
    others = [
        part("complete", 5, label="nwc:a:c", payment_hash=OTHER_HASH),
        part("pending", payment_hash=OTHER_HASH),
        part("pending", label=None, payment_hash=OTHER_HASH),
    ]
    own = [part("failed", label=LABEL), part("complete", 4, label=LABEL)]
    payer = Payer(Lister([*others, *own]))
    assert await payer.parts(1, payment_hash=None, label=LABEL) == Parts(
        Sent(HASH, PREIMAGE, 4), False, HASH
    )
    assert await payer.hash_of(1, LABEL) == HASH
    assert await payer.hash_of(1, "nwc:a:c") == OTHER_HASH
    assert await payer.hash_of(5, "nwc:a:c") is None


@pytest.mark.parametrize("status", ["pending", "complete", "failed"])
async def test_a_part_that_was_ever_begun_is_found(status: str) -> None:
    """By the hash, or for a keysend by the label. Parts of earlier payments do not count."""
    payer = Payer(Lister([part("failed"), {**part(status), "label": LABEL}]))
    for payment_hash in (HASH, None):
        assert await payer.has_begun(2, payment_hash=payment_hash, label=LABEL)
        assert not await payer.has_begun(3, payment_hash=payment_hash, label=LABEL)
    assert not await payer.has_begun(1, payment_hash=OTHER_HASH, label=LABEL)


async def test_a_list_of_parts_that_cannot_be_read_hides_no_part() -> None:
    payer = Payer(HelpfulNode(listsendpays={"payments": [{}]}))
    with pytest.raises(NodeUnavailableError):
        await payer.has_begun(1, payment_hash=HASH, label=LABEL)


async def test_pending_parts_are_listed_first() -> None:
    """Otherwise a part that completes in between would be in neither list."""
    node = Lister([])
    await Payer(node).parts(1, payment_hash=HASH, label=LABEL)
    assert [given["status"] for _, given in node.asked] == ["pending", "complete"]


async def test_thousands_of_parts_come_in_pages() -> None:
    node = Lister([part("complete", 1, payment_hash=OTHER_HASH)] * 2500 + [part("complete", 7)])
    payer = Payer(node)
    parts = await payer.parts(1, payment_hash=HASH, label=LABEL)
    assert parts.sent == Sent(HASH, PREIMAGE, 7)
    starts = [given["start"] for _, given in node.asked if given["status"] == "complete"]
    assert starts == [1, 1001, 2001]
    assert all(given["limit"] == PARTS_PER_PAGE for _, given in node.asked)
    assert len([one async for one in payer.completed(2)]) == 2500


async def test_the_oldest_pending_part_is_found() -> None:
    assert await Payer(Lister([part("complete")])).oldest_pending_index() is None
    payer = Payer(Lister([part("complete"), part("pending"), part("pending")]))
    assert await payer.oldest_pending_index() == 2


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
async def test_an_unreadable_list_is_no_answer(listed: Any) -> None:
    payer = Payer(HelpfulNode(listsendpays=listed))
    with pytest.raises(NodeUnavailableError):
        await payer.history_of(HASH)
    with pytest.raises(NodeUnavailableError):
        await payer.parts(1, payment_hash=HASH, label=LABEL)


STATUSES = st.lists(st.tuples(st.sampled_from(["pending", "complete", "failed"]), st.integers(0, 10**9)))


@given(STATUSES)
def test_parts_add_up(statuses: list[tuple[str, int]]) -> None:
    parts = _merged([part(status, msat) for status, msat in statuses])
    complete = [msat for status, msat in statuses if status == "complete"]
    assert (parts.sent.sent_msat if parts.sent else None) == (sum(complete) if complete else None)
    assert parts.is_pending == any(status == "pending" for status, _ in statuses)


async def test_the_next_sendpay_index_is_one_more_than_the_last() -> None:
    node = HelpfulNode(wait={"subsystem": "sendpays", "created": 41})
    assert await Payer(node).next_sendpay_index() == 42
    assert node.asked == [("wait", {"subsystem": "sendpays", "indexname": "created", "nextvalue": 0})]


async def test_decode_passes_the_invoice_on() -> None:
    node = HelpfulNode(decode={"valid": True})
    assert await Payer(node).decode("lnbc1") == {"valid": True}
    assert node.asked == [("decode", {"string": "lnbc1"})]
