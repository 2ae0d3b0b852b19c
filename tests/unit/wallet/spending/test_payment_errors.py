"""What a client is told of an error of a paying command, where the code alone does not say it."""

import pytest

from nwc.cln.errors import RpcCallError
from nwc.wallet.spending.payment_errors import failure_of
from tests.unit.wallet.spending.values import payment

TOO_COSTLY = "no route to the payee worked for a fee of at most 10 msat"
NO_ROUTE = "no route to the payee was found"


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        (205, "Failed: Could not find route without excessive cost", TOO_COSTLY),
        (205, "Failed: Could not find route without excessive cost or delays", TOO_COSTLY),
        (205, "Failed: Could not find route without excessive delays", NO_ROUTE),
        (205, "Failed: Unknown destination node 02", NO_ROUTE),
        (206, "Failed: Could not find route without excessive cost", TOO_COSTLY),
    ],
)
def test_xpay_before_26_06_has_one_code_for_cost_and_for_no_route(
    code: int, message: str, told: str
) -> None:
    assert failure_of(RpcCallError("xpay", code, message), payment()).message == told
