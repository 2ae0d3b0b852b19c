from dataclasses import replace
from typing import Any

import pytest

from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.connections.permissions import allowed_methods, sent_notifications, used_extensions
from nwc.wallet.connections.record import Connection, Pairing, View
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
        (("sign_message",), ("sign_message",), ()),
        (("no such",), (), ()),
        ((), (), ()),
    ],
)
def test_allowed_methods_depend_on_owner_and_budget(
    methods: tuple[str, ...] | None, receiving: tuple[str, ...], paying: tuple[str, ...]
) -> None:
    connection = replace(CONNECTION, methods=methods)
    assert allowed_methods(connection) == receiving
    for budget in BUDGETS:
        assert allowed_methods(replace(connection, budget=budget)) == (*receiving, *paying)


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
    assert sent_notifications(connection, enabled=True) == ("payment_received", *sent)
    assert sent_notifications(connection, enabled=False) == ()
    assert sent_notifications(replace(connection, notifications=False), enabled=True) == ()


def test_only_the_types_that_an_app_asked_for_are_sent() -> None:
    spends = replace(CONNECTION, budget=BUDGETS[0], notification_types=("payment_sent",))
    assert sent_notifications(spends, True) == ("payment_sent",)
    assert sent_notifications(replace(spends, budget=Budget()), True) == ()
    assert sent_notifications(replace(spends, notifications=False), True) == ()


def test_an_app_that_made_its_own_key_sees_the_extension_for_it() -> None:
    assert "08" not in used_extensions(CONNECTION)
    paired = replace(CONNECTION, pairing=Pairing.WALLETAUTH)
    assert set(used_extensions(paired)) == {*used_extensions(CONNECTION), "08"}
    assert list(used_extensions(paired)) == sorted(used_extensions(paired))
