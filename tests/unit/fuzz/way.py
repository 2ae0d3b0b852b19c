"""The whole way of a request in one process: frames in, frames out, and a node that checks all it gets.

Real are RelayPool, Relay, RelaySession, gate, server, handlers, payments and Node; in memory are the
WebSocket below and the double of lightningd beyond. Time passes only where everything waits, and at once.
"""

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar
from unittest.mock import patch

from nwc import commands
from nwc.cln.node import Json
from nwc.cln.options import Settings
from nwc.nip47.encryption import Cipher, Encryption
from nwc.nip47.errors import ErrorCode
from nwc.nip47.kinds import KIND_REQUEST, KIND_RESPONSE
from nwc.nip47.response import MAX_PLAINTEXT_BYTES
from nwc.nostr import relay as relay_module
from nwc.nostr.event import Event, parse_event, sign_event, verify_event
from nwc.nostr.keys import KeyPair
from nwc.service import Core
from nwc.wallet.context import ChainTip
from tests.double.node import Node as Double
from tests.double.settings import Settings as DoubleSettings
from tests.unit.fuzz.strict_node import StrictNode
from tests.unit.helpers import Errors
from tests.unit.virtual_loop import VirtualLoop

T = TypeVar("T")

URL = "ws://127.0.0.1:9"
MAX_EVENT_BYTES = 65_536
# Of virtual time: longer than anything that waits for something else than a payment.
PATIENCE_S = 300.0
# An honest request comes after so many others: none of them may have left anything behind.
PROBE_EVERY = 20

# Connections by name, and what they may do.
CONNECTIONS: dict[str, Json] = {
    "receives": {},
    "spends": {"budget": "1000000sat", "renewal": "daily", "max_payment": "500000sat"},
    "received": {"budget": "received"},
    "owner": {"budget": "unlimited", "view": "node"},
}


class RawText(str):
    """What a client encrypts where it is no UTF-8: a text whose encoding is these bytes."""

    __slots__ = ("data",)
    data: bytes

    def __new__(cls, data: bytes) -> Self:
        text = super().__new__(cls, data.decode(errors="replace"))
        text.data = data
        return text

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.data


class Client:
    """An app: what it sends and how it reads what it gets."""

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
        """Sign an event, dated now."""
        at = int(time.time()) if created_at is None else created_at
        return sign_event(self.keys, kind=kind, content=content, tags=tags, created_at=at)

    def request(self, plaintext: str, scheme: Encryption = Encryption.NIP44_V2) -> Event:
        """Make a request as an honest app does."""
        tags = [["p", self.wallet_pubkey]]
        if scheme is not Encryption.NIP04:
            tags.append(["encryption", scheme])
        return self.event(self.encrypt(scheme, plaintext), tags)

    def open(self, answer: Event, request: Event) -> Json:
        """Check an answer against NIP-47 from all sides and decrypt it."""
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
            # A node that is well, and is only asked what it may be: then this would be a mistake of ours.
            assert body["error"]["code"] != ErrorCode.INTERNAL, (body, request)
        assert _has_only_integers(body)
        return body


