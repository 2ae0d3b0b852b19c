"""make_invoice: accepted and refused values of every field, and many invoices at once."""

import asyncio
import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwc.cln.node import BOUNDS
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.connections.record import Connection
from nwc.wallet.context import INVOICES_AT_ONCE, Call
from nwc.wallet.labels import request_label
from nwc.wallet.methods.make_invoice import WantedInvoice, make_invoice, parse_params
from tests.unit.helpers import JSON_VALUES
from tests.unit.in_process import ALICE, BOB, World, connection

DEFAULT_EXPIRY = 86_400
MAX_MSAT = 1_844_674_407_370_955_161
YEAR_S = 31_536_000
HASH = "0f" * 32
FIELDS = ("amount", "description", "description_hash", "expiry", "metadata")


def parse(**given: Any) -> WantedInvoice:
    return parse_params({"amount": 1000, **given}, DEFAULT_EXPIRY)


def refusal(field: str, given: dict[str, Any]) -> str:
    assert field in FIELDS
    with pytest.raises(Nip47Error) as caught:
        parse_params(given, DEFAULT_EXPIRY)
    assert caught.value.code == ErrorCode.OTHER
    assert caught.value.message.startswith(f"{field}: must be ")
    assert len(caught.value.message) < 200
    return caught.value.message


def test_an_amount_is_enough() -> None:
    assert parse() == WantedInvoice(1000, "", None, DEFAULT_EXPIRY, None)


def test_unknown_fields_are_ignored() -> None:
    assert parse(preimage="x", label=[], deschashonly=True) == parse()


@pytest.mark.parametrize("field", ["description", "description_hash", "expiry", "metadata"])
def test_null_is_absent(field: str) -> None:
    assert parse(**{field: None}) == parse()


@pytest.mark.parametrize(
    ("field", "empty"), [("description", ""), ("description_hash", ""), ("expiry", 0)]
)
def test_the_empty_value_of_its_type_is_absent(field: str, empty: object) -> None:
    assert parse(**{field: empty}) == parse()


def test_every_field_may_be_given_empty() -> None:
    """go-nwc sends them so."""
    given = {"description": "x", "description_hash": "", "expiry": None, "metadata": None}
    assert parse(**given) == parse(description="x")


# amount


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (0, 0),
        (1, 1),
        (1e3, 1000),
        (1.0, 1),
        (-0.0, 0),
        (2**53, 2**53),
        (float(2**53), 2**53),
        (2**53 + 1, 2**53 + 1),
        (2**60, 2**60),
        (MAX_MSAT, MAX_MSAT),
    ],
)
def test_an_amount_from_0_to_the_maximum_is_accepted(amount: float, expected: int) -> None:
    amount_msat = parse(amount=amount).amount_msat
    assert amount_msat == expected
    assert type(amount_msat) is int


@pytest.mark.parametrize(
    "amount",
    [
        -1,
        -(2**63),
        0.5,
        1000.1,
        MAX_MSAT + 1,
        2**63,
        2**64,
        2**64 - 1,
        10**1000,
        1e18,
        1e300,
        math.inf,
        -math.inf,
        math.nan,
        "1000",
        "1sat",
        "any",
        "",
        True,
        False,
        [1000],
        {"msat": 1},
        None,
    ],
)
def test_anything_but_a_valid_amount_is_refused(amount: object) -> None:
    message = refusal("amount", {"amount": amount})
    assert f"integer number of msat from 0 to {MAX_MSAT}" in message


def test_the_amount_is_required() -> None:
    assert refusal("amount", {}) == refusal("amount", {"amount": None})
    assert refusal("amount", {}).endswith("got nothing")


# description


@pytest.mark.parametrize(
    ("description", "hashed"),
    [
        ("", False),
        ("Kaffee, extra groß 漢\U0001f984", False),
        ("two\nlines\tand a tab", False),
        ("x" * 639, False),
        ("x" * 640, True),
        ("é" * 319 + "x", False),
        ("é" * 320, True),
        ("漢" * 213, False),
        ("漢" * 213 + "x", True),
        ("x" * 4096, True),
        ("é" * 2048, True),
        ("\U0001f984" * 1024, True),
    ],
)
def test_a_description_longer_than_639_bytes_is_hashed(description: str, hashed: bool) -> None:
    wanted = parse(description=description)
    assert wanted.description == description
    assert wanted.description_hash == (hashlib.sha256(description.encode()).digest() if hashed else None)
    assert not wanted.has_bare_hash
    assert wanted.record().is_empty


