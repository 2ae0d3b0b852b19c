"""The test double plays BOLT12 as lightningd does: same fields, same types, same error codes.

The real node has a channel with another one, which issues the offers. The double plays the version of
lightningd that runs. It signs nothing, so only lightningd can check a signature.
"""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest
from pyln.client import RpcError

from tests.double import bolt12
from tests.double.process import LightningdDouble
from tests.double.settings import NEWEST
from tests.support.channel import Json
from tests.support.lightningd_version import before, running_version, runs_since, since
from tests.support.waiting import wait_until
from tests.wire.fixtures import fresh_name
from tests.wire.node import PLUGIN
from tests.wire.only_lightningd.contract import Action, Answers, Outcome, Step, call, check, run
from tests.wire.only_lightningd.test_contract_paying import stranger
from tests.wire.real_node import RealNode

BAD, UNKNOWN_METHOD = -32602, -32601
EXPIRED, REFUSED, SILENT, GONE, NO_PAYMENT = 1002, 1004, 1005, -1, 1700
NO_ROUTE_FOR_PAY, NO_ROUTE_FOR_XPAY = 210, 205
# Actions: make an offer, fetch an invoice, make an offer of a node that then does not answer, end that,
# make an offer of a node that then ends.
OFFER, FETCH, HALT_OF_ISSUER = "(offer)", "(fetch)", "(halt of the issuer)"
END_OF_HALT, END_OF_ISSUER = "(end of the halt)", "(end of the issuer)"
# The issuer drops onion messages that come in a burst. After a timeout there is room for the next.
FETCH_TIMEOUT_S, FETCH_ATTEMPTS = 3, 10
# The public key with the private key 1.
SOMEBODY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
NOTE = "Grüße ⚡ {'x'}"
# What the plugin asks for.
PROVEN = [
    "offer_description",
    "offer_issuer_id",
    "invoice_created_at",
    "invoice_amount",
    "invreq_payer_note",
]


def offer(
    name: str, amount: int | str = 5000, *, own: bool = False, dies: bool = False, **fields: Any
) -> Step:
    """Return a step that makes an offer; the fields are those of lightningd's `offer`."""
    given = {"amount": amount, "own": own, "dies": dies, "fields": fields}
    return Step(name, OFFER, given, compared=False)


def forged(**fields: Any) -> str:
    """Return an offer that no node has made. An offer has no signature."""
    given: Json = {
        "offer_chains": [bolt12.CHAINS["regtest"]],
        "offer_description": "tea",
        "offer_amount_msat": 1000,
        "offer_issuer_id": SOMEBODY,
    }
    return bolt12.encode("lno", {**given, **fields})


def fetch(name: str, source: str, code: int | None = None, /, **params: Any) -> Step:
    return Step(name, FETCH, lambda a: {"offer": a[source]["bolt12"], **params}, code)


def refused(name: str, source: str, code: int, /, **params: Any) -> Step:
    """Return a step in which the node itself refuses to fetch."""
    return Step(name, "fetchinvoice", lambda a: {"offer": a[source]["bolt12"], **params}, code)


def decode(source: str, string: Callable[[Json], str]) -> Step:
    return Step(f"decode {source}", "decode", lambda a: {"string": string(a[source])})


def pay(name: str, source: str, code: int | None = None, /, amount_msat: int | None = None) -> Step:
    """Return a step of `pay` with the parameters that the plugin gives it."""
    rest = [amount_msat, "by position", None, None, 30, *[None] * 4, 5000]
    return Step(name, "pay", lambda a: [a[source]["invoice"], *rest], code)


def xpay(name: str, source: str, code: int | None = None, /) -> Step:
    label = {"label": "by xpay"} if runs_since("26.06") else {}
    given = {"maxfee": 5000, "retry_for": 30, **label}
    return Step(name, "xpay", lambda a: {"invstring": a[source]["invoice"], **given}, code)


def listed(source: str) -> tuple[Step, ...]:
    """Return steps that list the parts of a payment in every possible way."""

    def by_hash(answers: Answers) -> Json:
        return {"payment_hash": answers[f"decode {source}"]["invoice_payment_hash"]}

    def by_invoice(answers: Answers) -> Json:
        return {"bolt11": answers[source]["invoice"]}

    def in_sql(answers: Answers) -> Json:
        columns = "status, label, partid, amount_msat, amount_sent_msat, bolt11, bolt12, description"
        where = f"payment_hash = X'{by_hash(answers)['payment_hash']}'"
        return {"query": f"SELECT {columns} FROM sendpays WHERE {where}"}

    return (
        Step(f"listsendpays {source}", "listsendpays", by_hash),
        Step(f"listsendpays by invoice {source}", "listsendpays", by_invoice),
        Step(f"listpays {source}", "listpays", by_hash),
        Step(f"sql {source}", "sql", in_sql),
    )


