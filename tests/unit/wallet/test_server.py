"""Answers to requests from before a start, stopping, and bounds; tests/wire covers the rest."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from nwc.nip47.encryption import Cipher, Encryption
from nwc.nip47.rate_limit import RateLimit
from nwc.nostr.event import Event, sign_event
from nwc.nostr.keys import KeyPair
from nwc.wallet.connections.record import Connection
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection
from nwc.wallet.server import (
    MAX_IN_FLIGHT,
    MAX_IN_FLIGHT_PER_CONNECTION,
    MAX_TASKS,
    MAX_TASKS_PER_CONNECTION,
    OWN_IN_FLIGHT,
    OWN_TASKS,
    RequestServer,
)
from nwc.wallet.spending.payment import PaymentRecord, PaymentState
from tests.unit.helpers import CLIENT, NOW, WALLET, cipher_of_client, cipher_of_wallet
from tests.unit.in_process import RELAY, make_wallet
from tests.unit.wallet.fake_node import FakeNode
from tests.unit.wallet.scene import settled

FAILED = PaymentRecord(
    settled(1).payment,
    PaymentState.FAILED,
    NOW,
    error_code="PAYMENT_FAILED",
    error_message="no route to the payee was found",
)


class Answers:
    """A server of one connection, with the events that it publishes."""

    def __init__(self) -> None:
        self.published: list[tuple[Event, tuple[str, ...]]] = []
        connections = ConnectionRegistry()
        record = Connection("app", CLIENT.public_key, (RELAY,), NOW)
        self.live = LiveConnection(record, WALLET, cipher_of_wallet(), RateLimit(9, 9, 0))
        connections.add(self.live)
        self.connections = connections
        self.node = FakeNode({"id": "02" * 33, "network": "bitcoin", "blockheight": 1})
        self.server = RequestServer(make_wallet(self.node), connections, 120, self._publish)

    async def _publish(self, event: Event, urls: tuple[str, ...], timeout_s: float) -> bool:
        self.published.append((event, urls))
        return True

    async def answer(self, record: PaymentRecord) -> None:
        await self.server.answer_payment(CLIENT.public_key, record)

    def body(self, scheme: Encryption) -> dict[str, Any]:
        [(event, urls)] = self.published
        assert urls == (RELAY,)
        assert (event.kind, event.pubkey) == (23195, WALLET.public_key)
        assert event.tag("p") == CLIENT.public_key
        assert event.tag("e") == settled(1).payment.request_id
        body: dict[str, Any] = json.loads(cipher_of_client().decrypt(scheme, event.content))
        return body


@pytest.mark.parametrize("scheme", Encryption)
@pytest.mark.parametrize("method", ["pay_invoice", "pay_keysend"])
async def test_a_payment_from_before_the_start_is_answered(scheme: Encryption, method: str) -> None:
    """As any answer, it uses the scheme and the id of the request, and goes to all relays."""
    answers = Answers()
    payment = replace(settled(1).payment, encryption=str(scheme), method=method)
    await answers.answer(replace(settled(1), payment=payment))
    assert answers.body(scheme) == {
        "result_type": method,
        "error": None,
        "result": {"preimage": "aa" * 32, "fees_paid": 7},
    }
    assert answers.server.answered == {(method, "ok"): 1}
    assert answers.live.answered == {(method, "ok"): 1}


async def test_an_answer_after_a_start_is_not_dated_before_its_request() -> None:
    answers = Answers()
    payment = replace(settled(1).payment, request_created_at=2**33)
    await answers.answer(replace(settled(1), payment=payment))
    assert answers.published[0][0].created_at == 2**33


async def test_a_failed_payment_from_before_the_start_is_answered() -> None:
    answers = Answers()
    await answers.answer(FAILED)
    assert answers.body(Encryption.NIP44_V2) == {
        "result_type": "pay_invoice",
        "error": {"code": "PAYMENT_FAILED", "message": "no route to the payee was found"},
        "result": None,
    }
    assert answers.server.answered == {("pay_invoice", "PAYMENT_FAILED"): 1}


async def test_requests_are_ignored_while_the_plugin_stops() -> None:
    """A request in flight is finished; a later one would be interrupted."""
    answers = Answers()
    node = answers.node
    first, late = (request(number) for number in (1, 2))
    assert answers.server.on_event(first, RELAY) is None
    stopping = asyncio.create_task(answers.server.finish(5))
    await asyncio.sleep(0)
    assert answers.server.on_event(late, RELAY) == "stopping"
    await stopping
    assert node.calls == [("info",)]
    [(answer, _)] = answers.published
    assert answer.tag("e") == first.id
    assert answers.server.ignored == {"stopping": 1}


async def test_the_relay_that_delivers_a_request_first_gets_its_answer_first() -> None:
    answers = Answers()
    relays = tuple(f"wss://{number}.example" for number in range(4))
    answers.live.record = replace(answers.live.record, relays=relays)
    asked = request(1)
    assert answers.server.on_event(asked, relays[2]) is None
    assert answers.server.on_event(asked, relays[0]) == "seen before"
    await answers.server.finish(5)
    [(_, urls)] = answers.published
    assert urls == (relays[2], relays[0], relays[1], relays[3])


def request(number: int) -> Event:
    """Return a get_info request."""
    return sign_event(
        CLIENT,
        kind=23194,
        content=cipher_of_client().encrypt(Encryption.NIP44_V2, '{"method":"get_info","params":{}}'),
        tags=[["p", WALLET.public_key], ["encryption", "nip44_v2"], ["n", str(number)]],
        created_at=int(time.time()),
    )


async def test_a_revoked_connection_gets_no_answer() -> None:
    answers = Answers()
    answers.connections.remove(answers.live)
    await answers.answer(settled(1))
    assert answers.published == []
    assert answers.server.answered == {}


class Mute:
    """A server of many connections whose relays never answer, but for the last one's."""

    def __init__(self, count: int) -> None:
        self.asked: list[str] = []
        self._never = asyncio.Event()
        self.connections = ConnectionRegistry()
        self.clients = [KeyPair.generate() for _ in range(count)]
        self.wallets = [KeyPair.generate() for _ in range(count)]
        for number, (client, wallet) in enumerate(zip(self.clients, self.wallets, strict=True)):
            record = Connection(f"app {number}", client.public_key, (f"wss://{number}.example",), NOW)
            limit = RateLimit(10**6, 10**6, 0)
            self.connections.add(
                LiveConnection(record, wallet, Cipher(wallet, client.public_key), limit)
            )
        node = FakeNode({"id": "02" * 33, "network": "bitcoin", "blockheight": 1})
        self.server = RequestServer(make_wallet(node), self.connections, 120, self._publish)

    async def _publish(self, event: Event, urls: tuple[str, ...], timeout_s: float) -> bool:
        self.asked.append(event.tag("p") or "")
        if urls != (f"wss://{len(self.clients) - 1}.example",):
            await self._never.wait()
        return True

    async def ask(self, app: int, count: int) -> list[str | None]:
        """Send `count` requests; return for each why it was ignored, None if it is served."""
        client, wallet = self.clients[app], self.wallets[app]
        cipher = Cipher(client, wallet.public_key)
        reasons: list[str | None] = []
        for number in range(count):
            text = json.dumps({"method": "get_info", "params": {"n": number}})
            content = cipher.encrypt(Encryption.NIP44_V2, text)
            event = sign_event(
                client,
                kind=23194,
                content=content,
                tags=[["p", wallet.public_key], ["encryption", "nip44_v2"]],
                created_at=int(time.time()),
            )
            reasons.append(self.server.on_event(event, "wss://x"))
            await asyncio.sleep(0)
        return reasons


async def test_apps_with_a_mute_relay_do_not_stop_another_app(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seven of them once filled the shared task slots, and nobody else was answered."""
    monkeypatch.setattr("nwc.wallet.server.MAX_TASKS", 7 * 40)
    monkeypatch.setattr("nwc.wallet.server.MAX_TASKS_PER_CONNECTION", 60)
    mute = Mute(9)
    for app in range(8):
        reasons = await mute.ask(app, 70)
        assert "overloaded" in reasons
        assert reasons.count(None) == reasons.index("overloaded") <= 60
    honest = 8
    assert await mute.ask(honest, 40) == [None] * 40
    assert mute.asked.count(mute.clients[honest].public_key) == 40
    await mute.server._tasks.finish(0)
    assert (await mute.ask(0, 1)) == [None]
    await mute.server._tasks.finish(0)


def test_a_few_connections_cannot_use_up_the_shared_slots() -> None:
    """The slots are enough for 30 connections with the most tasks, and 8 with the most requests."""
    assert MAX_TASKS // MAX_TASKS_PER_CONNECTION >= 30
    assert MAX_IN_FLIGHT // MAX_IN_FLIGHT_PER_CONNECTION >= 8
    assert min(OWN_TASKS, OWN_IN_FLIGHT) >= 8
