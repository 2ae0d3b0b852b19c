"""Payments, budgets and connections for the tests."""

from typing import Any

from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.record import Connection
from nwc.wallet.spending.payment import Payment, PaymentRecord, PaymentState

START = 1_700_000_000
DAY = 86_400
KEY, OTHER_KEY = "a1" * 32, "b2" * 32
PREIMAGE = "11" * 32
HASH = "02d449a31fbb267c8f352e9968a79e3e5fc95c1bbeaa502fd6454ebde5a4bedc"  # its SHA-256


# Values that are not a number of msat, not a text, and not an object.
NO_NUMBERS: tuple[object, ...] = (-1, 1.0, True, "1", None, [], 2**63)
NO_TEXTS: tuple[object, ...] = (None, 1, [])
NO_OBJECTS: tuple[object, ...] = ([], "", 1)


def payment(number: int = 1, **fields: Any) -> Payment:
    """Return a payment of 100 msat, for a fee of at most 10."""
    given: dict[str, Any] = {
        "request_id": f"{number:064x}",
        "request_created_at": START,
        "method": "pay_invoice",
        "encryption": "nip44_v2",
        "created_at": START,
        "amount_msat": 100,
        "max_fee_msat": 10,
        "payment_hash": f"{number:064x}",
        "invoice": "lnbc1",
        "destination": "02" * 33,
    }
    return Payment(**{**given, **fields})


def record(number: int = 1, settled: bool = True, **fields: Any) -> PaymentRecord:
    """Return the record of a payment that cost 103 msat, or that failed."""
    paid = payment(number, **fields)
    if settled:
        return PaymentRecord(paid, PaymentState.SETTLED, START + 5, 103, PREIMAGE)
    return PaymentRecord(
        paid,
        PaymentState.FAILED,
        START + 5,
        error_code="PAYMENT_FAILED",
        error_message="no route to the payee was found",
    )


def amount(amount_msat: int, renewal: Renewal = Renewal.NEVER, **fields: Any) -> Budget:
    """Return a budget of an amount."""
    return Budget(BudgetKind.AMOUNT, amount_msat, renewal, **{"since": START, **fields})


def connection(budget: Budget, key: str = KEY, **fields: Any) -> Connection:
    """Return a connection with a budget."""
    return Connection("app", key, ("wss://relay.example",), START, budget=budget, **fields)