@pytest.mark.parametrize("description", ["x" * 4097, "x" * 32_768, "é" * 16_384, "\U0001f984" * 8192])
def test_only_the_beginning_of_a_long_description_is_stored(description: str) -> None:
    """The invoice contains the hash of the whole, so lightningd need not compute it."""
    wanted = parse(description=description)
    assert wanted.description == description
    assert wanted.description_hash == hashlib.sha256(description.encode()).digest()
    assert wanted.has_bare_hash
    kept = wanted.record().description
    assert kept is not None
    assert description.startswith(kept)
    assert 4096 - 3 <= len(kept.encode()) <= 4096


@pytest.mark.parametrize(
    "description",
    [
        "x" * 32_769,
        "é" * 16_384 + "x",
        "\U0001f984" * 8192 + "x",
        "x" * 1_000_000,
        "a\0b",
        "\x01" * 100,
        "\ud800",
        "x" * 700 + "\udfff",
        '"' * 32_768,
        "\n" * 32_768,
        5,
        True,
        0.5,
        ["x"],
        {"text": "x"},
    ],
)
def test_anything_but_a_valid_description_is_refused(description: object) -> None:
    refusal("description", {"amount": 1, "description": description})


@given(st.text(st.characters(), max_size=700), st.none() | st.just(HASH))
def test_any_accepted_description_fits_into_an_answer(
    description: str, description_hash: str | None
) -> None:
    try:
        wanted = parse(description=description * 50, description_hash=description_hash)
    except Nip47Error:
        return
    assert len(json.dumps(wanted.description, ensure_ascii=False).encode()) <= 32_770


# description_hash


@pytest.mark.parametrize("text", [HASH, HASH.upper(), "aB" * 32, "00" * 32])
def test_a_hash_is_64_hex_digits_of_either_case(text: str) -> None:
    wanted = parse(description_hash=text)
    assert wanted.description_hash == bytes.fromhex(text)
    assert wanted.has_bare_hash


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "0f" * 31,
        "0f" * 33,
        "0" * 63,
        "0g" * 32,
        "0x" + "0f" * 31,
        "0f" * 31 + "0 ",
        " 0f" * 21 + "0",
        "٣" * 64,
        "\uff10" * 64,
        "²" * 64,
        "\ud800" * 64,
        "0f" * 31 + "0\n",
        5,
        True,
        [HASH],
        {},
        int(HASH, 16),
    ],
)
def test_anything_but_a_valid_hash_is_refused(text: object) -> None:
    assert "64 hex digits" in refusal("description_hash", {"amount": 1, "description_hash": text})


@pytest.mark.parametrize("description", ["", "x", "x" * 639, "x" * 640, "é" * 2048])
def test_a_given_hash_is_used_and_the_description_is_stored(description: str) -> None:
    wanted = parse(description=description, description_hash=HASH)
    assert wanted.description == description
    assert wanted.description_hash == bytes.fromhex(HASH)
    assert wanted.has_bare_hash
    # lightningd stores a text that fits into a BOLT11 field, the plugin a longer one.
    kept = description if len(description.encode()) > 639 else None
    assert wanted.record().description == kept


@pytest.mark.parametrize("description", ["", "x", "é" * 2048])
def test_a_hash_of_the_description_is_no_bare_hash(description: str) -> None:
    digest = hashlib.sha256(description.encode())
    wanted = parse(description=description, description_hash=digest.hexdigest().upper())
    assert wanted.description_hash == digest.digest()
    assert not wanted.has_bare_hash


# expiry


@pytest.mark.parametrize(
    ("expiry", "expected"),
    [(0, DEFAULT_EXPIRY), (0.0, DEFAULT_EXPIRY), (1, 1), (3600.0, 3600), (YEAR_S, YEAR_S)],
)
def test_an_expiry_up_to_a_year_is_accepted(expiry: float, expected: int) -> None:
    assert parse(expiry=expiry).expiry == expected
    assert type(parse(expiry=expiry).expiry) is int


