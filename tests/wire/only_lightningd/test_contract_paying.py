"""The test double pays as lightningd does: same fields, same types, same error codes.

The real node has two others behind it, payer → middle → payee, so that a payment costs a fee. For the
double, dev-payment-plan sets what the payee does with a payment. The double plays the version of
lightningd that runs; a line without `since` or `before` holds for every supported version.
"""

import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyln.client import RpcError

from tests.double import bolt11
from tests.double.process import LightningdDouble
from tests.double.settings import NEWEST
from tests.support.channel import Json
from tests.support.lightningd_version import before, running_version, runs_since, since
from tests.support.waiting import wait_until
from tests.wire.node import PLUGIN
from tests.wire.only_lightningd.contract import Action, Answers, Outcome, Step, call, check, run
from tests.wire.real_node import RealNode
from tests.wire.real_payee import PAYEE_PLUGIN

BAD = -32602
TIMEOUT_S = 20
NOBODY = "02" * 33
# Made by a real node. Of the double's answer to it only the type is compared.
OFFER = (
    "lno1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrcgqgp7szsrdanxvy8wqvuytqpdyk6wqaxvl47d3"
    "vee5swuwklej79qxjqqg394r4ptqaue5qkk50md2d3lher7m7ljflm9tm82fhtmgjmrlat6qz7vygwu8lv3w5pqy4vy48lpk3r"
    "fd39q3hgz5zy52acgkg7a8yglv6l9knwzzh0tx8wrqqehydgypqv7v5srehfg0xfdwgh26v36ph3r59ceac2t0t67xhzgv9a76"
    "ezql9cneztzp8f8qm26ghw6n9pcuqcen90w2kdf3pac0gatsyvlyx3t8fzcvgr5xe3ydevlu3hh4dzklsqrycvspgzzzhcnue"
    "rp9jfy7gy2mgwy3p6v4ze7k58n30rt0usuj63kumm7vj9zkt07kxuvaqwsm2s950xug93pq08vhlwxs4zvcktzywmgecr3pj09"
    "6tyukvt7upuz9k2s0xkvwq7nz"
)
# Actions: make an invoice of the payee, set what it does with payments, begin a call that runs beside
# the others, wait until a payment is pending, end such a call.
FOREIGN, PAYEE, BEGIN, PENDING, END = "(invoice)", "(payee)", "(begin)", "(pending)", "(end)"


def stranger(**fields: Any) -> str:
    """Return an invoice of a node that is not in the network."""
    given: dict[str, Any] = {
        "currency": "bcrt",
        "created_at": int(time.time()),
        "payment_hash": secrets.token_bytes(32),
        "payment_secret": secrets.token_bytes(32),
        "amount_msat": 1000,
        "description": "x",
        "features": 0x024100,
    }
    return bolt11.encode(bolt11.Bolt11(**{**given, **fields}), secrets.token_bytes(32))


def foreign(name: str, amount_msat: int = 100_000, **params: Any) -> Step:
    return Step(name, FOREIGN, {"amount_msat": amount_msat, **params}, compared=False)


def payee(does: str) -> Step:
    return Step(f"payee: {does} ({secrets.token_hex(4)})", PAYEE, {"mode": does}, compared=False)


# Error codes of xpay, and of pay with named parameters, which xpay handles from 26.06 on.
PAID_ALREADY, TOO_COSTLY = (219, 206) if runs_since("26.06") else (218, 205)
PAY_NO_ROUTE, PAY_TOO_COSTLY = (205, 206) if runs_since("26.06") else (0, 210)


def xpay(name: str, source: str, code: int | None = None, /, label: Any = None, **params: Any) -> Step:
    """Return a step of xpay; it gets the label from 26.06 on, when xpay has one."""
    if label is not None and runs_since("26.06"):
        params["label"] = label
    return Step(name, "xpay", lambda a: {"invstring": a[source]["bolt11"], **params}, code)


def pay(name: str, source: str, code: int | None = None, /, **params: Any) -> Step:
    return Step(name, "pay", lambda a: {"bolt11": a[source]["bolt11"], **params}, code)


# The parameters that the plugin gives to pay after the invoice, from the amount and the label to maxfee.
AS_THE_PLUGIN = [None, "by position", None, None, 30, None, None, None, None, 5000]


