import asyncio
import logging
from dataclasses import replace
from pkgutil import iter_modules
from typing import Any, get_type_hints

import pytest

from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.nip47.encryption import Encryption
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.methods import METHODS, extensions_of
from nwc.nip47.request import Request
from nwc.wallet import dispatch as module
from nwc.wallet import methods as method_modules
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.connections.permissions import allowed_methods, sent_notifications
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.context import Call, ChainTip, Wallet
from nwc.wallet.dispatch import HANDLERS, dispatch
from tests.unit import in_process
from tests.unit.helpers import CLIENT, NOW
from tests.unit.wallet.fake_node import FakeNode

CONNECTION = Connection("My phone", CLIENT.public_key, ("wss://a.example",), NOW, lud16="me@a.example")
REQUEST = Request("e" * 64, NOW, Encryption.NIP44_V2, "get_info", {})
GETINFO = {
    "id": "02" * 33,
    "alias": "node",
    "color": "aabbcc",
    "network": "bitcoin",
    "blockheight": 800_000,
}
UNLIMITED = Budget(BudgetKind.UNLIMITED)
BUDGETS = [UNLIMITED, Budget(BudgetKind.AMOUNT, 1), Budget(BudgetKind.RECEIVED)]
RECEIVING = (
    "get_info",
    "get_balance",
    "get_budget",
    "make_invoice",
    "lookup_invoice",
    "list_transactions",
)
PAYING = ("pay_invoice", "pay_keysend")
# What lightningd says must not reach a client.
NODES_WORDS = "peer 02abcd at 10.0.0.5"


def make_wallet(answer: dict[str, Any] | Exception = GETINFO, tip: ChainTip | None = None) -> Wallet:
    return in_process.make_wallet(FakeNode(answer), tip)


async def ask(
    wallet: Wallet | None = None, request: Request = REQUEST, **changes: Any
) -> dict[str, Any] | Nip47Error:
    return await dispatch(wallet or make_wallet(), replace(CONNECTION, **changes), request, NOW)


async def error_of(
    wallet: Wallet | None = None, request: Request = REQUEST, **changes: Any
) -> Nip47Error:
    outcome = await ask(wallet, request, **changes)
    assert isinstance(outcome, Nip47Error)
    return outcome


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that puts a handler in the place of get_info's."""

    def put(handle: Any, timeout_s: float = 10) -> None:
        monkeypatch.setitem(HANDLERS, "get_info", handle)
        monkeypatch.setitem(METHODS, "get_info", replace(METHODS["get_info"], timeout_s=timeout_s))

    return put


async def test_get_info() -> None:
    outcome = await ask(make_wallet(tip=ChainTip(800_000, "00ff")))
    assert outcome == {
        "alias": "node",
        "color": "aabbcc",
        "pubkey": "02" * 33,
        "network": "mainnet",
        "block_height": 800_000,
        "block_hash": "00ff",
        "methods": list(RECEIVING),
        "notifications": ["payment_received"],
        "extensions": ["02", "05", "06"],
        "lud16": "me@a.example",
    }


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget.kind)
async def test_get_info_with_a_budget(budget: Budget) -> None:
    outcome = await ask(budget=budget)
    assert isinstance(outcome, dict)
    assert outcome["methods"] == list(METHODS) == [*RECEIVING, *PAYING]
    assert outcome["notifications"] == ["payment_received", "payment_sent"]
    assert outcome["extensions"] == ["02", "04", "05", "06"]


@pytest.mark.parametrize(
    ("methods", "extensions"),
    [
        (RECEIVING, ("02", "05", "06")),
        ((*RECEIVING, "pay_invoice"), ("02", "05", "06")),
        ((*RECEIVING, *PAYING), ("02", "04", "05", "06")),
        (("pay_keysend",), ("02", "04", "05", "06")),
        ((), ("02", "05", "06")),
    ],
)
def test_extensions_of(methods: tuple[str, ...], extensions: tuple[str, ...]) -> None:
    assert extensions_of(methods) == extensions


