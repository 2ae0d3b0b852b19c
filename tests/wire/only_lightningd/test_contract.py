"""The test double answers as lightningd does: same fields, same JSON types, same error codes.

Both run the same calls, each building on those before; then each pair of answers is compared. The calls
are those that the plugin makes (nwc/cln/node.py and history.py), and those with which people use the
plugin. The double plays the version of lightningd that runs; a line without `since` or `before` holds
for every supported version. Calls about payments need more than one node and are in
test_contract_paying.py.
"""

import asyncio
import hashlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from nwc.cln import bolt11
from nwc.cln import history as history_module
from nwc.cln import node as node_module
from nwc.cln.history import Found, History, InvoiceFilter, PaymentFilter
from nwc.cln.node import Node
from nwc.wallet.labels import TEMPLATE_PREFIX
from tests.double.process import LightningdDouble
from tests.double.settings import NEWEST
from tests.support.channel import Json
from tests.support.lightningd_version import before, running_version, since
from tests.support.restartable_relay import RestartableRelay
from tests.wire.node import PLUGIN
from tests.wire.only_lightningd import test_contract_paying as paying
from tests.wire.only_lightningd.contract import Answers, Outcome, Step, call, check, run
from tests.wire.real_node import RealNode

HASH = hashlib.sha256(b"something else").digest()
PREIMAGE = "01" * 32
PAID_PREIMAGE = "06" * 32
OWN_PREIMAGE = "07" * 32


def invoice(name: str, code: int | None = None, /, **params: Any) -> Step:
    given = {"amount_msat": 1000, "label": name, "description": "x", "expiry": 600, **params}
    return Step(name, "invoice", {k: v for k, v in given.items() if v is not ...}, code)


def template(name: str, preimage: str) -> tuple[Step, Step]:
    """Return steps that make an invoice for its string and delete it, as the plugin does."""
    deletion = {"label": name, "status": "unpaid"}
    return invoice(name, preimage=preimage), Step(f"{name} gone", "delinvoice", deletion)


def create(
    name: str, source: str, change: Callable[[str], str], code: int | None = None, **params: str
) -> Step:
    def given(answers: Answers) -> Json:
        string = change(answers[source]["bolt11"])
        return {"invstring": string, "label": name, "preimage": PREIMAGE, **params}

    return Step(name, "createinvoice", given, code)


def sign(name: str, source: str, change: Callable[[str], str], code: int | None = None) -> Step:
    return Step(
        name, "signinvoice", lambda answers: {"invstring": change(answers[source]["bolt11"])}, code
    )


def with_both(string: str) -> str:
    return bolt11.with_description_hash(bolt11.parse(string), HASH, "kept").encode()


def renewed(string: str) -> str:
    invoice = bolt11.renewed(
        bolt11.parse(string),
        bytes.fromhex(OWN_PREIMAGE),
        amount_msat=bolt11.MAX_AMOUNT_MSAT,
        created_at=1_700_000_000,
        expiry=31_536_000,
    )
    return bolt11.with_description_hash(invoice, HASH, "kept").encode()


def with_hash_only(string: str) -> str:
    parsed = bolt11.parse(with_both(string))
    return replace(parsed, fields=tuple(f for f in parsed.fields if f.type != "d")).encode()


def decoded(name: str, source: str) -> Step:
    return Step(name, "decode", lambda answers: {"string": answers[source]["bolt11"]})


def store(name: str, key: list[str], mode: Any, code: int | None = None, **params: Any) -> Step:
    given = {"key": key, "mode": mode, "string": "{}", **params}
    return Step(name, "datastore", {k: v for k, v in given.items() if v is not ...}, code)


def checking(source: str, message: str) -> Callable[[Answers], Json]:
    """Return a function for the parameters of `checkmessage`: a signature, and who has made it."""
    return lambda answers: {
        "message": message,
        "zbase": answers[source]["zbase"],
        "pubkey": answers["getinfo"]["id"],
    }


def unknown_signer(answers: Answers) -> Json:
    return {"message": "log in: 7f ü☕", "zbase": answers["sign"]["zbase"]}


# An action instead of an RPC method: each node pays an invoice in its own way, which is not compared.
PAY = "(pay)"


class _Recorder(Node):
    """Records queries, and answers them as a node with one row in each table."""

    def __init__(self) -> None:
        self.queries: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        query = params["query"]
        self.queries.append(query)
        return {"rows": [[1]] if "count(" in query or "max(" in query else []}


