"""The NIP-47 methods of this service: the one table of their names and properties.

To add a method, add a line to METHODS and a module `nwc/wallet/methods/<name>.py`. Its function of the
same name serves the method; that function is a `nwc.wallet.context.Handler`. No other module of nwc/ has
to change.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# Clients wait 10 s for reads and 60 s for everything else; an error in time is better than none.
READ_TIMEOUT_S = 8
WRITE_TIMEOUT_S = 50


@dataclass(frozen=True, slots=True)
class Method:
    """One NIP-47 method.

    Attributes:
        name: as in a request.
        timeout_s: seconds that it may take. None is no limit: a payment that is still pending when the
            client gives up has not failed.
        spends: True if only connections with a budget may call it.
        extension: the number of the NIP-47 extension that specifies it, None if there is none.
        only_by_name: True if only connections whose owner has named it may call it; "all methods" are
            those without it.
        needs_hold: True if only a node with the plugin `hold` can serve it.

    """

    name: str
    timeout_s: float | None
    spends: bool = False
    extension: str | None = None
    only_by_name: bool = False
    needs_hold: bool = False


METHODS = {
    method.name: method
    for method in (
        Method("get_info", READ_TIMEOUT_S),
        Method("get_balance", READ_TIMEOUT_S),
        Method("get_budget", READ_TIMEOUT_S),
        Method("make_invoice", WRITE_TIMEOUT_S),
        Method("receive", WRITE_TIMEOUT_S, extension="321"),
        Method("make_hold_invoice", WRITE_TIMEOUT_S, extension="03", needs_hold=True),
        Method("settle_hold_invoice", WRITE_TIMEOUT_S, extension="03", needs_hold=True),
        Method("cancel_hold_invoice", WRITE_TIMEOUT_S, extension="03", needs_hold=True),
        Method("lookup_invoice", READ_TIMEOUT_S),
        Method("list_transactions", READ_TIMEOUT_S),
        Method("pay", None, spends=True, extension="321"),
        Method("pay_invoice", None, spends=True),
        Method("pay_keysend", None, spends=True, extension="04"),
        Method("sign_message", READ_TIMEOUT_S, only_by_name=True),
    )
}


def served_methods(*, has_hold: bool) -> tuple[str, ...]:
    """Return the names of the methods of a node with or without the plugin `hold`."""
    return tuple(name for name, method in METHODS.items() if has_hold or not method.needs_hold)


# Listed for every connection, whatever it may call: notifications, list_transactions, metadata.
_COMMON_EXTENSIONS = ("02", "05", "06")


def extensions_of(methods: Iterable[str]) -> tuple[str, ...]:
    """Return the numbers of the NIP-47 extensions in use by a connection that may call these methods."""
    own = (METHODS[name].extension for name in methods)
    return tuple(sorted({*_COMMON_EXTENSIONS, *filter(None, own)}))
