"""A real NWC client, rust-nostr's, together with its events as the relay saw them."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from nostr_sdk import (
    MakeInvoiceRequest,
    MakeInvoiceResponse,
    NostrWalletConnect,
    NostrWalletConnectUri,
)

from tests.support.app import Answer, App
from tests.support.channel import KIND_REQUEST, Json, RelaySocket


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