async def _ask_all(history: History) -> None:
    window = InvoiceFilter(None, False, 1, 10**6)
    for shown in (
        {"hidden_prefix": TEMPLATE_PREFIX},
        {"label_prefix": "nwc:"},
        {"label_prefix": "plain"},
    ):
        for paid_only in (False, True):
            wanted: InvoiceFilter = replace(window, paid_only=paid_only, **shown)  # type: ignore[arg-type]
            await history.find_invoices(wanted, limit=3, offset=0)
            await history.count_invoices(wanted)
    await history.invoices([Found(1, 0), Found(2, 0)])
    for settled_only in (False, True):
        payments = PaymentFilter(settled_only, from_time=0, until_time=2**40)
        await history.find_payments(payments, limit=3, offset=0)
        await history.count_payments(payments)
    await history.payments([Found("00" * 32, 0), Found("11" * 32, 0)])
    await history.invoices_between(InvoiceFilter(None, False, hidden_prefix=TEMPLATE_PREFIX), 1, None)


def queries(name: str) -> tuple[Step, ...]:
    """Return a step for every query of nwc/cln/history.py."""
    node = _Recorder()
    asyncio.run(_ask_all(History(node)))
    assert len(node.queries) >= 20
    numbered = enumerate(node.queries)
    return tuple(call(f"{name} {number}", "sql", query=query) for number, query in numbered)


def of_hash(name: str, method: str, source: str) -> Step:
    return Step(name, method, lambda answers: {"payment_hash": answers[source]["payment_hash"]})


