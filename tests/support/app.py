"""An NWC app for tests: it can send any request and checks each answer strictly.

Its cryptography is rust-nostr's; it uses none of the plugin's code. For real clients see alby_app.py and
rust_app.py.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self
from urllib.parse import parse_qs, urlsplit

from nostr_sdk import Event, EventBuilder, Keys, Kind, NostrWalletConnectUri, PublicKey, Tag, Timestamp

from tests.support.channel import (
    KIND_NOTIFICATION,
    KIND_NOTIFICATION_NIP04,
    KIND_REQUEST,
    KIND_RESPONSE,
    Channel,
    Json,
    RelaySocket,
    tag,
)

NIP44, NIP04 = "nip44_v2", "nip04"
NOTIFICATION_KINDS = {KIND_NOTIFICATION: NIP44, KIND_NOTIFICATION_NIP04: NIP04}


@dataclass(frozen=True, slots=True)
class Answer:
    """A decrypted response, checked by `App.open`.

    Attributes:
        event: the response event.
        body: its decrypted content.
        encryption: the scheme it was encrypted with.

    """

    event: Json
    body: Json
    encryption: str

    @property
    def result(self) -> Json:
        """The result. Asserts that the request succeeded."""
        assert self.body["error"] is None, self.body["error"]
        result: Json = self.body["result"]
        return result

    @property
    def error(self) -> Json:
        """The error. Asserts that the request failed."""
        assert self.body["result"] is None, self.body
        error: Json = self.body["error"]
        assert set(error) == {"code", "message"}
        return error

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.error["code"])

    @property
    def message(self) -> str:
        """The error's message."""
        return str(self.error["message"])


@dataclass(frozen=True, slots=True)
class Notification:
    """A decrypted notification, checked by `App.open_notification`.

    Attributes:
        event: the notification event.
        type: such as `payment_received`.
        transaction: its content.

    """

    event: Json
    type: str
    transaction: Json


