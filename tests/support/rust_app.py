"""rust-nostr's NWC client: its answers and notifications as JSON, and its events as a relay has them."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self

from nostr_sdk import (
    ClientNotification,
    ClientNotificationStream,
    Filter,
    JsonValue,
    Keys,
    Kind,
    LookupInvoiceResponse,
    MakeInvoiceRequest,
    MakeInvoiceResponse,
    NostrWalletConnect,
    NostrWalletConnectUri,
    ReqTarget,
    Timestamp,
)

from tests.support.app import Answer, App
from tests.support.channel import (
    KIND_NOTIFICATION,
    KIND_NOTIFICATION_NIP04,
    KIND_REQUEST,
    Json,
    RelaySocket,
)
from tests.support.waiting import PATIENCE_S


def transaction_of(shown: LookupInvoiceResponse) -> Json:
    """Return a transaction in NIP-47's JSON, without absent fields."""
    fields = {_name(name): _plain(value) for name, value in vars(shown).items() if value is not None}
    return {
        name: value.lower() if name in ("type", "state") else value for name, value in fields.items()
    }


def _name(field: str) -> str:
    return "type" if field == "transaction_type" else field


def _plain(value: Any) -> Any:
    """Return the plain value inside rust-nostr's types."""
    if isinstance(value, Timestamp):
        return value.as_secs()
    if isinstance(value, JsonValue):
        return _plain(next(iter(vars(value).values()), None))
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return getattr(value, "name", value)


class Notifications:
    """The notifications of a connection, received over the same client as the answers.

    rust-nostr's Python package has no method that subscribes to them.
    """

    def __init__(self, stream: ClientNotificationStream, uri: NostrWalletConnectUri) -> None:
        self._stream = stream
        self._wallet = uri.public_key()
        self._keys = Keys(uri.secret())

    @classmethod
    async def of(cls, nwc: NostrWalletConnect, uri: str) -> Self:
        """Return the notifications of a client, once the relay has the subscription."""
        parsed = NostrWalletConnectUri.parse(uri)
        await nwc.get_info()  # connects the client
        client = nwc.client()
        kinds = [Kind(KIND_NOTIFICATION), Kind(KIND_NOTIFICATION_NIP04)]
        wanted = Filter().kinds(kinds).author(parsed.public_key())
        stream = client.notifications()
        await client.subscribe(ReqTarget.auto([wanted]))
        await nwc.get_info()  # uses the same socket, so the relay has the subscription before it
        return cls(stream, parsed)

    async def next(self) -> tuple[int, Json]:
        """Return the event kind and the content of the next notification, once it has come."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self._stream.next()
                assert message is not None, "the client was shut down"
                if isinstance(message, ClientNotification.NEW_EVENT):
                    kind = message.event.kind().as_u16()
                    if kind in (KIND_NOTIFICATION, KIND_NOTIFICATION_NIP04):
                        return kind, self._open(kind, message.event.content())

    def _open(self, kind: int, content: str) -> Json:
        old = kind == KIND_NOTIFICATION_NIP04
        decrypt = self._keys.nip04_decrypt if old else self._keys.nip44_decrypt
        opened: Json = json.loads(decrypt(self._wallet, content))
        return opened


@dataclass(frozen=True, slots=True)
class Asked:
    """A request event, the answer to it, and rust-nostr's reading of that answer."""

    event: Json
    answer: Answer
    response: MakeInvoiceResponse


class SdkApp:
    """An app with a connection URI that names one relay."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._app = App(uri)
        self._runner = asyncio.Runner()
        parsed = NostrWalletConnectUri.parse(uri)
        self._sdk = NostrWalletConnect(parsed)
        own_requests = {"kinds": [KIND_REQUEST], "authors": [self._app.pubkey]}
        self._sent = RelaySocket(str(parsed.relays()[0]), own_requests)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._sdk.client().shutdown())
        self._runner.close()
        self._sent.close()
        self._app.close()

    @property
    def connection_id(self) -> str:
        """The connection's id, which is part of the labels of its invoices."""
        return str(self._app.pubkey[:16])

    def make_invoice(
        self, amount: int, description: str | None = None, description_hash: str | None = None
    ) -> Asked:
        """Request an invoice, and wait for the answer.

        Raises:
            NostrSdkError: the answer is an error, or there was none.

        """
        request = MakeInvoiceRequest(
            amount=amount, description=description, description_hash=description_hash, expiry=None
        )
        before = len(self._sent.received.all())
        response = self._runner.run(self._sdk.make_invoice(request))
        sent = self._sent.received.wait_for(lambda _: True, "the request", before + 1)
        (event,) = sent[before:]
        return Asked(event, self._app.answer_to(event), response)

    def replay(self, event: Json) -> Answer:
        """Send a request event again on a new socket, and return the new answer."""
        with App(self.uri) as again:
            return again.ask_with(event)