BAD = -32602
STEPS = (
    # invoice
    invoice("plain"),
    invoice("any amount", amount_msat="any"),
    invoice("hash of a text", description="long " * 200, deschashonly=True),
    invoice("empty description", description=""),
    invoice("default expiry", expiry=...),
    invoice("with preimage", preimage="02" * 32),
    invoice("duplicate label", 900, label="plain"),
    invoice("same preimage", 901, preimage="02" * 32),
    *since("25.12", invoice("long description", BAD, description="x" * 640)),
    *before("25.12", invoice("long description", BAD, description="x" * 641)),
    invoice("NUL in description", BAD, description="a\0b"),
    invoice("amount of 0", BAD, amount_msat=0),
    invoice("no amount", BAD, amount_msat=...),
    invoice("amount is text", BAD, amount_msat="much"),
    invoice("amount is a fraction", BAD, amount_msat=1.5),
    invoice("label of 128 bytes", label="l" * 128),
    invoice("label of 129 bytes", BAD, label="l" * 129),
    invoice("expiry is text", BAD, expiry="soon"),
    invoice("expiry is a fraction", BAD, expiry=1.5),
    invoice("short preimage", BAD, preimage="01"),
    invoice("deschashonly is text", BAD, deschashonly="perhaps"),
    invoice("unknown parameter", BAD, nonsense=1),
    # createinvoice
    *template("template", PREIMAGE),
    sign("signed", "template", with_both),
    sign("signed nonsense", "template", lambda _: "lnbcrt1nonsense", BAD),
    create("d and h", "template", with_both),
    create("renewed", "plain", renewed, preimage=OWN_PREIMAGE),
    decoded("renewed decoded", "renewed"),
    create("label in use", "template", with_both, 900, label="plain"),
    create("h only", "template", with_hash_only, BAD),
    create("foreign preimage", "template", with_both, BAD, preimage="03" * 32),
    create("no invoice", "template", lambda _: "lnbcrt1nonsense", BAD),
    *template("any template", "04" * 32),
    invoice("any template for hash", amount_msat="any", preimage="05" * 32),
    call("any template for hash gone", "delinvoice", label="any template for hash", status="unpaid"),
    create("d and h, any amount", "any template for hash", with_both, preimage="05" * 32),
    # listinvoices
    *(
        call(f"list {label}", "listinvoices", label=label)
        for label in ("plain", "any amount", "hash of a text", "empty description", "d and h")
    ),
    call("list nothing", "listinvoices", label="no such label"),
    of_hash("list by hash", "listinvoices", "plain"),
    call("list an unknown hash", "listinvoices", payment_hash="00" * 32),
    call("list a short hash", "listinvoices", BAD, payment_hash="00"),
    # payments
    call("wait before a payment", "waitanyinvoice", 904, lastpay_index=0, timeout=0),
    call("listsendpays of nothing", "listsendpays", payment_hash="00" * 32),
    call("listsendpays of a short hash", "listsendpays", BAD, payment_hash="00"),
    *queries("query before"),
    invoice("to be paid", preimage=PAID_PREIMAGE),
    Step("paid", PAY, lambda answers: {"invstring": answers["to be paid"]["bolt11"]}, compared=False),
    call("wait for the first", "waitanyinvoice", lastpay_index=0, timeout=0),
    call("wait for a second", "waitanyinvoice", 904, lastpay_index=1, timeout=0),
    of_hash("list paid by hash", "listinvoices", "to be paid"),
    of_hash("listsendpays of paid", "listsendpays", "to be paid"),
    *queries("query after"),
    *(
        call(f"{table} {name}", "wait", subsystem=table, indexname=name, nextvalue=0)
        for table in ("invoices", "sendpays")
        for name in ("created", "updated", "deleted")
    ),
    call("invalid query", "sql", -1, query="SELEKT 1"),
    call("sql without a query", "sql", BAD),
    call("delete paid as unpaid", "delinvoice", 906, label="to be paid", status="unpaid"),
    call("delete paid", "delinvoice", label="to be paid", status="paid"),
    call("wait for a deleted invoice", "waitanyinvoice", 904, lastpay_index=0, timeout=0),
    *queries("query after deletion"),
    # decode
    *(decoded(f"decode {n}", n) for n in ("plain", "any amount", "hash of a text", "d and h")),
    call("decode nonsense", "decode", BAD, string="lnbcrt1nonsense"),
    # delinvoice
    call("delete", "delinvoice", label="plain", status="unpaid"),
    call("delete again", "delinvoice", 905, label="plain", status="unpaid"),
    call("delete as paid", "delinvoice", 906, label="d and h", status="paid"),
    call("delete as nonsense", "delinvoice", 906, label="d and h", status="nonsense"),
    call("delete with hash", "delinvoice", label="d and h", status="unpaid"),
    # the node
    call("getinfo", "getinfo"),
    call("listpeerchannels", "listpeerchannels"),
    call("listconfigs", "listconfigs", config="log-level"),
    call("makesecret", "makesecret", string="purpose"),
    call("makesecret of nothing", "makesecret", BAD),
    call("makesecret of both", "makesecret", BAD, string="a", hex="00"),
    call("sign", "signmessage", message="log in: 7f ü☕"),
    call("sign nothing", "signmessage", message=""),
    call("sign 65,535 bytes", "signmessage", message="x" * 65_535),
    call("sign 65,536 bytes", "signmessage", BAD, message="x" * 65_536),
    call("sign without a message", "signmessage", BAD),
    Step("check", "checkmessage", checking("sign", "log in: 7f ü☕")),
    Step("check another", "checkmessage", checking("sign", "log in: 70 ü☕")),
    Step("check of an unknown node", "checkmessage", unknown_signer, 1301),
    call("check nonsense", "checkmessage", BAD, message="x", zbase="l0l"),
    call("unknown method", "no-such-method", -32601),
    # datastore
    store("create", ["t", "a", "1"], "must-create"),
    store("create again", ["t", "a", "1"], "must-create", 1202),
    store("default mode", ["t", "a", "1"], ..., 1202),
    store("replace", ["t", "a", "1"], "must-replace"),
    store("replace nothing", ["t", "a", "2"], "must-replace", 1203),
    store("replace nothing of a generation", ["t", "a", "2"], "must-replace", 1203, generation=0),
    store("replace generation", ["t", "a", "1"], "must-replace", generation=1),
    store("replace old generation", ["t", "a", "1"], "must-replace", 1204, generation=0),
    store("put new", ["t", "a", "2"], "create-or-replace"),
    store("put over", ["t", "a", "2"], "create-or-replace"),
    store("append", ["t", "a", "2"], "must-append"),
    store("append to nothing", ["t", "a", "3"], "must-append", 1203),
    store("append to new", ["t", "a", "3"], "create-or-append"),
    store("bytes", ["t", "bytes"], "must-create", string=..., hex="ff00"),
    store("bytes and text", ["t", "b"], "must-create", BAD, hex="ff00"),
    store("an escaped backslash before u", ["t", "escaped"], "must-create", string=r"\u0041"),
    store("nothing to store", ["t", "b"], "must-create", BAD, string=...),
    store("unknown mode", ["t", "b"], "nonsense", BAD),
    store("generation of new", ["t", "b"], "must-create", BAD, generation=0),
    store("over children", ["t", "a"], "must-create", 1205),
    store("below a value", ["t", "a", "1", "x"], "must-create", 1206),
    store("empty key", [], "must-create", BAD),
    call("list children", "listdatastore", key=["t", "a"]),
    call("list branches", "listdatastore", key=["t"]),
    call("list a leaf", "listdatastore", key=["t", "a", "1"]),
    call("list no key", "listdatastore", key=["t", "nothing"]),
    call("usage of a branch", "datastoreusage", key=["t"]),
    call("usage of no key", "datastoreusage", key=["t", "nothing"]),
    call("delete old generation", "deldatastore", 1201, key=["t", "a", "1"], generation=0),
    call("delete key", "deldatastore", key=["t", "a", "1"]),
    call("delete key again", "deldatastore", 1200, key=["t", "a", "1"]),
    call("delete branch", "deldatastore", 1200, key=["t", "a"]),
    # the plugin as people use it
    call("help", "help", command="nwc-connect"),
    call("help of nothing", "help", -32601, command="no-such-method"),
    Step("connect", "nwc-connect", ["contract", None, None, None, None, "1d"]),
    call("connect again", "nwc-connect", BAD, name="contract"),
    call("connect nobody", "nwc-connect", BAD),
    call("connect with nonsense", "nwc-connect", BAD, name="x", nonsense=1),
    call("connect to nonsense", "nwc-connect", BAD, name="x", relays="http://x"),
    call("connections", "nwc-list"),
    call("unknown connection", "nwc-list", BAD, name="nobody"),
    call("payments", "nwc-payments", name="contract"),
    call("payments of nobody", "nwc-payments", BAD, name="nobody"),
    call("status", "nwc-status"),
    call("revoke", "nwc-revoke", name="contract"),
    call("plugins", "plugin", subcommand="list"),
    call("start it twice", "plugin", BAD, subcommand="start", plugin=str(PLUGIN)),
    call("stop it", "plugin", subcommand="stop", plugin=str(PLUGIN)),
    call("stop it twice", "plugin", BAD, subcommand="stop", plugin=str(PLUGIN)),
    call("command of a stopped plugin", "nwc-list", -32601),
    Step(
        "start it with a bad option",
        "plugin",
        {"subcommand": "start", "plugin": str(PLUGIN), "nwc-invoice-expiry": 0},
        -3,
    ),
    Step(
        "start it with an unknown option",
        "plugin",
        {"subcommand": "start", "plugin": str(PLUGIN), "nwc-nonsense": 0},
        -3,
    ),
    call("start it", "plugin", subcommand="start", plugin=str(PLUGIN)),
    call("start a missing plugin", "plugin", BAD, subcommand="start", plugin="/no/plugin"),
    call("unknown subcommand", "plugin", BAD, subcommand="nonsense"),
)


