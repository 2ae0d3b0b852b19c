"""The plugin is killed at every step of a payment: never paid twice, books right, outcome answered.

The steps are not listed here: a payment that nobody disturbs shows them.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from nwc.cln.node import PAYMENT_METHODS
from tests.cases.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.cases.spending import AMOUNT_MSAT, books, check_agrees
from tests.integration.network import CAPACITY_SAT, line
from tests.integration.payee import RealPayee
from tests.integration.real_node import RealNode, plugin_options
from tests.support.app import Answer
from tests.support.channel import Json
from tests.support.faults import FAULTY_PLUGIN, Faults
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until

FEE_MSAT = 2
LARGEST_FEE_MSAT = 5000


@pytest.fixture(scope="module")
def nodes(node_factory: Any, bitcoind: Any, relay: RestartableRelay) -> list[RealNode]:
    """Half of each channel is on each side."""
    options = [plugin_options(relay.url, {"plugin": str(FAULTY_PLUGIN)}), {}, {}]
    return line(node_factory, bitcoind, options, pushed_msat=CAPACITY_SAT * 500)


@pytest.fixture(scope="module")
def node(nodes: list[RealNode]) -> RealNode:
    return RealNode(nodes[0].pyln, FAULTY_PLUGIN)


@pytest.fixture
def payee(nodes: list[RealNode]) -> Iterator[RealPayee]:
    payee = RealPayee(nodes[2].pyln)
    yield payee
    payee.let_go()


@pytest.fixture
def faults(node: RealNode) -> Iterator[Faults]:
    faults = Faults(node.directory)
    yield faults
    faults.clear()


# What is paid


@dataclass(frozen=True)
class Kind:
    """A way to pay.

    Attributes:
        method: of NIP-47.
        params: makes its parameters.
        succeeds: whether the payee takes it.

    """

    method: str
    params: Callable[[RealPayee], Json]
    succeeds: bool = True


def an_invoice(payee: RealPayee) -> Json:
    return {"invoice": payee.invoice(AMOUNT_MSAT)["bolt11"]}


def a_forgotten_invoice(payee: RealPayee) -> Json:
    invoice = payee.invoice(AMOUNT_MSAT)
    payee.forget(invoice)
    return {"invoice": invoice["bolt11"]}


def a_keysend(payee: RealPayee) -> Json:
    return {"amount": AMOUNT_MSAT, "pubkey": payee.id}


INVOICE = Kind("pay_invoice", an_invoice)
REFUSED = Kind("pay_invoice", a_forgotten_invoice, succeeds=False)
KEYSEND = Kind("pay_keysend", a_keysend)
each_kind = pytest.mark.parametrize(
    "kind", [INVOICE, REFUSED, KEYSEND], ids=["invoice", "refused", "keysend"]
)
each_that_succeeds = pytest.mark.parametrize("kind", [INVOICE, KEYSEND], ids=["invoice", "keysend"])


@dataclass(frozen=True)
class Case:
    """A request to pay, and where its traces are.

    Attributes:
        node, payee: who pays whom.
        app: whose request it is.
        kind: of payment.
        request: the event.
        received_before_msat: what the payee had received in all.

    """

    node: RealNode
    payee: RealPayee
    app: ConnectedApp
    kind: Kind
    request: Json
    received_before_msat: int

    def send(self) -> None:
        self.app.send(self.request)

    def parts(self) -> list[Json]:
        """Return the parts of the payment that lightningd knows of."""
        parts: list[Json] = self.node.rpc.call("listsendpays")["payments"]
        return [part for part in parts if self._is_of_this(part)]

    def _is_of_this(self, part: Json) -> bool:
        if self.kind is KEYSEND:
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
        """Return the ledger as it is stored."""
        [text] = stored(self.node, "ledgers", self.app.pubkey) or ['{"reservations":{},"untold":[]}']
        ledger: Json = json.loads(text)
        return ledger

    def is_quiet(self) -> bool:
        ledger = self.ledger()
        return not ledger["reservations"] and not ledger["untold"]

    def has_record(self) -> bool:
        return bool(stored(self.node, "payments", self.app.pubkey[:16], self.request["id"]))

    def told(self) -> list[str]:
        """Return the types of the notifications of the kind that all apps know."""
        self.app.ask("get_info")  # What was published before is here then.
        told = self.app.notifications()
        return [n.type for n in told if n.event["kind"] == 23197]

    def answers(self) -> list[Json]:
        events = self.app.answers_to(self.request["id"])
        return [self.app.open(event, self.request).body for event in events]

    def ask_again(self) -> Answer:
        """Send the same event again, and return the answer to that."""
        received = self.app.channels[0].received
        count = len(self.answers()) + 1
        self.send()
        answers = received.wait_for(
            lambda event: ["e", self.request["id"]] in event["tags"], "another answer", count=count
        )
        return self.app.open(answers[-1], self.request)


def stored(node: RealNode, *key: str) -> list[str]:
    """Return the record of the plugin's at this key, if there is one."""
    listed = node.rpc.call("listdatastore", {"key": ["nwc", *key]})["datastore"]
    return [entry["string"] for entry in listed if "string" in entry]


