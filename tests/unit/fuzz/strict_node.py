"""A node that checks every call: only calls in the table below, with bounded parameters, are allowed.

The table lists what lightningd can handle, not what the plugin happens to send.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nwc.cln.errors import RpcCallError
from nwc.cln.node import Bounds, Json
from nwc.cln.payer import PARTS_PER_PAGE
from nwc.cln.rpc import Params
from tests.double import bolt11
from tests.double.bolt11 import Bolt11Error
from tests.double.node import Node as Double
from tests.double.pay_commands import PAY_PARAMS
from tests.unit.in_process import InProcessNode

Check = Callable[[Any], bool]

MAX_INVOICE_MSAT = (2**64 - 1) // 10
MAX_PAYMENT_MSAT = 21_000_000 * 10**11
MAX_EXPIRY_S = 31_536_000
MAX_INVOICE_LENGTH = 16_384
MAX_CALL_BYTES = 2**20
MAX_QUERY_LENGTH = 10_000

_LABEL = r"nwc:[0-9a-f]{16}:[0-9a-f]{64}"
_TEMPLATE = r"nwc:template:[0-9]{1,9}"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

# All words, literals and signs of the plugin's queries.
_SQL_WORDS = (
    "SELECT|FROM|WHERE|AND|OR|NOT|IN|EXISTS|AS|ORDER|BY|DESC|LIMIT|OFFSET|count|"
    "min|max|invoices|sendpays|first|earlier|part|label|description|payment_hash|"
    "status|expires_at|amount_msat|bolt11|bolt12|created_index|pay_index|"
    "amount_received_msat|paid_at|payment_preimage|amount_sent_msat|created_at|"
    "completed_at"
)
_SQL_TOKEN = re.compile(
    rf"(?:{_SQL_WORDS})\b|-?[0-9]{{1,19}}\b|'(?:paid|complete|nwc:template[:;]"
    r"|nwc:[0-9a-f]{16}[:;])'|x'[0-9a-f]{64}'|[(),.*=<>]|\s+"
)


def number(low: int, high: int) -> Check:
    """Return a check for an integer within bounds."""
    return lambda value: type(value) is int and low <= value <= high


def matching(pattern: str) -> Check:
    """Return a check for a string that the pattern matches in full."""
    form = re.compile(pattern)
    return lambda value: isinstance(value, str) and form.fullmatch(value) is not None


def one_of(*values: object) -> Check:
    """Return a check for one of these values."""
    return lambda value: any(type(value) is type(known) and value == known for known in values)


def text(max_bytes: int) -> Check:
    """Return a check for a bounded string without characters that lightningd refuses."""
    return lambda value: (
        isinstance(value, str) and len(value.encode()) <= max_bytes and not _has_escape(value)
    )


def verbatim(max_bytes: int) -> Check:
    """Return a check for a bounded string that JSON writes as it is, without escapes."""
    return lambda value: text(max_bytes)(value) and json.dumps(value, ensure_ascii=False) == f'"{value}"'


def _has_escape(value: str) -> bool:
    r"""Return True if a JSON encoder writes a `\u`, which lightningd refuses in places."""
    return "\\u" in json.dumps(value, ensure_ascii=False).replace("\\\\", "")


def stored(value: Any) -> bool:
    """Return True for a string for the datastore that is JSON. Raise ValueError if it is not JSON."""
    if not text(2**19)(value):
        return False
    json.loads(value, parse_constant=_no_constant)
    return True


def _no_constant(name: str) -> None:
    raise ValueError(name)


def datastore_key(value: Any) -> bool:
    """Return True for a key of the plugin with few and short parts; a payment's name is the longest."""
    parts = isinstance(value, list) and 2 <= len(value) <= 6 and value[0] == "nwc"
    return parts and all(matching(r"[a-z0-9_-]{1,201}")(part) for part in value)


def invoice_string(value: Any) -> bool:
    """Return True for a bounded bech32 string: `decode` and `pay` may get nothing else."""
    if not isinstance(value, str) or len(value) > MAX_INVOICE_LENGTH or not value.startswith("ln"):
        return False
    prefix, one, data = value.rpartition("1")
    return bool(one) and prefix.isascii() and prefix.isprintable() and set(data) <= set(_BECH32)


