"""The error that a client gets for an error of a paying command whose code is ambiguous."""

import pytest

from nwc.cln.errors import RpcCallError
from nwc.wallet.spending.payment_errors import failure_of
from tests.unit.wallet.spending.values import payment

TOO_COSTLY = "no route to the payee worked for a fee of at most 10 msat"
NO_ROUTE = "no route to the payee was found"


@pytest.mark.parametrize(
    ("code", "message", "answered"),
    [
        (205, "Failed: Could not find route without excessive cost", TOO_COSTLY),
        (205, "Failed: Could not find route without excessive cost or delays", TOO_COSTLY),
        (205, "Failed: Could not find route without excessive delays", NO_ROUTE),
        (205, "Failed: Unknown destination node 02", NO_ROUTE),
        (206, "Failed: Could not find route without excessive cost", TOO_COSTLY),
        (206, "Failed: Could not find route without excessive delays", NO_ROUTE),
    ],
)
def test_xpay_before_26_06_has_one_code_for_cost_and_for_no_route(
    code: int, message: str, answered: str
) -> None:
    assert failure_of(RpcCallError("xpay", code, message), payment()).message == answered