def received_msat(payee: RealPayee) -> int:
    """Return what the payee has ever received."""
    invoices = payee.rpc.listinvoices()["invoices"]
    return sum(invoice.get("amount_received_msat", 0) for invoice in invoices)


@pytest.fixture
def new_case(node: RealNode, payee: RealPayee, connect: Connect) -> Callable[[Kind], Case]:
    def make(kind: Kind) -> Case:
        app = connect(budget="1000sat", renewal="daily")
        request = app.request(kind.method, kind.params(payee))
        return Case(node, payee, app, kind, request, received_msat(payee))

    return make


# The crashes


@contextlib.contextmanager
def named(point: str) -> Iterator[None]:
    """Have what fails say at which point."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"the plugin was killed {point}")
        raise


def points_of(case: Case, faults: Faults) -> list[str]:
    """Return the points that an undisturbed payment passes."""
    faults.record()
    case.app.ask_with(case.request)
    wait_until(case.is_quiet, "the payment to be through")
    points = faults.points()
    assert any(point.split()[1] in PAYMENT_METHODS for point in points)
    return [point for point in points if is_its_own(point)]


def is_its_own(point: str) -> bool:
    """After most calls nothing is different from before the next."""
    when, what, *_ = point.split()
    return when != "after" or what == "publish" or what in PAYMENT_METHODS


@each_kind
def test_killed_at_each_step(
    node: RealNode, new_case: Callable[[Kind], Case], faults: Faults, kind: Kind
) -> None:
    for point in points_of(new_case(kind), faults):
        with named(point):
            case = new_case(kind)
            check_killed(case, faults, point)
            node.rpc.call("nwc-revoke", {"name": case.app.name})


def check_killed(case: Case, faults: Faults, point: str) -> None:
    faults.crash_at(point)
    case.send()
    case.node.wait_until_plugin_died()
    faults.clear()
    was_reserved, was_quiet = bool(case.ledger()["reservations"]), case.is_quiet()
    case.node.start_plugin()
    wait_until_announced(case.node, case.app.name)
    wait_until(case.is_quiet, "the payment to be through")
    if not was_quiet:
        case.app.answer_to(case.request)
    check_outcome(case)
    if was_reserved or was_quiet:
        assert case.told() == ["payment_sent"] * case.is_paid()
    else:  # It may have been told, and not noted as told.
        assert set(case.told()) == {"payment_sent"}


def check_outcome(case: Case) -> None:
    """Check books, answers and what the payee has, before and after the same request comes again."""
    has_ended, was_paid = case.has_record(), case.is_paid()
    check_books(case)
    answer = case.ask_again()
    wait_until(case.is_quiet, "the payment to be through")
    # What was never begun begins now.
    assert case.is_paid() == (was_paid if has_ended else case.kind.succeeds)
    check_books(case)
    assert all(body == answer.body for body in case.answers())
    if case.is_paid():
        assert answer.result["fees_paid"] == FEE_MSAT
        assert answer.result["preimage"] in {p.get("payment_preimage") for p in case.parts()}
    else:
        assert answer.code == "PAYMENT_FAILED"


def check_books(case: Case) -> None:
    sent_msat = case.sent_msat()
    assert sent_msat in (0, AMOUNT_MSAT + FEE_MSAT)
    assert received_msat(case.payee) - case.received_before_msat == (AMOUNT_MSAT if sent_msat else 0)
    assert books(case.node, case.app) == (sent_msat, 0)
    check_agrees(case.node, case.app)
