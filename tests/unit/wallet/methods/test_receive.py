"""receive: the URI of an invoice that make_invoice would have made."""

from typing import Any

import pytest

from nwc.nip47.bip321 import parse_payment
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.context import Call
from nwc.wallet.labels import request_label
from nwc.wallet.methods.make_invoice import WantedInvoice
from nwc.wallet.methods.receive import parse_params, receive
from tests.unit.in_process import ALICE, World, connection

DEFAULT_EXPIRY = 86_400


async def ask(world: World, request_id: str = "00" * 32, **params: Any) -> dict[str, Any]:
    return await receive(world.wallet, Call(request_id, params, connection(ALICE)))


@pytest.mark.parametrize(
    ("given", "amount_msat"), [({}, 0), ({"amount": None}, 0), ({"amount": 0}, 0), ({"amount": 21}, 21)]
)
def test_without_an_amount_the_payer_chooses(given: dict[str, Any], amount_msat: int) -> None:
    assert parse_params(given, DEFAULT_EXPIRY) == WantedInvoice(
        amount_msat, "", None, DEFAULT_EXPIRY, None
    )


def test_parameters_of_make_invoice_alone_are_ignored() -> None:
    given = {"amount": 5, "expiry": -1, "description_hash": "x"}
    assert parse_params(given, DEFAULT_EXPIRY) == parse_params({"amount": 5}, DEFAULT_EXPIRY)


@pytest.mark.parametrize(
    "given",
    [
        {"amount": -1},
        {"amount": "21"},
        {"amount": ""},
        {"amount": 2**70},
        {"description": 7},
        {"description": "x" * 640},
        {"description": "ü" * 320},
        {"description": "x" * 40_000},
        {"metadata": "x"},
    ],
)
def test_a_bad_parameter_is_a_bad_request(given: dict[str, Any]) -> None:
    with pytest.raises(Nip47Error) as caught:
        parse_params(given, DEFAULT_EXPIRY)
    assert caught.value.code is ErrorCode.BAD_REQUEST
    assert caught.value.message.startswith(f"{next(iter(given))}: must be ")


async def test_the_uri_contains_an_invoice_of_the_connection(world: World) -> None:
    result = await ask(world, amount=21_000, description="Coffee", metadata={"order": 1})
    assert result.keys() == {"bip321", "transaction_id"}
    instructions = parse_payment(result["bip321"])
    found = await world.lookup(connection(ALICE), payment_hash=result["transaction_id"])
    assert found["invoice"] == instructions.lightning
    assert (found["amount"], found["description"]) == (21_000, "Coffee")
    assert found["metadata"] == {"order": 1}


async def test_one_request_makes_one_invoice(world: World) -> None:
    first, second = await ask(world, amount=5), await ask(world, amount=5)
    assert first == second
    label = request_label(connection(ALICE).id, "00" * 32)
    listed = await world.dev("listinvoices")
    assert [invoice["label"] for invoice in listed["invoices"]] == [label]
