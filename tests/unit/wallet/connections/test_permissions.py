from dataclasses import replace
from typing import Any

import pytest

from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.connections.permissions import allowed_methods, sent_notifications
from nwc.wallet.connections.record import Connection, View
from tests.unit.helpers import CLIENT, NOW
from tests.unit.nip47.test_methods import PAYING, RECEIVING

CONNECTION = Connection("My phone", CLIENT.public_key, ("wss://a.example",), NOW)
BUDGETS = [Budget(BudgetKind.UNLIMITED), Budget(BudgetKind.AMOUNT, 1), Budget(BudgetKind.RECEIVED)]


@pytest.mark.parametrize(
    ("methods", "receiving", "paying"),
    [
        (None, RECEIVING, PAYING),
        (("make_invoice", "get_info"), ("get_info", "make_invoice"), ()),
        (("make_invoice",), ("make_invoice",), ()),
        (("pay_invoice",), (), ("pay_invoice",)),
        (("pay_keysend", "get_balance"), ("get_balance",), ("pay_keysend",)),
        (("no such",), (), ()),
        ((), (), ()),
    ],
)
def test_allowed_methods_depend_on_owner_and_budget(
    methods: tuple[str, ...] | None, receiving: tuple[str, ...], paying: tuple[str, ...]
) -> None:
    connection = replace(CONNECTION, methods=methods)
    assert allowed_methods(connection, has_hold=False) == receiving
    for budget in BUDGETS:
        assert allowed_methods(replace(connection, budget=budget), has_hold=False) == (
            *receiving,
            *paying,
        )


@pytest.mark.parametrize(
    ("changes", "sees_sent"),
    [
        ({}, False),
        ({"view": View.NODE}, True),
        *(({"budget": budget}, True) for budget in BUDGETS),
    ],
)
def test_payment_sent_needs_a_budget_or_the_view_of_the_node(
    changes: dict[str, Any], sees_sent: bool
) -> None:
    connection = replace(CONNECTION, **changes)
    sent = ("payment_sent",) if sees_sent else ()
    assert sent_notifications(connection, enabled=True, has_hold=False) == ("payment_received", *sent)
    assert sent_notifications(connection, enabled=False, has_hold=False) == ()
    assert (
        sent_notifications(replace(connection, notifications=False), enabled=True, has_hold=False) == ()
    )