@pytest.mark.parametrize(
    ("changes", "is_told_of_sent"),
    [
        ({}, False),
        ({"view": View.NODE}, True),
        *(({"budget": budget}, True) for budget in BUDGETS),
    ],
)
def test_sent_notifications(changes: dict[str, Any], is_told_of_sent: bool) -> None:
    connection = replace(CONNECTION, **changes)
    sent = ("payment_sent",) if is_told_of_sent else ()
    assert sent_notifications(connection, enabled=True) == ("payment_received", *sent)
    assert sent_notifications(connection, enabled=False) == ()
    assert sent_notifications(replace(connection, notifications=False), enabled=True) == ()


@pytest.mark.parametrize(("of_node", "of_connection"), [(True, False), (False, True), (False, False)])
async def test_notifications_are_off(of_node: bool, of_connection: bool) -> None:
    wallet = make_wallet()
    wallet.notifications = of_node
    outcome = await ask(wallet, notifications=of_connection)
    assert isinstance(outcome, dict)
    assert outcome["notifications"] == []


@pytest.mark.parametrize(
    ("network", "named"),
    [("bitcoin", "mainnet"), ("testnet", "testnet"), ("testnet4", "testnet"), ("regtest", "regtest")],
)
async def test_networks(network: str, named: str) -> None:
    outcome = await ask(make_wallet({**GETINFO, "network": network}), lud16=None)
    assert isinstance(outcome, dict)
    assert outcome["network"] == named
    assert "lud16" not in outcome


@pytest.mark.parametrize("height", [-1, 799_999, 800_001])
async def test_the_hash_of_another_block_is_not_shown(height: int) -> None:
    outcome = await ask(make_wallet(tip=ChainTip(height, "00ff")))
    assert isinstance(outcome, dict)
    assert "block_hash" not in outcome


@pytest.mark.parametrize(
    ("methods", "receiving", "paying"),
    [
        (None, RECEIVING, PAYING),
        (("make_invoice", "get_info"), ("get_info", "make_invoice"), ()),
        (("make_invoice",), ("make_invoice",), ()),
        (("pay_invoice",), (), ("pay_invoice",)),
        (("pay_keysend", "get_balance"), ("get_balance",), ("pay_keysend",)),
        (("no such",), (), ()),
        ((), (), ()),
    ],
)
async def test_allowed_methods(
    methods: tuple[str, ...] | None, receiving: tuple[str, ...], paying: tuple[str, ...]
) -> None:
    connection = replace(CONNECTION, methods=methods)
    assert allowed_methods(connection) == receiving
    for budget in BUDGETS:
        assert allowed_methods(replace(connection, budget=budget)) == (*receiving, *paying)


def test_each_method_has_a_handler_in_a_module_of_its_name() -> None:
    modules = {info.name for info in iter_modules(method_modules.__path__)}
    assert list(HANDLERS) == list(METHODS)
    assert set(METHODS) == modules
    for handler in HANDLERS.values():
        hints = {"wallet": Wallet, "call": Call, "return": dict[str, Any]}
        assert get_type_hints(handler) == hints


async def test_a_call_carries_what_a_handler_needs(handler: Any) -> None:
    calls: list[Call] = []

    async def handle(wallet: Wallet, call: Call) -> dict[str, Any]:
        calls.append(call)
        return {"x": 1}

    handler(handle)
    assert await ask(request=replace(REQUEST, params={"a": 1}), methods=("get_info",)) == {"x": 1}
    connection = replace(CONNECTION, methods=("get_info",))
    assert calls == [
        Call(
            REQUEST.id,
            {"a": 1},
            connection,
            created_at=NOW,
            encryption=Encryption.NIP44_V2,
        )
    ]


@pytest.mark.parametrize("method", ["pay", "multi_pay_invoice", "GET_INFO", "unknown", "__class__"])
async def test_unknown_method(method: str) -> None:
    error = await error_of(request=replace(REQUEST, method=method))
    assert error.code == ErrorCode.NOT_IMPLEMENTED
    assert "get_info" in error.message


async def test_not_allowed() -> None:
    error = await error_of(methods=("make_invoice",))
    assert error.code == ErrorCode.RESTRICTED
    assert "get_info" in error.message


