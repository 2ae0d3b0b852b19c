"""The labels of the plugin's invoices and payments in lightningd: made and read here alone.

nwc:<connection id>:<request id>    the invoice or payment of a request; unique for ever
nwc:template:<number>               an invoice of templates.py, which no connection sees
"""

import re
from typing import NamedTuple

TEMPLATE_PREFIX = "nwc:template:"

_REQUEST = re.compile(r"nwc:([0-9a-f]{16}):([0-9a-f]{64})")


class RequestLabel(NamedTuple):
    """The parts of a request's label.

    Attributes:
        connection_id: 16 hex digits.
        request_id: id of the request event, 64 hex digits.

    """

    connection_id: str
    request_id: str


def request_label(connection_id: str, request_id: str) -> str:
    """Return the label of a request's invoice or payment: 85 ASCII characters."""
    return f"{connection_prefix(connection_id)}{request_id}"


def parse_request_label(label: str) -> RequestLabel | None:
    """Return the parts of a request's label, None for any other label."""
    match = _REQUEST.fullmatch(label)
    return RequestLabel(*match.groups()) if match else None


def connection_prefix(connection_id: str) -> str:
    """Return the prefix that the labels of a connection's own invoices have, and no others."""
    return f"nwc:{connection_id}:"


def owner_of(label: str) -> str | None:
    """Return the id of the connection whose prefix a label has, None for a label without one.

    A label with the prefix counts as the connection's own even if no request can have made it.
    """
    prefix, *rest = label.split(":", 2)
    return rest[0] if prefix == "nwc" and len(rest) == 2 else None


def template_label(number: int) -> str:
    """Return the label of a template."""
    return f"{TEMPLATE_PREFIX}{number}"