def unsigned_invoice(value: Any) -> bool:
    """Return True for an invoice that `createinvoice` may sign: it needs both `d` and `h`."""
    if not signable_invoice(value):
        return False
    read = bolt11.decode(value, check_signature=False)
    return read.description is not None and read.description_hash is not None


def signable_invoice(value: Any) -> bool:
    """Return True for an invoice that may be signed: bounded amount and expiry, and a description."""
    if not invoice_string(value):
        return False
    try:
        read = bolt11.decode(value, check_signature=False)
    except Bolt11Error:
        return False
    amount_fits = read.amount_msat is None or 1 <= read.amount_msat <= MAX_INVOICE_MSAT
    described = read.description is not None or read.description_hash is not None
    return amount_fits and described and 1 <= read.expiry <= MAX_EXPIRY_S


def query(value: Any) -> bool:
    """Return True for a bounded query of the words above and numbers of at most 19 digits."""
    if not isinstance(value, str) or len(value) > MAX_QUERY_LENGTH or not value.startswith("SELECT "):
        return False
    position = 0
    while position < len(value):
        token = _SQL_TOKEN.match(value, position)
        if token is None:
            return False
        position = token.end()
    return True


def tlvs(value: Any) -> bool:
    """Return True for at most 50 custom records of at most 1,000 bytes in all."""
    if not isinstance(value, dict) or not 0 < len(value) <= 50:
        return False
    types = all(matching("[0-9]{5,20}")(type_) and 2**16 <= int(type_) < 2**64 for type_ in value)
    values = all(matching("([0-9a-f]{2})*")(data) for data in value.values())
    return types and values and sum(map(len, value.values())) <= 2000


hex_32 = matching("[0-9a-f]{64}")
own_label = matching(_LABEL)
any_label = matching(f"{_LABEL}|{_TEMPLATE}")
index = number(0, 2**63 - 1)
payment_msat = number(1, MAX_PAYMENT_MSAT)
fee_msat = number(0, MAX_PAYMENT_MSAT)
retry_for = number(1, 60)

_PAYING = {"maxfee": fee_msat, "retry_for": retry_for, "label": own_label}
_KEYSEND = {"destination": matching("0[23][0-9a-f]{64}"), "amount_msat": payment_msat, **_PAYING}


@dataclass(frozen=True)
class Signature:
    """The checks of a method's parameters."""

    required: dict[str, Check]
    optional: dict[str, Check]


def signature(required: dict[str, Check] | None = None, **optional: Check) -> Signature:
    """Return a signature; the keywords are the optional parameters."""
    return Signature(required or {}, optional)


