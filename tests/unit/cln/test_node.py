"""Node against a JSON-RPC server on a Unix socket that says what the test wants."""

import asyncio
import json
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from nwc.cln.errors import NodeError, NodeUnavailable, RpcFailed
from nwc.cln.node import PAYMENT_METHODS, Node
from nwc.wallet.spending.payments import MAX_IN_ALL

SECRET = "5ec7e7" + "00" * 29
Json = dict[str, Any]
# What the server does with a request: the bytes to answer; None hangs up.
Answer = Callable[[Json], bytes | None]


def result(value: Any) -> Answer:
    return lambda request: json.dumps({"id": request["id"], "result": value}).encode() + b"\n\n"


def failure(code: int, message: str) -> Answer:
    error = {"code": code, "message": message}
    return lambda request: json.dumps({"id": request["id"], "error": error}).encode() + b"\n\n"


async def read_request(reader: asyncio.StreamReader) -> Json:
    """Read one JSON object; like lightningd, without a separator after it."""
    text = b""
    while data := await reader.read(65_536):
        text += data
        try:
            request: Json = json.loads(text)
        except ValueError:
            continue
        return request
    raise EOFError


class Server:
    """Lightningd's socket. `answer` is for the tests to set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Answer = result({})
        self.requests: list[Json] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await read_request(reader))
        answer = self.answer(self.requests[-1])
        if answer is not None:
            writer.write(answer)
            await writer.drain()
        writer.close()

    @property
    def asked(self) -> tuple[str, Any]:
        [request] = self.requests
        return request["method"], request["params"]


@pytest.fixture
def socket_path() -> Iterator[Path]:
    # Not tmp_path: the name of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "rpc"


@pytest_asyncio.fixture
async def server(socket_path: Path) -> AsyncIterator[Server]:
    server = Server(socket_path)
    async with await asyncio.start_unix_server(server.talk, socket_path):
        yield server


@pytest.fixture
def node(socket_path: Path) -> Iterator[Node]:
    node = Node(str(socket_path))
    yield node
    node.close()


async def test_a_result(server: Server, node: Node) -> None:
    server.answer = result({"id": "02ab", "alias": "é"})
    assert await node.info() == {"id": "02ab", "alias": "é"}
    assert server.asked == ("getinfo", {})


async def test_an_error(server: Server, node: Node) -> None:
    server.answer = failure(900, "Duplicate label 'x'")
    with pytest.raises(RpcFailed) as caught:
        await node.call("invoice", label="x")
    error = caught.value
    assert (error.method, error.code, error.message) == ("invoice", 900, "Duplicate label 'x'")
    assert isinstance(error, NodeError)
    assert error.__cause__ is None  # pyln's error quotes the whole call
    assert error.__suppress_context__


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b'{"id": "x", "res',
        b"not JSON\n\n",
        b"\xff\xfe\n\n",
        b"{}\n\n",
        b'{"id": "somebody else\'s", "result": {}}\n\n',
        b'{"error": "words"}\n\n',
        b'{"error": {}}\n\n',
        b'{"error": {"code": "x"}}\n\n',
    ],
)
async def test_no_good_answer(server: Server, node: Node, answer: bytes | None) -> None:
    server.answer = lambda request: answer
    with pytest.raises(NodeUnavailable) as caught:
        await node.call("makesecret", string="purpose of the secret")
    assert str(caught.value).startswith("makesecret: ")
    assert "purpose" not in str(caught.value)


async def test_nobody_there(node: Node) -> None:
    with pytest.raises(NodeUnavailable, match="getinfo: FileNotFoundError"):
        await node.info()


async def test_nobody_listens(node: Node, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(socket_path))
    with pytest.raises(NodeUnavailable, match="getinfo: ConnectionRefusedError"):
        await node.info()


async def test_secrets_are_logged_at_no_level(
    server: Server, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.NOTSET)
    logging.getLogger("pyln").setLevel(logging.NOTSET)
    server.answer = result({"secret": SECRET})
    assert await node.make_secret("a purpose") == bytes.fromhex(SECRET)
    assert server.asked == ("makesecret", {"string": "a purpose"})
    server.answer = failure(-1, "no luck with " + SECRET)
    with pytest.raises(RpcFailed):
        await node.make_secret("a purpose")
    assert [record for record in caplog.records if record.name != "asyncio"] == []
    assert SECRET not in caplog.text
    assert "a purpose" not in caplog.text


async def test_calls_run_side_by_side(server: Server, node: Node) -> None:
    both, arrived = asyncio.Event(), 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        request = await read_request(reader)
        arrived += 1
        if arrived == 2:
            both.set()
        await both.wait()
        writer.write(json.dumps({"id": request["id"], "result": request["params"]}).encode() + b"\n\n")
        writer.close()

    server.talk = talk  # type: ignore[method-assign]
    server.path.unlink()
    async with await asyncio.start_unix_server(talk, server.path), asyncio.timeout(10):
        answers = await asyncio.gather(node.call("a", x=1), node.call("b", x=2))
    assert list(answers) == [{"x": 1}, {"x": 2}]


@pytest.mark.parametrize("method", sorted(PAYMENT_METHODS))
async def test_payments_take_the_threads_of_nothing_else(
    socket_path: Path, node: Node, method: str
) -> None:
    """Each may wait for minutes; as many as may be under way leave room for all else."""
    paid, waiting = asyncio.Event(), asyncio.Semaphore(0)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        if request["method"] == method:
            waiting.release()
            await paid.wait()
        writer.write(json.dumps({"id": request["id"], "result": {}}).encode() + b"\n\n")
        writer.close()

    async with await asyncio.start_unix_server(talk, socket_path, backlog=200), asyncio.timeout(10):
        payments = [asyncio.create_task(node.call(method)) for _ in range(MAX_IN_ALL)]
        for _ in payments:
            await waiting.acquire()
        for other in ("getinfo", "invoice", "sql", "listsendpays"):
            await node.call(other)
        paid.set()
        await asyncio.gather(*payments)


async def test_a_closed_node_takes_no_calls(server: Server, node: Node) -> None:
    node.close()
    with pytest.raises(RuntimeError):
        await node.info()
    assert server.requests == []


# What each call asks for


async def test_invoice(server: Server, node: Node) -> None:
    await node.invoice(amount_msat=1000, label="l", description="d", expiry=60)
    assert server.asked == (
        "invoice",
        {"amount_msat": 1000, "label": "l", "description": "d", "expiry": 60},
    )


async def test_invoice_with_everything(server: Server, node: Node) -> None:
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


async def test_create_and_delete_invoice(server: Server, node: Node) -> None:
    await node.create_invoice("lnbc1", "l", "00" * 32)
    await node.delete_invoice("l", "unpaid")
    assert [(request["method"], request["params"]) for request in server.requests] == [
        ("createinvoice", {"invstring": "lnbc1", "label": "l", "preimage": "00" * 32}),
        ("delinvoice", {"label": "l", "status": "unpaid"}),
    ]


@pytest.mark.parametrize(("invoices", "found"), [([], None), ([{"label": "l"}], {"label": "l"})])
async def test_invoice_by_label(
    server: Server, node: Node, invoices: list[Json], found: Json | None
) -> None:
    server.answer = result({"invoices": invoices})
    assert await node.invoice_by_label("l") == found
    assert server.asked == ("listinvoices", {"label": "l"})


@pytest.mark.parametrize(
    ("method", "mode", "returned"),
    [("datastore_create", "must-create", 0), ("datastore_put", "create-or-replace", None)],
)
async def test_datastore_writes(
    server: Server, node: Node, method: str, mode: str, returned: int | None
) -> None:
    server.answer = result({"key": ["nwc", "x"], "generation": 0, "hex": "78", "string": "x"})
    assert await getattr(node, method)(("nwc", "x"), "value") == returned
    assert server.asked == ("datastore", {"key": ["nwc", "x"], "string": "value", "mode": mode})


async def test_datastore_replace(server: Server, node: Node) -> None:
    server.answer = result({"key": ["nwc", "x"], "generation": 8, "hex": "78", "string": "x"})
    assert await node.datastore_replace(("nwc", "x"), "value", 7) == 8
    fields = {"key": ["nwc", "x"], "string": "value", "mode": "must-replace", "generation": 7}
    assert server.asked == ("datastore", fields)


@pytest.mark.parametrize("generation", [0, 7])
async def test_datastore_entry(server: Server, node: Node, generation: int) -> None:
    """Also the first generation, which is 0."""
    entry = {"key": ["nwc", "x"], "generation": generation, "hex": "78", "string": "x"}
    server.answer = result({"datastore": [entry]})
    assert await node.datastore_entry(("nwc", "x")) == ("x", generation)
    assert server.asked == ("listdatastore", {"key": ["nwc", "x"]})


async def test_no_datastore_entry(server: Server, node: Node) -> None:
    server.answer = result({"datastore": []})
    assert await node.datastore_entry(("nwc", "x")) is None


async def test_a_datastore_entry_that_is_no_text(server: Server, node: Node) -> None:
    server.answer = result({"datastore": [{"key": ["nwc", "x"], "generation": 1, "hex": "ff"}]})
    assert await node.datastore_entry(("nwc", "x")) == ("", 1)


async def test_no_record_where_there_are_some_below(server: Server, node: Node) -> None:
    """Lightningd lists what is below then, a branch without a generation too."""
    below = {"key": ["nwc", "x", "y"], "generation": 1, "hex": "78", "string": "x"}
    for listed in ([below], [{"key": ["nwc", "x", "y"]}]):
        server.answer = result({"datastore": listed})
        assert await node.datastore_entry(("nwc", "x")) is None
        assert await node.datastore_get(("nwc", "x")) is None


async def test_deleting_what_is_gone(server: Server, node: Node) -> None:
    server.answer = failure(1200, "Key does not exist")
    await node.datastore_delete(("nwc", "x"))
    assert server.asked == ("deldatastore", {"key": ["nwc", "x"]})
    server.answer = failure(1201, "Wrong generation")
    with pytest.raises(RpcFailed):
        await node.datastore_delete(("nwc", "x"))


async def test_datastore_children(server: Server, node: Node) -> None:
    server.answer = result(
        {
            "datastore": [
                {"key": ["nwc", "connections", "a"], "string": "1", "hex": "31", "generation": 0},
                {"key": ["nwc", "connections", "b"]},
                {"key": ["nwc", "connections", "b", "deeper"], "string": "2"},
                {"key": ["nwc", "connections", "binary"], "hex": "ff"},
                {"key": ["nwc", "connections"], "string": "3"},
            ]
        }
    )
    assert await node.datastore_children(("nwc", "connections")) == {"a": "1", "binary": ""}
    assert server.asked == ("listdatastore", {"key": ["nwc", "connections"]})