@pytest.mark.parametrize(
    "expiry",
    [
        -1,
        YEAR_S + 1,
        0.5,
        2**31,
        2**60,
        2**63,
        2**64,
        1e18,
        math.inf,
        math.nan,
        "3600",
        "",
        True,
        False,
        [],
        {},
    ],
)
def test_anything_but_a_valid_expiry_is_refused(expiry: object) -> None:
    message = refusal("expiry", {"amount": 1, "expiry": expiry})
    assert f"seconds from 0 to {YEAR_S}" in message


# metadata


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


FRAME = len('{"a":""}')


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"comment": "é", "payer_data": {"name": None, "age": 1.5}, "nostr": [True]},
        {"a": "x" * (4096 - FRAME)},
        {"a": "é" * (4096 - FRAME)},
        {"a": "漢" * ((8192 - FRAME) // 3)},
        {"a": 2**64},
        deep(10),
    ],
)
def test_metadata_within_its_bounds_is_stored(metadata: dict[str, Any]) -> None:
    assert parse(metadata=metadata).metadata == metadata


def test_an_empty_array_is_an_empty_object() -> None:
    assert parse(metadata=[]) == parse(metadata={})


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "x" * (4097 - FRAME)},
        {"a": "漢" * (4097 - FRAME)},
        {"a": "x" + "漢" * ((8192 - FRAME) // 3)},
        {"a": '"' * 2048},
        {"a": math.inf},
        {"a": [math.nan]},
        {"a": "\ud800"},
        deep(1000),
    ],
)
def test_metadata_that_cannot_be_stored_is_dropped(metadata: dict[str, Any]) -> None:
    assert parse(metadata=metadata) == parse()


@pytest.mark.parametrize("metadata", [[{}], [0], "", "x", "{}", 0, 5, True, False, 0.5])
def test_metadata_that_is_no_object_is_refused(metadata: object) -> None:
    refusal("metadata", {"amount": 1, "metadata": metadata})


# all fields


@given(
    st.fixed_dictionaries(
        {},
        optional={name: JSON_VALUES | st.integers(0, 10**6) for name in FIELDS},
    )
)
def test_any_accepted_parameters_are_bounded(given_: dict[str, Any]) -> None:
    try:
        wanted = parse_params(given_, DEFAULT_EXPIRY)
    except Nip47Error as error:
        refusal(error.message.split(":")[0], given_)
        return
    assert type(wanted.amount_msat) is int
    assert 0 <= wanted.amount_msat <= MAX_MSAT
    assert type(wanted.expiry) is int
    assert 1 <= wanted.expiry <= YEAR_S
    assert wanted.description_hash is None or len(wanted.description_hash) == 32
    assert "\0" not in wanted.description
    json.dumps(wanted.metadata, allow_nan=False)


def test_a_label_has_at_most_128_characters() -> None:
    connection = Connection("x", "ab" * 32, ("wss://a.example",), 0)
    label = request_label(connection.id, "cd" * 32)
    assert label == f"nwc:{'ab' * 8}:{'cd' * 32}"
    assert len(label) <= 128


# Many invoices of a connection at once

OWN, OTHER = connection(ALICE), connection(BOB)


def test_the_limit_of_a_connection_is_below_lightningds_slots() -> None:
    assert BOUNDS["invoice"].slots > INVOICES_AT_ONCE


async def test_one_connection_does_not_take_all_slots(world: World) -> None:
    held, running = asyncio.Event(), 0

    async def hold(method: str, params: dict[str, Any]) -> None:
        nonlocal running
        if method == "invoice" and ALICE in params["label"]:
            running += 1
            await held.wait()

    async def ask(asking: Connection, number: int) -> str:
        call = Call(f"{number:064x}", {"amount": 1000}, asking)
        return str((await make_invoice(world.wallet, call))["payment_hash"])

    world.node.before = hold
    asked = [asyncio.create_task(ask(OWN, number)) for number in range(40)]
    await world.node.called(lambda: running == INVOICES_AT_ONCE)
    assert await ask(OTHER, 0)
    assert running == INVOICES_AT_ONCE
    held.set()
    assert len(set(await asyncio.gather(*asked))) == 40