def proof(name: str, source: str, code: int | None = None, /, include: Any = PROVEN) -> Step:
    params = {} if include is None else {"include": include}
    return Step(name, "createproof", lambda a: {"invstring": a[source]["invoice"], **params}, code)


def of_invoice(answer: Json) -> str:
    return str(answer["invoice"])


def of_offer(answer: Json) -> str:
    return str(answer["bolt12"])


def of_proof(answer: Json) -> str:
    return str(answer["proofs"][0]["bolt12"])


STEPS = (
    # decode
    offer("an amount", issuer="Shop", label="my offer"),
    offer("any amount", "any"),
    offer("a quantity", quantity_max=5),
    offer("any quantity", quantity_max=0),
    offer("an expired one", absolute_expiry=1_600_000_000),
    offer("again and again", recurrence="1day"),
    offer("own", 7000, own=True),
    *(
        decode(name, of_offer)
        for name in (
            "an amount",
            "any amount",
            "a quantity",
            "any quantity",
            "an expired one",
            "own",
        )
    ),
    Step("decode a recurrence", "decode", lambda a: {"string": a["again and again"]["bolt12"]}),
    Step("decode capitals", "decode", lambda a: {"string": a["an amount"]["bolt12"].upper()}),
    Step(
        "decode with a plus",
        "decode",
        lambda a: {"string": a["an amount"]["bolt12"][:20] + "+ " + a["an amount"]["bolt12"][20:]},
    ),
    call("decode a forged one", "decode", string=forged()),
    call("decode one of bitcoin", "decode", string=forged(offer_chains=None)),
    call("decode a currency", "decode", string=forged(offer_currency="USD")),
    call("decode one of nobody", "decode", BAD, string=forged(offer_issuer_id=None)),
    call("decode a broken one", "decode", BAD, string="lno1xx"),
    call("decode one that is too short", "decode", BAD, string=forged()[:-1]),
    # refused before the issuer is asked
    refused("fetch without amount", "any amount", BAD),
    refused("fetch without quantity", "a quantity", BAD),
    refused("fetch too many", "a quantity", BAD, quantity=6),
    refused("fetch several of one", "an amount", BAD, quantity=2),
    refused("fetch an expired one", "an expired one", EXPIRED),
    refused("fetch again and again", "again and again", BAD),
    refused("fetch with a strange timeout", "an amount", BAD, timeout="long"),
    refused("fetch with a strange amount", "any amount", BAD, amount_msat="much"),
    refused("fetch with an unknown parameter", "an amount", BAD, nonsense=1),
    call("fetch nothing", "fetchinvoice", BAD),
    call("fetch garbage", "fetchinvoice", BAD, offer="garbage"),
    call("fetch a broken one", "fetchinvoice", BAD, offer="lno1xx"),
    call("fetch one of bitcoin", "fetchinvoice", BAD, offer=forged(offer_chains=None)),
    call("fetch one of nobody", "fetchinvoice", BAD, offer=forged(offer_issuer_id=None)),
    # asked for
    fetch("bought", "an amount", payer_note=NOTE),
    fetch("bought with xpay", "any amount", amount_msat=4321, payer_note="hi"),
    fetch("more than asked for", "an amount", amount_msat=6000),
    fetch("less than asked for", "an amount", REFUSED, amount_msat=4000),
    fetch("several", "a quantity", quantity=3),
    fetch("escaped", "an amount", payer_note='"\\\n'),
    fetch("bought from oneself", "own", payer_note=NOTE),
    fetch("bought from oneself with xpay", "own"),
    *(
        decode(name, of_invoice)
        for name in (
            "bought",
            "bought with xpay",
            "more than asked for",
            "several",
            "escaped",
            "bought from oneself",
            "bought from oneself with xpay",
        )
    ),
    # paid
    *since("26.06", proof("a proof before the payment", "bought", NO_PAYMENT)),
    *before("26.06", proof("a proof of an old node", "bought", UNKNOWN_METHOD)),
    pay("pay with an amount too many", "bought", BAD, amount_msat=5000),
    pay("pay", "bought"),
    *listed("bought"),
    pay("pay again", "bought"),
    xpay("xpay what pay has paid", "bought", -3),
    xpay("xpay", "bought with xpay"),
    *listed("bought with xpay"),
    pay("pay what xpay has paid", "bought with xpay"),
    pay("pay oneself", "bought from oneself"),
    *listed("bought from oneself"),
    xpay("xpay oneself", "bought from oneself with xpay"),
    *listed("bought from oneself with xpay"),
    Step("pay an offer", "pay", lambda a: [a["an amount"]["bolt12"], None, "x"], BAD),
    call("pay a broken invoice", "pay", BAD, bolt11="lni1xx"),
    # proven
    *since(
        "26.06",
        proof("proof", "bought"),
        decode("proof", of_proof),
        proof("proof after xpay", "bought with xpay"),
        decode("proof after xpay", of_proof),
        proof("proof to oneself", "bought from oneself"),
        proof("proof of no more", "bought", include=None),
        proof("proof of nonsense", "bought", BAD, include=["nonsense"]),
        proof("proof with a strange include", "bought", BAD, include="much"),
        call("proof of garbage", "createproof", BAD, invstring="lni1xx"),
        call("proof of BOLT11", "createproof", BAD, invstring=stranger()),
        call("proof of nothing", "createproof", BAD),
        call("decode a broken proof", "decode", BAD, string="lnp1xx"),
        call("pay a proof", "pay", BAD, bolt11="lnp1qqqqq"),
    ),
    # in vain
    Step(
        "fetch an unknown one",
        FETCH,
        lambda a: {"offer": forged(offer_issuer_id=a["an amount"]["issuer"])},
        REFUSED,
    ),
    Step("an issuer that does not answer", HALT_OF_ISSUER, {}, compared=False),
    refused("fetch in silence", "an issuer that does not answer", SILENT, timeout=1),
    Step("an issuer that answers again", END_OF_HALT, {}, compared=False),
    offer("an issuer that ends", dies=True),
    fetch("too late", "an issuer that ends"),
    fetch("too late for xpay", "an issuer that ends"),
    Step("an issuer that has ended", END_OF_ISSUER, {}, compared=False),
    refused("fetch from an issuer that has ended", "an issuer that has ended", GONE),
    pay("pay an issuer that has ended", "too late", NO_ROUTE_FOR_PAY),
    xpay("xpay an issuer that has ended", "too late for xpay", NO_ROUTE_FOR_XPAY),
    decode("too late", of_invoice),
    *listed("too late"),
)


