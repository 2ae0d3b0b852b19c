import pytest

from nwc.nip47.methods import METHODS, extensions_of, served_methods

RECEIVING = (
    "get_info",
    "get_balance",
    "get_budget",
    "make_invoice",
    "receive",
    "lookup_invoice",
    "list_transactions",
)
HOLDING = ("make_hold_invoice", "settle_hold_invoice", "cancel_hold_invoice")
PAYING = ("pay", "pay_invoice", "pay_keysend")
BY_NAME = ("sign_message",)


def test_only_payments_have_no_timeout() -> None:
    """After a timeout, people would pay again."""
    assert {name for name, method in METHODS.items() if method.timeout_s is None} == set(PAYING)
    assert {name for name, method in METHODS.items() if method.spends} == set(PAYING)


def test_hold_invoices_are_served_only_with_the_plugin_hold() -> None:
    assert set(served_methods(has_hold=False)) == {*RECEIVING, *PAYING, *BY_NAME}
    assert (
        set(served_methods(has_hold=True)) == {*RECEIVING, *HOLDING, *PAYING, *BY_NAME} == set(METHODS)
    )


def test_signing_has_to_be_named() -> None:
    assert {name for name, method in METHODS.items() if method.only_by_name} == set(BY_NAME)


@pytest.mark.parametrize(
    ("methods", "extensions"),
    [
        (RECEIVING, ("02", "05", "06", "321")),
        (("make_invoice", "pay_invoice"), ("02", "05", "06")),
        ((*RECEIVING, *PAYING), ("02", "04", "05", "06", "321")),
        (("receive",), ("02", "05", "06", "321")),
        (HOLDING, ("02", "03", "05", "06")),
        (("pay",), ("02", "05", "06", "321")),
        (("pay_keysend",), ("02", "04", "05", "06")),
        ((), ("02", "05", "06")),
    ],
)
def test_a_method_adds_its_extension(methods: tuple[str, ...], extensions: tuple[str, ...]) -> None:
    assert extensions_of(methods) == extensions