def pay_by_position(name: str, source: str, code: int | None = None, /, maxfee: int = 5000) -> Step:
    """Return a step of the old `pay`, which the plugin uses in every version."""
    rest = [*AS_THE_PLUGIN[:-1], maxfee]
    return Step(name, "pay", lambda a: [a[source]["bolt11"], *rest], code)


def pay_oneself_any(name: str, amount_msat: int | None, code: int | None = None) -> Step:
    """Return a step of the old `pay` for an own invoice without an amount."""
    rest = [amount_msat, *AS_THE_PLUGIN[1:]]
    return Step(name, "pay", lambda a: [a["own of any amount"]["bolt11"], *rest], code)


def listed(source: str, when: str) -> tuple[Step, ...]:
    """Return steps that list a payment in every possible way."""

    def by_hash(answers: Answers) -> Json:
        return {"payment_hash": answers[source]["payment_hash"]}

    def by_bolt11(answers: Answers) -> Json:
        return {"bolt11": answers[source]["bolt11"]}

    def in_sql(answers: Answers) -> Json:
        columns = (
            "status, label, partid, amount_msat, amount_sent_msat, completed_at, erroronion, bolt11"
        )
        where = f"payment_hash = X'{answers[source]['payment_hash']}'"
        return {"query": f"SELECT {columns} FROM sendpays WHERE {where}"}

    return (
        Step(f"listsendpays {when}", "listsendpays", by_hash),
        Step(f"listsendpays by bolt11 {when}", "listsendpays", by_bolt11),
        Step(f"listpays {when}", "listpays", by_hash),
        Step(f"sql {when}", "sql", in_sql),
    )


def begin(name: str, method: str, params: Callable[[Answers], Json]) -> Step:
    """Return a step that begins a call which is not answered at once."""
    return Step(
        name, BEGIN, lambda a: {"name": name, "method": method, "params": params(a)}, None, False
    )


def end(name: str, begun: str, code: int | None = None, *, compared: bool = True) -> Step:
    return Step(name, END, {"name": begun}, code, compared)


def end_of_wait(name: str, begun: str) -> Step:
    """Return a step that ends a call of `wait`.

    Before 25.05 its answer lacks the field with the name of the subsystem, so it is not compared. The
    plugin never waits for such an event.
    """
    return end(name, begun, compared=runs_since("25.05"))


def pending(source: str) -> Step:
    """Return a step that waits until a payment has a pending part."""
    name = f"{source} is pending"
    return Step(name, PENDING, lambda a: {"payment_hash": a[source]["payment_hash"]}, None, False)


def next_index(subsystem: str, index: str, source: str) -> Callable[[Answers], Json]:
    """Return the parameters with which `wait` waits for the next event."""

    def params(answers: Answers) -> Json:
        following = answers[source][index] + 1
        return {"subsystem": subsystem, "indexname": index, "nextvalue": following}

    return params


def wait_now(subsystem: str, index: str, when: str) -> Step:
    name = f"{subsystem} {index} {when}"
    return call(name, "wait", subsystem=subsystem, indexname=index, nextvalue=0)


def by_keysend(method: str) -> tuple[Step, ...]:
    """Return the steps of keysend or xkeysend; most of their error codes differ."""
    none, costly, refused = (210, 210, 0) if method == "keysend" else (205, TOO_COSTLY, 203)

    def to_payee(name: str, code: int | None = None, /, **params: Any) -> Step:
        given = {"amount_msat": 10_000, **params}
        return Step(
            f"{method} {name}", method, lambda a: {"destination": a["payee id"]["payee"], **given}, code
        )

    def oneself(answers: Answers) -> Json:
        return {"destination": answers["getinfo"]["id"], "amount_msat": 10_000}

    return (
        to_payee("a message", label="a gift", extratlvs={"696969": "616263"}),
        to_payee("without more"),
        to_payee("without TLVs", extratlvs={}, maxfee=5000, retry_for=10),
        to_payee("an odd type", extratlvs={"65535": "00"}),
        to_payee("an even type", refused, extratlvs={"2": "00"}),
        to_payee("a type in words", BAD, extratlvs={"x": "00"}),
        to_payee("half a byte", BAD, extratlvs={"696969": "0"}),
        to_payee("too much", none, amount_msat=10**12),
        to_payee("too expensive", costly, amount_msat=10_000_000, maxfee=0),
        to_payee("no amount", BAD, amount_msat=None),
        to_payee("an amount in words", BAD, amount_msat="much"),
        call(f"{method} to nobody", method, none, destination=NOBODY, amount_msat=1000, label="lost"),
        call(f"{method} to nonsense", method, BAD, destination="zz", amount_msat=1000),
        Step(f"{method} to oneself", method, oneself, BAD),
        call(
            f"the end of {method}",
            "sql",
            query="SELECT status, label, partid, groupid, bolt11 FROM sendpays WHERE label = 'a gift'",
        ),
    )