def pay_oneself(rpc: Any, params: Json) -> None:
    """Let lightningd pay its own invoice."""
    rpc.call("xpay", params)


def pay_in_double(rpc: Any, params: Json) -> None:
    """Pay the double's invoice, as a payment of the double itself."""
    invoice = params["invstring"]
    rpc.call("dev-pay", {"bolt11": invoice})
    rpc.call("dev-payment", {"bolt11": invoice, "preimage": PAID_PREIMAGE})


@pytest.fixture(scope="module")
def real(node: RealNode) -> dict[str, Outcome]:
    return run(str(node.directory / "lightning-rpc"), STEPS, {PAY: pay_oneself})


@pytest.fixture(scope="module")
def double(
    tmp_path_factory: pytest.TempPathFactory, relay: RestartableRelay
) -> Iterator[dict[str, Outcome]]:
    options = {"nwc-relay": relay.url, "dev-version": running_version() or NEWEST}
    with LightningdDouble(tmp_path_factory.mktemp("double"), PLUGIN, options) as running:
        yield run(str(running.socket), STEPS, {PAY: pay_in_double})


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_the_double_answers_as_lightningd_does(
    step: Step, real: dict[str, Outcome], double: dict[str, Outcome]
) -> None:
    check(step, real, double)


def test_every_rpc_call_of_the_plugin_is_compared() -> None:
    source = "".join(map(inspect.getsource, (node_module, history_module)))
    called = set(re.findall(r'call\(\s*"([a-z]+)"', source))
    assert {"invoice", "sql", "waitanyinvoice"} <= called
    assert called <= {step.method for step in (*STEPS, *paying.STEPS)}


def test_names_of_steps_are_unique() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS)