@pytest.mark.parametrize("method", PAYING)
async def test_a_connection_that_only_receives_cannot_pay(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async def handle(wallet: Wallet, call: Call) -> dict[str, Any]:
        return {"fees_paid": 0}

    monkeypatch.setitem(HANDLERS, method, handle)
    request = replace(REQUEST, method=method)
    for methods in (None, PAYING):
        error = await error_of(request=request, methods=methods)
        assert error.code == ErrorCode.RESTRICTED
        assert error.message == f"{method} is not allowed for this connection: it can only receive"
    error = await error_of(request=request, methods=RECEIVING, budget=UNLIMITED)
    assert error.code == ErrorCode.RESTRICTED
    assert error.message == f"{method} is not allowed for this connection"
    for budget in BUDGETS:
        assert await ask(request=request, budget=budget) == {"fees_paid": 0}


async def test_a_payment_takes_as_long_as_it_takes() -> None:
    """An error in between would make people pay again."""
    assert {name for name, method in METHODS.items() if method.timeout_s is None} == set(PAYING)
    assert {name for name, method in METHODS.items() if method.spends} == set(PAYING)


@pytest.mark.parametrize("expires_at", [NOW, NOW - 1, 0])
async def test_expired(expires_at: int) -> None:
    wallet = make_wallet()
    assert (await error_of(wallet, expires_at=expires_at)).code == ErrorCode.UNAUTHORIZED
    assert isinstance(wallet.node, FakeNode)
    assert wallet.node.calls == []


async def test_not_yet_expired() -> None:
    assert isinstance(await ask(expires_at=NOW + 1), dict)


async def test_a_malformed_request_gets_its_error() -> None:
    problem = Nip47Error(ErrorCode.OTHER, "params: must be a JSON object")
    assert await ask(request=replace(REQUEST, error=problem)) is problem
    assert await ask(request=replace(REQUEST, error=problem, method="unknown")) is problem


async def test_bad_parameters() -> None:
    request = replace(REQUEST, method="make_invoice", params={"amount": "1000"})
    error = await error_of(request=request)
    assert error.code == ErrorCode.OTHER
    assert error.message.startswith("amount: ")


async def test_a_node_that_does_not_answer_in_time(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(wallet: Wallet, call: Call) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    caplog.set_level(logging.DEBUG)
    handler(handle, timeout_s=0.01)
    error = await error_of()
    assert error.code == ErrorCode.INTERNAL
    assert "in time" in error.message
    assert "My phone" in caplog.text


@pytest.mark.parametrize(
    ("failure", "logged"),
    [
        (RpcCallError("getinfo", -32602, NODES_WORDS), "getinfo: error -32602"),
        (RpcCallError("invoice", 900, NODES_WORDS), "invoice: error 900"),
        (NodeUnavailableError("invoice: TimeoutError"), "invoice: TimeoutError"),
    ],
)
async def test_the_nodes_words_go_nowhere(
    failure: Exception, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Lightningd quotes parameters in its errors, and they are the client's business."""
    caplog.set_level(logging.DEBUG)
    error = await error_of(make_wallet(failure))
    assert error.code == ErrorCode.INTERNAL
    assert NODES_WORDS not in str(error)
    assert "900" not in str(error)
    assert logged in caplog.text
    assert NODES_WORDS not in caplog.text


@pytest.mark.parametrize("failure", [KeyError("secret"), ValueError(NODES_WORDS), ZeroDivisionError()])
async def test_what_nobody_expected(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    error = await error_of(make_wallet(failure))
    assert (error.code, error.message) == (ErrorCode.INTERNAL, "internal error")
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.name == module.__name__
    assert record.exc_info is not None
    assert record.exc_info[1] is failure
    assert "Traceback" in caplog.text


async def test_being_ended_is_no_error_of_the_request(handler: Any) -> None:
    started = asyncio.Event()

    async def handle(wallet: Wallet, call: Call) -> dict[str, Any]:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    handler(handle)
    task = asyncio.create_task(ask())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
