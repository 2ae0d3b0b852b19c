"""A minimal NWC client for benchmarks, with one relay.

Encrypting and signing (`prepare`), asking (`ask`) and reading the answer (`open`) are separate, so that
a benchmark can time `ask` alone. The cryptography is the plugin's own, nwc.nostr.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from nwc.nip47.encryption import Cipher, Encryption
from nwc.nip47.kinds import KIND_REQUEST, KIND_RESPONSE
from nwc.nip47.uri import SCHEME
from nwc.nostr.event import parse_event, sign_event, verify_event
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import event_message, req_message

Json = dict[str, Any]

_CLOSED = "the connection to the relay has ended"


class RequestRefused(Exception):
    """The relay refused a request, or the wallet answered it with an error."""


@dataclass(frozen=True, slots=True)
class ConnectionUri:
    """A parsed `nostr+walletconnect://` URI (NIP-47)."""

    wallet_pubkey: str
    relays: tuple[str, ...]
    secret: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Return the parts of a URI; the secret is empty if it has none.

        Raises:
            ValueError: it is not a connection URI with a relay.

        """
        parts = urlsplit(uri)
        query = parse_qs(parts.query)
        if parts.scheme != SCHEME or not parts.hostname or "relay" not in query:
            raise ValueError(f"not a {SCHEME} URI with a relay")
        return cls(parts.hostname, tuple(query["relay"]), query.get("secret", [""])[0])


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request, encrypted and signed: its event id and the frame to send."""

    id: str
    frame: str


class NwcClient:
    """One connection of an app to its wallet, over the first relay of the URI."""

    def __init__(self, uri: str, encryption: Encryption = Encryption.NIP44_V2) -> None:
        self._uri = ConnectionUri.parse(uri)
        self._keys = KeyPair.from_secret(bytes.fromhex(self._uri.secret))
        self._cipher = Cipher(self._keys, self._uri.wallet_pubkey)
        self._encryption = encryption
        self._pending: dict[str, asyncio.Future[Json]] = {}
        self._subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connection: ClientConnection
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._connection = await connect(self._uri.relays[0], compression=None)
        self._reading = asyncio.create_task(self._read())
        wanted = {
            "kinds": [KIND_RESPONSE],
            "authors": [self._uri.wallet_pubkey],
            "#p": [self._keys.public_key],
        }
        await self._send(req_message("answers", wanted))
        await self._subscribed
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()
        await self._reading

    def prepare(self, method: str, params: Json) -> Prepared:
        """Return a request, encrypted and signed."""
        event = sign_event(
            self._keys,
            kind=KIND_REQUEST,
            content=self._cipher.encrypt(
                self._encryption, json.dumps({"method": method, "params": params})
            ),
            tags=[["p", self._uri.wallet_pubkey], ["encryption", self._encryption]],
            created_at=int(time.time()),
        )
        return Prepared(event.id, event_message(event))

    async def ask(self, request: Prepared) -> Json:
        """Send a request and return the event that answers it.

        Raises:
            RequestRefused: the relay refused it, or the connection has ended.

        """
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._pending[request.id] = answer
        try:
            await self._send(request.frame)
            return await answer
        finally:
            self._pending.pop(request.id, None)

    def open(self, answer: Json) -> Json:
        """Return the result of an answer, after checking and decrypting it.

        Raises:
            RequestRefused: the answer is an error.

        """
        event = parse_event(answer)
        verify_event(event)
        body: Json = json.loads(self._cipher.decrypt(self._encryption, event.content))
        if body["error"] is not None:
            raise RequestRefused(f"{body['error']['code']}: {body['error']['message']}")
        result: Json = body["result"]
        return result

    async def request(self, method: str, params: Json) -> Json:
        """Send a request and return its result: `prepare`, `ask` and `open` in one."""
        return self.open(await self.ask(self.prepare(method, params)))

    async def _send(self, frame: str) -> None:
        try:
            await self._connection.send(frame)
        except ConnectionClosed:
            raise RequestRefused(_CLOSED) from None

    async def _read(self) -> None:
        try:
            while True:
                self._received(await self._connection.recv(decode=True))
        except ConnectionClosed:
            self._fail_pending()

    def _received(self, text: str) -> None:
        match json.loads(text):
            case ["EVENT", _, event]:
                answered = next(tag[1] for tag in event["tags"] if tag[0] == "e")
                # The request may be that of another client with the same URI.
                if future := self._pending.pop(answered, None):
                    future.set_result(event)
            case ["OK", str(event_id), False, reason]:
                if future := self._pending.pop(event_id, None):
                    future.set_exception(RequestRefused(reason))
            case ["EOSE", _] if not self._subscribed.done():
                self._subscribed.set_result(None)

    def _fail_pending(self) -> None:
        waiting: list[asyncio.Future[Any]] = [self._subscribed, *self._pending.values()]
        self._pending.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(RequestRefused(_CLOSED))