def _no_constant(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def _has_only_integers(value: object) -> bool:
    """Tell whether all numbers are integers, as apps expect; but metadata is what the app has sent."""
    if isinstance(value, dict):
        return all(_has_only_integers(item) for name, item in value.items() if name != "metadata")
    if isinstance(value, list):
        return all(map(_has_only_integers, value))
    return not isinstance(value, float)


class Socket:
    """A WebSocket in memory, with a relay at its other end that takes everything.

    Attributes:
        arriving: frames that the plugin has not read yet.
        published: the events that it has sent.

    """

    latency = 0.0

    def __init__(self) -> None:
        self.arriving: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.published: list[Event] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        return await self.arriving.get()

    async def send(self, frame: str) -> None:
        match json.loads(frame):
            case ["EVENT", event]:
                self.published.append(parse_event(event))
                self.arriving.put_nowait(json.dumps(["OK", event["id"], True, ""]))
            case ["REQ", name, *_]:
                self.arriving.put_nowait(json.dumps(["EOSE", name]))

    async def ping(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Way:
    """A plugin that runs, with connections, over a node that has a past."""

    def __init__(self, directory: Path) -> None:
        self._exit = ExitStack()
        self.loop = VirtualLoop()
        self.double = Double(DoubleSettings(directory))
        self.node = StrictNode(self.double)
        self.clients: dict[str, Client] = {}
        self._socket: Socket | None = None
        self._published: list[Event] = []
        self._taken = 0
        self._errors = Errors()
        self._unhandled: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self._unhandled.append(str(context)))
        logging.getLogger("nwc").addHandler(self._errors)
        self._exit.callback(logging.getLogger("nwc").removeHandler, self._errors)
        self._exit.enter_context(patch.object(relay_module, "_connect", self._connect))
        self.core = self.run(self._start())

    def close(self) -> None:
        """End, and see that nothing goes wrong at the end either."""
        try:
            self.run(self.core.stop())
            self.nothing_went_wrong()
        finally:
            self.loop.end()
            self.double.close()
            self._exit.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something of the test's in the plugin's loop."""

        async def bounded() -> T:
            async with asyncio.timeout(PATIENCE_S):
                return await coroutine

        return self.loop.run_until_complete(bounded())

    def take(self, *frames: str | bytes) -> list[Event]:
        """Have frames come from the relay, and return the answers to what is in them."""
        before = len(self._published)
        self.run(self._take(frames))
        self.nothing_went_wrong()
        answers = [event for event in self._published[before:] if event.kind == KIND_RESPONSE]
        self._published.clear()
        self._taken += 1
        if self._taken % PROBE_EVERY == 0:
            self.still_honest()
        return answers

    def ask(self, client: Client, request: Event) -> Json:
        """Have a request come, which must be answered once, and return what the answer says."""
        [answer] = self.take(event_frame(request))
        return client.open(answer, request)

    def still_honest(self) -> None:
        """Ask as an honest app does, after all that has come before."""
        client = self.clients["receives"]
        request = client.request('{"method":"make_invoice","params":{"amount":1000}}')
        self.run(self._take((event_frame(request),)))
        [answer] = [event for event in self._published if event.tag("e") == request.id]
        assert client.open(answer, request)["result"]["invoice"].startswith("lnbcrt10n1")
        self.nothing_went_wrong()

    def nothing_went_wrong(self) -> None:
        """Look for what nobody was told."""
        assert not self.node.violations, self.node.violations[0]
        assert not self._errors.seen, self._errors.seen[0]
        assert not self._unhandled, self._unhandled[0]

    async def dev(self, method: str, **params: Any) -> Json:
        """Call a method of the double."""
        answer: Json = await self.double.call(method, params)
        return answer

    async def _start(self) -> Core:
        await self.dev("dev-invoices", count=30, paid_every=2, label_prefix="shop:")
        await self.dev("dev-payments", count=10, created_at=1_700_000_000)
        core = make_core(self.node)
        await load(core)
        for name, how in CONNECTIONS.items():
            keys = KeyPair.generate()
            shown = await commands.connect(core, name, pubkey=keys.public_key, **how)
            self.clients[name] = Client(keys, shown["wallet_pubkey"])
        return core

    async def _connect(self, _url: str, **_how: Any) -> Socket:
        self._socket = Socket()
        self._socket.published = self._published
        return self._socket

    async def _take(self, frames: Sequence[str | bytes]) -> None:
        for frame in frames:
            while not self._is_connected():  # the plugin hangs up on a relay that forges
                await asyncio.sleep(1)
            assert self._socket is not None
            self._socket.arriving.put_nowait(frame)
        while self._is_busy():
            await asyncio.sleep(0.01)

    def _is_connected(self) -> bool:
        [relay] = self.core.pool.info()
        return relay.state == "connected"

    def _is_busy(self) -> bool:
        assert self._socket is not None
        is_read = self._socket.arriving.empty() or not self._is_connected()
        return not is_read or len(self.core.server._tasks) > 0


def make_core(node: StrictNode) -> Core:
    """Make the service's core as Service does."""
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
    return Core(settings, node, ChainTip())


async def load(core: Core) -> None:
    """Load and start a core as Service does."""
    await core.wallet.templates.sweep(is_start=True)
    await core.payments.load()
    await core.manager.load()
    core.payments.start()
    await core.start()


def event_frame(event: Event) -> str:
    """Spell an event as a relay passes it on."""
    return json.dumps(["EVENT", "nwc1", event.to_dict()])