class Issuer(Protocol):
    """Issues the offers of a node under test."""

    def offer(self, rpc: Any, params: Json) -> Json: ...
    def fetch(self, rpc: Any, params: Json) -> Json: ...
    def halt(self, rpc: Any, params: Json) -> Json: ...
    def go_on(self, rpc: Any, params: Json) -> Json: ...
    def end(self, rpc: Any, params: Json) -> Json: ...


def actions_of(issuer: Issuer) -> dict[str, Action]:
    return {
        OFFER: issuer.offer,
        FETCH: issuer.fetch,
        HALT_OF_ISSUER: issuer.halt,
        END_OF_HALT: issuer.go_on,
        END_OF_ISSUER: issuer.end,
    }


class RealIssuer:
    """The actions on lightningd: the neighbour issues the offers."""

    def __init__(self, issuer: RealNode) -> None:
        self._issuer = issuer
        self._id = issuer.id

    def offer(self, rpc: Any, params: Json) -> Json:
        """Make an offer of the issuer, or of the node itself."""
        issuer = rpc if params["own"] else self._issuer.rpc
        given = {"amount": params["amount"], "description": fresh_name(), **params["fields"]}
        return {**issuer.call("offer", given), "issuer": self._id}

    def fetch(self, rpc: Any, params: Json) -> Json:
        """Fetch an invoice, again if the issuer has dropped the message in a burst of them."""
        for _ in range(FETCH_ATTEMPTS):
            try:
                return dict(rpc.call("fetchinvoice", {"timeout": FETCH_TIMEOUT_S, **params}))
            except RpcError as error:
                details: Any = error.error
                if details["code"] != SILENT:
                    raise
        raise AssertionError("the issuer never answers")

    def halt(self, rpc: Any, _params: Json) -> Json:
        """Return an offer of the issuer, which then runs no more until `go_on`."""
        made = self.offer(rpc, {"amount": 1000, "own": False, "fields": {}})
        os.kill(self._issuer.pid, signal.SIGSTOP)
        return made

    def go_on(self, _rpc: Any, _params: Json) -> Json:
        """Let the issuer run again."""
        os.kill(self._issuer.pid, signal.SIGCONT)
        return {}

    def end(self, rpc: Any, _params: Json) -> Json:
        """Return an offer of the issuer, after its end."""
        made = self.offer(rpc, {"amount": 1000, "own": False, "fields": {}})
        self._issuer.pyln.stop()
        wait_until(lambda: not rpc.listpeers()["peers"][0]["connected"], "the end of the issuer")
        return made


