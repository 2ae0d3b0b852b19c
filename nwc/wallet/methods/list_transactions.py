"""list_transactions (NIP-47): invoices and payments, newest first, in pages."""

from typing import Any

from nwc.cln.errors import RpcCallError, RpcCode
from nwc.nip47 import params
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.response import MAX_PLAINTEXT_BYTES
from nwc.nostr.encoding import to_json
from nwc.wallet.context import Call, Wallet
from nwc.wallet.transaction import Transaction
from nwc.wallet.transaction_page import WantedPage, read_page

# As Alby Hub, for whose apps a page without a limit has enough rows.
DEFAULT_LIMIT = 50
MAX_LIMIT = 100
MAX_OFFSET = 10_000_000
MAX_TIME = 2**40
# The rest of the answer, without the transactions.
_ENVELOPE_BYTES = 500


def parse_params(given: params.Params) -> WantedPage:
    """Return the checked parameters of list_transactions.

    Raises:
        Nip47Error: OTHER, with the field, its rule and the value that was given.

    """
    type_ = params.choice(given, "type", ("incoming", "outgoing"))
    unpaid = params.flag(given, "unpaid")
    limit = params.integer(given, "limit", minimum=0, maximum=2**53, unit="transactions")
    return WantedPage(
        from_time=_time(given, "from"),
        until_time=_time(given, "until"),
        limit=min(limit or DEFAULT_LIMIT, MAX_LIMIT),
        offset=params.integer(given, "offset", minimum=0, maximum=MAX_OFFSET, unit="transactions") or 0,
        incoming=type_ != "outgoing",
        outgoing=type_ != "incoming",
        unpaid_incoming=unpaid or params.flag(given, "unpaid_incoming"),
        unpaid_outgoing=unpaid or params.flag(given, "unpaid_outgoing"),
    )


def _time(given: params.Params, name: str) -> int | None:
    return params.integer(given, name, minimum=0, maximum=MAX_TIME, unit="Unix seconds") or None


async def list_transactions(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return a page of transactions and their total number.

    Raises:
        Nip47Error: OTHER for an invalid parameter; NOT_IMPLEMENTED if the node has no `sql` RPC.
        NodeError: lightningd is unavailable.

    """
    wanted = parse_params(call.params)
    async with wallet.list_limits[call.connection.id]:
        try:
            transactions, total = await read_page(wallet, call.connection, wanted)
        except RpcCallError as error:
            if error.code != RpcCode.METHOD_NOT_FOUND:
                raise
            raise Nip47Error(
                ErrorCode.NOT_IMPLEMENTED, "list_transactions needs the sql command of lightningd"
            ) from None
    return {"transactions": _fitting(transactions), "total_count": total}


def _fitting(transactions: list[Transaction]) -> list[Transaction]:
    """Return as many transactions as one answer can hold: a short page is better than none."""
    size, fitting = _ENVELOPE_BYTES, []
    for transaction in transactions:
        size += len(to_json(transaction).encode()) + 1
        if size > MAX_PLAINTEXT_BYTES:
            break
        fitting.append(transaction)
    return fitting