STEPS = (
    call("getinfo", "getinfo"),
    Step("payee id", FOREIGN, {"amount_msat": 1000}, compared=False),
    *(call(f"help of {name}", "help", command=name) for name in ("xpay", "pay", "keysend")),
    *since("26.06", call("help of xkeysend", "help", command="xkeysend")),
    *before("26.06", call("help of xkeysend", "help", -32601, command="xkeysend")),
    # decode
    foreign("bought"),
    Step("decode", "decode", lambda a: {"string": stranger()}),
    call("decode any amount", "decode", string=stranger(amount_msat=None)),
    call("decode a hash", "decode", string=stranger(description_hash=bytes(32))),
    call("decode without features", "decode", string=stranger(features=0)),
    call("decode capitals", "decode", string=f"LIGHTNING:{stranger().upper()}"),
    *(
        call(f"decode of {currency}", "decode", string=stranger(currency=currency))
        for currency in ("bc", "tb", "tbs")
    ),
    Step("decode an offer", "decode", {"string": OFFER}, compared=False),
    call("decode a broken offer", "decode", BAD, string="lno1xx"),
    call("decode a broken invoice", "decode", BAD, string="lni1xx"),
    call("decode an unknown feature", "decode", BAD, string=stranger(features=1 << 200)),
    call("decode an endless expiry", "decode", BAD, string=stranger(expiry=1 << 62)),
    call("decode an address", "decode", BAD, string="user@example.com"),
    call("decode nothing", "decode", BAD, string=""),
    call("decode null", "decode", BAD, string=None),
    # refused by xpay and pay before they send anything
    foreign("any amount", 0),
    xpay("xpay without amount", "any amount", BAD),
    pay("pay without amount", "any amount", BAD),
    xpay("xpay of 0", "any amount", BAD, amount_msat=0),
    xpay("xpay of any", "any amount", BAD, amount_msat="any"),
    xpay("xpay of a negative amount", "any amount", BAD, amount_msat=-1),
    xpay("xpay with an amount too many", "bought", BAD, amount_msat=100_000),
    pay("pay with an amount too many", "bought", BAD, amount_msat=100_000),
    xpay("xpay with a strange maxfee", "bought", BAD, maxfee="little"),
    xpay("xpay with a strange retry_for", "bought", BAD, retry_for="long"),
    *since("26.06", xpay("xpay with a strange label", "bought", BAD, label={})),
    *before("26.06", call("xpay with a label", "xpay", BAD, invstring=stranger(), label="x")),
    xpay("xpay with an unknown parameter", "bought", BAD, nonsense=1),
    call("xpay of nothing", "xpay", BAD),
    call("pay of nothing", "pay", BAD),
    call("xpay of garbage", "xpay", BAD, invstring="garbage"),
    call("pay of garbage", "pay", BAD, bolt11="garbage"),
    call("xpay of a broken offer", "xpay", BAD, invstring="lno1xx"),
    call("xpay of a broken bolt12 invoice", "xpay", BAD, invstring="lni1xx"),
    call("xpay of zero", "xpay", BAD, invstring=stranger(amount_msat=0)),
    call("xpay of another network", "xpay", BAD, invstring=stranger(currency="bc")),
    call("pay of another network", "pay", BAD, bolt11=stranger(currency="tbs")),
    call("xpay of an expired one", "xpay", 207, invstring=stranger(created_at=1000)),
    call("pay of an expired one", "pay", 207, bolt11=stranger(created_at=1000)),
    # no route
    call("xpay to nobody", "xpay", 205, invstring=stranger()),
    call("pay to nobody", "pay", PAY_NO_ROUTE, bolt11=stranger(), label="lost"),
    Step("pay by position to nobody", "pay", [stranger(), *AS_THE_PLUGIN], 0),
    foreign("too much", 10**12),
    xpay("xpay of too much", "too much", 205),
    foreign("expensive", 10_000_000),
    xpay("xpay without a fee", "expensive", TOO_COSTLY, maxfee=0, label="lost"),
    pay("pay without a fee", "expensive", PAY_TOO_COSTLY, maxfee=0, label="lost"),
    pay_by_position("pay by position without a fee", "expensive", 210, maxfee=0),
    *listed("expensive", "without a route"),
    # success
    xpay("xpay", "bought", label="bought", maxfee=5000, retry_for=30),
    *listed("bought", "paid by xpay"),
    xpay("xpay again", "bought", PAID_ALREADY),
    pay("pay what xpay has paid", "bought"),
    xpay("xpay of any amount", "any amount", amount_msat=1000),
    xpay("xpay of another amount", "any amount", -3, amount_msat=2000),
    foreign("bought by pay"),
    pay("pay", "bought by pay", label="bought", maxfee=5000, retry_for=30),
    pay("pay again", "bought by pay"),
    foreign("bought by position"),
    pay_by_position("pay by position", "bought by position"),
    pay_by_position("pay by position again", "bought by position"),
    *listed("bought by position", "paid by position"),
    *since("26.06", xpay("xpay what pay has paid", "bought by pay", PAID_ALREADY)),
    xpay("xpay what pay has paid by position", "bought by position", -3),
    *listed("bought by pay", "paid by pay"),
    # payments to oneself
    call("own", "invoice", amount_msat=1000, label="own", description="x"),
    xpay("xpay oneself", "own", label="own"),
    *listed("own", "to oneself"),
    xpay("xpay oneself again", "own", PAID_ALREADY),
    call("own again", "invoice", amount_msat=1000, label="own again", description="x"),
    call("delete own again", "delinvoice", label="own again", status="unpaid"),
    xpay("xpay oneself a deleted invoice", "own again", 203),
    *listed("own again", "to oneself in vain"),
    call("own by pay", "invoice", amount_msat=1000, label="own by pay", description="x"),
    pay_by_position("pay oneself", "own by pay", maxfee=0),
    *listed("own by pay", "to oneself by pay"),
    call("own paid by pay", "listinvoices", label="own by pay"),
    pay_by_position("pay oneself again", "own by pay", maxfee=0),
    pay_by_position("pay oneself what xpay has paid", "own", maxfee=0),
    call("own of any amount", "invoice", amount_msat="any", label="own any", description="x"),
    pay_oneself_any("pay oneself without an amount", None, BAD),
    pay_oneself_any("pay oneself any amount", 2500),
    call("own paid with any amount", "listinvoices", label="own any"),
    call("own deleted", "invoice", amount_msat=1000, label="own deleted", description="x"),
    call("delete own", "delinvoice", label="own deleted", status="unpaid"),
    pay_by_position("pay oneself a deleted invoice", "own deleted", 203, maxfee=0),
    *listed("own deleted", "to oneself in vain by pay"),
    # the payee refuses
    foreign("refused"),
    payee("refuse"),
    xpay("xpay refused", "refused", 203, label="in vain"),
    *listed("refused", "refused"),
    payee("accept"),
    xpay("xpay after a refusal", "refused"),
    *listed("refused", "after a refusal"),
    # in flight
    *(
        wait_now(subsystem, index, "now")
        for subsystem in ("sendpays", "invoices", "forwards")
        for index in ("created", "updated", "deleted")
    ),
    call("wait for nonsense", "wait", BAD, subsystem="nonsense", indexname="created", nextvalue=0),
    call("wait by nonsense", "wait", BAD, subsystem="invoices", indexname="nonsense", nextvalue=0),
    call("wait until nonsense", "wait", BAD, subsystem="invoices", indexname="created", nextvalue="x"),
    call("wait until never", "wait", BAD, subsystem="invoices", indexname="created"),
    foreign("held"),
    begin("creation", "wait", next_index("sendpays", "created", "sendpays created now")),
    begin("update", "wait", next_index("sendpays", "updated", "sendpays updated now")),
    payee("hold"),
    begin("held xpay", "xpay", lambda a: {"invstring": a["held"]["bolt11"]}),
    pending("held"),
    end_of_wait("a pending part was created", "creation"),
    *listed("held", "pending"),
    xpay("xpay of a pending payment", "held", -3),
    # Before 26.06 `pay` waits until the payment has ended.
    *since("26.06", pay("pay of a pending payment", "held", -3)),
    payee("accept"),
    end("a held xpay", "held xpay"),
    end_of_wait("a part was updated", "update"),
    *listed("held", "no longer pending"),
    foreign("held in vain"),
    payee("hold"),
    begin("xpay in vain", "xpay", lambda a: {"invstring": a["held in vain"]["bolt11"]}),
    pending("held in vain"),
    payee("refuse"),
    end("a held xpay in vain", "xpay in vain", 203),
    payee("accept"),
    # invoices
    begin("invoice creation", "wait", next_index("invoices", "created", "invoices created now")),
    begin("invoice update", "wait", next_index("invoices", "updated", "invoices updated now")),
    begin("invoice deletion", "wait", next_index("invoices", "deleted", "invoices deleted now")),
    call("watched", "invoice", amount_msat=1000, label="watched", description="x"),
    end_of_wait("an invoice was created", "invoice creation"),
    xpay("pay the watched invoice", "watched"),
    end_of_wait("an invoice was updated", "invoice update"),
    call("delete the watched invoice", "delinvoice", label="watched", status="paid"),
    end_of_wait("an invoice was deleted", "invoice deletion"),
    # lists
    call("listsendpays", "listsendpays"),
    call("listpays", "listpays"),
    call("listsendpays complete", "listsendpays", status="complete"),
    call("listsendpays failed", "listsendpays", status="failed"),
    call("listsendpays by nonsense", "listsendpays", BAD, status="paid"),
    *(
        call(f"{method} by {index}", method, index=index, start=2, limit=3)
        for method in ("listsendpays", "listpays")
        for index in ("created", "updated")
    ),
    call("listsendpays updated failed", "listsendpays", index="updated", start=1, status="failed"),
    call("listsendpays after the last", "listsendpays", index="created", start=1000),
    call("listsendpays by an unknown index", "listsendpays", BAD, index="nonsense"),
    call("listsendpays from nowhere", "listsendpays", BAD, start=1),
    call("listsendpays up to nowhere", "listsendpays", BAD, limit=1),
    call("listsendpays of garbage", "listsendpays", BAD, bolt11="garbage"),
    call("listsendpays of another network", "listsendpays", BAD, bolt11=stranger(currency="bc")),
    call("hash and index", "listsendpays", payment_hash="00" * 32, index="created", limit=1),
    call("hash and start", "listsendpays", BAD, payment_hash="00" * 32, index="created", start=1),
    call("hash and bolt11", "listsendpays", BAD, payment_hash="00" * 32, bolt11=stranger()),
    Step(
        "a hash overrides the status",
        "listsendpays",
        lambda a: {"payment_hash": a["bought"]["payment_hash"], "status": "failed"},
    ),
    # without an invoice
    *since("26.06", *by_keysend("xkeysend")),
    *by_keysend("keysend"),
    *since("26.06", call("xkeysend of 0", "xkeysend", BAD, destination=NOBODY, amount_msat=0)),
)


