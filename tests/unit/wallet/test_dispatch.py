import asyncio
import logging
from dataclasses import replace
from pkgutil import iter_modules
from typing import Any, get_type_hints

import pytest

from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.nip47.encryption import Encryption
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.methods import METHODS
from nwc.nip47.request import Request
from nwc.wallet import dispatch as module
from nwc.wallet import methods as method_modules
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.connections.record import Connection
from nwc.wallet.context import Call, ChainTip, Wallet
from nwc.wallet.dispatch import HANDLERS, dispatch
from tests.unit import in_process
from tests.unit.helpers import CLIENT, NOW
from tests.unit.nip47.test_methods import PAYING, RECEIVING
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
# lightningd's error messages must not reach a client.
NODES_MESSAGE = "peer 02abcd at 10.0.0.5"


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
    """Return a function that replaces the handler of get_info."""

    def put(handle: Any, timeout_s: float = 10) -> None:
        monkeypatch.setitem(HANDLERS, "get_info", handle)
        monkeypatch.setitem(METHODS, "get_info", replace(METHODS["get_info"], timeout_s=timeout_s))

    return put


async def test_get_info_describes_node_and_connection() -> None:
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
        "extensions": ["02", "05", "06", "321"],
        "metadata": {"id": CLIENT.public_key[:16], "name": "My phone"},
        "lud16": "me@a.example",
    }


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget.kind)
async def test_get_info_with_a_budget_lists_paying_methods(budget: Budget) -> None:
    outcome = await ask(budget=budget)
    assert isinstance(outcome, dict)
    assert outcome["methods"] == [*RECEIVING, *PAYING]
    assert outcome["notifications"] == ["payment_received", "payment_sent"]
    assert outcome["extensions"] == ["02", "04", "05", "06", "321"]


@pytest.mark.parametrize(("of_node", "of_connection"), [(True, False), (False, True), (False, False)])
async def test_get_info_lists_no_notifications_if_they_are_off(
    of_node: bool, of_connection: bool
) -> None:
    wallet = make_wallet()
    wallet.notifications = of_node
    outcome = await ask(wallet, notifications=of_connection)
    assert isinstance(outcome, dict)
    assert outcome["notifications"] == []


@pytest.mark.parametrize(
    ("network", "named"),
    [("bitcoin", "mainnet"), ("testnet", "testnet"), ("testnet4", "testnet"), ("regtest", "regtest")],
)
async def test_networks_have_the_names_of_nip47(network: str, named: str) -> None:
    outcome = await ask(make_wallet({**GETINFO, "network": network}), lud16=None)
    assert isinstance(outcome, dict)
    assert outcome["network"] == named
    assert "lud16" not in outcome


@pytest.mark.parametrize("height", [-1, 799_999, 800_001])
async def test_the_hash_of_another_block_is_not_shown(height: int) -> None:
    outcome = await ask(make_wallet(tip=ChainTip(height, "00ff")))
    assert isinstance(outcome, dict)
    assert "block_hash" not in outcome


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


@pytest.mark.parametrize("method", ["Pay", "multi_pay_invoice", "GET_INFO", "unknown", "__class__"])
async def test_an_unknown_method_is_not_implemented(method: str) -> None:
    error = await error_of(request=replace(REQUEST, method=method))
    assert error.code == ErrorCode.NOT_IMPLEMENTED
    assert "get_info" in error.message


async def test_a_method_that_the_owner_does_not_allow_is_restricted() -> None:
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


@pytest.mark.parametrize("expires_at", [NOW, NOW - 1, 0])
async def test_an_expired_connection_is_unauthorized(expires_at: int) -> None:
    wallet = make_wallet()
    assert (await error_of(wallet, expires_at=expires_at)).code == ErrorCode.UNAUTHORIZED
    assert isinstance(wallet.node, FakeNode)
    assert wallet.node.calls == []


async def test_a_connection_is_served_until_it_expires() -> None:
    assert isinstance(await ask(expires_at=NOW + 1), dict)


async def test_a_malformed_request_gets_its_error() -> None:
    problem = Nip47Error(ErrorCode.OTHER, "params: must be a JSON object")
    assert await ask(request=replace(REQUEST, error=problem)) is problem
    assert await ask(request=replace(REQUEST, error=problem, method="unknown")) is problem


async def test_an_invalid_parameter_gets_an_error() -> None:
    request = replace(REQUEST, method="make_invoice", params={"amount": "1000"})
    error = await error_of(request=request)
    assert error.code == ErrorCode.OTHER
    assert error.message.startswith("amount: ")


async def test_a_node_that_does_not_answer_in_time_gives_an_error(
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
        (RpcCallError("getinfo", -32602, NODES_MESSAGE), "getinfo: error -32602"),
        (RpcCallError("invoice", 900, NODES_MESSAGE), "invoice: error 900"),
        (NodeUnavailableError("invoice: TimeoutError"), "invoice: TimeoutError"),
    ],
)
async def test_lightningds_error_messages_reach_neither_app_nor_log(
    failure: Exception, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    """lightningd quotes parameters in its errors, and they are confidential."""
    caplog.set_level(logging.DEBUG)
    error = await error_of(make_wallet(failure))
    assert error.code == ErrorCode.INTERNAL
    assert NODES_MESSAGE not in str(error)
    assert "900" not in str(error)
    assert logged in caplog.text
    assert NODES_MESSAGE not in caplog.text


@pytest.mark.parametrize("failure", [KeyError("secret"), ValueError(NODES_MESSAGE), ZeroDivisionError()])
async def test_an_unexpected_exception_is_logged_and_answered(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    error = await error_of(make_wallet(failure))
    assert (error.code, error.message) == (ErrorCode.INTERNAL, "internal error")
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.name == module.__name__
    assert record.exc_info is not None
    assert record.exc_info[1] is failure
    assert "Traceback" in caplog.text


async def test_a_cancelled_request_is_cancelled(handler: Any) -> None:
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
