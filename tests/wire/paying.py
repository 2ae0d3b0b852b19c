"""Payments by a plugin that a test can crash, and the traces they leave.

The tests of crashes and those of slow payments share this module.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from tests.support.app import Answer
from tests.support.channel import KIND_NOTIFICATION, Json
from tests.support.faults import Faults
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp
from tests.wire.node import NodeUnderTest
from tests.wire.payee import Payee
from tests.wire.test_spending import AMOUNT_MSAT, books, check_agrees

FEE_MSAT = 2
# The reservation: the amount and the largest fee.
RESERVED_MSAT = AMOUNT_MSAT + 5000


@pytest.fixture
def faults(node: NodeUnderTest) -> Iterator[Faults]:
    faults = Faults(node.directory)
    yield faults
    faults.clear()


# Kinds of payment


@dataclass(frozen=True)
class Kind:
    """A way to pay.

    Attributes:
        method: the NIP-47 method.
        params: makes the parameters.
        succeeds: whether the payee accepts the payment.

    """

    method: str
    params: Callable[[Payee], Json]
    succeeds: bool = True


def an_invoice(payee: Payee) -> Json:
    return {"invoice": payee.invoice(AMOUNT_MSAT)["bolt11"]}


def a_forgotten_invoice(payee: Payee) -> Json:
    invoice = payee.invoice(AMOUNT_MSAT)
    payee.forget(invoice)
    return {"invoice": invoice["bolt11"]}


def a_keysend(payee: Payee) -> Json:
    return {"amount": AMOUNT_MSAT, "pubkey": payee.id}


def an_offer(payee: Payee) -> Json:
    return {"payment": f"bitcoin:?lno={payee.offer(AMOUNT_MSAT)}"}


INVOICE = Kind("pay_invoice", an_invoice)
REFUSED = Kind("pay_invoice", a_forgotten_invoice, succeeds=False)
KEYSEND = Kind("pay_keysend", a_keysend)
OFFER = Kind("pay", an_offer)
each_kind = pytest.mark.parametrize(
    "kind", [INVOICE, REFUSED, KEYSEND, OFFER], ids=["invoice", "refused", "keysend", "offer"]
)
each_that_succeeds = pytest.mark.parametrize(
    "kind", [INVOICE, KEYSEND, OFFER], ids=["invoice", "keysend", "offer"]
)


@dataclass(frozen=True)
class Case:
    """A request to pay, and the traces it leaves.

    Attributes:
        node, payee: the node that pays, and the one that is paid.
        app: the app that sends the request.
        kind: the kind of payment.
        request: the request event.
        received_before_msat: the sum that the payee had received before.

    """

    node: NodeUnderTest
    payee: Payee
    app: ConnectedApp
    kind: Kind
    request: Json
    received_before_msat: int

    def send(self) -> None:
        self.app.send(self.request)

    def parts(self) -> list[Json]:
        """Return the parts of the payment that lightningd lists."""
        parts: list[Json] = self.node.rpc.call("listsendpays")["payments"]
        return [part for part in parts if self._is_of_this(part)]

    def _is_of_this(self, part: Json) -> bool:
        if self.kind in (KEYSEND, OFFER):
            return part.get("label") == f"nwc:{self.app.pubkey[:16]}:{self.request['id']}"
        return bool(part.get("bolt11") == self.params["invoice"])

    @property
    def params(self) -> Json:
        plaintext = self.app.keys.nip44_decrypt(self.app.wallet, self.request["content"])
        params: Json = json.loads(plaintext)["params"]
        return params

    def sent_msat(self) -> int:
        return sum(p["amount_sent_msat"] for p in self.parts() if p["status"] == "complete")

    def is_paid(self) -> bool:
        return self.sent_msat() > 0

    def ledger(self) -> Json:
        """Return the stored ledger, an empty one if none is stored."""
        [text] = stored(self.node, "ledgers", self.app.pubkey) or ['{"reservations":{},"untold":[]}']
        ledger: Json = json.loads(text)
        return ledger

    def is_reserved(self) -> bool:
        return bool(self.ledger()["reservations"])

    def is_quiet(self) -> bool:
        """Return True if no payment is pending and no notification is outstanding."""
        ledger = self.ledger()
        return not ledger["reservations"] and not ledger["untold"]

    def has_record(self) -> bool:
        key = ["nwc", "payments", self.app.pubkey[:16]]
        listed = self.node.rpc.call("listdatastore", {"key": key})["datastore"]
        return any(entry["key"][-1].endswith(self.request["id"]) for entry in listed)

    def wait_until_quiet(self) -> None:
        wait_until(self.is_quiet, "the payment to be finished and announced")

    def notified(self) -> list[str]:
        """Return the types of the notifications so far, without their copies in NIP-04."""
        self.app.ask("get_info")  # its answer comes after everything published before
        return [n.type for n in self.app.notifications() if n.event["kind"] == KIND_NOTIFICATION]

    def answers(self) -> list[Json]:
        events = self.app.answers_to(self.request["id"])
        return [self.app.open(event, self.request).body for event in events]

    def ask_again(self) -> Answer:
        """Send the same event again, and return the new answer."""
        received = self.app.channels[0].received
        count = len(self.answers()) + 1
        self.send()
        answers = received.wait_for(
            lambda event: ["e", self.request["id"]] in event["tags"], "another answer", count=count
        )
        return self.app.open(answers[-1], self.request)


def stored(node: NodeUnderTest, *key: str) -> list[str]:
    """Return the plugin's record at this key in a list, which is empty if there is none."""
    listed = node.rpc.call("listdatastore", {"key": ["nwc", *key]})["datastore"]
    return [entry["string"] for entry in listed if "string" in entry]


class NewCase(Protocol):
    """The fixture `new_case`."""

    def __call__(self, kind: Kind) -> Case:
        """Return a request, not yet sent, of an app with a budget of 1,000 sat a day."""


@pytest.fixture
def new_case(node: NodeUnderTest, payee: Payee, connect: Connect) -> NewCase:
    def make(kind: Kind) -> Case:
        app = connect(budget="1000sat", renewal="daily")
        request = app.request(kind.method, kind.params(payee))
        return Case(node, payee, app, kind, request, payee.received_msat())

    return make


@pytest.fixture
def held(new_case: NewCase, payee: Payee, kind: Kind) -> Case:
    """A payment that stays in flight, since the payee holds it."""
    case = new_case(kind)
    payee.hold()
    case.send()
    wait_until(lambda: payee.held() == 1, "the payment to be held")
    return case


def check_books(case: Case) -> None:
    """Check that budget, lightningd and payee agree on what was paid."""
    sent_msat = case.sent_msat()
    assert sent_msat in (0, AMOUNT_MSAT + FEE_MSAT)
    assert case.payee.received_msat() - case.received_before_msat == (AMOUNT_MSAT if sent_msat else 0)
    assert books(case.node, case.app) == (sent_msat, 0)
    check_agrees(case.node, case.app)