class Calls:
    """Calls that run beside the others."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._begun: dict[str, socket.socket] = {}

    def begin(self, rpc: Any, params: Json) -> None:
        """Send a request, and wait until the node has read it."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_S)
        connection.connect(self._path)
        request = {"jsonrpc": "2.0", "id": "begun", "method": params["method"]}
        connection.sendall(json.dumps({**request, "params": params["params"]}).encode())
        self._begun[params["name"]] = connection
        rpc.getinfo()  # the node reads requests in the order of their arrival

    def end(self, _rpc: Any, params: Json) -> Any:
        """Return the result of a call that was begun.

        Raises:
            RpcError: the answer is an error.

        """
        received = b""
        with self._begun.pop(params["name"]) as connection:
            while not received.endswith(b"\n\n"):
                received += connection.recv(65536)
        reply = json.loads(received)
        if "error" in reply:
            raise RpcError(params["name"], {}, reply["error"])
        return reply["result"]

    def as_actions(self) -> dict[str, Action]:
        """Return the actions that begin and end such calls, and wait for their payments."""
        return {BEGIN: self.begin, END: self.end, PENDING: wait_until_pending}


def wait_until_pending(rpc: Any, params: Json) -> None:
    def is_pending() -> bool:
        return any(p["status"] == "pending" for p in rpc.call("listsendpays", params)["payments"])

    wait_until(is_pending, "a pending part")


