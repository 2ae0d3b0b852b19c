"""The whole way of a request in one process: frames in, frames out, and a node that checks every call.

RelayPool, Relay, RelaySession, gate, server, handlers, payments and Node are real. The WebSocket and the
double of lightningd are in memory. Time is virtual: it advances at once when everything waits.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar
from unittest.mock import patch

from nwc import commands
from nwc.cln.node import Json
from nwc.nip47.encryption import Cipher, Encryption
from nwc.nip47.errors import ErrorCode
from nwc.nip47.kinds import KIND_REQUEST, KIND_RESPONSE
from nwc.nip47.methods import METHODS
from nwc.nip47.response import MAX_PLAINTEXT_BYTES
from nwc.nostr import relay as relay_module
from nwc.nostr.event import Event, parse_event, sign_event, verify_event
from nwc.nostr.keys import KeyPair
from nwc.options import Settings
from nwc.service import App
from nwc.wallet.context import ChainTip
from tests.double.node import Node as Double
from tests.double.settings import Settings as DoubleSettings
from tests.unit.fuzz.strict_node import StrictNode
from tests.unit.helpers import Errors, as_json
from tests.unit.virtual_loop import VirtualLoop

T = TypeVar("T")

URL = "ws://127.0.0.1:9"
MAX_EVENT_BYTES = 65_536
# Seconds of virtual time: longer than any wait but that for a payment.
PATIENCE_S = 300.0
# An honest request is sent after so many others, which must not have affected it.
PROBE_EVERY = 20

# Connections by name, with the parameters of nwc-connect.
CONNECTIONS: dict[str, Json] = {
    "receives": {},
    "spends": {"budget": "1000000sat", "renewal": "daily", "max_payment": "500000sat"},
    "received": {"budget": "received"},
    "owner": {"budget": "unlimited", "view": "node", "methods": list(METHODS)},
}


class RawText(str):
    """A plaintext that is not UTF-8: a string whose `encode` returns these bytes."""

    __slots__ = ("data",)
    data: bytes

    def __new__(cls, data: bytes) -> Self:
        text = super().__new__(cls, data.decode(errors="replace"))
        text.data = data
        return text

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.data


class Client:
    """An app that signs requests and checks answers."""

    def __init__(self, keys: KeyPair, wallet_pubkey: str) -> None:
        self.keys = keys
        self.wallet_pubkey = wallet_pubkey
        self._cipher = Cipher(keys, wallet_pubkey)

    def encrypt(self, scheme: Encryption, plaintext: str) -> str:
        return self._cipher.encrypt(scheme, plaintext)

    def event(
        self,
        content: str,
        tags: Sequence[Sequence[str]],
        *,
        kind: int = KIND_REQUEST,
        created_at: int | None = None,
    ) -> Event:
        """Return a signed event, dated now by default."""
        at = int(time.time()) if created_at is None else created_at
        return sign_event(self.keys, kind=kind, content=content, tags=tags, created_at=at)

    def request(self, plaintext: str, scheme: Encryption = Encryption.NIP44_V2) -> Event:
        """Return a request event as an honest app makes it."""
        tags = [["p", self.wallet_pubkey]]
        if scheme is not Encryption.NIP04:
            tags.append(["encryption", scheme])
        return self.event(self.encrypt(scheme, plaintext), tags)

    def open(self, answer: Event, request: Event, *, node_is_well: bool = True) -> Json:
        """Check an answer against NIP-47; return its decrypted content."""
        verify_event(answer)
        assert answer.kind == KIND_RESPONSE
        assert answer.pubkey == self.wallet_pubkey
        assert answer.tags == (("p", self.keys.public_key), ("e", request.id))
        assert answer.created_at >= request.created_at
        assert len(answer.to_json().encode()) < MAX_EVENT_BYTES
        scheme = Encryption.NIP04 if "?iv=" in answer.content else Encryption.NIP44_V2
        plaintext = self._cipher.decrypt(scheme, answer.content)
        assert len(plaintext.encode()) <= MAX_PLAINTEXT_BYTES
        body: Json = json.loads(plaintext, parse_constant=_no_constant)
        assert set(body) == {"result_type", "error", "result"}
        assert isinstance(body["result_type"], str)
        assert (body["error"] is None) != (body["result"] is None)
        if body["error"] is not None:
            assert set(body["error"]) == {"code", "message"}
            assert body["error"]["code"] in set(ErrorCode)
            assert body["error"]["message"]
            # From a healthy node that gets only valid calls, INTERNAL would be a bug of the plugin.
            assert not (node_is_well and body["error"]["code"] == ErrorCode.INTERNAL), (body, request)
        assert _has_only_integers(body)
        return body


def _no_constant(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def _has_only_integers(value: object) -> bool:
    """Return True if all numbers are integers, as apps expect, except in metadata."""
    if isinstance(value, dict):
        return all(_has_only_integers(item) for name, item in value.items() if name != "metadata")
    if isinstance(value, list):
        return all(map(_has_only_integers, value))
    return not isinstance(value, float)


class Socket:
    """A WebSocket in memory, to a relay that accepts everything.

    Attributes:
        published: the events that the plugin has sent.

    """

    latency_s = None
    is_open = can_send = True

    def __init__(self) -> None:
        self.published: list[Event] = []
        self._on_message: Callable[[str | bytes], None] | None = None

    @property
    def has_listener(self) -> bool:
        """True if the plugin is listening."""
        return self._on_message is not None

    def arrive(self, frame: str | bytes) -> None:
        """Deliver a frame from the relay."""
        assert self._on_message is not None
        self._on_message(frame)

    # The methods of RelaySocket that Relay uses

    def listen(self, on_message: Callable[[str | bytes], None], _on_writable: object) -> None:
        self._on_message = on_message

    def send(self, frame: str) -> None:
        answer = asyncio.get_running_loop().call_soon
        match json.loads(frame):
            case ["EVENT", event]:
                self.published.append(parse_event(event))
                answer(self.arrive, json.dumps(["OK", event["id"], True, ""]))
            case ["REQ", name, *_]:
                answer(self.arrive, json.dumps(["EOSE", name]))

    async def wait_closed(self) -> None:
        await asyncio.Event().wait()

    async def drain(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Way:
    """A running plugin with connections, over a node that already has invoices and payments.

    Attributes:
        probes: whether an honest request is sent now and then.
        is_wrong: returns True for a log line or a call that counts as a failure.

    """

    def __init__(self, directory: Path) -> None:
        self._exit = ExitStack()
        self.loop = VirtualLoop()
        self.double = Double(DoubleSettings(directory))
        self.node = StrictNode(self.double)
        self.clients: dict[str, Client] = {}
        self._socket: Socket | None = None
        self._published: list[Event] = []
        self._delivered = 0
        self.probes = True
        self.is_wrong: Callable[[str], bool] = lambda _: True
        self._errors = Errors()
        self._unhandled: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self._unhandled.append(str(context)))
        logging.getLogger("nwc").addHandler(self._errors)
        self._exit.callback(logging.getLogger("nwc").removeHandler, self._errors)
        self._exit.enter_context(patch.object(relay_module, "open_socket", self._connect))
        self.app = self.run(self._start())

    def close(self) -> None:
        """Stop the plugin, and check that nothing went wrong."""
        try:
            self.run(self.app.stop())
            self.check_no_errors()
        finally:
            self.loop.end()
            self.double.close()
            self._exit.close()

    def restart(self) -> None:
        """Stop the plugin and start it again with the current datastore."""
        self.run(self.app.stop())
        self.app = make_app(self.node)
        self.run(load(self.app))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the plugin's loop and return its result."""

        async def bounded() -> T:
            async with asyncio.timeout(PATIENCE_S):
                return await coroutine

        return self.loop.run_until_complete(bounded())

    def deliver(self, *frames: str | bytes) -> list[Event]:
        """Deliver frames from the relay, and return the answers."""
        before = len(self._published)
        self.run(self._deliver(frames))
        self.check_no_errors()
        answers = [event for event in self._published[before:] if event.kind == KIND_RESPONSE]
        self._published.clear()
        self._delivered += 1
        if self.probes and self._delivered % PROBE_EVERY == 0:
            self.check_honest_request()
        return answers

    def ask(self, client: Client, request: Event) -> Json:
        """Deliver a request; check that it gets one answer, and return its content."""
        [answer] = self.deliver(event_frame(request))
        return client.open(answer, request)

    def check_honest_request(self) -> None:
        """Check that an honest request is still answered."""
        client = self.clients["receives"]
        request = client.request('{"method":"make_invoice","params":{"amount":1000}}')
        self.run(self._deliver((event_frame(request),)))
        [answer] = [event for event in self._published if event.tag("e") == request.id]
        assert client.open(answer, request)["result"]["invoice"].startswith("lnbcrt10n1")
        self.check_no_errors()

    def check_no_errors(self) -> None:
        """Check that there was no violation, logged error or unhandled exception."""
        reported = (*self.node.violations, *self._errors.seen)
        wrong = [*self._unhandled, *filter(self.is_wrong, reported)]
        for seen in (self.node.violations, self._unhandled, self._errors.seen):
            seen.clear()
        assert not wrong, wrong[0]

    async def dev(self, method: str, **params: Any) -> Json:
        """Call a method of the double."""
        answer: Json = await self.double.call(method, params)
        return answer

    async def _start(self) -> App:
        await self.dev("dev-hold", there=True)
        await self.dev("dev-invoices", count=30, paid_every=2, label_prefix="shop:")
        await self.dev("dev-payments", count=10, created_at=1_700_000_000)
        app = make_app(self.node)
        await load(app)
        for name, how in CONNECTIONS.items():
            keys = KeyPair.generate()
            shown = await commands.connect(app, name, pubkey=keys.public_key, **how)
            self.clients[name] = Client(keys, shown["wallet_pubkey"])
        return app

    async def _connect(self, _url: str, **_how: Any) -> Socket:
        self._socket = Socket()
        self._socket.published = self._published
        return self._socket

    async def _deliver(self, frames: Sequence[str | bytes]) -> None:
        for frame in frames:
            while self._socket is None or not self._socket.has_listener:  # noqa: ASYNC110
                await asyncio.sleep(1)
            self._socket.arrive(frame)
        while len(self.app.server._tasks) > 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def make_app(node: StrictNode) -> App:
    """Return an App, made as Service does."""
    settings = Settings(
        rpc_path="rpc",
        relays=(URL,),
        invoice_expiry=3600,
        max_request_age=120,
        rate_limit=100_000,
        notifications=True,
        proxy=None,
        always_use_proxy=False,
    )
    return App(settings, node, ChainTip())


async def load(app: App) -> None:
    """Load and start an App as Service does."""

    async def once(step: Callable[[], Awaitable[object]]) -> None:
        await step()

    await app.manager.load()
    app.start(once)
    await app.payments._until_started()


def event_frame(event: Event) -> str:
    """Return the frame in which a relay delivers an event."""
    return json.dumps(["EVENT", "nwc1", as_json(event)])