class DoublesIssuer:
    """The actions on the double, which plays the issuer too."""

    def offer(self, rpc: Any, params: Json) -> Json:
        """Make an offer of another node, or of the double's."""
        wanted = dict(params["fields"])
        wanted.pop("label", None)
        fields: Json = {f"offer_{name}": value for name, value in wanted.items()}
        if "recurrence" in wanted:
            fields["offer_recurrence"] = {"time_unit": 1, "period": 1}
        given: Json = {} if params["amount"] == "any" else {"amount_msat": params["amount"]}
        issuer = "dies" if params["dies"] else "answers"
        made = rpc.call("dev-offer", {**given, "own": params["own"], "offer": fields, "issuer": issuer})
        return {**made, "issuer": rpc.call("decode", {"string": made["bolt12"]})["offer_issuer_id"]}

    def fetch(self, rpc: Any, params: Json) -> Json:
        """Fetch an invoice."""
        return dict(rpc.call("fetchinvoice", params))

    def halt(self, rpc: Any, _params: Json) -> Json:
        """Return an offer of a node that does not answer."""
        return dict(rpc.call("dev-offer", {"amount_msat": 1000, "issuer": "silent"}))

    def go_on(self, _rpc: Any, _params: Json) -> Json:
        """Do nothing: that node is another for each offer."""
        return {}

    def end(self, rpc: Any, _params: Json) -> Json:
        """Return an offer of a node that has ended."""
        return dict(rpc.call("dev-offer", {"amount_msat": 1000, "issuer": "gone"}))


@pytest.fixture(scope="module")
def real(node_factory: Any) -> dict[str, Outcome]:
    # A burst of onion messages makes the issuer send a warning.
    options = {"allow-deprecated-apis": True, "allow_warning": True, "may_reconnect": True}
    nodes = node_factory.line_graph(2, opts=options, wait_for_announce=True)
    issuer = RealIssuer(RealNode(nodes[1]))
    socket = str(RealNode(nodes[0]).directory / "lightning-rpc")
    return run(socket, STEPS, actions_of(issuer))


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    options = {"dev-version": running_version() or NEWEST}
    with LightningdDouble(tmp_path_factory.mktemp("double"), PLUGIN, options) as running:
        channel = {"state": "CHANNELD_NORMAL", "spendable_msat": 10**9}
        running.rpc.call("dev-channels", {"channels": [channel]})
        yield run(str(running.socket), STEPS, actions_of(DoublesIssuer()))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_the_double_answers_as_lightningd_does(
    step: Step, real: dict[str, Outcome], double: dict[str, Outcome]
) -> None:
    check(step, real, double)


@pytest.mark.parametrize(
    "name", ["an amount", "any amount", "a quantity", "own", "a forged one", "a currency"]
)
def test_decode_gives_an_offer_the_same_type(
    name: str, real: dict[str, Outcome], double: dict[str, Outcome]
) -> None:
    for outcomes in (real, double):
        decoded = outcomes[f"decode {name}"].result
        assert (decoded["type"], decoded["valid"]) == ("bolt12 offer", True)


def test_the_note_arrives_as_the_plugin_expects(
    real: dict[str, Outcome], double: dict[str, Outcome]
) -> None:
    """lightningd does not read JSON's escapes in it."""
    for outcomes in (real, double):
        assert outcomes["decode bought"].result["invreq_payer_note"] == NOTE
        assert outcomes["decode escaped"].result["invreq_payer_note"] == '\\"\\\\\\n'
        assert outcomes["decode more than asked for"].result["invoice_amount_msat"] == 6000


@pytest.mark.skipif(not runs_since("26.06"), reason="before v26.06 there is no createproof")
def test_a_proof_shows_what_was_asked_for(real: dict[str, Outcome], double: dict[str, Outcome]) -> None:
    for outcomes in (real, double):
        shown = outcomes["decode proof"].result
        paid = outcomes["pay"].result
        assert (shown["type"], shown["valid"]) == ("bolt12 payer_proof", True)
        assert shown["proof_preimage"] == paid["payment_preimage"]
        assert shown["invoice_payment_hash"] == paid["payment_hash"]
        assert (shown["invoice_amount_msat"], shown["invreq_payer_note"]) == (5000, NOTE)
        assert {"offer_description", "offer_issuer_id", "invoice_created_at"} <= shown.keys()


def test_names_of_steps_are_unique() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS)