@pytest.fixture(scope="module")
def real(node_factory: Any) -> dict[str, Outcome]:
    # lightningd's default, which pyln-testing changes. Without it there is no keysend.
    options = {"allow-deprecated-apis": True}
    payee_options = {**options, "plugin": str(PAYEE_PLUGIN)}
    # lightningd logs an xkeysend of 0 msat as BROKEN.
    payer_options = {**options, "broken_log": "getroutes for 0msat"}
    everyone = [payer_options, options, payee_options]
    nodes = node_factory.line_graph(3, opts=everyone, wait_for_announce=True)
    payer, payee_node = RealNode(nodes[0]), RealNode(nodes[2])

    def invoice(_rpc: Any, params: Json) -> Json:
        amount = params["amount_msat"] or "any"
        made = payee_node.rpc.invoice(amount, secrets.token_hex(8), "of the payee")
        return {**made, "payee": payee_node.id}

    def set_mode(_rpc: Any, params: Json) -> None:
        payee_node.rpc.call("htlcs", params)

    path = str(payer.directory / "lightning-rpc")
    actions = {FOREIGN: invoice, PAYEE: set_mode, **Calls(path).as_actions()}
    return run(path, STEPS, actions)


class DoublesPayee:
    """The actions for the double's payee, whose behaviour must be set before the double pays."""

    def __init__(self) -> None:
        self._hash = ""

    def invoice(self, rpc: Any, params: Json) -> Json:
        made: Json = rpc.call("dev-foreign-invoice", params)
        self._hash = made["payment_hash"]
        return made

    def set_mode(self, rpc: Any, params: Json) -> None:
        unknown = "Destination said it doesn't know invoice: incorrect_or_unknown_payment_details"
        refusal = {"code": 203, "message": unknown}
        if rpc.call("dev-payments-held")["held"]:
            outcome = "failed" if params["mode"] == "refuse" else "complete"
            rpc.call("dev-payment-release", {"outcome": outcome, **refusal})
        elif params["mode"] != "accept":
            plan: Json = {"hold": True} if params["mode"] == "hold" else {"fail": refusal}
            rpc.call("dev-payment-plan", {"payment_hash": self._hash, **plan})


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    options = {"dev-version": running_version() or NEWEST}
    with LightningdDouble(tmp_path_factory.mktemp("double"), PLUGIN, options) as running:
        channel = {"state": "CHANNELD_NORMAL", "spendable_msat": 10**9}
        running.rpc.call("dev-channels", {"channels": [channel]})
        running.rpc.call("dev-unreachable", {"destinations": [NOBODY]})
        payee, path = DoublesPayee(), str(running.socket)
        actions = {FOREIGN: payee.invoice, PAYEE: payee.set_mode, **Calls(path).as_actions()}
        yield run(path, STEPS, actions)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_the_double_answers_as_lightningd_does(
    step: Step, real: dict[str, Outcome], double: dict[str, Outcome]
) -> None:
    check(step, real, double)


def test_decode_names_the_type_of_an_offer(real: dict[str, Outcome], double: dict[str, Outcome]) -> None:
    for outcomes in (real, double):
        decoded = outcomes["decode an offer"].result
        assert (decoded["type"], decoded["valid"]) == ("bolt12 offer", True)


def test_the_amount_sent_is_the_sum_of_the_parts(
    real: dict[str, Outcome], double: dict[str, Outcome]
) -> None:
    for outcomes in (real, double):
        parts = outcomes["listsendpays paid by xpay"].result["payments"]
        sent = sum(part["amount_sent_msat"] for part in parts)
        assert outcomes["xpay"].result["amount_sent_msat"] == sent > 100_000


def test_names_of_steps_are_unique() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS)


@pytest.mark.parametrize("name", ["pay by position without a fee", "keysend too expensive"])
def test_an_attempt_says_that_its_route_costs_too_much(
    real: dict[str, Outcome], double: dict[str, Outcome], name: str
) -> None:
    for outcomes in (real, double):
        reasons = [attempt.get("failreason", "") for attempt in outcomes[name].error["attempts"]]
        assert any(reason.startswith("Fee exceeds our fee budget") for reason in reasons), reasons