class App:
    """The app at the other end of a connection URI.

    Args:
        uri: from nwc-connect.
        channels: used instead of the relays of the URI.
        keys: those of an app that brought its own key, whose URI has no secret.

    """

    def __init__(self, uri: str, channels: Sequence[Channel] = (), keys: Keys | None = None) -> None:
        parts = urlsplit(uri)
        self.uri = uri
        self.keys = keys or Keys(NostrWalletConnectUri.parse(uri).secret())
        self.wallet = PublicKey.parse(parts.netloc)
        self.pubkey = self.keys.public_key().to_hex()
        self.wallet_pubkey = self.wallet.to_hex()
        self.channels = tuple(channels) or tuple(
            RelaySocket(url, self.answer_filter) for url in parse_qs(parts.query)["relay"]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect from the relays."""
        for channel in self.channels:
            channel.close()

    @property
    def secret(self) -> str:
        """The client's secret key, hex."""
        return str(self.keys.secret_key().to_hex())

    @property
    def answer_filter(self) -> Json:
        """The filter (NIP-01) for responses and notifications to this app."""
        kinds = [KIND_RESPONSE, *NOTIFICATION_KINDS]
        return {"kinds": kinds, "authors": [self.wallet_pubkey], "#p": [self.pubkey]}

    # Requests

    def request(
        self,
        method: str = "get_info",
        params: Any = None,
        *,
        body: str | None = None,
        content: str | None = None,
        encryption: str | None = NIP44,
        tags: Sequence[Sequence[str]] = (),
        created_at: int | None = None,
        kind: int = KIND_REQUEST,
        wallet_pubkey: str | None = None,
        keys: Keys | None = None,
    ) -> Json:
        """Return a signed request event.

        Args:
            method: NIP-47 method.
            params: its parameters.
            body: the plaintext, instead of method and parameters.
            content: the event's content, sent unencrypted instead of a body.
            encryption: the value of the `encryption` tag. NIP04 and None encrypt by NIP-04 and send no
                tag; every other value encrypts by NIP-44.
            tags: further tags.
            created_at: Unix seconds, now by default.
            kind: of the event.
            wallet_pubkey: the recipient, if it is not this wallet.
            keys: the sender's, if it is not this app.

        """
        sender = keys or self.keys
        wallet = PublicKey.parse(wallet_pubkey) if wallet_pubkey else self.wallet
        if body is None:
            body = _body(method, {} if params is None else params)
        old = encryption in (NIP04, None)
        if content is None:
            encrypt = sender.nip04_encrypt if old else sender.nip44_encrypt
            content = encrypt(wallet, body)
        all_tags = [["p", wallet.to_hex()], *([] if old else [["encryption", encryption]]), *tags]
        builder = EventBuilder(Kind(kind), content).tags([Tag.parse(list(t)) for t in all_tags])
        at = int(time.time()) if created_at is None else created_at
        event: Json = json.loads(
            builder.custom_created_at(Timestamp.from_secs(at)).finalize(sender).as_json()
        )
        return event

    def send(self, event: Json) -> None:
        """Send a request over every channel."""
        for channel in self.channels:
            channel.send(event)

    def ask(self, method: str, params: Any = None, **how: Any) -> Answer:
        """Send a request and wait for the answer."""
        return self.ask_with(self.request(method, params, **how))

    def ask_with(self, event: Json) -> Answer:
        """Send a request event and wait for the answer."""
        self.send(event)
        return self.answer_to(event)

    # Answers

    def answers_to(self, event_id: str) -> list[Json]:
        """Return the answers to a request received so far over all channels."""
        return [
            event
            for channel in self.channels
            for event in channel.received.all(lambda event: _answers(event, event_id))
        ]

    def answer_to(self, request: Json) -> Answer:
        """Wait until every channel has the answer to a request; return the first channel's, opened."""
        event_id = request["id"]
        first, *others = self.channels
        if others:
            for channel in self.channels:
                channel.received.wait_for(lambda e: _answers(e, event_id), "an answer")
        found = first.received.wait_for(lambda e: _answers(e, event_id), "an answer")
        return self.open(found[0], request)

    def answered_ids(self) -> list[str]:
        """Return the request id of each answer received so far."""
        events = [event for channel in self.channels for event in channel.received.all()]
        return [tag(event, "e") or "" for event in events if event["kind"] == KIND_RESPONSE]

    def open(self, event: Json, request: Json) -> Answer:
        """Return a response, decrypted and checked against NIP-47."""
        assert Event.from_json(json.dumps(event)).verify()
        assert event["kind"] == KIND_RESPONSE
        assert event["pubkey"] == self.wallet_pubkey
        assert [t for t in event["tags"] if t[0] == "p"] == [["p", self.pubkey]]
        assert [t for t in event["tags"] if t[0] == "e"] == [["e", request["id"]]]
        assert event["created_at"] >= request["created_at"]
        encryption = NIP04 if "?iv=" in event["content"] else NIP44
        decrypt = self.keys.nip04_decrypt if encryption == NIP04 else self.keys.nip44_decrypt
        plaintext = decrypt(self.wallet, event["content"])
        body: Json = json.loads(plaintext, parse_float=_no_float, parse_constant=_no_float)
        assert set(body) == {"result_type", "error", "result"}
        assert (body["error"] is None) != (body["result"] is None)
        assert isinstance(body["result_type"], str)
        return Answer(event, body, encryption)

    # Notifications

    def notifications(self) -> list[Notification]:
        """Return the notifications received so far over all channels."""
        return [
            self.open_notification(event)
            for channel in self.channels
            for event in channel.received.all(self._is_notification)
        ]

    def wait_for_notifications(self, payment_hash: str) -> list[Notification]:
        """Return a payment's notifications, once the first channel has one of each kind.

        More may follow.
        """
        for kind in NOTIFICATION_KINDS:
            self.channels[0].received.wait_for(
                lambda event, kind=kind: (  # type: ignore[misc]
                    event["kind"] == kind and self._is_about(event, payment_hash)
                ),
                f"notification of kind {kind}",
            )
        return [n for n in self.notifications() if n.transaction["payment_hash"] == payment_hash]

    def open_notification(self, event: Json) -> Notification:
        """Return a notification, decrypted by the scheme of its kind and checked against NIP-47."""
        assert Event.from_json(json.dumps(event)).verify()
        assert event["pubkey"] == self.wallet_pubkey
        assert event["tags"] == [["p", self.pubkey]]
        old = NOTIFICATION_KINDS[event["kind"]] == NIP04
        decrypt = self.keys.nip04_decrypt if old else self.keys.nip44_decrypt
        plaintext = decrypt(self.wallet, event["content"])
        body: Json = json.loads(plaintext, parse_float=_no_float, parse_constant=_no_float)
        assert set(body) == {"notification_type", "notification"}
        return Notification(event, body["notification_type"], body["notification"])

    def _is_notification(self, event: Json) -> bool:
        return event["kind"] in NOTIFICATION_KINDS and tag(event, "p") == self.pubkey

    def _is_about(self, event: Json, payment_hash: str) -> bool:
        if not self._is_notification(event):
            return False
        return bool(self.open_notification(event).transaction["payment_hash"] == payment_hash)


def _body(method: str, params: Any) -> str:
    """Return a request's JSON as clients write it: escaped only if UTF-8 cannot encode it."""
    body = {"method": method, "params": params}
    text = json.dumps(body, ensure_ascii=False)
    return text if text.encode(errors="replace").decode() == text else json.dumps(body)


def _answers(event: Json, event_id: str) -> bool:
    return event["kind"] == KIND_RESPONSE and tag(event, "e") == event_id


def _no_float(text: str) -> NoReturn:
    raise AssertionError(f"a number is not a JSON integer: {text}")
