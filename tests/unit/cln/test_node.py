"""The calls of Node, and how many of them are in flight at once."""

import asyncio
import contextlib
import gc
import json
import select
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from nwc.cln.errors import NodeUnavailableError, RpcCallError
from nwc.cln.node import Bounds, Node
from nwc.cln.payer import PAYMENT_BOUNDS, Payer
from nwc.wallet.server import MAX_IN_FLIGHT_PER_CONNECTION
from nwc.wallet.spending.pending_payments import MAX_IN_ALL
from tests.support.waiting import PATIENCE_S
from tests.unit.cln.rpc_server import Answer, Json, Server, failure, read_request, result
from tests.unit.helpers import until


@pytest_asyncio.fixture
async def node(socket_path: Path) -> AsyncIterator[Node]:
    node = Node(str(socket_path))
    yield node
    node.close()


WITH_NUMBERS = dict.fromkeys(("invoices", "datastore", "channels", "payments", "configs", "help"), 5)


@pytest.mark.parametrize(
    "answer",
    [None, [], "words", {}, {**WITH_NUMBERS, "pay_index": "x", "secret": "x", "zbase": "x"}],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda node: node.invoice_by_label("l"),
        lambda node: node.invoice_by_payment_hash("00"),
        lambda node: node.wait_paid_invoice(0),
        lambda node: node.paid_invoice(1),
        lambda node: node.newest_pay_index(),
        lambda node: node.sendable(),
        lambda node: node.log_level(),
        lambda node: node.make_secret("a purpose"),
        lambda node: node.sign_message("log in"),
        lambda node: node.datastore_create(("nwc",), "x"),
        lambda node: node.datastore_replace(("nwc",), "x", 1),
        lambda node: node.datastore_entry(("nwc",)),
        lambda node: node.datastore_get(("nwc",)),
        lambda node: node.datastore_keys(("nwc",)),
        lambda node: node.datastore_children(("nwc",)),
        lambda node: Payer(node).next_sendpay_index(),
        lambda node: Payer(node).history_of("00"),
        lambda node: Payer(node).parts(1, payment_hash="00", label="l"),
        lambda node: Payer(node).can_keysend(),
    ],
)
async def test_an_unreadable_answer_is_no_answer(
    server: Server, node: Node, ask: Callable[[Node], Awaitable[object]], answer: Any
) -> None:
    """Code that survives a missing answer survives this, too."""
    server.answer = result(answer)
    with pytest.raises(NodeUnavailableError):
        await ask(node)


async def test_a_huge_answer_is_read(server: Server, node: Node) -> None:
    server.answer = result({"alias": "x" * 50_000_000})
    assert len((await node.info())["alias"]) == 50_000_000


PAYMENT_METHODS = ("keysend", "pay", "xkeysend", "xpay")


@pytest.mark.parametrize("method", PAYMENT_METHODS)
async def test_pending_payments_leave_the_slots_of_other_methods_free(
    socket_path: Path, node: Node, method: str
) -> None:
    """Each payment may wait for minutes; as many as may be in flight do not delay other calls."""
    paid, waiting = asyncio.Event(), asyncio.Semaphore(0)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        if request["method"] == method:
            waiting.release()
            await paid.wait()
        writer.write(json.dumps({"id": request["id"], "result": {}}).encode() + b"\n\n")
        writer.close()

    async with (
        await asyncio.start_unix_server(talk, socket_path, backlog=200),
        asyncio.timeout(PATIENCE_S),
    ):
        payments = [
            asyncio.create_task(node.call_within(PAYMENT_BOUNDS, method, {})) for _ in range(MAX_IN_ALL)
        ]
        for _ in payments:
            await waiting.acquire()
        for other in ("getinfo", "invoice", "sql", "listsendpays"):
            await node.call(other)
        paid.set()
        await asyncio.gather(*payments)


