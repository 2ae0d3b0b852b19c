"""Inputs of strangers and clients for each layer of a request: frames, events, plaintexts, parameters.

A strategy makes inputs that are valid up to its own layer, so that they reach it. JSON is built as text,
since json.dumps repeats no key and writes no number of ten thousand digits.
"""

import functools
import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from nwc.nip47.methods import METHODS
from nwc.nostr import bech32
from nwc.nostr.keys import KeyPair
from tests.double import bolt11
from tests.double.bolt11 import Bolt11
from tests.unit.helpers import ANY_TEXT, JSON_VALUES

# JSON that breaks parsers, and text that looks like JSON and is none.
NASTY_JSON = (
    "NaN",
    "Infinity",
    "-Infinity",
    "-0",
    "-0.0",
    "1e400",
    "-1e400",
    "1e-400",
    "1.5",
    "1e3",
    "1e18",
    "9" * 4300,
    "9" * 4301,
    "-" + "9" * 10_000,
    "1." + "9" * 10_000,
    "0x10",
    "01",
    "true",
    "null",
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    '"\\u2028\\ufeff\\u202e"',
    '"\0"',
    '"\\x"',
    '"' + "x" * 40_000 + '"',
    '"' + "\\u0001" * 6_000 + '"',
    '"' + "\N{PILE OF POO}" * 8_000 + '"',
    "[" * 900 + "]" * 900,
    "[" * 50_000,
    "[" * 30_000 + "]" * 30_000,
    '{"a":' * 10_000 + "1" + "}" * 10_000,
    "[" + "[]," * 10_000 + "[]]",
    "{}",
    "[]",
    "",
)
NASTY_NUMBERS = (
    *(sign * 2**bits + off for bits in (31, 32, 53, 63, 64) for off in (-1, 0, 1) for sign in (1, -1)),
    *(0, 1, -1, 10**18, 10**30, 10**400, 31_536_000, 31_536_001, 2**40, 2**40 + 1, 2**50, 2**60),
    *((2**64 - 1) // 10, (2**64 - 1) // 10 + 1, 21 * 10**17, 21 * 10**17 + 1),
    *(1.0, 1.5, -0.0, 1e15, 2.0**53, 1e18, 1e308, True, False, "1", "1sat", "any", None, [], {}),
)
HEX = "0123456789abcdef"
NASTY_HEX = (
    "",
    "0" * 63,
    "0" * 65,
    "G" * 64,
    " " * 64,
    "0x" + "0" * 62,
    "٣" * 64,
    "ab " * 22,
    "\ud800" * 64,
    "AB" * 32,
)


def _object(pairs: list[tuple[str, str]]) -> str:
    """Return the JSON text of an object; a key may occur twice."""
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in pairs) + "}"


def _array(items: list[str]) -> str:
    return "[" + ",".join(items) + "]"


def json_texts(names: st.SearchStrategy[str] = ANY_TEXT) -> st.SearchStrategy[str]:
    """Return a strategy for JSON texts, some invalid. Objects have these names, some repeated."""
    values = JSON_VALUES.map(json.dumps)
    return st.recursive(
        values | st.sampled_from(NASTY_JSON),
        lambda inner: (
            st.lists(inner, max_size=4).map(_array)
            | st.lists(st.tuples(names, inner), max_size=4).map(_object)
        ),
        max_leaves=6,
    )


NUMBER_TEXTS = st.sampled_from(NASTY_NUMBERS).map(json.dumps)
KEY_PARTS = st.sampled_from(
    ["x", "9" * 5000, "0" * 64, "é", "1", "٣", "sent-x-y", "a" * 3000]
) | ANY_TEXT.map(lambda text: text.replace("\0", ""))
# Made once, since hypothesis validates every new strategy.
JSON_TEXTS = json_texts()
_PIECES = st.sampled_from([None, "", "\0", "\ud800", "\ufeff", '"', "}", "]", "9" * 99]) | ANY_TEXT