METHODS: dict[str, Signature] = {
    "invoice": signature(
        {
            "amount_msat": lambda value: value == "any" or number(1, MAX_INVOICE_MSAT)(value),
            "label": any_label,
            "description": text(32_768),
            "expiry": number(1, MAX_EXPIRY_S),
        },
        preimage=hex_32,
        deschashonly=one_of(True),
    ),
    "createinvoice": signature({"invstring": unsigned_invoice, "label": own_label, "preimage": hex_32}),
    "signinvoice": signature({"invstring": signable_invoice}),
    "injectholdinvoice": signature({"invoice": invoice_string, "min_cltv": number(144, 1008)}),
    "listholdinvoices": signature({"payment_hash": hex_32}),
    "settleholdinvoice": signature({"preimage": hex_32}),
    "cancelholdinvoice": signature({"payment_hash": hex_32}),
    "signmessage": signature({"message": verbatim(65_535)}),
    "delinvoice": signature({"label": matching(_TEMPLATE), "status": one_of("unpaid", "expired")}),
    "listinvoices": signature(label=any_label, payment_hash=hex_32),
    "listsendpays": signature(
        payment_hash=hex_32,
        status=one_of("pending", "complete", "failed"),
        index=one_of("created"),
        start=index,
        limit=one_of(PARTS_PER_PAGE),
    ),
    "waitanyinvoice": signature({"lastpay_index": index}, timeout=one_of(0)),
    "wait": signature(
        {"subsystem": one_of("sendpays"), "indexname": one_of("created"), "nextvalue": one_of(0)}
    ),
    "sql": signature({"query": query}),
    "decode": signature({"string": invoice_string}),
    "pay": signature({"invstring": invoice_string, **_PAYING}, amount_msat=payment_msat),
    "fetchinvoice": signature(
        {"offer": invoice_string, "timeout": number(1, 40)},
        amount_msat=payment_msat,
        payer_note=lambda value: (
            text(512)(value) and json.dumps(value, ensure_ascii=False) == f'"{value}"'
        ),
    ),
    "createproof": signature(
        {"invstring": invoice_string, "include": lambda value: isinstance(value, list)}
    ),
    "keysend": signature(_KEYSEND, extratlvs=tlvs),
    "askrene-listreservations": signature(),
    "listnodes": signature({"id": matching("0[23][0-9a-f]{64}")}),
    "getroutes": signature(
        {
            "source": matching("0[23][0-9a-f]{64}"),
            "destination": matching("0[23][0-9a-f]{64}"),
            "amount_msat": payment_msat,
            "layers": lambda value: isinstance(value, list),
            "maxfee_msat": fee_msat,
            "final_cltv": number(18, 22),
        },
        maxparts=one_of(1),
    ),
    "help": signature({"command": one_of("xpay", "pay", "xkeysend", "keysend", "listholdinvoices")}),
    "getinfo": signature(),
    "listpeerchannels": signature(),
    "listconfigs": signature({"config": one_of("log-level")}),
    "makesecret": signature({"string": matching("nwc wallet key [0-9a-f]{64}")}),
    "datastore": signature(
        {
            "key": datastore_key,
            "string": stored,
            "mode": one_of("must-create", "must-replace", "create-or-replace"),
        },
        generation=index,
    ),
    "listdatastore": signature({"key": datastore_key}),
    "deldatastore": signature({"key": datastore_key}, generation=index),
}
# Calls that need exactly one of these parameters.
_EXACTLY_ONE = {"listinvoices": ("label", "payment_hash"), "listsendpays": ("payment_hash", "index")}


def problem(method: str, given: Json) -> str | None:
    """Return what is wrong with a call, None if nothing is."""
    wanted = METHODS.get(method)
    if wanted is None:
        return f"{method} must not be called"
    checks = {**wanted.required, **wanted.optional}
    wrong = [name for name in given if name not in checks or not _passes(checks[name], given[name])]
    wrong += [f"{name} is missing" for name in wanted.required if name not in given]
    if method in _EXACTLY_ONE and sum(name in given for name in _EXACTLY_ONE[method]) != 1:
        wrong.append(f"exactly one of {_EXACTLY_ONE[method]} is needed")
    if method == "invoice" and "deschashonly" not in given and not text(639)(given.get("description")):
        wrong.append("description is too long for an invoice")
    if len(json.dumps(given)) > MAX_CALL_BYTES:
        wrong.append("the call is too long")
    return f"{method}: {', '.join(wrong)} in {str(given)[:2000]}" if wrong else None


def _passes(check: Check, value: Any) -> bool:
    try:
        return check(value)
    except ValueError:
        return False


def _of_pay(params: list[Any]) -> Json:
    """Return the positional parameters of `pay` by name, without those that are None."""
    names = [param.name for param in PAY_PARAMS]
    named = {"invstring" if n == "bolt11" else n: v for n, v in zip(names, params, strict=False)}
    return {name: value for name, value in named.items() if value is not None}


class StrictNode(InProcessNode):
    """A Node over the double that checks every call first.

    Attributes:
        violations: what was wrong with calls.

    """

    def __init__(self, lightningd: Double) -> None:
        super().__init__(lightningd)
        self.violations: list[str] = []

    async def _call(self, method: str, params: Params, bounds: Bounds, name: str = "") -> Any:
        given = params if isinstance(params, dict) else _of_pay(params)
        if wrong := problem(method, given):
            self.violations.append(wrong)
        self.calls.clear()  # nobody reads them here, and there are many
        try:
            return await super()._call(method, params, bounds, name)
        except RpcCallError as error:
            if "bug in the double" in error.message:
                self.violations.append(f"{method}: {error.message}")
            raise