class HungServer:
    """A server that does not answer some methods while `hangs` is set."""

    def __init__(self, *methods: str) -> None:
        self.methods = methods
        self.hangs = True
        self.waiting = asyncio.Semaphore(0)
        self._end = asyncio.Event()
        self._under_way: set[asyncio.Task[Any]] = set()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._under_way.add(task)
        try:
            request = await read_request(reader)
        except EOFError:  # the call timed out before it was sent
            writer.close()
            return
        if self.hangs and request["method"] in self.methods:
            self.waiting.release()
            await self._end.wait()
        else:
            writer.write(result({"channels": [], "pay_index": 1})(request) or b"")
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Listen, and hang up at the end."""
        async with (
            await asyncio.start_unix_server(self.talk, path, backlog=200),
            asyncio.timeout(PATIENCE_S),
        ):
            yield
            self._end.set()
            await asyncio.gather(*self._under_way)

    async def wait_for(self, count: int) -> None:
        """Wait until this many more calls hang."""
        for _ in range(count):
            await self.waiting.acquire()


OTHERS = ("getinfo", "listinvoices", "listdatastore", "datastore", "makesecret", "invoice", "sql")


@pytest.mark.parametrize("method", ["listpeerchannels", *OTHERS])
async def test_a_method_that_hangs_does_not_delay_others(
    socket_path: Path, node: Node, method: str
) -> None:
    server = HungServer(method)
    async with server.listening(socket_path):
        calls = [asyncio.create_task(node.call(method)) for _ in range(MAX_IN_FLIGHT_PER_CONNECTION)]
        await server.wait_for(1)
        for other in set(OTHERS) - {method}:
            await node.call(other)
        server.hangs = False
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def make_calls_and_cancel(node: Node, server: HungServer) -> None:
    """Make two calls, and cancel them when they hang."""
    gone = [asyncio.create_task(node.info()) for _ in range(2)]
    await server.wait_for(2)
    for call in gone:
        call.cancel()
    await asyncio.gather(*gone, return_exceptions=True)


async def test_calls_that_time_out_free_their_slots(
    socket_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also calls whose callers are gone."""
    monkeypatch.setattr("nwc.cln.node._OTHER", Bounds(slots=2, timeout_s=2.0))
    server = HungServer("getinfo")
    async with server.listening(socket_path):
        await make_calls_and_cancel(node, server)
        with pytest.raises(NodeUnavailableError, match="getinfo: no answer in time"):
            await node.info()
        server.hangs = False
        monkeypatch.setattr("nwc.cln.node._OTHER", Bounds(slots=2))
        assert await node.info()


