"""nwc-payments: what a connection has paid and received, newest first, in pages."""

import shlex
from dataclasses import replace
from typing import Any

from nwc.commands import arguments, shown
from nwc.service import App
from nwc.wallet.connections.record import View
from nwc.wallet.records import RecordError
from nwc.wallet.transaction import Transaction
from nwc.wallet.transaction_page import MAX_MERGED_OFFSET, WantedPage, read_page

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
# A payee writes a description. It is cut, so that a page is a short answer.
MAX_DESCRIPTION_CHARACTERS = 200

Json = dict[str, Any]


async def payments(app: App, name: object, limit: object = None, offset: object = None) -> Json:
    """Return a page of a connection's payments, and how to get the next page.

    These are all payments that it has made, also pending and failed ones, and its paid invoices, also if
    the connection itself sees more. Amounts are in msat, times in Unix seconds.

    Args:
        app: the service.
        name: of the connection.
        limit: how many payments, at most MAX_LIMIT.
        offset: how many newer ones are skipped, at most MAX_MERGED_OFFSET.

    Raises:
        ArgumentError, ManagementError: the owner has to correct something.
        NodeError: lightningd is unavailable.

    """
    record = app.manager.find(arguments.typed_name(name)).record
    wanted = _wanted(
        arguments.number("limit", limit, minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT),
        arguments.number("offset", offset, minimum=0, maximum=MAX_MERGED_OFFSET, default=0),
    )
    found, total = await read_page(app.wallet, replace(record, view=View.OWN), wanted)
    return {
        "name": record.name,
        "payments": [_shown(transaction) for transaction in found],
        "total": total,
        **_next(record.name, wanted, total),
        **shown.joined(await _warnings(app, record.client_pubkey)),
    }


async def _warnings(app: App, client_pubkey: str) -> list[str]:
    """Return a warning if payments can be missing: the ledger is not read yet, or cannot be read."""
    if not app.payments.is_started:
        return [shown.STILL_STARTING]
    try:
        await app.payments.ledgers.of(client_pubkey)
    except RecordError as error:
        return [f"pending payments are not shown: the ledger is {error}"]
    return []


def _wanted(limit: int, offset: int) -> WantedPage:
    return WantedPage(
        from_time=None,
        until_time=None,
        limit=limit,
        offset=offset,
        incoming=True,
        outgoing=True,
        unpaid_incoming=False,
        unpaid_outgoing=True,
    )


def _shown(transaction: Transaction) -> Json:
    """Return the fields of a payment that are shown; a preimage is none of them."""
    payment: Json = {
        "type": transaction["type"],
        "state": transaction["state"],
        "amount_msat": transaction["amount"],
        "fee_msat": transaction["fees_paid"],
        "created_at": transaction["created_at"],
    }
    if "settled_at" in transaction:
        payment["settled_at"] = transaction["settled_at"]
    description = transaction.get("description")
    if description:
        payment["description"] = _printable(description)
    return {**payment, "payment_hash": transaction["payment_hash"]}


def _printable(text: str) -> str:
    """Return a text of somebody else for a terminal: shortened, on one line."""
    cut = text if len(text) <= MAX_DESCRIPTION_CHARACTERS else text[:MAX_DESCRIPTION_CHARACTERS] + "…"
    return "".join(character if character.isprintable() else " " for character in cut)


def _next(name: str, wanted: WantedPage, total: int) -> Json:
    """Return how to get the next page; nothing after the last one."""
    offset = wanted.offset + wanted.limit
    if offset >= total:
        return {}
    if offset > MAX_MERGED_OFFSET:
        return {"next": f"older payments than the newest {offset} are not shown"}
    # By name: lightning-cli would misread a name that has a '='.
    given = f"{shlex.quote(f'name={name}')} limit={wanted.limit} offset={offset}"
    command = f"lightning-cli -k nwc-payments {given}"
    return {"next": f"{total - offset} more; for the next page: {command}"}