@st.composite
def damaged(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """Return a text with some pieces cut out, doubled or replaced."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 1, 2, 8, 64, len(text)])))
        piece = draw(_PIECES)
        text = text[:start] + (text[start:end] * 2 if piece is None else piece) + text[end:]
    return text


# Frames

NASTY_FRAMES = (
    "",
    "\0\0\0",
    "\ufeff[]",
    "[" * 100_000,
    "[" * 60_000 + "]" * 60_000,
    '["EVENT","nwc1",' + "9" * 100_000 + "]",
    '["EVENT","nwc1",{' + '"id":1,' * 15_000 + '"id":1}]',
    '["NOTICE","' + "\\u0000" * 20_000 + '"]',
    '["AUTH","' + "\ud800" * 100 + '"]',
    "x" * 200_000,
    "\ud800" * 1000,
    " " * 120_000 + "[]",
    '["OK","' + "0" * 64 + '",true,"' + "\u202e" * 100_000 + '"]',
)

_EVENT_FIELDS = ("id", "pubkey", "created_at", "kind", "tags", "content", "sig", "extra")
_WORDS = st.sampled_from(
    ["EVENT", "OK", "EOSE", "CLOSED", "NOTICE", "AUTH", "COUNT", "nwc1", "auth-required: x", ""]
)


_EVENT_TEXTS = st.lists(st.tuples(st.sampled_from(_EVENT_FIELDS), JSON_TEXTS), max_size=9).map(_object)
_MESSAGES = st.lists(_WORDS.map(json.dumps) | JSON_TEXTS | _EVENT_TEXTS, max_size=5).map(_array)
_CHANGES = st.lists(
    st.tuples(
        st.sampled_from(_EVENT_FIELDS),
        JSON_TEXTS | NUMBER_TEXTS,
    ),
    min_size=1,
    max_size=3,
)


def frames(honest: str) -> st.SearchStrategy[str]:
    """Return a strategy for frames: any text, any JSON, and damaged copies of an honest frame."""
    return st.one_of(
        st.text(st.characters(), max_size=200),
        st.sampled_from(NASTY_FRAMES),
        JSON_TEXTS,
        _MESSAGES,
        damaged(_MESSAGES),
        damaged(st.just(honest)),
        fields_changed(honest),
    )


@st.composite
def fields_changed(draw: st.DrawFn, honest: str) -> str:
    """Return an honest frame with some fields of its event changed or repeated."""
    kind, name, event = json.loads(honest)
    pairs = [(field, json.dumps(value)) for field, value in event.items()]
    changed = dict(draw(_CHANGES))
    doubled = draw(st.booleans())  # a parser takes the last of two
    kept = [pair for pair in pairs if doubled or pair[0] not in changed]
    return f"[{json.dumps(kind)},{json.dumps(name)},{_object([*kept, *changed.items()])}]"


# Events


@dataclass(frozen=True)
class WantedEvent:
    """An event that the known client signs.

    Attributes:
        content: the content as it is; None for an encrypted request.
        scheme: the encryption of such a request.
        tags: the tags beside the wallet's `p`.
        p_first: whether the `p` tag comes before the others.
        kind: the event's kind.
        age: its age in seconds; negative in the future.

    """

    content: str | None
    scheme: str
    tags: list[list[str]]
    p_first: bool
    kind: int
    age: int


_TAG_ITEMS = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ["", "x" * 1024, "\0", "\u202e"]
)
_TAGS = st.one_of(
    st.builds(
        lambda value: ["encryption", *value],
        st.sampled_from(
            [[], [""], ["nip44_v2"], ["nip04"], ["nip44_v3"], ["nip44_v2 nip04"], ["NIP04"]]
        ),
    ),
    st.builds(
        lambda value: ["expiration", *value],
        st.sampled_from(
            [[], [""], ["-1"], ["0"], ["99999999999"], ["9" * 13], ["9" * 1000], ["٣"], ["1e9"]]
        ),
    ),
    st.builds(lambda value: ["p", *value], st.sampled_from([[], [""], ["0" * 64], ["x"]])),
    st.lists(_TAG_ITEMS, min_size=1, max_size=64),
)
events = st.builds(
    WantedEvent,
    content=st.none()
    | st.text(st.characters(codec="utf-8"), max_size=300)
    | st.sampled_from(
        ["", "?iv=", "A" * 132, "#" * 200, "A" * 87_472, "=" * 400, "AA?iv=AA", "\n" * 140]
    ),
    scheme=st.sampled_from(["nip44_v2", "nip04"]),
    tags=st.lists(_TAGS, max_size=4) | st.just([["encryption", "nip44_v2"]]) | st.just([["x"]] * 255),
    p_first=st.booleans() | st.just(True),
    kind=st.just(23194) | st.sampled_from([0, 1, 13194, 23195, 65_535]),
    age=st.sampled_from([0, 1, -1, 100, -100, 130, -130, 10**9, -(10**9)]) | st.just(0),
)


# Plaintexts

_NAMES = st.sampled_from(["method", "params", "id", "jsonrpc", "version", "amount", ""])
_METHOD_TEXTS = st.sampled_from(
    [json.dumps(name) for name in METHODS]
    + ['"multi_pay_invoice"', '"\\ud800"', '""', '"' + "x" * 65 + '"', "7"]
)


# Requests whose method or parameters can be any JSON, or are repeated.
_MORE_PAIRS = st.lists(
    st.tuples(st.just("method"), _METHOD_TEXTS)
    | st.tuples(st.just("params"), JSON_TEXTS)
    | st.tuples(_NAMES, JSON_TEXTS),
    max_size=5,
)
_BODIES = st.builds(
    lambda method, more: _object([("method", method), *more]), _METHOD_TEXTS, _MORE_PAIRS
)

plaintexts: st.SearchStrategy[str | bytes] = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=200),
    st.binary(max_size=300),
    json_texts(_NAMES),
    _BODIES,
    damaged(_BODIES).map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from(
        [*NASTY_JSON, "\ufeff{}", "\0", " " * 60_000 + "{}", '{"method":"get_info"}\0', "[" * 65_000]
    ),
)


# Parameters


@dataclass(frozen=True)
class Payable:
    """An invoice of another node that can be paid."""

    invoice: str
    preimage: bytes


@functools.cache
def payables() -> tuple[Payable, ...]:
    """Return invoices that a node can pay once each; the first five have no amount."""
    return tuple(_payable(number, None if number < 5 else number * 1000) for number in range(40))


def _payable(number: int, amount_msat: int | None) -> Payable:
    preimage = hashlib.sha256(b"%d" % number).digest()
    content = Bolt11(
        currency="bcrt",
        created_at=int(time.time()),
        payment_hash=hashlib.sha256(preimage).digest(),
        payment_secret=bytes(32),
        amount_msat=amount_msat,
        description="tea",
        expiry=10**7,
    )
    return Payable(bolt11.encode(content, b"\5" * 32), preimage)


@st.composite
def unsigned_invoices(draw: st.DrawFn) -> str:
    """Return an unsigned invoice with any prefix, any fields and a valid checksum."""
    prefix = draw(
        st.sampled_from(
            [
                "lnbcrt",
                "lnbcrt10n",
                "lnbc",
                "lntb1m",
                "lnbcrt0p",
                "lnbcrt1p",
                "lnbcrt" + "9" * 20,
                "lnbcrt" + "9" * 400,
                "lno",
                "lni",
                "ln",
                "lnbcrt" + "9" * 19 + "m",
                "lnbcrt٣",
            ]
        )
        | st.text(st.sampled_from("lnbcrt0123456789munp"), min_size=1, max_size=30)
    )
    time_words = bytes(draw(st.lists(st.integers(0, 31), min_size=7, max_size=7)))
    fields = b"".join(draw(st.lists(_FIELDS, max_size=5)))
    signature = bytes(draw(st.sampled_from([103, 104, 105])))
    try:
        return bech32.encode(prefix, time_words + fields + signature)
    except UnicodeEncodeError:
        return prefix


def _field(letter: str, words: bytes) -> bytes:
    return bytes([bech32.ALPHABET.index(letter), *divmod(len(words), 32)]) + words


_WORDS_OF_FIELD = st.binary(max_size=60).map(bech32.words_from_bytes) | st.sampled_from(
    [bytes(52), bytes([31] * 13), bytes([31] * 52), bytes([31] * 1023), b""]
)
_FIELDS = (
    st.builds(_field, st.sampled_from("spdhxc9nfrm"), _WORDS_OF_FIELD)
    | st.just(_field("p", bytes(52)))
    | st.just(_field("x", bytes([31] * 12)))
)
_INVOICES = st.sampled_from([payable.invoice for payable in payables()])
_INVOICE_TEXTS = st.one_of(
    _INVOICES,
    _INVOICES,
    _INVOICES.map(str.upper),
    _INVOICES.map(lambda invoice: f" LIGHTNING:{invoice}\n"),
    damaged(_INVOICES),
    unsigned_invoices(),
    st.sampled_from(
        [
            "lno1pg",
            "lni1qqg",
            "lnr1",
            "1",
            "ln1",
            "lnbcrt1" + "q" * 16_377,
            "lnbcrt1" + "q" * 40_000,
            "l" * 16_384,
            "\ud800",
            "lightning:",
            "lnbcrt1" * 2000,
        ]
    ),
)
_TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=100),
    st.builds(
        lambda piece, count: piece * count,
        st.sampled_from(
            ["a", "é", "\N{PILE OF POO}", "\n", "\b", "\x7f", "\\", '"', "\x01", "\0", "\u2028"]
        ),
        st.sampled_from([1, 159, 160, 319, 320, 639, 640, 8192, 16_384, 32_768, 32_769]),
    ),
    st.just("\ud800"),
)
HASHES = st.text(HEX, min_size=64, max_size=64) | st.sampled_from(NASTY_HEX)
_NUMBERS = st.integers(0, 10**6) | st.integers(1000, 2000) | st.sampled_from(NASTY_NUMBERS)
_NODES = st.just("02" + "ab" * 32) | st.sampled_from(
    ["03" + "AB" * 32, "04" + "ab" * 32, "02" * 32, "", "02" + "ab" * 31 + "٣٣"]
)


def _nested(depth: int) -> object:
    value: object = {}
    for _ in range(depth):
        value = {"a": value}
    return value


_METADATA = st.one_of(
    st.dictionaries(ANY_TEXT, JSON_VALUES, max_size=3),
    JSON_VALUES,
    st.sampled_from([4080, 4096, 4097, 30_000]).map(lambda size: {"comment": "x" * size}),
    st.sampled_from([31, 32, 33, 500]).map(_nested),
    st.just({"a": 10**4299, "\x01": "\x01" * 600}),
    st.just({"tlv_records": [{}], "comment": "\N{PILE OF POO}" * 2000}),
)
_TLV_TYPES = st.integers(65_536, 65_600) | st.sampled_from([5_482_373_484, 65_535, 0, *NASTY_NUMBERS])
_TLV_VALUES = st.binary(max_size=40).map(bytes.hex) | st.sampled_from(
    ["ab" * 1000, "ab" * 1001, "a", "AB", " ab ", "٣٣", "\ud800", 7, None]
)
_TLVS = st.lists(
    st.fixed_dictionaries({"type": _TLV_TYPES, "value": _TLV_VALUES}) | JSON_VALUES, max_size=5
) | st.just([{"type": 65_536 + n, "value": "ab" * 20} for n in range(51)])
_FLAGS: st.SearchStrategy[Any] = st.booleans() | st.sampled_from([None, 0, "true", []])

# Strategies for a field: values within bounds, and any values.
Field = tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]
_NUMBER: Field = (st.integers(1000, 2000), _NUMBERS)
_TEXT: Field = (st.sampled_from(["tea", "é" * 400]), _TEXTS)
_HASH: Field = (st.text(HEX, min_size=64, max_size=64), HASHES)
_INVOICE: Field = (_INVOICES, _INVOICE_TEXTS)
# As lightningd v26.06.6 makes it, without an amount.
OFFER = (
    "lno1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrc2qdsku7gsacpcr9947v4a7z49nqfvsmzw77kj722"
    "pqnaqylg6e6d5dxaklzx0x7cz3j4nzj73u57wus3528mxngvmh6h7sdnp286k372vy6rv0z8c2k4qyql4k2fwersml5thjn27nq"
    "wv9edt0mw2pnl9hlgpqafl4zt3z34tvqqr8285xhjv97gkr5xamr3qgaxs99k04gjaumtp47r9njnu32fcl4tfe96fpk3vhsrlw"
    "vukn9qragnad4lz9zqzh9uty9wkqynxs72uwe2rcxu3zduq0sdn508mvx52xqtesw36sa3sqvs9064378ss7nwq8zcp3u5v7rxj"
    "5jaynx3clexyrrzr8lycwepjhpk6q2g95c68ctycyut4kstsk6w7p5ckyypns3vq95jmfcr5en7hek9n8xjpm36mlxtc5q6gqpzy"
    "k5w59vrhnxs"
)
_PAYMENTS = st.just(OFFER) | _INVOICES.flatmap(
    lambda invoice: st.sampled_from(
        [invoice, f"bitcoin:?lightning={invoice}", f"BITCOIN:?lno={OFFER}&lightning={invoice}"]
    )
)
_PAYMENT_TEXTS = _INVOICE_TEXTS | st.one_of(
    damaged(st.just(f"bitcoin:?amount=0.00000001&lno={OFFER}")),
    st.sampled_from(["bitcoin:?req-pop=x", "bitcoin:?a" * 2000, "lno1", "lno1" + "q" * 4093, 7, None]),
    ANY_TEXT.map(lambda text: f"bitcoin:?lightning={text}"),
)
_METADATUM: Field = (st.just({"comment": "x"}), _METADATA)
_FLAG: Field = (st.booleans(), _FLAGS)
_NO_PREIMAGE: Field = (st.just(""), st.sampled_from([None, "00" * 32, 7]))
_TYPE: Field = (st.sampled_from(["incoming", "outgoing"]), st.sampled_from(["", "all", None, 7]))
_NODE: Field = (st.just("02" + "ab" * 32), _NODES)
_TLV: Field = (st.just([{"type": 65_536, "value": "ab"}]), _TLVS)

FIELDS: dict[str, dict[str, Field]] = {
    "get_info": {},
    "get_balance": {},
    "get_budget": {},
    "make_invoice": {
        "amount": _NUMBER,
        "description": _TEXT,
        "description_hash": _HASH,
        "expiry": _NUMBER,
        "metadata": _METADATUM,
    },
    "receive": {"amount": _NUMBER, "description": _TEXT, "metadata": _METADATUM},
    "lookup_invoice": {"payment_hash": _HASH, "invoice": _INVOICE},
    "list_transactions": {
        "from": _NUMBER,
        "until": _NUMBER,
        "limit": _NUMBER,
        "offset": (st.integers(0, 20), _NUMBERS),
        "unpaid": _FLAG,
        "unpaid_incoming": _FLAG,
        "unpaid_outgoing": _FLAG,
        "type": _TYPE,
    },
    "pay": {
        "payment": (_PAYMENTS, _PAYMENT_TEXTS),
        "amount": _NUMBER,
        "max_fee": _NUMBER,
        "payer_note": (st.just("thanks"), _TEXTS | st.sampled_from(['a "note"', "a\\b", "é" * 257])),
        "metadata": _METADATUM,
    },
    "pay_invoice": {
        "invoice": _INVOICE,
        "amount": _NUMBER,
        "max_fee": _NUMBER,
        "metadata": _METADATUM,
    },
    "pay_keysend": {
        "amount": _NUMBER,
        "pubkey": _NODE,
        "preimage": _NO_PREIMAGE,
        "tlv_records": _TLV,
        "max_fee": _NUMBER,
        "metadata": _METADATUM,
    },
    "make_hold_invoice": {
        "amount": _NUMBER,
        "payment_hash": _HASH,
        "description": _TEXT,
        "description_hash": _HASH,
        "expiry": _NUMBER,
        "min_cltv_expiry_delta": _NUMBER,
        "metadata": _METADATUM,
    },
    "settle_hold_invoice": {"preimage": _HASH},
    "cancel_hold_invoice": {"payment_hash": _HASH},
    "sign_message": {"message": _TEXT},
    "multi_pay_invoice": {"invoices": (st.just([]), JSON_VALUES)},
}
# Required fields: without them the others are not checked.
_NEEDED = {
    "make_invoice": ("amount",),
    "make_hold_invoice": ("amount", "payment_hash"),
    "pay": ("payment",),
    "pay_invoice": ("invoice",),
    "pay_keysend": ("amount", "pubkey"),
    "sign_message": ("message",),
}
# A method with more fields is chosen more often.
_METHODS_TO_ASK = [name for name, fields in FIELDS.items() for _ in range(1 + len(fields))]
assert set(METHODS) <= set(FIELDS)


def _within_bounds(method: str) -> st.SearchStrategy[dict[str, Any]]:
    within = {name: field[0] for name, field in FIELDS[method].items()}
    needed = {name: within.pop(name) for name in _NEEDED.get(method, ())}
    return st.fixed_dictionaries(needed, optional=within)


_PARAMS = {method: _within_bounds(method) for method in FIELDS}


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """Return a request of a known method with at most two fields out of bounds."""
    method = draw(st.sampled_from(_METHODS_TO_ASK))
    fields = FIELDS[method]
    params = draw(_PARAMS[method])
    if fields:
        for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
            params[name] = draw(fields[name][1] if draw(st.integers(0, 5)) else JSON_VALUES)
    return {"method": method, "params": params}


def spelled(request: object) -> str:
    """Return a request as JSON, in UTF-8 unless it has lone surrogates."""
    text = json.dumps(request, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(request)
    return text


STRANGER = KeyPair.generate()