async def test_a_cancelled_call_keeps_its_slot_until_lightningd_answers(
    socket_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that gives up and asks again does not give lightningd more calls at once."""
    monkeypatch.setattr("nwc.cln.node._OTHER", Bounds(slots=2))
    server = HungServer("getinfo")
    async with server.listening(socket_path):
        await make_calls_and_cancel(node, server)
        again = asyncio.create_task(node.info())
        for _ in range(5):
            await node.call("listinvoices")
        assert server.waiting.locked()  # no third has come
        again.cancel()


ENDS: dict[str, Answer] = {
    "answered": result({}),
    "an error": failure(1, "no"),
    "malformed": lambda _: b"{}\n\n",
    "hung up": lambda _: None,
    "too late": result({}),
    "never connected": result({}),
    "caller gone": result({}),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_call_frees_its_slot_once(
    server: Server, node: Node, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """However it ends."""
    timeout_s = 0.05 if end in ("too late", "never connected") else None
    monkeypatch.setattr("nwc.cln.node._OTHER", Bounds(slots=1, timeout_s=timeout_s))
    held, connecting = asyncio.Event(), threading.Event()
    if end in ("too late", "caller gone"):
        server.before_answer = held.wait
    if end == "never connected":
        node._rpc._connecting.submit(connecting.wait)
    server.answer = ENDS[end]
    call = asyncio.create_task(node.call("method"))
    if end == "caller gone":
        await until(lambda: bool(server.requests))
        call.cancel()
    outcome: Any = (await asyncio.gather(call, return_exceptions=True))[0]
    assert (outcome == {}) == (end == "answered")
    slots = node._slots["method"]
    assert slots.locked() == (end == "caller gone")
    held.set()
    connecting.set()
    await until(lambda: not slots.locked())
    async with slots:
        assert slots.locked()


async def test_a_late_answer_is_dropped(
    server: Server, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call over its connection gets its own answer."""
    monkeypatch.setattr("nwc.cln.node._OTHER", Bounds(slots=1))
    held = asyncio.Event()
    server.before_answer = held.wait
    server.answer = lambda request: result({"asked": request["params"]["number"]})(request)
    gone = asyncio.create_task(node.call("method", number=1))
    await until(lambda: bool(server.requests))
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    held.set()
    assert await node.call("method", number=2) == {"asked": 2}
    assert gone.cancelled()
    assert len(server.requests) == 2
    assert len(server.connections) == 1


async def test_a_request_is_written_in_the_iteration_of_its_caller(server: Server, node: Node) -> None:
    """Each further loop iteration would delay every request."""
    await node.info()
    asking = asyncio.create_task(node.info())
    await asyncio.sleep(0)  # only the first step of the task: the loop has not polled sockets yet
    arrived = select.poll()
    arrived.register(server.connections[0].get_extra_info("socket").fileno(), select.POLLIN)
    assert arrived.poll(0)
    await asking


async def test_a_call_that_cannot_be_sent_takes_no_slot(
    server: Server, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nwc.cln.node._OTHER", Bounds(slots=1))
    for unsendable, error in (("\ud800", NodeUnavailableError), (object(), TypeError)):
        with pytest.raises(error):
            await node.call("method", description=unsendable)
    async with asyncio.timeout(PATIENCE_S):
        assert await node.call("method") == {}


async def test_the_timeout_of_a_call_includes_connecting(
    server: Server, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lightningd may be slow to accept. A call that timed out meanwhile is not sent."""
    monkeypatch.setattr("nwc.cln.node._OTHER", Bounds(slots=1, timeout_s=0.05))
    connecting = threading.Event()
    node._rpc._connecting.submit(connecting.wait)
    try:
        for _ in range(2):
            with pytest.raises(NodeUnavailableError, match="getinfo: no answer in time"):
                await node.info()
        await until(lambda: len(node._rpc._opening) == 0)  # nothing piles up
    finally:
        connecting.set()
    monkeypatch.setattr("nwc.cln.node._OTHER", Bounds(slots=1))
    assert await node.call("method") == {}
    assert server.asked[0] == "method"


async def test_a_failed_call_whose_caller_is_gone_is_not_logged(
    socket_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a slow lightningd would cause one error in the log for each request."""
    monkeypatch.setattr("nwc.cln.node._OTHER", Bounds(slots=1))
    noted: list[Json] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noted.append(context))
    server = HungServer("getinfo")
    async with server.listening(socket_path):
        gone = asyncio.create_task(node.info())
        await server.wait_for(1)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    with pytest.raises(NodeUnavailableError):  # after the first, whose slot it needs
        await node.info()
    del gone  # asyncio reports exceptions of futures when they are deleted
    gc.collect()
    assert noted == []


@pytest.mark.parametrize("method", [*PAYMENT_METHODS, "waitanyinvoice"])
async def test_payments_and_waits_have_no_short_timeout(
    socket_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A payment, or the wait for a paid invoice."""
    monkeypatch.setattr("nwc.cln.node._OTHER", Bounds(timeout_s=0.05))
    server = HungServer(method, "getinfo")
    async with server.listening(socket_path):
        is_wait = method == "waitanyinvoice"
        call = asyncio.create_task(
            node.wait_paid_invoice(0) if is_wait else node.call_within(PAYMENT_BOUNDS, method, {})
        )
        for _ in range(3):
            with pytest.raises(NodeUnavailableError):
                await node.info()
        assert not call.done()
        call.cancel()


async def test_a_closed_node_refuses_calls(server: Server, node: Node) -> None:
    await node.info()
    node.close()
    with pytest.raises(NodeUnavailableError):
        await node.info()
    assert len(server.requests) == 1


# The parameters of each call


async def test_invoice_asks_for_a_plain_invoice(server: Server, node: Node) -> None:
    await node.invoice(amount_msat=1000, label="l", description="d", expiry=60)
    assert server.asked == (
        "invoice",
        {"amount_msat": 1000, "label": "l", "description": "d", "expiry": 60},
    )


async def test_invoice_passes_all_parameters_on(server: Server, node: Node) -> None:
    await node.invoice(
        amount_msat=0, label="l", description="d", expiry=60, preimage="00" * 32, deschashonly=True
    )
    assert server.asked[1] == {
        "amount_msat": "any",
        "label": "l",
        "description": "d",
        "expiry": 60,
        "preimage": "00" * 32,
        "deschashonly": True,
    }


async def test_create_and_delete_invoice_pass_their_parameters_on(server: Server, node: Node) -> None:
    await node.create_invoice("lnbc1", "l", "00" * 32)
    await node.delete_invoice("l", "unpaid")
    assert [(request["method"], request["params"]) for request in server.requests] == [
        ("createinvoice", {"invstring": "lnbc1", "label": "l", "preimage": "00" * 32}),
        ("delinvoice", {"label": "l", "status": "unpaid"}),
    ]


@pytest.mark.parametrize(("invoices", "found"), [([], None), ([{"label": "l"}], {"label": "l"})])
async def test_an_invoice_is_found_by_its_label(
    server: Server, node: Node, invoices: list[Json], found: Json | None
) -> None:
    server.answer = result({"invoices": invoices})
    assert await node.invoice_by_label("l") == found
    assert server.asked == ("listinvoices", {"label": "l"})


@pytest.mark.parametrize(
    ("method", "mode", "returned"),
    [("datastore_create", "must-create", 0), ("datastore_put", "create-or-replace", None)],
)
async def test_each_datastore_write_has_its_mode(
    server: Server, node: Node, method: str, mode: str, returned: int | None
) -> None:
    server.answer = result({"key": ["nwc", "x"], "generation": 0, "hex": "78", "string": "x"})
    assert await getattr(node, method)(("nwc", "x"), "value") == returned
    assert server.asked == ("datastore", {"key": ["nwc", "x"], "string": "value", "mode": mode})


async def test_datastore_replace_names_the_generation(server: Server, node: Node) -> None:
    server.answer = result({"key": ["nwc", "x"], "generation": 8, "hex": "78", "string": "x"})
    assert await node.datastore_replace(("nwc", "x"), "value", 7) == 8
    fields = {"key": ["nwc", "x"], "string": "value", "mode": "must-replace", "generation": 7}
    assert server.asked == ("datastore", fields)


@pytest.mark.parametrize("generation", [0, 7])
async def test_a_datastore_entry_has_text_and_generation(
    server: Server, node: Node, generation: int
) -> None:
    """The first generation is 0."""
    entry = {"key": ["nwc", "x"], "generation": generation, "hex": "78", "string": "x"}
    server.answer = result({"datastore": [entry]})
    assert await node.datastore_entry(("nwc", "x")) == ("x", generation)
    assert server.asked == ("listdatastore", {"key": ["nwc", "x"]})


async def test_a_missing_datastore_entry_is_none(server: Server, node: Node) -> None:
    server.answer = result({"datastore": []})
    assert await node.datastore_entry(("nwc", "x")) is None


async def test_a_datastore_entry_that_is_not_text_is_empty(server: Server, node: Node) -> None:
    server.answer = result({"datastore": [{"key": ["nwc", "x"], "generation": 1, "hex": "ff"}]})
    assert await node.datastore_entry(("nwc", "x")) == ("", 1)


async def test_a_key_with_records_only_below_it_has_no_record(server: Server, node: Node) -> None:
    """lightningd then lists the keys below, among them a branch without a generation."""
    below = {"key": ["nwc", "x", "y"], "generation": 1, "hex": "78", "string": "x"}
    for listed in ([below], [{"key": ["nwc", "x", "y"]}]):
        server.answer = result({"datastore": listed})
        assert await node.datastore_entry(("nwc", "x")) is None
        assert await node.datastore_get(("nwc", "x")) is None


async def test_deleting_a_missing_record_is_no_error(server: Server, node: Node) -> None:
    server.answer = failure(1200, "Key does not exist")
    await node.datastore_delete(("nwc", "x"))
    assert server.asked == ("deldatastore", {"key": ["nwc", "x"]})
    server.answer = failure(1201, "Wrong generation")
    with pytest.raises(RpcCallError):
        await node.datastore_delete(("nwc", "x"))


async def test_datastore_children_are_the_records_directly_below(server: Server, node: Node) -> None:
    server.answer = result(
        {
            "datastore": [
                {"key": ["nwc", "connections", "a"], "string": "1", "hex": "31", "generation": 4},
                {"key": ["nwc", "connections", "b"]},
                {"key": ["nwc", "connections", "b", "deeper"], "string": "2", "generation": 0},
                {"key": ["nwc", "connections", "binary"], "hex": "ff", "generation": 0},
                {"key": ["nwc", "connections"], "string": "3", "generation": 0},
            ]
        }
    )
    assert await node.datastore_children(("nwc", "connections")) == {"a": "1", "binary": ""}
    assert server.asked == ("listdatastore", {"key": ["nwc", "connections"]})
    entries = await node.datastore_entries(("nwc", "connections"))
    assert entries == {"a": ("1", 4), "binary": ("", 0)}
